//! Where a key to sign with comes from: a file, or the devnet's published ones.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    str::FromStr,
};

use bt2c_proto::Network;
use bt2c_security::{Identity, KeyError, fixtures};

use super::value::TextSetting;
use crate::genesis::DEVNET_VALIDATORS;

/// What a published key is named by, before its number.
const DEVNET: &str = "devnet:";

/// Largest file read: an RSA-4096 key in PEM takes 3.3 kB.
const FILE_LIMIT: usize = 64 << 10;

/// A key to sign blocks or transactions with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A file with RSA, PKCS#8 PEM, that its owner alone can read.
    File(PathBuf),
    /// One of the published keys of the devnet's validators, from 1; anyone can sign with it.
    Devnet(usize),
}

impl KeySource {
    /// Reads the key, to sign on `network`.
    ///
    /// # Errors
    /// Any of [`KeySourceError`].
    pub fn read(&self, network: Network) -> Result<Identity, KeySourceError> {
        match self {
            Self::File(path) => read(path),
            Self::Devnet(_) if network != Network::Devnet => Err(KeySourceError::Published(network)),
            Self::Devnet(number) => {
                let index = number.checked_sub(1).filter(|index| *index < DEVNET_VALIDATORS);
                Ok(fixtures::devnet_validator(index.ok_or(KeyNumberError)?))
            }
        }
    }
}

fn read(path: &Path) -> Result<Identity, KeySourceError> {
    let failed = |source| KeySourceError::Read { path: path.to_owned(), source };
    // The link itself is looked at first: opening would follow it, and opening a pipe would wait.
    if !fs::symlink_metadata(path).map_err(failed)?.is_file() {
        return Err(KeySourceError::NotAFile { path: path.to_owned() });
    }
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeySourceError::NotPrivate { path: path.to_owned(), mode });
    }
    // With its capacity reserved the text never moves, so no unwiped copy of the key stays behind.
    let mut text = zeroize::Zeroizing::new(String::with_capacity(FILE_LIMIT));
    file.take(FILE_LIMIT as u64).read_to_string(&mut text).map_err(failed)?;
    Identity::from_pem(&text).map_err(|source| KeySourceError::Form { path: path.to_owned(), source })
}

impl FromStr for KeySource {
    type Err = KeyNumberError;

    fn from_str(text: &str) -> Result<Self, KeyNumberError> {
        let Some(number) = text.strip_prefix(DEVNET) else { return Ok(Self::File(text.into())) };
        let number = number.parse().ok().filter(|number| (1..=DEVNET_VALIDATORS).contains(number));
        number.map(Self::Devnet).ok_or(KeyNumberError)
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Devnet(number) => write!(f, "{DEVNET}{number}"),
        }
    }
}

impl TextSetting for KeySource {}

/// A number that no published key has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the published keys are devnet:1 to devnet:{DEVNET_VALIDATORS}")]
pub struct KeyNumberError;

/// Why a key cannot be signed with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeySourceError {
    /// The file cannot be read.
    #[error("cannot read key {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Others than the owner may read the file.
    #[error(
        "key {} can be read by others (mode {mode:04o}): run `chmod 600` on it, and consider the key known to them",
        path.display()
    )]
    NotPrivate {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A symbolic link, directory or device instead of a file.
    #[error("key {} is not a regular file: name the file itself", path.display())]
    NotAFile {
        /// What is no file.
        path: PathBuf,
    },
    /// The file holds no key.
    #[error("key {}: {source}; it takes RSA, PKCS#8 PEM", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: KeyError,
    },
    /// A published key on a network that is not the devnet.
    #[error(
        "the keys devnet:1 to devnet:{DEVNET_VALIDATORS} are published and for the devnet alone: \
         {0} needs a key of its own (`bt2c-node id` makes one)"
    )]
    Published(Network),
    /// No published key has that number.
    #[error(transparent)]
    Number(#[from] KeyNumberError),
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn key_files_are_for_their_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        let identity = fixtures::identity(0);
        fs::write(&path, identity.to_pem().as_bytes()).unwrap();
        let source: KeySource = path.to_str().unwrap().parse().unwrap();
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = source.read(Network::Mainnet).unwrap_err().to_string();
            assert!(error.contains(&format!("{mode:04o}")) && error.contains("chmod 600"), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(source.read(Network::Mainnet).unwrap().address(), identity.address());
        fs::write(&path, "garbage").unwrap();
        assert!(source.read(Network::Mainnet).unwrap_err().to_string().contains("PKCS#8"));
        let missing = KeySource::File("/nowhere.pem".into()).read(Network::Devnet);
        assert!(matches!(missing, Err(KeySourceError::Read { .. })));
    }

    #[test]
    fn a_linked_key_and_a_directory_in_its_place_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("key.pem"), dir.path().join("link.pem"));
        fs::write(&file, fixtures::identity(0).to_pem().as_bytes()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        symlink(&file, &link).unwrap();
        for path in [link, dir.path().to_owned()] {
            let error = KeySource::File(path).read(Network::Devnet).unwrap_err();
            assert!(matches!(error, KeySourceError::NotAFile { .. }), "{error}");
        }
    }

    #[test]
    fn published_keys_have_numbers_and_stay_on_the_devnet() {
        let source: KeySource = "devnet:4".parse().unwrap();
        assert_eq!((source.to_string().as_str(), &source), ("devnet:4", &KeySource::Devnet(4)));
        let key = source.read(Network::Devnet).unwrap();
        assert_eq!(key.address(), fixtures::devnet_validator(3).address());
        for network in [Network::Mainnet, Network::Testnet] {
            assert!(matches!(source.read(network), Err(KeySourceError::Published(_))));
        }
        for text in ["devnet:0", "devnet:5", "devnet:", "devnet:x"] {
            assert_eq!(text.parse::<KeySource>(), Err(KeyNumberError), "{text}");
        }
        assert_eq!("x.pem".parse(), Ok(KeySource::File("x.pem".into())));
    }
}
