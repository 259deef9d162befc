//! Pushed blocks whose parent is not here yet.

use std::{collections::BTreeMap, sync::Arc};

use bt2c_proto::{Block, BlockHash, PeerId};

/// A block that waits for its parent.
#[derive(Debug)]
pub(super) struct Orphan {
    pub(super) block: Arc<Block>,
    pub(super) from: PeerId,
    pub(super) size: usize,
}

/// Sealed blocks that wait for their parents, bounded in number and bytes. Room is made at the cost of the peer that takes
/// most of it, so that one peer cannot push out what others sent.
#[derive(Debug)]
pub(super) struct Orphans {
    max_count: usize,
    max_bytes: usize,
    bytes: usize,
    arrivals: u64,
    /// In order of arrival.
    blocks: BTreeMap<u64, Orphan>,
}

impl Orphans {
    pub(super) const fn new(max_count: usize, max_bytes: usize) -> Self {
        Self { max_count, max_bytes, bytes: 0, arrivals: 0, blocks: BTreeMap::new() }
    }

    pub(super) fn insert(&mut self, orphan: Orphan) {
        if self.blocks.values().any(|other| other.block == orphan.block) {
            return;
        }
        self.bytes += orphan.size;
        self.blocks.insert(self.arrivals, orphan);
        self.arrivals += 1;
        while self.blocks.len() > self.max_count || self.bytes > self.max_bytes {
            self.evict();
        }
    }

    /// Drops the oldest block of the peer that takes most room.
    fn evict(&mut self) {
        let mut shares: BTreeMap<PeerId, usize> = BTreeMap::new();
        for orphan in self.blocks.values() {
            *shares.entry(orphan.from).or_default() += orphan.size;
        }
        let greedy = shares.into_iter().max_by_key(|&(_, share)| share).map(|(peer, _)| peer);
        let oldest = self.blocks.iter().find(|(_, orphan)| Some(orphan.from) == greedy).map(|(key, _)| *key);
        if let Some(key) = oldest {
            self.remove(key);
        }
    }

    /// Takes out the blocks whose parent this is.
    pub(super) fn take_children(&mut self, parent: &BlockHash) -> Vec<Orphan> {
        self.take(|orphan| orphan.block.header.previous_hash == *parent)
    }

    /// Forgets what can no longer be attached.
    pub(super) fn drop_up_to(&mut self, height: u64) {
        self.take(|orphan| orphan.block.height().get() <= height);
    }

    fn take(&mut self, wanted: impl Fn(&Orphan) -> bool) -> Vec<Orphan> {
        let keys: Vec<u64> =
            self.blocks.iter().filter(|(_, orphan)| wanted(orphan)).map(|(key, _)| *key).collect();
        keys.into_iter().filter_map(|key| self.remove(key)).collect()
    }

    fn remove(&mut self, key: u64) -> Option<Orphan> {
        let orphan = self.blocks.remove(&key)?;
        self.bytes -= orphan.size;
        Some(orphan)
    }

    /// The parent that a block waits for.
    pub(super) fn parent_of(&self, hash: &BlockHash) -> Option<BlockHash> {
        let orphan = self.blocks.values().find(|orphan| orphan.block.hash() == *hash)?;
        Some(orphan.block.header.previous_hash)
    }

    pub(super) fn len(&self) -> usize {
        self.blocks.len()
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }
}
