//! What the layers of this crate say about blocks without handing blocks around.

use std::fmt;

use bt2c_p2p::Tip;
use bt2c_proto::{Block, BlockHash, BlockHeader, Height, Transaction, TxHash};
use bytes::Bytes;

/// A block's place in the tree of blocks: all that fork choice, planning and the index need to know of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockRef {
    /// Its hash.
    pub hash: BlockHash,
    /// Its parent's hash; in a genesis block, the hash of the network's parameters.
    pub parent: BlockHash,
    /// Its distance from the genesis block.
    pub height: Height,
    /// Seconds since the Unix epoch.
    pub timestamp: u64,
}

impl BlockRef {
    /// The branch that ends in this block.
    pub const fn tip(&self) -> Tip {
        Tip { height: self.height, hash: self.hash }
    }

    /// Whether `child` names this block as its parent, at the height that follows.
    pub fn is_parent_of(&self, child: &Self) -> bool {
        child.parent == self.hash && child.height.get() == self.height.get() + 1
    }
}

impl From<&BlockHeader> for BlockRef {
    fn from(header: &BlockHeader) -> Self {
        Self {
            hash: header.hash(),
            parent: header.previous_hash,
            height: header.height,
            timestamp: header.timestamp,
        }
    }
}

impl fmt::Display for BlockRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.height, self.hash.short())
    }
}

/// Identifies a transaction in the index of those that a branch may not repeat. The date comes first, so that entries lie
/// in the order in which they stop to matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TxKey {
    /// The transaction's date, in seconds since the Unix epoch.
    pub timestamp: u64,
    /// Its hash.
    pub hash: TxHash,
}

impl From<&Transaction> for TxKey {
    fn from(transaction: &Transaction) -> Self {
        Self { timestamp: transaction.timestamp, hash: transaction.hash }
    }
}

/// A block that passed every check that needs no other block, in the form in which it is stored and sent: its parsed
/// transactions are gone, its canonical bytes are shared.
#[derive(Debug, Clone)]
pub struct CheckedBlock {
    /// Its place.
    pub place: BlockRef,
    /// Its transactions.
    pub transactions: Box<[TxKey]>,
    /// Its canonical form.
    pub bytes: Bytes,
}

impl CheckedBlock {
    /// The stored form of a block that the caller has checked, or made himself.
    pub fn trusted(block: &Block) -> Self {
        Self::with_bytes(block, block.canonical_bytes().into())
    }

    pub(crate) fn with_bytes(block: &Block, bytes: Bytes) -> Self {
        let transactions = block.transactions.iter().map(TxKey::from).collect();
        Self { place: BlockRef::from(&block.header), transactions, bytes }
    }
}
