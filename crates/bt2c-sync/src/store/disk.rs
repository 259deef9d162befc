//! The chain on disk: bodies in append-only segments, an index over them.
//!
//! The order of writes is what makes it safe: a batch goes into the segments, they are synced, then one index transaction
//! refers to it. A crash before that transaction leaves a tail that nothing refers to, cut off at the next start. An index
//! that is lost, or that refers to what the segments do not have, is rebuilt from them.

mod backend;
mod format;
mod index;
mod rebuild;
mod segments;

use std::{
    io,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bt2c_p2p::env::Disk;
use bt2c_proto::{Block, BlockHash, Height};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use self::{
    format::check_format,
    index::{Entry, Index},
    rebuild::rebuild,
    segments::{End, Segments, io_error},
};
use super::{ChainStore, StoreError};
use crate::chain::{BlockRef, CheckedBlock, TxKey};

/// How a [`DiskStore`] uses its directory.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DiskStoreConfig {
    /// Size in bytes at which a segment is full; default 64 MiB. Smaller ones are more files, larger ones are coarser to
    /// prune.
    pub segment_bytes: u64,
    /// Memory for pages of the index in bytes; default 16 MiB. Too little makes imports wait for reads.
    pub cache_bytes: usize,
    /// Depth in blocks below the tip at which branches may still leave; default 100. Must not be below the
    /// synchroniser's, or a branch could repeat a forgotten transaction.
    pub max_reorg_depth: u64,
}

impl Default for DiskStoreConfig {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, cache_bytes: 16 << 20, max_reorg_depth: 100 }
    }
}

/// A [`ChainStore`] in a directory, which it holds locked.
pub struct DiskStore {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    config: DiskStoreConfig,
    segments: Segments,
    /// Replaced when the index has to be opened anew after a failed write; otherwise only read.
    index: RwLock<Index>,
    tip: RwLock<BlockRef>,
    writer: Mutex<End>,
    /// The index failed in a write and has to be opened anew.
    broken: AtomicBool,
    _lock: Box<dyn Send + Sync>,
}

impl DiskStore {
    /// Opens the store in `dir`, makes it if there is none, and heals what a crash left.
    ///
    /// # Errors
    /// If the directory is in use, of a newer version, of another network, or the file system fails.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        genesis: &Block,
        config: DiskStoreConfig,
    ) -> Result<Self, StoreError> {
        disk.create_dir_all(dir).map_err(|source| io_error("make", dir, source))?;
        let lock = lock(&*disk, dir)?;
        check_format(&*disk, dir, genesis.hash())?;
        let segments = Segments::new(Arc::clone(&disk), dir, config.segment_bytes);
        let index = open_index(&*disk, dir, &config)?;
        let genesis = CheckedBlock::trusted(genesis);
        let healed = match attach(&index, &segments)? {
            Some(healed) => (index, healed),
            None => {
                let index = rebuild(index, &*disk, dir, &segments, &config, &genesis)?;
                let healed = attach(&index, &segments)?.ok_or(StoreError::Missing(genesis.place.hash))?;
                (index, healed)
            }
        };
        let (index, (tip, end)) = healed;
        segments.truncate(end)?;
        Ok(Self {
            disk,
            dir: dir.to_owned(),
            config,
            segments,
            index: RwLock::new(index),
            tip: RwLock::new(tip),
            writer: Mutex::new(end),
            broken: AtomicBool::new(false),
            _lock: lock,
        })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn read(&self, entry: &Entry) -> Result<Bytes, StoreError> {
        self.segments.read(entry.location)?.ok_or_else(|| StoreError::Damaged {
            height: entry.place.height,
            hash: entry.place.hash,
            path: self.segments.path(entry.location.segment),
            offset: entry.location.offset,
        })
    }

    /// After a failed write redb refuses everything until it is opened anew; what it had committed is intact.
    fn reopen(&self) -> Result<(), StoreError> {
        let mut writer = self.writer.lock();
        let mut index = self.index.write();
        *index = open_index_file(&*self.disk, &self.dir, &self.config)?;
        // A commit that failed late may have happened all the same.
        let tip = index.tip()?.unwrap_or_else(|| self.tip());
        *self.tip.write() = tip;
        *writer = index.end()?.unwrap_or(*writer);
        self.broken.store(false, Ordering::Release);
        Ok(())
    }

    fn write(&self, batch: &[CheckedBlock], tip: BlockHash) -> Result<(), StoreError> {
        let mut writer = self.writer.lock();
        let index = self.index.read();
        let known = index.known(batch.iter().map(|block| &block.place.hash))?;
        let fresh: Vec<_> =
            batch.iter().zip(known).filter(|(_, known)| !known).map(|(block, _)| block).collect();
        let (locations, end) = self.segments.append(*writer, fresh.iter().map(|block| &block.bytes))?;
        let located: Vec<_> = fresh.into_iter().zip(locations).collect();
        let tip = index.append(&located, tip, end, self.config.max_reorg_depth)?;
        *writer = end;
        *self.tip.write() = tip;
        Ok(())
    }
}

