//! A disk in memory, which can fail as disks do.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Disk, DiskFile};

/// Files in memory; what one handle writes every other one sees. Cloning shares the files, so that a node can be started
/// again on what it left.
///
/// A killed process loses nothing of what it wrote; [`MemoryDisk::after_power_loss`] is what a machine finds that lost its
/// power. [`MemoryDisk::set_fault`] and [`MemoryDisk::fail_from`] make calls fail.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
    faults: Arc<Mutex<Faults>>,
}

/// How a disk fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskFault {
    /// No file may grow, and none may be made or replaced: [`io::ErrorKind::StorageFull`].
    Full,
    /// Nothing reaches the disk: `sync` fails, and what would replace a file does not.
    FailedSync,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<PathBuf, Arc<MemoryFile>>,
    locked: BTreeSet<PathBuf>,
}

#[derive(Debug, Default)]
struct Faults {
    fault: Option<DiskFault>,
    /// Operations that change something, since [`MemoryDisk::fail_from`] was called.
    operations: u64,
    fail_from: Option<u64>,
}

impl Faults {
    /// An operation that changes something, and for which the disk needs more room if it `grows`.
    fn operate(&mut self, grows: bool) -> io::Result<()> {
        let number = self.operations;
        self.operations += 1;
        if self.fail_from.is_some_and(|from| number >= from) {
            return Err(io::Error::other("injected failure"));
        }
        if grows && self.fault == Some(DiskFault::Full) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    /// How much of a write is written of which [`Faults::operate`] has just said that it fails.
    fn torn(&self, len: usize) -> usize {
        let first = self.fail_from.is_some_and(|from| self.operations == from + 1);
        // Any part will do, and a different one each time.
        let eighths = if first { usize::try_from(self.operations % 8).unwrap_or(0) * 5 % 8 } else { 0 };
        len * eighths / 8
    }

    /// An operation after which something must have reached the disk.
    fn reach_disk(&self) -> io::Result<()> {
        match self.fault {
            Some(DiskFault::FailedSync) => Err(io::Error::other("the disk does not take what was written")),
            _ => Ok(()),
        }
    }
}

impl MemoryDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Fails like this from now on; `None`: the disk is well again.
    pub fn set_fault(&self, fault: Option<DiskFault>) {
        self.faults.lock().fault = fault;
    }

    /// The operation that changes something and has this number, counted from 0 now, and all such after it fail; `None`:
    /// none does. If the first to fail is a write, a part of it is written all the same.
    pub fn fail_from(&self, from: Option<u64>) {
        let mut faults = self.faults.lock();
        (faults.operations, faults.fail_from) = (0, from);
    }

    /// Whether an operation has failed because of [`MemoryDisk::fail_from`].
    pub fn has_failed(&self) -> bool {
        let faults = self.faults.lock();
        faults.fail_from.is_some_and(|from| faults.operations > from)
    }

    /// What is left of a process that was killed just now: all it wrote, and nobody's locks. What its last threads still
    /// write goes to the old disk. Faults stay.
    pub fn after_kill(&self) -> Self {
        let disk = Self::new();
        disk.faults.lock().fault = self.faults.lock().fault;
        for (path, file) in &self.state.lock().files {
            let file = MemoryFile::new(file.content.lock().bytes.clone(), &disk.faults);
            disk.state.lock().files.insert(path.clone(), file);
        }
        disk
    }

    /// What a machine finds after losing power: everything synced, and of the rest each change, or the start of it, or
    /// nothing of it, as `seed` decides. Nobody holds a lock on it, and nothing fails.
    pub fn after_power_loss(&self, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let disk = Self::new();
        for (path, file) in &self.state.lock().files {
            let file = MemoryFile::new(file.content.lock().after_power_loss(&mut rng), &disk.faults);
            disk.state.lock().files.insert(path.clone(), file);
        }
        disk
    }

    fn file(&self, path: &Path) -> io::Result<Arc<MemoryFile>> {
        self.state.lock().files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Disk for MemoryDisk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        Ok(self.file(path)?.content.lock().bytes.clone())
    }

