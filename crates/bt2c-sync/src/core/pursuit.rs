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

use super::{
    fork::ForkSearch,
    window::{Piece, PieceState, Window},
};
use crate::chain::BlockRef;

#[derive(Debug)]
pub(super) struct Pursuit {
    pub(super) leader: PeerId,
    pub(super) stage: Stage,
    /// The last block of the branch that is stored, or being stored.
    pub(super) cursor: BlockRef,
    /// Blocks above the cursor.
    window: Window,
    /// Up to which height the window is of the leader's branch, without gaps.
    trusted: u64,
    /// From which height on that has to be found out anew, if it has.
    unsettled: Option<u64>,
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
            window: Window::default(),
            trusted: cursor.height.get(),
            unsettled: None,
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
        self.cursor = cursor;
        (self.trusted, self.unsettled) = (cursor.height.get(), None);
    }

    /// Follows another leader, with what is there.
    pub(super) fn follow(&mut self, leader: PeerId) {
        self.leader = leader;
        self.headers.clear();
        self.headers_job = None;
        self.distrust();
    }

    pub(super) fn piece(&self, height: u64) -> Option<&Piece> {
        self.window.get(height)
    }

    pub(super) fn piece_mut(&mut self, height: u64) -> Option<&mut Piece> {
        self.window.get_mut(height)
    }

    pub(super) fn insert(&mut self, piece: Piece) {
        let height = piece.place.height.get();
        match self.window.insert(piece) {
            Some(_) => self.distrust(),
            None => self.unsettle(height),
        }
    }

    /// What the window is of may be known better from this height on.
    fn unsettle(&mut self, height: u64) {
        self.unsettled = Some(self.unsettled.map_or(height, |before| before.min(height)));
    }

    /// Nothing is known any more of what the window is of.
    fn distrust(&mut self) {
        self.trusted = self.cursor.height.get();
        self.unsettle(self.next_height());
    }

    fn retain(&mut self, keep: impl Fn(u64, &Piece) -> bool) {
        self.window.retain(keep);
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
        self.window.bytes()
    }

    /// The end of the gapless run of blocks above the cursor.
    pub(super) fn run_end(&self) -> u64 {
        self.window.run_end(self.next_height()).unwrap_or(self.cursor.height.get())
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
        if let Some(first) = headers.first() {
            self.unsettle(first.height.get());
        }
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
        let Some(from) = self.unsettled.take() else { return Ok(()) };
        // Below is nothing of the leader's that was not seen before.
        let (from, end) = (from.max(self.trusted + 1), self.run_end());
        if from > end {
            return Ok(());
        }
        let top = self.window.range(from..=end).rev().find(|piece| self.is_leaders(piece));
        let Some(top) = top.map(|piece| piece.place) else { return Ok(()) };
        let (first, last) = (self.trusted.max(self.next_height()), top.height.get());
        let mut above = top;
        let broken = self.window.range(first..last).rev().find(|piece| {
            let fits = piece.place.is_parent_of(&above);
            above = piece.place;
            !fits
        });
        if let Some((peer, height)) = broken.map(|piece| (piece.from, piece.place.height.get())) {
            // Of two blocks of the leader's that do not fit, either can be of a branch that it has left.
            let all = peer == self.leader;
            self.retain(|other, piece| piece.from != peer || (other > height && !all));
            return Err(Trouble::Diverged(peer));
        }
        if self.trusted < self.next_height() && above.parent != self.cursor.hash {
            return Err(Trouble::NotOurs);
        }
        self.trusted = last;
        Ok(())
    }

    /// The highest height, up to `last`, of the gapless run above the cursor, if it is not yet known to be of the leader's
    /// branch: the block to ask the leader for, so that it is.
    pub(super) fn unconfirmed(&self, last: u64) -> Option<u64> {
        Some(self.run_end().min(last)).filter(|top| *top > self.trusted)
    }

    /// The leader sent this block, too: what is below is of its branch.
    pub(super) fn confirm(&mut self, height: u64) {
        if let Some(piece) = self.window.get_mut(height) {
            piece.from = self.leader;
            self.unsettle(height);
        }
    }

    /// The next block to store, whoever's branch it is of.
    pub(super) fn front(&self) -> Option<&Piece> {
        self.window.get(self.next_height())
    }

    /// The next block to store, if the leader's branch is known to have it.
    pub(super) fn head(&self) -> Option<&Piece> {
        self.front().filter(|_| self.ready() > 0)
    }

    /// Moves the cursor over the head.
    pub(super) fn advance(&mut self) -> Option<Piece> {
        let piece = self.window.pop(self.next_height())?;
        self.headers.remove(&self.next_height());
        self.cursor = piece.place;
        Some(piece)
    }

    /// The runs of heights above the cursor, up to `last`, that are neither here nor in one of `asked`; ascending.
    pub(super) fn gaps(&self, last: u64, asked: impl Iterator<Item = (u64, u64)>) -> Vec<(u64, u64)> {
        self.window.gaps(self.next_height(), last, asked)
    }
}
