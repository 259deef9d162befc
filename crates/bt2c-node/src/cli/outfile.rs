//! A file that a command writes: it appears under its name when it is complete, or not at all.

use std::{
    fs::{self, File, Permissions},
    io::{self, BufWriter, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tempfile::{Builder, NamedTempFile};

/// A file being written. Dropping it before [`OutFile::finish`] leaves what stood under the name as it was.
pub(super) struct OutFile {
    out: Out,
    path: PathBuf,
}

enum Out {
    /// Beside the name, to be moved there.
    Beside(BufWriter<NamedTempFile>),
    /// A pipe or a device, which cannot be replaced.
    Special(BufWriter<File>),
}

impl OutFile {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        // What a link points to is replaced, not the link.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let out = match fs::metadata(&path) {
            Ok(found) if !found.is_file() => Out::Special(BufWriter::new(File::create(&path)?)),
            _ => {
                let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
                let file = Builder::new()
                    .prefix(".bt2c-")
                    .suffix(".tmp")
                    .permissions(Permissions::from_mode(0o666))
                    .tempfile_in(dir)?;
                Out::Beside(BufWriter::new(file))
            }
        };
        Ok(Self { out, path })
    }

    /// Gives the file its name, once its bytes are on the disk.
    pub(super) fn finish(self, replace: bool) -> io::Result<()> {
        match self.out {
            Out::Special(mut out) => out.flush(),
            Out::Beside(out) => {
                let file = out.into_inner().map_err(|error| error.into_error())?;
                file.as_file().sync_all()?;
                if replace { file.persist(&self.path) } else { file.persist_noclobber(&self.path) }?;
                Ok(())
            }
        }
    }
}

impl Write for OutFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.out {
            Out::Beside(out) => out.write(bytes),
            Out::Special(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.out {
            Out::Beside(out) => out.flush(),
            Out::Special(out) => out.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "before").unwrap();
        let mut out = OutFile::create(&path).unwrap();
        out.write_all(b"half").unwrap();
        out.flush().unwrap();
        drop(out);
        assert_eq!(fs::read_to_string(&path).unwrap(), "before");
        let mut out = OutFile::create(&path).unwrap();
        out.write_all(b"after").unwrap();
        assert_eq!(out.finish(false).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "before");
        let mut out = OutFile::create(&path).unwrap();
        out.write_all(b"after").unwrap();
        out.finish(true).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "after");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn devices_are_written_to() {
        let mut out = OutFile::create(Path::new("/dev/null")).unwrap();
        out.write_all(b"x").unwrap();
        out.finish(true).unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }
}
