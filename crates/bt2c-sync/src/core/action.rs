//! What goes into the core and what comes out of it.

use std::sync::Arc;

use bt2c_p2p::{Inventory, Tip};
use bt2c_proto::{
    Block, BlockHash, BlockHeader, CloseCode, GetBlocks, GetHeaders, Height, PeerId, Transaction, TxHash,
};
use bt2c_security::Deed;
use bytes::Bytes;

use crate::{
    chain::CheckedBlock,
    consensus::{Invalid, InvalidTransaction, Unknown},
    event::Event,
    pool::PoolError,
};

/// Identifies something that was submitted on this node, for the reply.
pub type RequestId = u64;

/// Where a pushed object comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A peer sent it.
    Peer(PeerId),
    /// It was submitted here; whoever did is told what became of it.
    Local(RequestId),
}

/// What to do.
#[derive(Debug, Clone)]
pub enum Action {
    /// Send a `get_blocks`.
    Request {
        /// To whom.
        peer: PeerId,
        /// What it asks for.
        range: GetBlocks,
    },
    /// Send a `cancel`.
    Cancel {
        /// To whom.
        peer: PeerId,
        /// The stream that it ends.
        request_id: u32,
    },
    /// Send a `get_headers`.
    RequestHeaders {
        /// To whom.
        peer: PeerId,
        /// What it asks for.
        question: GetHeaders,
    },
    /// Close the connection to a peer.
    Close {
        /// Which one.
        peer: PeerId,
        /// Why.
        code: CloseCode,
    },
    /// Report an offence.
    Blame {
        /// Whose.
        peer: PeerId,
        /// What it did.
        blame: Blame,
    },
    /// A peer did something useful.
    Credit {
        /// Who.
        peer: PeerId,
        /// What.
        deed: Deed,
    },
    /// Check blocks with [`check_block`](crate::check_block); answer with [`Core::handle_checked`](crate::Core::handle_checked).
    CheckBlocks {
        /// The job.
        job: u64,
        /// The blocks.
        blocks: Vec<Unchecked>,
    },
    /// Check the seals of headers with [`Consensus::check_seal`](crate::Consensus::check_seal), in order up to the first that
    /// is bad; answer with [`Core::handle_headers_checked`](crate::Core::handle_headers_checked).
    CheckHeaders {
        /// The job.
        job: u64,
        /// The headers.
        headers: Arc<[BlockHeader]>,
    },
    /// Check a transaction; answer with [`Core::handle_transaction_checked`](crate::Core::handle_transaction_checked).
    CheckTransaction {
        /// The job.
        job: u64,
        /// The transaction.
        transaction: Arc<Transaction>,
    },
    /// Store blocks with [`import`](crate::import); answer with [`Core::handle_imported`](crate::Core::handle_imported). One at a time.
    Import(Vec<CheckedBlock>),
    /// Push a block to the peers that lack it.
    RelayBlock {
        /// Its hash.
        hash: BlockHash,
        /// Its canonical form.
        bytes: Bytes,
    },
    /// Push a transaction to the peers that lack it.
    RelayTransaction(Arc<Transaction>),
    /// A peer has this.
    MarkSeen {
        /// Which peer.
        peer: PeerId,
        /// What.
        inventory: Inventory,
    },
    /// Tell new peers of this tip.
    SetTip(Tip),
    /// Tell everyone who subscribes.
    Emit(Event),
    /// Tell whoever submitted something what became of it.
    Reply {
        /// What was submitted.
        request: RequestId,
        /// What became of it.
        result: Result<(), SubmitError>,
    },
}

/// A block to be checked.
#[derive(Debug, Clone)]
pub struct Unchecked {
    /// The block.
    pub block: Arc<Block>,
    /// Whether this very header, signature included, was checked already.
    pub sealed: bool,
}

/// What a peer did that it is to blame for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Blame {
    /// It sent a block that is proven invalid.
    #[error("block {height} {hash}: {reason}")]
    Block {
        /// The block's height.
        height: Height,
        /// Its hash.
        hash: BlockHash,
        /// What is wrong with it.
        reason: Invalid,
    },
    /// It sent a transaction that is proven invalid.
    #[error("transaction {hash}: {reason}")]
    Transaction {
        /// The hash that it claims.
        hash: TxHash,
        /// What is wrong with it.
        reason: InvalidTransaction,
    },
    /// It answered `get_blocks` with other heights than were asked for, or not in the form that was.
    #[error("asked for blocks {start} to {end}, answered with others")]
    Range {
        /// The first height that was asked for.
        start: Height,
        /// The last height that was asked for.
        end: Height,
    },
    /// It has no block at the height that its hello told.
    #[error("its hello told height {height}, and it has no block there")]
    Height {
        /// The height.
        height: Height,
    },
    /// It answered `get_headers` with headers that are no chain, or of a chain that leaves ours nowhere.
    #[error(
        "asked for headers, answered with such as do not follow each other or what was asked: {height} {hash}"
    )]
    Headers {
        /// The height of the first that does not.
        height: Height,
        /// Its hash.
        hash: BlockHash,
    },
}

/// Why something that was submitted was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The block breaks a rule.
    #[error("invalid block: {0}")]
    InvalidBlock(#[from] Invalid),
    /// The block was not taken.
    #[error("block not taken: {0}")]
    Block(#[from] Unknown),
    /// The transaction breaks a rule.
    #[error("invalid transaction: {0}")]
    InvalidTransaction(#[from] InvalidTransaction),
    /// The transaction was not taken.
    #[error("transaction not taken: {0}")]
    Transaction(#[from] PoolError),
    /// Too many transactions are being checked.
    #[error("too many transactions are waiting to be checked: try again")]
    Busy,
    /// The synchroniser has stopped.
    #[error("the node is stopping")]
    Stopped,
}

/// What the check of a transaction found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionVerdict {
    /// It may stand in a block.
    Valid,
    /// It is on the main chain already.
    Included,
    /// It breaks a rule.
    Invalid(InvalidTransaction),
}
