//! Removing the oldest bodies.
//!
//! Whole segments go, the oldest first. What is left of one is written first, whole or not at all, and then the segment is
//! removed; where a crash leaves both, the next start removes the segment. The index keeps its entries.

use std::collections::BTreeSet;

use bt2c_proto::Height;

use super::{
    DiskStore,
    format::allow_pruning,
    index::Index,
    remains,
    segments::{End, io_error},
};
use crate::store::StoreError;

/// What a pruning removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pruned {
    /// How many segments.
    pub segments: u32,
    /// Their bytes.
    pub bytes: u64,
}

impl DiskStore {
    /// Removes bodies, a whole segment at a time and the oldest first, until those that are left take at most `keep` bytes
    /// or the next segment has a body that a reorganisation could need. Places of blocks and the genesis block stay.
    ///
    /// # Errors
    /// If the store fails. What was removed until then is.
    pub fn prune(&self, keep: u64) -> Result<Pruned, StoreError> {
        let writer = self.writer.lock();
        self.prune_until(*writer, keep)
    }

    /// Bytes that the bodies take on disk.
    ///
    /// # Errors
    /// If the store fails.
    pub fn body_bytes(&self) -> Result<u64, StoreError> {
        self.segments.list()?.into_iter().map(|segment| self.segments.len(segment)).sum()
    }

    /// The same while the writer is held, whose next record goes to `end`.
    pub(super) fn prune_until(&self, end: End, keep: u64) -> Result<Pruned, StoreError> {
        let mut pruned = Pruned::default();
        let mut total = self.body_bytes()?;
        let index = self.index.read();
        let needed = self.first_needed(&index, end)?;
        while total > keep && self.segments.first() < needed {
            let bytes = self.prune_first(&index)?;
            total = total.saturating_sub(bytes);
            pruned.segments += 1;
            pruned.bytes += bytes;
        }
        if pruned.segments > 0 {
            let first = self.first_body.read().get();
            tracing::info!(first, segments = pruned.segments, bytes = pruned.bytes, "pruned old blocks");
        }
        Ok(pruned)
    }

    /// The first segment that has to stay: the one with the lowest block at which a branch may leave. Branches that leave
    /// there or later lie behind it.
    fn first_needed(&self, index: &Index, end: End) -> Result<u32, StoreError> {
        let lowest = Height::new(self.tip.read().height.get().saturating_sub(self.config.max_reorg_depth));
        let entry = index.main(lowest..=lowest, |_| true)?.pop();
        Ok(entry.map_or(0, |entry| entry.location.segment.min(end.segment)))
    }

    /// Prunes the oldest segment; says how many bytes it had.
    fn prune_first(&self, index: &Index) -> Result<u64, StoreError> {
        let segment = self.segments.first();
        let bytes = self.segments.len(segment)?;
        // The genesis block has no place among them once its segment is gone, but it is in the first one's remains.
        let from = if segment == 0 { Height::GENESIS } else { *self.first_body.read() };
        let entries = index.main(from..=self.tip.read().height, |entry| entry.location.segment == segment)?;
        let next = entries.last().map_or(from, |entry| entry.place.height.next());
        let hashes: BTreeSet<_> = entries.iter().map(|entry| entry.place.hash).collect();
        let mut transactions = index.transactions_of(&hashes)?;
        let blocks: Vec<_> = entries
            .into_iter()
            .map(|entry| (entry, transactions.remove(&entry.place.hash).unwrap_or_default()))
            .collect();
        allow_pruning(&*self.disk, &self.dir, self.genesis.hash)?;
        let path = self.segments.remains_path(segment);
        self.disk
            .write_atomic(&path, &remains::write(&blocks), false)
            .map_err(|source| io_error("write", &path, source))?;
        *self.first_body.write() = next;
        self.segments.set_first(segment + 1);
        self.segments.remove_pruned()?;
        Ok(bytes)
    }
}
