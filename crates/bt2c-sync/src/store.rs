//! Where blocks are kept.

mod disk;
mod memory;

use std::{fmt::Debug, io, ops::RangeInclusive, path::PathBuf, sync::Arc};

use bt2c_proto::{BlockHash, Height};
use bytes::Bytes;

use crate::chain::{BlockRef, CheckedBlock, TxKey};

pub use disk::{DiskStore, DiskStoreConfig, Pruned};
pub use memory::MemoryStore;

/// A tree of verified blocks, one path of which, from the genesis block to the tip, is the main chain.
///
/// One writer appends; any number of readers look on without holding it up, each call seeing one committed state.
/// What is appended stays: a reorganisation only moves the main chain to another path.
pub trait ChainStore: Send + Sync + Debug {
    /// The last block of the main chain.
    fn tip(&self) -> BlockRef;

    /// A block of the tree, on the main chain or beside it.
    ///
    /// # Errors
    /// If the store fails.
    fn block(&self, hash: &BlockHash) -> Result<Option<BlockRef>, StoreError>;

    /// The block of the main chain at a height.
    ///
    /// # Errors
    /// If the store fails.
    fn main(&self, height: Height) -> Result<Option<BlockRef>, StoreError>;

    /// The canonical bytes of a block.
    ///
    /// # Errors
    /// If the store fails, or the bytes are damaged, or [pruned](StoreError::Pruned).
    fn body(&self, hash: &BlockHash) -> Result<Option<Bytes>, StoreError>;

    /// The canonical bytes of main-chain blocks from the start of `range` on: as many as there are in it, one after the
    /// other, and as fit into `max_bytes`, but at least the first. None if the first is pruned.
    ///
    /// # Errors
    /// If the store fails, or the bytes are damaged.
    fn bodies(&self, range: RangeInclusive<Height>, max_bytes: usize) -> Result<Vec<Bytes>, StoreError>;

    /// The lowest height from which on the body of every main-chain block is here; 0 unless old ones were pruned. The
    /// genesis block's always is.
    fn first_body(&self) -> Height {
        Height::GENESIS
    }

    /// Why the last [`append`](Self::append) failed; `None` once one succeeds.
    fn failure(&self) -> Option<Arc<str>> {
        None
    }

    /// The blocks of the tree, on the main chain or beside it, that hold a transaction. Transactions dated so early that
    /// no block that may still be appended could repeat them are forgotten.
    ///
    /// # Errors
    /// If the store fails.
    fn blocks_with(&self, transaction: &TxKey) -> Result<Vec<BlockRef>, StoreError>;

    /// The same for many transactions, in their order: one look at the store instead of many.
    ///
    /// # Errors
    /// If the store fails.
    fn blocks_with_each(&self, transactions: &[TxKey]) -> Result<Vec<Vec<BlockRef>>, StoreError> {
        transactions.iter().map(|transaction| self.blocks_with(transaction)).collect()
    }

    /// Adds blocks, each of whose parents is in the store or earlier in the batch, and makes `tip`, one of the store's or
    /// the batch's, the end of the main chain. Once it returns, all of it survives a crash; if it fails, or is cut off,
    /// nothing of it happened.
    ///
    /// # Errors
    /// If the store fails, or a parent or the tip is missing.
    fn append(&self, batch: &[CheckedBlock], tip: BlockHash) -> Result<(), StoreError>;
}

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file system failed.
    #[error("chain store: {what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The index failed.
    #[error("chain store index: {0}")]
    Index(#[source] Box<redb::Error>),
    /// Another process has the directory.
    #[error("chain store {0} is in use by another process: stop that node first")]
    Locked(PathBuf),
    /// Made by a newer version.
    #[error(
        "chain store {path} has format {found}, this version reads up to {supported}: use the newer version"
    )]
    Newer {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that is known here.
        supported: u32,
    },
    /// The description of the format cannot be read.
    #[error("chain store: {path} is damaged: {reason}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: Box<str>,
    },
    /// The chain of another network.
    #[error(
        "chain store {path} holds the chain of genesis {found}, not {expected}: use another data directory"
    )]
    OtherGenesis {
        /// The directory.
        path: PathBuf,
        /// Its genesis.
        found: BlockHash,
        /// The genesis that was asked for.
        expected: BlockHash,
    },
    /// Stored bytes are not those that were stored.
    #[error("chain store: block {height} {hash} is damaged in {path} at byte {offset}")]
    Damaged {
        /// The block's height.
        height: Height,
        /// Its hash.
        hash: BlockHash,
        /// The segment.
        path: PathBuf,
        /// Where in it.
        offset: u64,
    },
    /// There is no block where one should begin, and the index that could say which it was is lost.
    #[error("chain store: {path} has no block at byte {offset}, where one should begin")]
    Torn {
        /// The segment.
        path: PathBuf,
        /// Where in it.
        offset: u64,
    },
    /// The block is known, but its body was removed to save room.
    #[error("block {height} {hash} is pruned: blocks are kept from height {first} on")]
    Pruned {
        /// The block's height.
        height: Height,
        /// Its hash.
        hash: BlockHash,
        /// The lowest height from which on bodies are here.
        first: Height,
    },
    /// A batch does not attach to the tree.
    #[error("block {0} is not in the chain store")]
    Missing(BlockHash),
}

impl StoreError {
    /// Whether the disk is full.
    pub fn is_disk_full(&self) -> bool {
        let error = match self {
            Self::Io { source, .. } => source,
            Self::Index(error) => match &**error {
                redb::Error::Io(source) => source,
                _ => return false,
            },
            _ => return false,
        };
        matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// The main-chain block at which the branch that ends in `hash` leaves the main chain, and the branch's blocks above it
/// in ascending order, at most `max_len` of them; `None` if the branch is longer.
///
/// # Errors
/// If the store fails, or the block is not there.
pub fn branch_of(
    store: &dyn ChainStore,
    hash: BlockHash,
    max_len: usize,
) -> Result<Option<(BlockRef, Vec<BlockRef>)>, StoreError> {
    let mut branch = Vec::new();
    let mut at = hash;
    loop {
        let block = store.block(&at)?.ok_or(StoreError::Missing(at))?;
        if store.main(block.height)?.is_some_and(|main| main.hash == block.hash) {
            branch.reverse();
            return Ok(Some((block, branch)));
        }
        if branch.len() == max_len {
            return Ok(None);
        }
        at = block.parent;
        branch.push(block);
    }
}

#[cfg(test)]
mod tests;
