//! Reading and writing the two identity files: private where they must be, whole or not at all.

use std::{
    fs, io,
    io::{Read, Write},
    path::Path,
};

use zeroize::Zeroizing;

use crate::certificate_manager::IdentityFileError;

/// Whether something, even a dangling link, bears that name.
pub(crate) fn present(path: &Path) -> Result<bool, IdentityFileError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(IdentityFileError::io("read", path, error)),
    }
}

pub(crate) fn read_text(path: &Path, private: bool) -> Result<Zeroizing<String>, IdentityFileError> {
    let failed = |error| IdentityFileError::io("read", path, error);
    // The link itself is looked at first: opening would follow it, and opening a pipe would wait.
    if !fs::symlink_metadata(path).map_err(failed)?.is_file() {
        return Err(IdentityFileError::NotAFile { path: path.into() });
    }
    let file = fs::File::open(path).map_err(failed)?;
    if private {
        check_private(path, &file.metadata().map_err(failed)?)?;
    }
    // With its capacity reserved the buffer never moves, so no unwiped copy of a key stays behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE_LEN + 1));
    file.take(MAX_FILE_LEN_PLUS_ONE).read_to_end(&mut bytes).map_err(failed)?;
    match std::str::from_utf8(&bytes) {
        Ok(text) if bytes.len() <= MAX_FILE_LEN => Ok(Zeroizing::new(text.to_owned())),
        _ => Err(IdentityFileError::NotText { path: path.into() }),
    }
}

#[cfg(unix)]
fn check_private(path: &Path, metadata: &fs::Metadata) -> Result<(), IdentityFileError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(IdentityFileError::NotPrivate { path: path.into(), mode });
    }
    Ok(())
}

/// Elsewhere the data directory's own access rules decide.
#[cfg(not(unix))]
fn check_private(_: &Path, _: &fs::Metadata) -> Result<(), IdentityFileError> {
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Private, and never in the place of another.
    NewKey,
    /// Public, replaces the one before.
    Certificate,
}

/// Writes beside the file, syncs, and puts it in place, so that a crash leaves the old content or the new.
pub(crate) fn write_atomically(path: &Path, content: &[u8], kind: Kind) -> io::Result<()> {
    let mut temporary = path.to_path_buf();
    temporary.as_mut_os_string().push(".tmp");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {} // one that a crash left behind may be incomplete
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(if kind == Kind::NewKey { 0o600 } else { 0o644 });
    }
    let mut file = options.open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    drop(file);
    if kind == Kind::NewKey {
        // Unlike a rename, a link fails when the name is taken: two starts at once cannot overwrite each other's key.
        fs::hard_link(&temporary, path)?;
        fs::remove_file(&temporary)?;
    } else {
        fs::rename(&temporary, path)?;
    }
    sync_dir(path)
}

#[cfg(unix)]
fn sync_dir(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |dir| fs::File::open(dir)?.sync_all())
}

/// Elsewhere a directory cannot be opened as a file.
#[cfg(not(unix))]
fn sync_dir(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Both files have less than half of this at 4096 bits.
pub(crate) const MAX_FILE_LEN: usize = 16 * 1024;
const MAX_FILE_LEN_PLUS_ONE: u64 = 16 * 1024 + 1;
