//! A disk that fails from a chosen operation on, and that keeps of what was not synced whatever chance leaves.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bt2c_p2p::env::{Disk, DiskFile};
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[derive(Debug, Clone)]
pub(super) struct FaultyDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<PathBuf, File>,
    /// Operations that change something, so far.
    operations: u64,
    fail_from: Option<u64>,
}

#[derive(Debug, Default, Clone)]
struct File {
    durable: Vec<u8>,
    current: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Len(usize),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write(at, bytes) => {
                content.resize(content.len().max(at + bytes.len()), 0);
                content[*at..at + bytes.len()].copy_from_slice(bytes);
            }
            Self::Len(len) => content.resize(*len, 0),
        }
    }
}

impl State {
    fn operate(&mut self) -> io::Result<()> {
        let number = self.operations;
        self.operations += 1;
        match self.fail_from {
            Some(from) if number >= from => Err(io::Error::other("injected failure")),
            _ => Ok(()),
        }
    }
}

impl FaultyDisk {
    pub(super) fn new() -> Self {
        Self { state: Arc::default() }
    }

    /// Operation number `from`, counted from now, and all after it fail; `None`: none does.
    pub(super) fn fail_from(&self, from: Option<u64>) {
        let mut state = self.state.lock();
        state.operations = 0;
        state.fail_from = from;
    }

    pub(super) fn has_failed(&self) -> bool {
        let state = self.state.lock();
        state.fail_from.is_some_and(|from| state.operations > from)
    }

    /// What a machine finds after losing power: everything synced, and of the rest each change, or the start of it, or
    /// nothing of it.
    pub(super) fn after_power_loss(&self, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut files = self.state.lock().files.clone();
        for file in files.values_mut() {
            let mut content = std::mem::take(&mut file.durable);
            for change in file.unsynced.drain(..) {
                match change {
                    _ if rng.random_bool(0.4) => change.apply(&mut content),
                    Change::Write(at, bytes) if rng.random_bool(0.3) => {
                        let part = rng.random_range(0..=bytes.len());
                        Change::Write(at, bytes[..part].to_vec()).apply(&mut content);
                    }
                    _ => {}
                }
            }
            *file = File { durable: content.clone(), current: content, unsynced: Vec::new() };
        }
        Self { state: Arc::new(Mutex::new(State { files, ..State::default() })) }
    }
}

impl Disk for FaultyDisk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.state.lock();
        state.files.get(path).map(|file| file.current.clone()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn write_atomic(&self, path: &Path, bytes: &[u8], _private: bool) -> io::Result<()> {
        let mut state = self.state.lock();
        state.operate()?;
        let content = bytes.to_vec();
        let file = File { durable: content.clone(), current: content, unsynced: Vec::new() };
        state.files.insert(path.to_owned(), file);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        if !state.files.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.operate()?;
        let file = state.files.remove(from).expect("it was there above");
        state.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.operate()?;
        state.files.remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.state.lock();
        Ok(state.files.keys().filter(|path| path.parent() == Some(dir)).cloned().collect())
    }

    fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.state.lock().files.entry(path.to_owned()).or_default();
        Ok(Arc::new(OpenFile { disk: self.clone(), path: path.to_owned() }))
    }

    fn lock(&self, _path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        Ok(Box::new(()))
    }
}

#[derive(Debug)]
struct OpenFile {
    disk: FaultyDisk,
    path: PathBuf,
}

impl OpenFile {
    fn with<T>(&self, then: impl FnOnce(&mut File) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.disk.state.lock();
        then(state.files.get_mut(&self.path).ok_or(io::ErrorKind::NotFound)?)
    }

    fn change(&self, change: Change) -> io::Result<()> {
        self.disk.state.lock().operate()?;
        self.with(|file| {
            change.apply(&mut file.current);
            file.unsynced.push(change);
            Ok(())
        })
    }
}

impl DiskFile for OpenFile {
    fn len(&self) -> io::Result<u64> {
        self.with(|file| Ok(file.current.len() as u64))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        self.with(|file| {
            let part = file.current.get(start..start + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            buffer.copy_from_slice(part);
            Ok(())
        })
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.change(Change::Write(usize::try_from(offset).unwrap(), bytes.to_vec()))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::Len(usize::try_from(len).unwrap()))
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.state.lock().operate()?;
        self.with(|file| {
            file.durable.clone_from(&file.current);
            file.unsynced.clear();
            Ok(())
        })
    }
}