    fn write_atomic(&self, path: &Path, bytes: &[u8], _private: bool) -> io::Result<()> {
        self.faults.lock().operate(true)?;
        self.faults.lock().reach_disk()?;
        let file = MemoryFile::new(bytes.to_vec(), &self.faults);
        self.state.lock().files.insert(path.to_owned(), file);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        if !state.files.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.faults.lock().operate(false)?;
        let file = state.files.remove(from).expect("it was there above");
        state.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.faults.lock().operate(false)?;
        self.state.lock().files.remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(self.state.lock().files.keys().filter(|path| path.parent() == Some(dir)).cloned().collect())
    }

    fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state.lock();
        if let Some(file) = state.files.get(path) {
            return Ok(Arc::clone(file) as Arc<dyn DiskFile>);
        }
        self.faults.lock().operate(true)?;
        let file = MemoryFile::new(Vec::new(), &self.faults);
        state.files.insert(path.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        if !self.state.lock().locked.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(MemoryLock { path: path.to_owned(), state: Arc::clone(&self.state) }))
    }
}

struct MemoryLock {
    path: PathBuf,
    state: Arc<Mutex<State>>,
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.state.lock().locked.remove(&self.path);
    }
}

#[derive(Debug)]
struct MemoryFile {
    content: Mutex<Content>,
    faults: Arc<Mutex<Faults>>,
}

#[derive(Debug)]
struct Content {
    bytes: Vec<u8>,
    /// What was changed since the last sync, in order.
    unsynced: Vec<Change>,
}

/// A change, and how to take it back.
#[derive(Debug)]
struct Change {
    at: usize,
    /// What was there, up to the end of the file.
    old: Vec<u8>,
    old_len: usize,
    /// What was written there; the new end of the file if nothing was.
    new: Vec<u8>,
}

impl Content {
    fn write(&mut self, at: usize, new: &[u8]) {
        if new.is_empty() {
            return;
        }
        let end = at + new.len();
        let old = self.bytes.get(at..end.min(self.bytes.len())).unwrap_or_default().to_vec();
        self.unsynced.push(Change { at, old, old_len: self.bytes.len(), new: new.to_vec() });
        put(&mut self.bytes, at, new);
    }

    fn set_len(&mut self, len: usize) {
        let old = self.bytes.get(len..).unwrap_or_default().to_vec();
        self.unsynced.push(Change { at: len, old, old_len: self.bytes.len(), new: Vec::new() });
        self.bytes.resize(len, 0);
    }

    fn after_power_loss(&self, rng: &mut ChaCha8Rng) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        for change in self.unsynced.iter().rev() {
            bytes.resize(change.old_len, 0);
            put(&mut bytes, change.at.min(change.old_len), &change.old);
        }
        for change in &self.unsynced {
            let part = match rng.random_range(0..10) {
                0..4 => change.new.len(),
                4..6 => rng.random_range(0..=change.new.len()),
                _ => continue,
            };
            match change.new.is_empty() {
                true => bytes.resize(change.at, 0),
                false => put(&mut bytes, change.at, &change.new[..part]),
            }
        }
        bytes
    }
}

fn put(bytes: &mut Vec<u8>, at: usize, new: &[u8]) {
    bytes.resize(bytes.len().max(at + new.len()), 0);
    bytes[at..at + new.len()].copy_from_slice(new);
}

impl MemoryFile {
    fn new(bytes: Vec<u8>, faults: &Arc<Mutex<Faults>>) -> Arc<Self> {
        let content = Mutex::new(Content { bytes, unsynced: Vec::new() });
        Arc::new(Self { content, faults: Arc::clone(faults) })
    }
}

/// The range of a file that `len` bytes at `offset` take.
fn range(offset: u64, len: usize) -> io::Result<std::ops::Range<usize>> {
    let start = usize::try_from(offset).map_err(io::Error::other)?;
    let end = start.checked_add(len).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(start..end)
}

