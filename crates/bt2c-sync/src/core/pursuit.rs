//! Following one branch: the branch of a leader, with whoever helps to fetch it.
//!
//! Peers are asked by height, so what two peers send may be of two branches. Only the leader's branch is followed: a
//! helper's block counts once a header or a block of the leader's says so, or names it as an ancestor; where nothing else
//! is to be asked, the leader is asked for the top of what is here. So no helper, and no former leader, can lead us onto a
//! branch that is too deep to be left again.
//!
//! ```text
//!  Locating / Forking ── found ──▶ Fetching ──▶ (claim reached: done)
//!     ▲ │                             │
//!     │ └─ too deep                   │ the leader's blocks do not follow ours
//!     └───────────────────────────────┘
//! ```

use std::collections::BTreeMap;

use bt2c_proto::{BlockHash, BlockHeader, PeerId};

use crate::chain::{BlockRef, CheckedBlock};

#[derive(Debug)]
pub(super) struct Pursuit {
    pub(super) leader: PeerId,
    pub(super) stage: Stage,
    /// The last block of the branch that is stored, or being stored.
    pub(super) cursor: BlockRef,
    /// Blocks above the cursor, by height.
    window: BTreeMap<u64, Piece>,
    /// Bytes of these blocks.
    bytes: usize,
    /// The end of the gapless run of them above the cursor.
    run_end: u64,
    /// Up to which height the window is of the leader's branch, without gaps.
    trusted: u64,
    /// Whether that has to be found out anew.
    unsettled: bool,
    /// Headers of the leader's branch above the cursor, with good seals, without gaps.
    headers: BTreeMap<u64, BlockHeader>,
    /// Headers of the leader's are with the workers, as this job.
    pub(super) headers_job: Option<u64>,
    /// How often the fork was looked for: a leader whose chain changes all the time is not followed for ever.
    pub(super) searches: u32,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// Waiting for the leader's headers, which say where its branch leaves ours.
    Locating,
    /// Looking for the last block that the leader's branch shares with ours, block by block.
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
            bytes: 0,
            run_end: cursor.height.get(),
            trusted: cursor.height.get(),
            unsettled: false,
            headers: BTreeMap::new(),
            headers_job: None,
            searches: 0,
        }
    }

    /// Looks for where the leader's branch leaves ours.
    pub(super) fn look_for_fork(&mut self, stage: Stage) {
        self.searches += 1;
        self.stage = stage;
        self.start_over(self.cursor);
    }

    /// The leader's branch leaves ours here.
    pub(super) fn follow_from(&mut self, fork: BlockRef) {
        self.stage = Stage::Fetching;
        self.start_over(fork);
    }

    fn start_over(&mut self, cursor: BlockRef) {
        self.window.clear();
        self.headers.clear();
        self.headers_job = None;
        self.bytes = 0;
        self.cursor = cursor;
        (self.run_end, self.trusted) = (cursor.height.get(), cursor.height.get());
    }

    /// Follows another leader, with what is there.
    pub(super) fn follow(&mut self, leader: PeerId) {
        self.leader = leader;
        self.headers.clear();
        self.headers_job = None;
        self.distrust();
    }

    pub(super) fn piece(&self, height: u64) -> Option<&Piece> {
        self.window.get(&height)
    }

    pub(super) fn piece_mut(&mut self, height: u64) -> Option<&mut Piece> {
        self.window.get_mut(&height)
    }

    pub(super) fn insert(&mut self, piece: Piece) {
        let height = piece.place.height.get();
        self.bytes += piece.size;
        if let Some(before) = self.window.insert(height, piece) {
            self.bytes -= before.size;
            self.distrust();
        }
        while self.window.contains_key(&(self.run_end + 1)) {
            self.run_end += 1;
        }
        self.unsettled = true;
    }

    /// Nothing is known any more of what the window is of.
    fn distrust(&mut self) {
        self.trusted = self.cursor.height.get();
        self.unsettled = true;
    }

    fn retain(&mut self, keep: impl Fn(u64, &Piece) -> bool) {
        self.window.retain(|height, piece| keep(*height, piece));
        self.bytes = self.window.values().map(|piece| piece.size).sum();
        self.run_end = self.cursor.height.get();
        while self.window.contains_key(&(self.run_end + 1)) {
            self.run_end += 1;
        }
        self.distrust();
    }

    /// Forgets what a peer sent.
    pub(super) fn drop_from(&mut self, peer: &PeerId) {
        self.retain(|_, piece| piece.from != *peer);
    }

    /// Forgets what was checked in a job that failed: also blocks whose hash someone else confirmed, for a wrong body says
    /// nothing about a hash.
    pub(super) fn drop_job(&mut self, job: u64) {
        self.retain(|_, piece| !matches!(piece.state, PieceState::Checking(own) if own == job));
    }

    pub(super) fn next_height(&self) -> u64 {
        self.cursor.height.get() + 1
    }

    /// Bytes of the window.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The end of the gapless run of blocks above the cursor.
    pub(super) const fn run_end(&self) -> u64 {
        self.run_end
    }

    /// How many of the next blocks are here and known to be of the leader's branch.
    pub(super) fn ready(&self) -> u64 {
        self.trusted - self.cursor.height.get()
    }

    /// The leader's header at a height, if it is known.
    pub(super) fn header(&self, height: u64) -> Option<&BlockHeader> {
        self.headers.get(&height)
    }

    /// The last header of the leader's that is known, by height and hash.
    pub(super) fn last_header(&self) -> Option<(u64, BlockHash)> {
        self.headers.last_key_value().map(|(height, header)| (*height, header.hash()))
    }

    /// Takes headers of the leader's with good seals, as far as they continue what is known.
    pub(super) fn extend_headers(&mut self, headers: Vec<BlockHeader>) {
        for header in headers {
            let follows = match self.last_header() {
                Some((height, hash)) => header.height.get() == height + 1 && header.previous_hash == hash,
                // What is stored meanwhile is behind the cursor.
                None => header.height.get() >= self.next_height(),
            };
            if follows {
                self.headers.insert(header.height.get(), header);
            }
        }
        self.unsettled = true;
    }

    /// The leader has another block at this height than its headers say: its chain changed.
    pub(super) fn drop_headers(&mut self) {
        self.headers.clear();
        self.distrust();
    }

    fn is_leaders(&self, piece: &Piece) -> bool {
        let told = || self.headers.get(&piece.place.height.get());
        piece.from == self.leader || told().is_some_and(|header| header.hash() == piece.place.hash)
    }

    /// Finds out how far the window is of the leader's branch: from the leader's highest block of the gapless run above
    /// the cursor down, link by link.
    pub(super) fn settle(&mut self) -> Result<(), Trouble> {
        if !std::mem::take(&mut self.unsettled) {
            return Ok(());
        }
        let new = self.trusted + 1..=self.run_end;
        let Some(top) = new.rev().find(|height| self.is_leaders(&self.window[height])) else { return Ok(()) };
        for height in (self.trusted.max(self.next_height())..top).rev() {
            let piece = &self.window[&height];
            if !piece.place.is_parent_of(&self.window[&(height + 1)].place) {
                let from = piece.from;
                // Of two blocks of the leader's that do not fit, either can be of a branch that it has left.
                let all = from == self.leader;
                self.retain(|other, piece| piece.from != from || (other > height && !all));
                return Err(Trouble::Diverged(from));
            }
        }
        if self.trusted < self.next_height()
            && self.window[&self.next_height()].place.parent != self.cursor.hash
        {
            return Err(Trouble::NotOurs);
        }
        self.trusted = top;
        Ok(())
    }

    /// The highest height, up to `last`, of the gapless run above the cursor, if it is not yet known to be of the leader's
    /// branch: the block to ask the leader for, so that it is.
    pub(super) fn unconfirmed(&self, last: u64) -> Option<u64> {
        Some(self.run_end.min(last)).filter(|top| *top > self.trusted)
    }

    /// The leader sent this block, too: what is below is of its branch.
    pub(super) fn confirm(&mut self, height: u64) {
        if let Some(piece) = self.window.get_mut(&height) {
            piece.from = self.leader;
            self.unsettled = true;
        }
    }

    /// The next block to store, whoever's branch it is of.
    pub(super) fn front(&self) -> Option<&Piece> {
        self.window.get(&self.next_height())
    }

    /// The next block to store, if the leader's branch is known to have it.
    pub(super) fn head(&self) -> Option<&Piece> {
        self.front().filter(|_| self.ready() > 0)
    }

    /// Moves the cursor over the head.
    pub(super) fn advance(&mut self) -> Option<Piece> {
        let piece = self.window.remove(&self.next_height())?;
        self.headers.remove(&self.next_height());
        self.bytes -= piece.size;
        self.cursor = piece.place;
        Some(piece)
    }

    /// The runs of heights above the cursor, up to `last`, that are neither here nor in one of `asked`; ascending.
    pub(super) fn gaps(&self, last: u64, asked: impl Iterator<Item = (u64, u64)>) -> Vec<(u64, u64)> {
        let beyond = self.window.range(self.run_end + 1..);
        let mut covered: Vec<(u64, u64)> = beyond.map(|(height, _)| (*height, *height)).collect();
        covered.extend(asked);
        covered.push((last.saturating_add(1), last.saturating_add(1)));
        covered.sort_unstable();
        let (mut gaps, mut next) = (Vec::new(), self.run_end + 1);
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
