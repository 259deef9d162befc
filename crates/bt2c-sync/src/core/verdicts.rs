//! What became of blocks lately, for who asks why.

use std::num::NonZeroUsize;

use bt2c_proto::{BlockHash, Height, PeerId, Time};
use lru::LruCache;

use crate::chain::BlockRef;

/// What was decided about a block. A hash may have several: a body that is refused says nothing against another body of the
/// same hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockDecision {
    /// The block.
    pub hash: BlockHash,
    /// The height that it claims.
    pub height: Height,
    /// What was decided.
    pub verdict: BlockVerdict,
    /// What showed it: the rule that is broken or kept, and how.
    pub evidence: String,
    /// Who sent it last; `None` if it was made here.
    pub from: Option<PeerId>,
    /// When that was last decided.
    pub at: Time,
    /// How often.
    pub times: u64,
}

/// What can become of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockVerdict {
    /// It breaks a rule: its sender was charged.
    Invalid,
    /// It could not be judged (yet): nobody was charged.
    Unjudged,
    /// It waits for its parent.
    Orphan,
    /// It came onto the main chain.
    Main,
    /// It is stored beside the main chain, which is better.
    Branch,
    /// It left the main chain for a better branch.
    Reverted,
}

impl BlockVerdict {
    /// The name in the control API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Unjudged => "unjudged",
            Self::Orphan => "orphan",
            Self::Main => "main",
            Self::Branch => "branch",
            Self::Reverted => "reverted",
        }
    }
}

impl std::fmt::Display for BlockVerdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// The decisions of late; when it is full, those that were repeated longest ago go.
#[derive(Debug)]
pub(super) struct Verdicts {
    entries: LruCache<(BlockHash, BlockVerdict), BlockDecision>,
}

impl Default for Verdicts {
    fn default() -> Self {
        Self { entries: LruCache::new(KEPT) }
    }
}

impl Verdicts {
    pub(super) fn note(
        &mut self,
        at: Time,
        place: &BlockRef,
        verdict: BlockVerdict,
        from: Option<PeerId>,
        evidence: String,
    ) {
        let (hash, height) = (place.hash, place.height);
        let before = self.entries.get(&(hash, verdict)).map_or(0, |decision| decision.times);
        let decision = BlockDecision { hash, height, verdict, evidence, from, at, times: before + 1 };
        self.entries.put((hash, verdict), decision);
    }

    /// What was decided about a block, latest first.
    pub(super) fn about(&self, hash: &BlockHash) -> Vec<BlockDecision> {
        let found = self.entries.iter().filter(|((of, _), _)| of == hash);
        let mut found: Vec<_> = found.map(|(_, decision)| decision.clone()).collect();
        found.sort_by_key(|decision| std::cmp::Reverse(decision.at));
        found
    }

    /// Everything that is remembered, latest first.
    pub(super) fn all(&self) -> Vec<BlockDecision> {
        let mut all: Vec<_> = self.entries.iter().map(|(_, decision)| decision.clone()).collect();
        all.sort_by_key(|decision| std::cmp::Reverse(decision.at));
        all
    }
}

/// Decisions that are remembered: about 1 MB.
const KEPT: NonZeroUsize = NonZeroUsize::new(4096).expect("4096 is not 0");