impl DiskFile for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.content.lock().bytes.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let range = range(offset, buffer.len())?;
        buffer.copy_from_slice(self.content.lock().bytes.get(range).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let range = range(offset, bytes.len())?;
        let mut content = self.content.lock();
        let mut faults = self.faults.lock();
        if let Err(error) = faults.operate(range.end > content.bytes.len()) {
            content.write(range.start, &bytes[..faults.torn(bytes.len())]);
            return Err(error);
        }
        content.write(range.start, bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let mut content = self.content.lock();
        self.faults.lock().operate(len > content.bytes.len())?;
        content.set_len(len);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.faults.lock().operate(false)?;
        self.faults.lock().reach_disk()?;
        self.content.lock().unsynced.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(disk: &MemoryDisk) -> Arc<dyn DiskFile> {
        disk.open(Path::new("/a")).unwrap()
    }

    fn content(disk: &MemoryDisk) -> Vec<u8> {
        disk.read(Path::new("/a")).unwrap()
    }

    #[test]
    fn power_loss_spares_what_was_synced_and_leaves_any_part_of_the_rest() {
        let disk = MemoryDisk::new();
        let file = open(&disk);
        file.write_at(0, b"synced").unwrap();
        file.sync().unwrap();
        file.write_at(0, b"SYN").unwrap();
        file.write_at(6, b"tail").unwrap();
        file.set_len(8).unwrap();
        assert_eq!(content(&disk), b"SYNcedta");
        let found: BTreeSet<_> = (0..200).map(|seed| content(&disk.after_power_loss(seed))).collect();
        for expected in [&b"synced"[..], b"SYNced", b"SYNcedta", b"syncedtail", b"Synced", b"syncedt"] {
            assert!(found.contains(expected), "{}", String::from_utf8_lossy(expected));
        }
        assert!(found.iter().all(|bytes| bytes.len() >= 6 && bytes[3..6] == *b"ced"));
        file.sync().unwrap();
        assert!((0..200).all(|seed| content(&disk.after_power_loss(seed)) == b"SYNcedta"));
    }

    #[test]
    fn a_full_disk_takes_what_needs_no_room_and_nothing_else_until_there_is_some() {
        let disk = MemoryDisk::new();
        let file = open(&disk);
        file.write_at(0, b"four").unwrap();
        disk.set_fault(Some(DiskFault::Full));
        file.write_at(0, b"FOUR").unwrap();
        file.sync().unwrap();
        let full = [
            file.write_at(4, b"x"),
            file.set_len(5),
            disk.write_atomic(Path::new("/b"), b"", false),
            disk.open(Path::new("/b")).map(drop),
        ];
        assert!(full.iter().all(|result| result.as_ref().unwrap_err().kind() == io::ErrorKind::StorageFull));
        assert_eq!(content(&disk), b"FOUR");
        disk.set_fault(None);
        file.write_at(4, b"x").unwrap();
    }

    #[test]
    fn the_write_that_fails_is_cut_off_and_those_after_it_do_nothing() {
        let mut lengths = BTreeSet::new();
        for number in 0..20 {
            let disk = MemoryDisk::new();
            let file = open(&disk);
            disk.fail_from(Some(number));
            let failed = (0..20).filter(|_| file.write_at(0, b"0123456789").is_err()).count();
            assert_eq!(failed as u64, 20 - number);
            lengths.insert((number, content(&disk).len()));
        }
        let first = lengths.iter().find(|(number, _)| *number == 0).unwrap().1;
        assert!(first > 0 && first < 10, "{first}");
    }

    #[test]
    fn what_a_failed_sync_left_is_not_safe() {
        let disk = MemoryDisk::new();
        let file = open(&disk);
        file.write_at(0, b"x").unwrap();
        disk.set_fault(Some(DiskFault::FailedSync));
        assert!(file.sync().is_err());
        assert!(disk.write_atomic(Path::new("/b"), b"", false).is_err());
        assert!((0..100).any(|seed| content(&disk.after_power_loss(seed)).is_empty()));
    }
}
