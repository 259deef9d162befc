//! Following one branch: the branch of a leader, with whoever helps to fetch it.
//!
//! Base peers are asked by height, so what two peers send may be of two branches. Only the leader's branch is followed: a
//! helper's block counts once a block of the leader's names it as an ancestor; where nothing else is to be asked, the leader
//! is asked for the top of what is here. So no helper, and no former leader, can lead us onto a branch that is too deep to be
//! left again.
//!
//! ```text
//!  Forking ── found ──▶ Fetching ──▶ (claim reached: done)
//!     ▲ │                  │
//!     │ └─ too deep        │ the leader's blocks do not follow ours
//!     └────────────────────┘
//! ```

use std::collections::BTreeMap;

use bt2c_proto::PeerId;

use crate::chain::{BlockRef, CheckedBlock};

#[derive(Debug)]
pub(super) struct Pursuit {
    pub(super) leader: PeerId,
    pub(super) stage: Stage,
    /// The last block of the branch that is stored, or being stored.
    pub(super) cursor: BlockRef,
    /// Blocks above the cursor, by height.
    window: BTreeMap<u64, Piece>,
    /// Up to which height the window is of the leader's branch, without gaps.
    trusted: u64,
    /// Whether that has to be found out anew.
    unsettled: bool,
    /// How often the fork was looked for: a leader whose chain changes all the time is not followed for ever.
    pub(super) searches: u32,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// Looking for the last block that the leader's branch shares with ours.
    Forking(ForkSearch),
    /// Fetching what follows the cursor.
    Fetching,
}

#[derive(Debug)]
pub(super) struct Piece {
    pub(super) from: PeerId,
    pub(super) place: BlockRef,
    pub(super) size: usize,
    pub(super) state: PieceState,
}

#[derive(Debug)]
pub(super) enum PieceState {
    /// With the workers, as this job.
    Checking(u64),
    /// Ready to be stored.
    Checked(CheckedBlock),
    /// Stored already, beside the main chain.
    Stored,
}

/// What does not fit together in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// This peer's blocks are not of the leader's branch; they were dropped.
    Diverged(PeerId),
    /// The leader's branch does not follow the cursor.
    NotOurs,
}

impl Pursuit {
    pub(super) fn new(leader: PeerId, cursor: BlockRef) -> Self {
        Self {
            leader,
            stage: Stage::Fetching,
            cursor,
            window: BTreeMap::new(),
            trusted: cursor.height.get(),
            unsettled: false,
            searches: 0,
        }
    }

    /// Looks for the fork below `differs`, a height at which the leader has another block than we.
    pub(super) fn search(&mut self, lowest: u64, differs: u64) {
        self.window.clear();
        self.searches += 1;
        self.stage = Stage::Forking(ForkSearch::new(lowest, differs));
    }

    /// The leader's branch leaves ours here.
    pub(super) fn follow_from(&mut self, fork: BlockRef) {
        self.window.clear();
        self.cursor = fork;
        self.trusted = fork.height.get();
        self.stage = Stage::Fetching;
    }

    /// Follows another leader, with what is there.
    pub(super) fn follow(&mut self, leader: PeerId) {
        self.leader = leader;
        self.unsettled = true;
    }

    pub(super) fn piece(&self, height: u64) -> Option<&Piece> {
        self.window.get(&height)
    }

    pub(super) fn piece_mut(&mut self, height: u64) -> Option<&mut Piece> {
        self.window.get_mut(&height)
    }

    pub(super) fn insert(&mut self, piece: Piece) {
        self.window.insert(piece.place.height.get(), piece);
        self.unsettled = true;
    }

    /// Forgets what a peer sent.
    pub(super) fn drop_from(&mut self, peer: &PeerId) {
        self.window.retain(|_, piece| piece.from != *peer);
        self.unsettled = true;
    }

    /// Forgets what was checked in a job that failed: also blocks whose hash someone else confirmed, for a wrong body says
    /// nothing about a hash.
    pub(super) fn drop_job(&mut self, job: u64) {
        self.window.retain(|_, piece| !matches!(piece.state, PieceState::Checking(own) if own == job));
        self.unsettled = true;
    }

    pub(super) fn next_height(&self) -> u64 {
        self.cursor.height.get() + 1
    }

