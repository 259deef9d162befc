//! What the synchroniser tells everyone who subscribes.

use bt2c_p2p::Tip;
use bt2c_proto::{BlockHash, Height, PeerId, TxHash};

use crate::{chain::BlockRef, core::Bottleneck};

/// Something happened to the chain or the pool.
#[derive(Debug, Clone)]
pub enum Event {
    /// Blocks are being fetched; at most one a second, and one at the end.
    SyncProgress(SyncProgress),
    /// A block came onto the main chain. After a reorganisation, one for each block of the new path.
    BlockAdded {
        /// Its height.
        height: Height,
        /// Its hash.
        hash: BlockHash,
        /// How many transactions it holds.
        transactions: usize,
        /// Who sent it; `None` if it was made here or had been stored before.
        from: Option<PeerId>,
    },
    /// The main chain left its path for a better one.
    Reorganised {
        /// The tip before.
        old_tip: Tip,
        /// The tip now.
        new_tip: Tip,
        /// The last block that both paths share.
        fork: Tip,
        /// Blocks that are no longer on the main chain, ascending.
        reverted: Vec<BlockHash>,
    },
    /// A proposer sealed two blocks of one slot.
    Equivocation {
        /// The slot.
        slot: u64,
        /// The block seen first.
        first: BlockHash,
        /// The other one.
        second: BlockRef,
    },
    /// A transaction came into the pool.
    TransactionAdded {
        /// Its hash.
        hash: TxHash,
        /// Who sent it; `None` if it was submitted here.
        from: Option<PeerId>,
    },
    /// A peer's chain leaves ours deeper than is followed: one of the two is on a dead branch, and a person must look.
    BranchTooDeep {
        /// The peer.
        peer: PeerId,
        /// The lowest of our heights that was compared.
        below: Height,
        /// The height that the peer claims.
        claimed: Height,
    },
    /// A peer did not answer in time; its share was asked of others.
    Stalled {
        /// The peer.
        peer: PeerId,
        /// First height that was asked for.
        start: Height,
        /// Last height that was asked for.
        end: Height,
    },
    /// Blocks could not be stored; it is tried again.
    StoreFailed {
        /// What failed.
        error: String,
    },
}

/// How far synchronisation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncProgress {
    /// Our height.
    pub height: Height,
    /// The height that is aimed at.
    pub target: Height,
    /// How many peers say that they have more than we do, and are believed.
    pub peers: usize,
    /// Blocks stored a second since the last report.
    pub blocks_per_s: u64,
    /// Bytes of these blocks a second.
    pub bytes_per_s: u64,
    /// How long the rest takes at that speed; none while nothing is stored.
    pub seconds_left: Option<u64>,
    /// What holds it up most, if it is held up.
    pub bottleneck: Option<Bottleneck>,
}
