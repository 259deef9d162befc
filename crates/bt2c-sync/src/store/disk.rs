//! The chain on disk: bodies in append-only segments, an index over them.
//!
//! The order of writes is what makes it safe: a batch goes into the segments, they are synced, then one index transaction
//! refers to it. A crash before that transaction leaves a tail that nothing refers to, cut off at the next start. An index
//! that is lost, or that refers to what the segments do not have, is rebuilt from them.

mod backend;
mod index;
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
use serde::{Deserialize, Serialize};

use self::{
    index::{Entry, Index},
    segments::{End, Location, RECORD_HEADER, Record, Segments, io_error},
};
use super::{ChainStore, StoreError};
use crate::chain::{BlockRef, CheckedBlock, TxKey};

/// The format that this version writes.
const FORMAT: u32 = 1;

/// Blocks that go into the index at once while it is rebuilt.
const REBUILD_BATCH: usize = 1000;

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

/// What `format.json` says.
#[derive(Serialize, Deserialize)]
struct Format {
    format: u32,
    genesis: BlockHash,
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
        let mut fresh = Vec::with_capacity(batch.len());
        for block in batch {
            if index.block(&block.place.hash)?.is_none() {
                fresh.push(block);
            }
        }
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
        self.index.read().blocks_with(transaction)
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

/// Checks what kind of store this is; writes it down in a new one.
fn check_format(disk: &dyn Disk, dir: &Path, genesis: BlockHash) -> Result<(), StoreError> {
    let path = dir.join("format.json");
    let bytes = match disk.read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let format = Format { format: FORMAT, genesis };
            let bytes = serde_json::to_vec(&format).expect("two plain fields");
            return disk
                .write_atomic(&path, &bytes, false)
                .map_err(|source| io_error("write", &path, source));
        }
        Err(source) => return Err(io_error("read", &path, source)),
    };
    let format: Format = serde_json::from_slice(&bytes)
        .map_err(|error| StoreError::Format { path, reason: error.to_string().into() })?;
    if format.format > FORMAT {
        return Err(StoreError::Newer { path: dir.to_owned(), found: format.format, supported: FORMAT });
    }
    if format.genesis != genesis {
        let path = dir.to_owned();
        return Err(StoreError::OtherGenesis { path, found: format.genesis, expected: genesis });
    }
    Ok(())
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

/// Makes the index anew from the segments, or from the genesis block where there are none.
fn rebuild(
    index: Index,
    disk: &dyn Disk,
    dir: &Path,
    segments: &Segments,
    config: &DiskStoreConfig,
    genesis: &CheckedBlock,
) -> Result<Index, StoreError> {
    let fresh = index.tip()?.is_none();
    let index = if fresh {
        index
    } else {
        tracing::warn!(dir = %dir.display(), "index refers to blocks that are not there: rebuilding it");
        drop(index);
        new_index(disk, dir, config)?
    };
    let start = End { segment: 0, offset: 0 };
    let mut rebuild = Rebuild { index: &index, config, best: None, end: start, batch: Vec::new() };
    rebuild.scan(segments)?;
    if rebuild.best.is_none() {
        let (locations, end) = segments.append(start, std::iter::once(&genesis.bytes))?;
        index.append(&[(genesis, locations[0])], genesis.place.hash, end, config.max_reorg_depth)?;
    }
    Ok(index)
}

/// A pass over the segments that fills an empty index. What was stored was verified, and checksums say that it is what was
/// stored; which branch is the main chain is decided as the default rule does.
struct Rebuild<'a> {
    index: &'a Index,
    config: &'a DiskStoreConfig,
    best: Option<BlockRef>,
    end: End,
    batch: Vec<(CheckedBlock, Location)>,
}

impl Rebuild<'_> {
    fn scan(&mut self, segments: &Segments) -> Result<(), StoreError> {
        let present = segments.list()?;
        let mut whole = true;
        for (expected, segment) in (0_u32..).zip(present) {
            if !whole || segment != expected {
                // Nothing can be attached behind a gap, and nothing is thrown away unseen.
                tracing::warn!(segment, "segment lies behind a damaged one: set aside");
                segments.set_aside(segment)?;
                whole = false;
                continue;
            }
            self.end = End { segment, offset: 0 };
            while let Record::Whole(bytes) = segments.record(self.end)? {
                if !self.take(bytes)? {
                    break;
                }
            }
            whole = segments.len(segment)? == self.end.offset;
        }
        self.flush()
    }

    fn take(&mut self, bytes: Bytes) -> Result<bool, StoreError> {
        let Ok(block) = serde_json::from_slice::<Block>(&bytes) else { return Ok(false) };
        let len = u32::try_from(bytes.len()).expect("a record's length has 32 bits");
        let location = Location { segment: self.end.segment, offset: self.end.offset, len };
        self.end.offset += (RECORD_HEADER + bytes.len()) as u64;
        let block = CheckedBlock::with_bytes(&block, bytes);
        let rank = |place: &BlockRef| (place.height, std::cmp::Reverse(place.hash));
        if self.best.is_none_or(|best| rank(&block.place) > rank(&best)) {
            self.best = Some(block.place);
        }
        self.batch.push((block, location));
        if self.batch.len() == REBUILD_BATCH {
            self.flush()?;
        }
        Ok(true)
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        let Some(best) = self.best else { return Ok(()) };
        let batch: Vec<_> = self.batch.iter().map(|(block, location)| (block, *location)).collect();
        self.index.append(&batch, best.hash, self.end, self.config.max_reorg_depth)?;
        self.batch.clear();
        Ok(())
    }
}
