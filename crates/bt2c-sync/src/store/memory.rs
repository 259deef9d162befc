//! A chain in memory, for tests and for tools that keep nothing.

use std::{collections::BTreeMap, ops::RangeInclusive};

use bt2c_proto::{Block, BlockHash, Height};
use bytes::Bytes;
use parking_lot::RwLock;

use super::{ChainStore, StoreError};
use crate::chain::{BlockRef, CheckedBlock, TxKey};

/// A [`ChainStore`] in memory. It forgets nothing, so it is for short chains.
#[derive(Debug)]
pub struct MemoryStore {
    state: RwLock<State>,
}

#[derive(Debug)]
struct State {
    blocks: BTreeMap<BlockHash, (BlockRef, Bytes)>,
    /// Hashes by height.
    main: Vec<BlockHash>,
    transactions: BTreeMap<TxKey, Vec<BlockHash>>,
}

impl MemoryStore {
    /// A store that holds the genesis block.
    pub fn new(genesis: &Block) -> Self {
        let checked = CheckedBlock::trusted(genesis);
        let hash = checked.place.hash;
        let mut state = State { blocks: BTreeMap::new(), main: vec![hash], transactions: BTreeMap::new() };
        state.insert(&checked);
        Self { state: RwLock::new(state) }
    }
}

impl State {
    fn insert(&mut self, block: &CheckedBlock) {
        let hash = block.place.hash;
        if self.blocks.insert(hash, (block.place, block.bytes.clone())).is_none() {
            for key in &block.transactions {
                self.transactions.entry(*key).or_default().push(hash);
            }
        }
    }

    fn set_tip(&mut self, tip: BlockHash) {
        let mut path = Vec::new();
        let mut at = tip;
        let fork = loop {
            let block = &self.blocks[&at].0;
            let height = usize::try_from(block.height.get()).expect("a chain in memory has few blocks");
            if self.main.get(height) == Some(&at) {
                break height;
            }
            path.push(at);
            at = block.parent;
        };
        self.main.truncate(fork + 1);
        self.main.extend(path.into_iter().rev());
    }

    fn main_hash(&self, height: Height) -> Option<&BlockHash> {
        self.main.get(usize::try_from(height.get()).ok()?)
    }
}

impl ChainStore for MemoryStore {
    fn tip(&self) -> BlockRef {
        let state = self.state.read();
        state.blocks[state.main.last().expect("the genesis block is always there")].0
    }

    fn block(&self, hash: &BlockHash) -> Result<Option<BlockRef>, StoreError> {
        Ok(self.state.read().blocks.get(hash).map(|(place, _)| *place))
    }

    fn main(&self, height: Height) -> Result<Option<BlockRef>, StoreError> {
        let state = self.state.read();
        Ok(state.main_hash(height).map(|hash| state.blocks[hash].0))
    }

    fn body(&self, hash: &BlockHash) -> Result<Option<Bytes>, StoreError> {
        Ok(self.state.read().blocks.get(hash).map(|(_, bytes)| bytes.clone()))
    }

    fn bodies(&self, range: RangeInclusive<Height>, max_bytes: usize) -> Result<Vec<Bytes>, StoreError> {
        let state = self.state.read();
        let mut bodies = Vec::new();
        let mut total = 0;
        let (mut height, end) = (*range.start(), *range.end());
        while let Some(hash) = state.main_hash(height).filter(|_| height <= end) {
            let bytes = &state.blocks[hash].1;
            total += bytes.len();
            if total > max_bytes && !bodies.is_empty() {
                break;
            }
            bodies.push(bytes.clone());
            height = height.next();
        }
        Ok(bodies)
    }

    fn blocks_with(&self, transaction: &TxKey) -> Result<Vec<BlockRef>, StoreError> {
        let state = self.state.read();
        let hashes = state.transactions.get(transaction).map_or(&[][..], Vec::as_slice);
        Ok(hashes.iter().map(|hash| state.blocks[hash].0).collect())
    }

    fn append(&self, batch: &[CheckedBlock], tip: BlockHash) -> Result<(), StoreError> {
        let mut state = self.state.write();
        for (index, block) in batch.iter().enumerate() {
            let parent = block.place.parent;
            let in_batch = batch[..index].iter().any(|earlier| earlier.place.hash == parent);
            if !in_batch && !state.blocks.contains_key(&parent) {
                return Err(StoreError::Missing(parent));
            }
        }
        if !state.blocks.contains_key(&tip) && batch.iter().all(|block| block.place.hash != tip) {
            return Err(StoreError::Missing(tip));
        }
        for block in batch {
            state.insert(block);
        }
        state.set_tip(tip);
        Ok(())
    }
}
