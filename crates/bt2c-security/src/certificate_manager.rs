//! Keys and certificates on disk: the small shell of this crate.
//!
//! It makes `identity.key` once and never writes to it again: a damaged, foreign-readable or linked key stops the start,
//! for going on with a fresh one would silently change who the node is. The certificate can always be reissued from the
//! key, but a damaged one is left to the operator too, who should know that something damages files.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use bt2c_proto::{NodeId, Time};

use crate::{
    credentials::{Credentials, IssueError, OwnCertificateError},
    files::{Kind, present, read_text, write_atomically},
    keys::{Identity, KeyError},
    pem,
};

/// Loads, generates and renews the identity in a data directory.
#[derive(Debug, Clone)]
pub struct CertificateManager {
    dir: PathBuf,
}

impl CertificateManager {
    /// Name of the file with the private key, mode 0600.
    pub const KEY_FILE: &str = "identity.key";

    /// Name of the file with the certificate, mode 0644.
    pub const CERTIFICATE_FILE: &str = "identity.crt";

    /// A manager of this data directory, which need not exist yet.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Reads what is there and writes nothing.
    ///
    /// # Errors
    /// A file is missing, unreadable, damaged, or not private; the text says which and what to do.
    pub fn load(&self) -> Result<Credentials, IdentityFileError> {
        let identity = self.load_key()?;
        self.load_certificate(identity)
    }

    /// Reads the identity, making what is missing: a key and a certificate in an empty directory, a new certificate for
    /// the same key when the old one is missing, expires soon, or bears another label than `node_id` (without one: than
    /// the label that the PeerId gives).
    ///
    /// # Errors
    /// As [`load`](Self::load); also when a certificate lies there without its key.
    pub fn load_or_generate(
        &self,
        node_id: Option<&NodeId>,
        now: Time,
    ) -> Result<Credentials, IdentityFileError> {
        fs::create_dir_all(&self.dir).map_err(|error| IdentityFileError::io("create", &self.dir, error))?;
        let (has_key, has_certificate) = (present(&self.key_path())?, present(&self.certificate_path())?);
        if !has_key {
            if has_certificate {
                return Err(IdentityFileError::KeyMissing { key: self.key_path() });
            }
            return self.generate(node_id, now);
        }
        let identity = self.load_key()?;
        let wanted = node_id.cloned().unwrap_or_else(|| NodeId::derived_from(&identity.peer_id()));
        if has_certificate {
            let credentials = self.load_certificate(identity.clone())?;
            if *credentials.node_id() == wanted && !credentials.needs_renewal(now) {
                return Ok(credentials);
            }
        }
        self.store_certificate(Credentials::issue(identity, Some(wanted), now)?)
    }

    /// Reissues the certificate for the same key and label and stores it.
    ///
    /// # Errors
    /// The certificate could not be issued or written.
    pub fn renew(&self, credentials: &Credentials, now: Time) -> Result<Credentials, IdentityFileError> {
        self.store_certificate(credentials.renewed(now)?)
    }

    fn generate(&self, node_id: Option<&NodeId>, now: Time) -> Result<Credentials, IdentityFileError> {
        let identity = Identity::generate().map_err(IdentityFileError::Generation)?;
        let credentials = Credentials::issue(identity, node_id.cloned(), now)?;
        let path = self.key_path();
        write_atomically(&path, credentials.identity().to_pem().as_bytes(), Kind::NewKey)
            .map_err(|error| IdentityFileError::io("write", &path, error))?;
        self.store_certificate(credentials)
    }

    fn store_certificate(&self, credentials: Credentials) -> Result<Credentials, IdentityFileError> {
        let path = self.certificate_path();
        let text = pem::encode(pem::CERTIFICATE, credentials.certificate_der());
        write_atomically(&path, text.as_bytes(), Kind::Certificate)
            .map_err(|error| IdentityFileError::io("write", &path, error))?;
        Ok(credentials)
    }

    fn load_key(&self) -> Result<Identity, IdentityFileError> {
        let path = self.key_path();
        let text = read_text(&path, true)?;
        Identity::from_pem(&text).map_err(|source| IdentityFileError::DamagedKey { path, source })
    }

    fn load_certificate(&self, identity: Identity) -> Result<Credentials, IdentityFileError> {
        let path = self.certificate_path();
        let text = read_text(&path, false)?;
        let Some(der) = pem::decode(pem::CERTIFICATE, &text) else {
            return Err(IdentityFileError::NotPem { path });
        };
        Credentials::from_parts(identity, &der)
            .map_err(|source| IdentityFileError::DamagedCertificate { path, source })
    }

    fn key_path(&self) -> PathBuf {
        self.dir.join(Self::KEY_FILE)
    }

    fn certificate_path(&self) -> PathBuf {
        self.dir.join(Self::CERTIFICATE_FILE)
    }
}

/// Why the identity in a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityFileError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The refusal.
        source: io::Error,
    },
    /// There is a certificate but no key for it.
    #[error(
        "{} is missing beside its certificate: restore it from a backup, or remove the certificate to start as a new node",
        key.display()
    )]
    KeyMissing {
        /// Where the key should be.
        key: PathBuf,
    },
    /// A symbolic link, directory or device instead of a file.
    #[error("{} is not a regular file: put the file itself there", path.display())]
    NotAFile {
        /// What is no file.
        path: PathBuf,
    },
    /// Others than the owner may read the key.
    #[error(
        "{} can be read by others (mode {mode:04o}): run `chmod 600` on it, and consider the key known to them",
        path.display()
    )]
    NotPrivate {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Longer than any such file, or not text.
    #[error("{} is damaged (too long, or not text): restore it from a backup; it was left as it is", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// The key file does not hold a key.
    #[error(
        "{} is damaged ({source}): restore it from a backup, or move it away with the certificate to start as a new \
         node; it was left as it is",
        path.display()
    )]
    DamagedKey {
        /// The key file.
        path: PathBuf,
        /// What is wrong with it.
        source: KeyError,
    },
    /// The certificate file does not hold one PEM block.
    #[error("{} is damaged: remove it, and a new one is issued from the key", path.display())]
    NotPem {
        /// The certificate file.
        path: PathBuf,
    },
    /// The certificate cannot be used with the key.
    #[error("{} cannot be used ({source}): remove it, and a new one is issued from the key", path.display())]
    DamagedCertificate {
        /// The certificate file.
        path: PathBuf,
        /// What is wrong with it.
        source: OwnCertificateError,
    },
    /// No key could be made.
    #[error(transparent)]
    Generation(KeyError),
    /// No certificate could be issued.
    #[error(transparent)]
    Issue(#[from] IssueError),
}

impl IdentityFileError {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.into(), source }
    }
}

#[cfg(test)]
mod tests;
