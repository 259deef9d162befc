//! The chain on disk: bodies in append-only segments, an index over them.
//!
//! The order of writes is what makes it safe: a batch goes into the segments, they are synced, then one index transaction
//! refers to it. A crash before that transaction leaves a tail that nothing refers to, cut off at the next start. An index
//! that is lost, or that refers to what the segments do not have, is rebuilt from them, and from what is left of those that
//! were pruned.

mod backend;
mod blocks;
mod format;
mod index;
mod opening;
mod prune;
mod rebuild;
mod remains;
mod segments;

use std::{
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

pub use self::prune::Pruned;
use self::{
    blocks::Entry,
    format::check_format,
    index::Index,
    opening::{Genesis, Opened, damaged, lock, open_and_heal, open_index_file},
    segments::{End, Record, Segments, io_error},
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
    /// Memory for pages of the index in bytes; default 2 MiB. The system keeps pages too, in memory that it
    /// takes back when others need it: more than this made no import faster, up to a million blocks.
    pub cache_bytes: usize,
    /// Depth in blocks below the tip at which branches may still leave; default 100. Must not be below the
    /// synchroniser's, or a branch could repeat a forgotten transaction.
    pub max_reorg_depth: u64,
    /// Bytes of bodies above which the oldest segments are removed; `None`, the default, keeps all. What is kept may be
    /// more by a segment, and by what a reorganisation could need. Below two segments little would be left to serve.
    pub prune_bytes: Option<u64>,
    /// Whether opening mends what it finds damaged or cut off; default true. Without, the damage is named as an error and
    /// nothing is changed but an index that has to be made anew: for checking, not for appending.
    pub heal: bool,
}

impl Default for DiskStoreConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            cache_bytes: 2 << 20,
            max_reorg_depth: 100,
            prune_bytes: None,
            heal: true,
        }
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
    /// The lowest height from which on bodies are here.
    first_body: RwLock<Height>,
    genesis: Genesis,
    /// Why the last append failed.
    failure: RwLock<Option<Arc<str>>>,
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
        let opened = open_and_heal(&disk, dir, &CheckedBlock::trusted(genesis), &config)?;
        let Opened { index, tip, end, first_body, segments, genesis } = opened;
        let store = Self {
            disk,
            dir: dir.to_owned(),
            config,
            segments,
            index: RwLock::new(index),
            tip: RwLock::new(tip),
            writer: Mutex::new(end),
            first_body: RwLock::new(first_body),
            genesis,
            failure: RwLock::new(None),
            broken: AtomicBool::new(false),
            _lock: lock,
        };
        if store.config.heal {
            store.prune_if_wanted(*store.writer.lock());
        }
        Ok(store)
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where a block lies, or lay: the segment, and the byte at which its record begins.
    ///
    /// # Errors
    /// If the store fails.
    pub fn locate(&self, hash: &BlockHash) -> Result<Option<(PathBuf, u64)>, StoreError> {
        let entry = self.index.read().block(hash)?;
        Ok(entry.map(|entry| (self.segments.path(entry.location.segment), entry.location.offset)))
    }

    /// Checks that the bodies of blocks beside the main chain are those that were stored, in the order of the segments, and
    /// says how many there are.
    ///
    /// # Errors
    /// The first that is damaged.
    pub fn check_branches(&self) -> Result<u64, StoreError> {
        let beside = self.index.read().beside_main()?;
        let mut count = 0;
        for entry in beside {
            match self.segments.read(entry.location)? {
                Record::Whole(_) => count += 1,
                Record::Torn => return Err(damaged(&self.segments, &entry)),
                Record::Pruned => {}
            }
        }
        Ok(count)
    }

    /// The bodies of blocks, up to the first that is pruned.
    fn read(&self, entries: &[Entry]) -> Result<Vec<Bytes>, StoreError> {
        let locations: Vec<_> = entries.iter().map(|entry| entry.location).collect();
        let mut bodies = Vec::with_capacity(entries.len());
        for (entry, record) in entries.iter().zip(self.segments.read_all(&locations)?) {
            match record {
                Record::Whole(bytes) => bodies.push(bytes),
                Record::Torn => return Err(damaged(&self.segments, entry)),
                Record::Pruned if entry.place.hash == self.genesis.hash => {
                    bodies.push(self.genesis.bytes.clone());
                }
                Record::Pruned => break,
            }
        }
        Ok(bodies)
    }

    fn prune_if_wanted(&self, end: End) {
        let Some(keep) = self.config.prune_bytes else { return };
        // The blocks themselves are stored; it is tried again when the next segment is full.
        if let Err(error) = self.prune_until(end, keep) {
            tracing::warn!(%error, "old blocks cannot be pruned");
        }
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

    fn append_or_break(&self, batch: &[CheckedBlock], tip: BlockHash) -> Result<(), StoreError> {
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

    fn write(&self, batch: &[CheckedBlock], tip: BlockHash) -> Result<(), StoreError> {
        let mut writer = self.writer.lock();
        let index = self.index.read();
        let known = index.known(batch.iter().map(|block| &block.place.hash))?;
        let fresh: Vec<_> =
            batch.iter().zip(known).filter(|(_, known)| !known).map(|(block, _)| block).collect();
        let (locations, end) = self.segments.append(*writer, fresh.iter().map(|block| &block.bytes))?;
        let located: Vec<_> = fresh.into_iter().zip(locations).collect();
        let tip = index.append(&located, tip, end, self.config.max_reorg_depth)?;
        drop(index);
        let full = end.segment > writer.segment;
        *writer = end;
        *self.tip.write() = tip;
        if full {
            self.prune_if_wanted(end);
        }
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
        let Some(entry) = self.index.read().block(hash)? else { return Ok(None) };
        let body = self.read(&[entry])?.pop();
        body.map(Some).ok_or(StoreError::Pruned {
            height: entry.place.height,
            hash: entry.place.hash,
            first: self.first_body(),
        })
    }

    fn bodies(&self, range: RangeInclusive<Height>, max_bytes: usize) -> Result<Vec<Bytes>, StoreError> {
        let mut total = 0;
        let entries = self.index.read().main(range, |entry| {
            let first = total == 0;
            total += u64::from(entry.location.len);
            first || total <= max_bytes as u64
        })?;
        self.read(&entries)
    }

    fn first_body(&self) -> Height {
        *self.first_body.read()
    }

    fn failure(&self) -> Option<Arc<str>> {
        self.failure.read().clone()
    }

    fn blocks_with(&self, transaction: &TxKey) -> Result<Vec<BlockRef>, StoreError> {
        Ok(self.index.read().blocks_with(std::slice::from_ref(transaction))?.pop().unwrap_or_default())
    }

    fn blocks_with_each(&self, transactions: &[TxKey]) -> Result<Vec<Vec<BlockRef>>, StoreError> {
        self.index.read().blocks_with(transactions)
    }

    fn append(&self, batch: &[CheckedBlock], tip: BlockHash) -> Result<(), StoreError> {
        let result = self.append_or_break(batch, tip);
        *self.failure.write() = result.as_ref().err().map(|error| error.to_string().into());
        result
    }
}

impl std::fmt::Debug for DiskStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskStore").field("dir", &self.dir).field("tip", &*self.tip.read()).finish()
    }
}
