//! What makes a block valid, and which of two branches wins.

use std::fmt::Debug;

use bt2c_p2p::Tip;
use bt2c_proto::{Block, BlockHeader, Time, Transaction, limits::MAX_BLOCK_BYTES};
use bytes::Bytes;

use crate::chain::{BlockRef, CheckedBlock};

/// The rules of a chain, apart from two that every chain shares: a block's hash is the hash of its header (reading one
/// that is not fails), and a transaction appears at most once in a branch (the importer sees to it).
///
/// Checks are split by what they need: [`check_seal`](Self::check_seal), [`check_body`](Self::check_body) and
/// [`check_transaction`](Self::check_transaction) need the object alone, so they run on any thread in any order;
/// [`check_header`](Self::check_header) needs the parent and the time and is cheap.
pub trait Consensus: Send + Sync + Debug {
    /// The genesis block.
    fn genesis(&self) -> &Block;

    /// Whether the header is sealed by someone who may: the first check of anything that costs more.
    ///
    /// # Errors
    /// What proves that it is not.
    fn check_seal(&self, header: &BlockHeader) -> Result<(), Invalid>;

    /// Size, Merkle root and transactions of a block whose canonical form has `size` bytes: all but its seal.
    ///
    /// # Errors
    /// What proves the block invalid.
    fn check_body(&self, block: &Block, size: usize) -> Result<(), Invalid>;

    /// Whether a transaction could stand in a block dated `block_timestamp` (seconds), or in some block if there is none.
    ///
    /// # Errors
    /// What proves that it could not.
    fn check_transaction(
        &self,
        transaction: &Transaction,
        block_timestamp: Option<u64>,
    ) -> Result<(), InvalidTransaction>;

    /// Whether a block may follow `parent`, and may be taken at `now`.
    fn check_header(&self, block: &BlockRef, parent: &BlockRef, now: Time) -> Verdict;

    /// Whether branch `a` wins over branch `b`.
    fn better(&self, a: Tip, b: Tip) -> bool;

    /// The slot of a block with this date (seconds): of one slot, at most two blocks are taken from pushes.
    fn slot(&self, timestamp: u64) -> u64;

    /// The moment from which a block with this date (seconds) is no longer too early.
    fn earliest(&self, timestamp: u64) -> Time;
}

/// What is known of a block's validity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It follows the rules.
    Valid,
    /// It breaks a rule, proven by itself or by verified ancestors: an offence of whoever sent it.
    Invalid(Invalid),
    /// Nothing is proven: never an offence.
    Unknown(Unknown),
}

impl From<Result<(), Invalid>> for Verdict {
    fn from(result: Result<(), Invalid>) -> Self {
        result.map_or_else(Self::Invalid, |()| Self::Valid)
    }
}

/// A block that is proven invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("block {place}: {reason}")]
pub struct InvalidBlock {
    /// Which block.
    pub place: BlockRef,
    /// What proves it.
    #[source]
    pub reason: Invalid,
}

/// How a block breaks the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The canonical form is above [`MAX_BLOCK_BYTES`].
    #[error("block has {0} bytes, more than {MAX_BLOCK_BYTES}")]
    Size(usize),
    /// Dated before the genesis block, or in a slot that is not its proposer's.
    #[error("validator is not the proposer of the block's slot")]
    Proposer,
    /// The signature is not the proposer's.
    #[error("signature of the block is not its proposer's")]
    Signature,
    /// The header commits to other transactions.
    #[error("merkle root does not match the transactions")]
    Root,
    /// Not the child of the block it names as parent.
    #[error("height does not follow the parent's")]
    Height,
    /// Another parent than the chain it is sent in.
    #[error("previous hash is not the parent's")]
    Link,
    /// Another block is known to be the one of its height.
    #[error("a checkpoint has another block at this height")]
    Checkpoint,
    /// In its parent's slot or before.
    #[error("slot is not later than the parent's")]
    Slot,
    /// A transaction breaks the rules.
    #[error("transaction {index}: {reason}")]
    Transaction {
        /// Its place in the block.
        index: usize,
        /// How.
        reason: InvalidTransaction,
    },
    /// A transaction stands twice in the branch.
    #[error("transaction {index} is already in the branch")]
    Repeated {
        /// Its place in the block.
        index: usize,
    },
}

/// How a transaction breaks the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTransaction {
    /// The hash is not that of its fields on this network.
    #[error("hash is not that of its fields on this network")]
    Hash,
    /// The public key breaks the key rule.
    #[error("public key breaks the key rule")]
    Key,
    /// The sender is not the public key's address.
    #[error("sender is not the public key's address")]
    Sender,
    /// The signature is not the sender's.
    #[error("signature is not the sender's")]
    Signature,
    /// Dated after its block.
    #[error("dated after its block")]
    Late,
    /// Dated more than 24 hours before its block.
    #[error("dated more than 24 hours before its block")]
    Stale,
}

/// Why nothing is known of a block's validity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// Its parent is not here.
    #[error("parent is not known")]
    Parent,
    /// Dated too far ahead of our clock.
    #[error("dated too far ahead")]
    TooEarly,
    /// On a branch that leaves the chain deeper than is followed.
    #[error("leaves the chain too deep")]
    TooOld,
    /// It is here already.
    #[error("already known")]
    Known,
    /// Two other blocks of its slot are here.
    #[error("two other blocks of its slot are known")]
    SlotFull,
    /// More was handed in than is kept waiting.
    #[error("too many blocks are waiting")]
    Busy,
    /// It could not be stored.
    #[error("the store failed")]
    Store,
}

/// Everything that can be checked of a block alone, with its canonical bytes made on the way: heavy, for worker threads.
/// Of a block that is `sealed`, this very header is known to be.
///
/// # Errors
/// What proves the block invalid.
pub fn check_block(
    consensus: &dyn Consensus,
    block: &Block,
    sealed: bool,
) -> Result<CheckedBlock, InvalidBlock> {
    let bytes = Bytes::from(block.canonical_bytes());
    let seal = if sealed { Ok(()) } else { consensus.check_seal(&block.header) };
    match seal.and_then(|()| consensus.check_body(block, bytes.len())) {
        Ok(()) => Ok(CheckedBlock::with_bytes(block, bytes)),
        Err(reason) => Err(InvalidBlock { place: BlockRef::from(&block.header), reason }),
    }
}