impl ChainStore for DiskStore {
    fn tip(&self) -> BlockRef {
        *self.tip.read()
    }

    fn block(&self, hash: &BlockHash) -> Result<Option<BlockRef>, StoreError> {
        Ok(self.index.read().block(hash)?.map(|entry| entry.place))
    }

    fn main(&self, height: Height) -> Result<Option<BlockRef>, StoreError> {
        Ok(self.index.read().main(height..=height, |_| true)?.pop().map(|entry| entry.place))
    }

    fn body(&self, hash: &BlockHash) -> Result<Option<Bytes>, StoreError> {
        let entry = self.index.read().block(hash)?;
        entry.map(|entry| self.read(&entry)).transpose()
    }

    fn bodies(&self, range: RangeInclusive<Height>, max_bytes: usize) -> Result<Vec<Bytes>, StoreError> {
        let mut total = 0;
        let entries = self.index.read().main(range, |entry| {
            let first = total == 0;
            total += u64::from(entry.location.len);
            first || total <= max_bytes as u64
        })?;
        entries.iter().map(|entry| self.read(entry)).collect()
    }

    fn blocks_with(&self, transaction: &TxKey) -> Result<Vec<BlockRef>, StoreError> {
        Ok(self.index.read().blocks_with(std::slice::from_ref(transaction))?.pop().unwrap_or_default())
    }

    fn blocks_with_each(&self, transactions: &[TxKey]) -> Result<Vec<Vec<BlockRef>>, StoreError> {
        self.index.read().blocks_with(transactions)
    }

    fn append(&self, batch: &[CheckedBlock], tip: BlockHash) -> Result<(), StoreError> {
        if self.broken.load(Ordering::Acquire) {
            self.reopen()?;
        }
        let result = self.write(batch, tip);
        if let Err(StoreError::Index(error)) = &result {
            self.broken.store(true, Ordering::Release);
            // Tried at once for the sake of readers, and if the disk has not recovered, again before the next write.
            if let Err(again) = self.reopen() {
                tracing::debug!(%error, %again, "index not reopened yet");
            }
        }
        result
    }
}

impl std::fmt::Debug for DiskStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskStore").field("dir", &self.dir).field("tip", &*self.tip.read()).finish()
    }
}

fn lock(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn Send + Sync>, StoreError> {
    let path = dir.join("lock");
    disk.lock(&path).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => StoreError::Locked(dir.to_owned()),
        _ => io_error("lock", &path, error),
    })
}

fn index_path(dir: &Path) -> PathBuf {
    dir.join("index.redb")
}

fn open_index_file(disk: &dyn Disk, dir: &Path, config: &DiskStoreConfig) -> Result<Index, StoreError> {
    let path = index_path(dir);
    let file = disk.open(&path).map_err(|source| io_error("open", &path, source))?;
    Index::open(file, config.cache_bytes)
}

/// Opens the index; one that cannot be opened is set aside, and an empty one taken in its place.
fn open_index(disk: &dyn Disk, dir: &Path, config: &DiskStoreConfig) -> Result<Index, StoreError> {
    let present = disk.list(dir).map_err(|source| io_error("list", dir, source))?;
    if !present.contains(&index_path(dir)) {
        return new_index(disk, dir, config);
    }
    match open_index_file(disk, dir, config) {
        Err(StoreError::Index(error)) if is_damage(&error) => {
            tracing::warn!(dir = %dir.display(), %error, "index damaged: set aside, rebuilding it from the segments");
            new_index(disk, dir, config)
        }
        other => other,
    }
}

/// Whether the file's content is at fault, and not the system that reads it.
fn is_damage(error: &redb::Error) -> bool {
    match error {
        redb::Error::Io(error) => {
            matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
        }
        redb::Error::Corrupted(_) | redb::Error::UpgradeRequired(_) => true,
        _ => false,
    }
}

/// An empty index, with whatever is at its place set aside.
fn new_index(disk: &dyn Disk, dir: &Path, config: &DiskStoreConfig) -> Result<Index, StoreError> {
    let path = index_path(dir);
    match disk.rename(&path, &path.with_added_extension("damaged")) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(io_error("set aside", &path, source)),
    }
    // Made so that its directory entry survives a crash too.
    disk.write_atomic(&path, &[], false).map_err(|source| io_error("make", &path, source))?;
    open_index_file(disk, dir, config)
}

/// The tip and the end of the segments, if the segments have what the index refers to.
fn attach(index: &Index, segments: &Segments) -> Result<Option<(BlockRef, End)>, StoreError> {
    let (Some(tip), Some(end)) = (index.tip()?, index.end()?) else { return Ok(None) };
    let present = segments.list()?;
    let complete = (0..=end.segment).all(|segment| present.binary_search(&segment).is_ok());
    if !complete || segments.len(end.segment)? < end.offset {
        return Ok(None);
    }
    let Some(entry) = index.block(&tip.hash)? else { return Ok(None) };
    Ok(segments.read(entry.location)?.map(|_| (tip, end)))
}