    /// Bytes of the window.
    pub(super) fn bytes(&self) -> usize {
        self.window.values().map(|piece| piece.size).sum()
    }

    /// Finds out how far the window is of the leader's branch: from the leader's highest block of the gapless run above
    /// the cursor down, link by link.
    pub(super) fn settle(&mut self) -> Result<(), Trouble> {
        if !std::mem::take(&mut self.unsettled) {
            return Ok(());
        }
        let first = self.next_height();
        let run = (first..).map_while(|height| self.window.get(&height));
        let Some(top) =
            run.filter(|piece| piece.from == self.leader).last().map(|piece| piece.place.height.get())
        else {
            self.trusted = first - 1;
            return Ok(());
        };
        for height in (first..top).rev() {
            let piece = &self.window[&height];
            if !piece.place.is_parent_of(&self.window[&(height + 1)].place) {
                let from = piece.from;
                self.window.retain(|other, piece| *other > height || piece.from != from);
                self.trusted = first - 1;
                self.unsettled = true;
                return Err(Trouble::Diverged(from));
            }
        }
        if self.window[&first].place.parent != self.cursor.hash {
            return Err(Trouble::NotOurs);
        }
        self.trusted = top;
        Ok(())
    }

    /// The highest height, up to `last`, of the gapless run above the cursor, if it is not yet known to be of the leader's
    /// branch: the block to ask the leader for, so that it is.
    pub(super) fn unconfirmed(&self, last: u64) -> Option<u64> {
        let run = (self.next_height()..=last).take_while(|height| self.window.contains_key(height));
        run.last().filter(|top| *top > self.trusted)
    }

    /// The leader sent this block, too: what is below is of its branch.
    pub(super) fn confirm(&mut self, height: u64) {
        if let Some(piece) = self.window.get_mut(&height) {
            piece.from = self.leader;
            self.unsettled = true;
        }
    }

    /// The next block to store, if the leader's branch is known to have it.
    pub(super) fn head(&self) -> Option<&Piece> {
        let height = self.next_height();
        self.window.get(&height).filter(|_| height <= self.trusted)
    }

    /// Moves the cursor over the head.
    pub(super) fn advance(&mut self) -> Option<Piece> {
        let piece = self.window.remove(&self.next_height())?;
        self.cursor = piece.place;
        Some(piece)
    }

    /// The runs of heights above the cursor, up to `last`, that are neither here nor in one of `asked`; ascending.
    pub(super) fn gaps(&self, last: u64, asked: impl Iterator<Item = (u64, u64)>) -> Vec<(u64, u64)> {
        let mut covered: Vec<(u64, u64)> = self.window.keys().map(|height| (*height, *height)).collect();
        covered.extend(asked);
        covered.push((last.saturating_add(1), last.saturating_add(1)));
        covered.sort_unstable();
        let (mut gaps, mut next) = (Vec::new(), self.next_height());
        for (start, end) in covered {
            if next < start && next <= last {
                gaps.push((next, last.min(start - 1)));
            }
            next = next.max(end.saturating_add(1));
        }
        gaps
    }
}

/// The search for the last block that two branches share, with single-block questions: downwards in doubling steps (forks
/// are shallow), then by halves.
#[derive(Debug)]
pub(super) struct ForkSearch {
    lowest: u64,
    differs: u64,
    shares: Option<u64>,
    step: u64,
}

/// What a [`ForkSearch`] wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Whether the block at this height is ours.
    Ask(u64),
    /// The last shared block is here.
    Found(u64),
    /// There is no shared block as high as `lowest`.
    TooDeep,
}

impl ForkSearch {
    pub(super) const fn new(lowest: u64, differs: u64) -> Self {
        Self { lowest, differs, shares: None, step: 1 }
    }

    pub(super) fn next(&self) -> Next {
        match self.shares {
            Some(shares) if shares + 1 >= self.differs => Next::Found(shares),
            Some(shares) => Next::Ask(shares + (self.differs - shares) / 2),
            None if self.differs <= self.lowest => Next::TooDeep,
            None => Next::Ask(self.differs.saturating_sub(self.step).max(self.lowest)),
        }
    }

    pub(super) fn answer(&mut self, height: u64, shared: bool) {
        if shared {
            self.shares = Some(height);
        } else {
            self.differs = height;
            self.step = self.step.saturating_mul(2);
        }
    }
}

#[cfg(test)]
mod tests;
