//! What to make of answers: pieces of the window, steps of a search, proofs of a claim.

use std::sync::Arc;

use bt2c_proto::{Block, CloseCode, Defence, Height, PeerId, Time};
use bt2c_security::Deed;

use super::{
    Action, Blame, Checking, Core, GenesisState, PeerState, Purpose,
    peers::{Claim, Request},
    pursuit::{Next, Piece, PieceState, Stage, Trouble},
};
use crate::{
    chain::{BlockRef, CheckedBlock},
    consensus::InvalidBlock,
    event::Event,
};

/// Searches for a fork with one leader before another one is preferred.
const MAX_SEARCHES: u32 = 4;

/// Signatures to check in one job: about a millisecond of one core, so that an answer spreads over all of them.
const JOB_SIGNATURES: usize = 32;

impl Core {
    /// A peer answered; the message had `size` bytes.
    pub fn handle_blocks(&mut self, now: Time, peer: PeerId, blocks: Vec<Block>, size: usize) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let Some(request) = state.request.take() else {
            self.counters.unasked_answers += 1;
            return;
        };
        if request.late {
            self.counters.late_answers += 1;
        } else {
            state.speed_up();
            state.unthanked = request.purpose == Purpose::Range && !blocks.is_empty();
        }
        if !answers(&request, &blocks) {
            let (start, end) = (Height::new(request.start), Height::new(request.end));
            self.blame(peer, Blame::Range { start, end });
        } else {
            match request.purpose {
                Purpose::Genesis => self.genesis_answered(peer, blocks.first()),
                Purpose::Probe => self.probe_answered(peer, blocks.first()),
                Purpose::Fork => self.fork_answered(peer, &request, blocks.first()),
                Purpose::Range => self.range_answered(peer, &request, blocks, size),
            }
        }
        self.advance(now);
    }

    fn genesis_answered(&mut self, peer: PeerId, block: Option<&Block>) {
        let ours = self.consensus.genesis().hash();
        let Some(state) = self.peers.get_mut(&peer) else { return };
        match block {
            Some(block) if block.hash() == ours => state.genesis = GenesisState::Agreed,
            Some(_) => self.close(peer, CloseCode::Genesis),
            None => state.genesis = GenesisState::Withheld,
        }
    }

    fn probe_answered(&mut self, peer: PeerId, block: Option<&Block>) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let Some(block) = block else { return state.disprove() };
        let place = BlockRef::from(&block.header);
        match self.consensus.check_seal(&block.header) {
            Ok(()) => state.shows(place.tip()),
            Err(reason) => self.blame_block(peer, &place, reason),
        }
    }

    fn fork_answered(&mut self, peer: PeerId, request: &Request, block: Option<&Block>) {
        let ours = self.recent.main_at(request.start).map(|place| place.hash);
        let Some(pursuit) = self.pursuit.as_mut().filter(|pursuit| pursuit.leader == peer) else { return };
        let Stage::Forking(search) = &mut pursuit.stage else { return };
        match (block, ours) {
            (Some(block), Some(ours)) => search.answer(request.start, block.hash() == ours),
            // It claims more than it has.
            (None, _) => self.abandon(PeerState::disprove),
            // The chain grew past that height meanwhile: start over.
            (Some(_), None) => self.pursuit = None,
        }
    }

    fn range_answered(&mut self, peer: PeerId, request: &Request, blocks: Vec<Block>, size: usize) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if blocks.is_empty() {
            // It has none of them, so its chain ends below.
            let height = request.start.saturating_sub(1);
            if self.config.defences.has(Defence::ClaimDoubt) {
                state.claim = Some(Claim { height, hash: None }).filter(|_| height > 0);
            }
            state.demerit();
            return;
        }
        let each = size / blocks.len();
        self.average_block = (self.average_block * 3 + each.max(1)) / 4;
        let Some(pursuit) = &mut self.pursuit else { return };
        let last = pursuit.next_height() + self.config.window_blocks;
        let mut unchecked = Vec::new();
        let mut parent = None;
        for block in blocks {
            let place = BlockRef::from(&block.header);
            let height = place.height.get();
            // An honest peer's chain may have changed while it answered: what follows the break is asked for again.
            if parent.is_some_and(|parent| parent != place.parent) {
                break;
            }
            parent = Some(place.hash);
            if !(pursuit.next_height()..last).contains(&height) || !matches!(pursuit.stage, Stage::Fetching) {
                continue;
            }
            match pursuit.piece(height) {
                Some(piece) if piece.place.hash == place.hash && pursuit.leader == peer => {
                    pursuit.confirm(height);
                    continue;
                }
                // It is the leader's branch that is followed.
                Some(_) if pursuit.leader == peer => {}
                Some(_) => continue,
                None => {}
            }
            let stored = self.recent.contains(&place.hash);
            let state = if stored { PieceState::Stored } else { PieceState::Checking(0) };
            pursuit.insert(Piece { from: peer, place, size: each, state });
            if !stored {
                unchecked.push(Arc::new(block));
            }
        }
        self.check_fetched(peer, unchecked, each);
    }

    /// Sends fetched blocks to the workers, in jobs small enough to keep all of them busy.
    fn check_fetched(&mut self, from: PeerId, blocks: Vec<Arc<Block>>, each: usize) {
        let mut blocks = blocks.into_iter().peekable();
        while blocks.peek().is_some() {
            let mut signatures = 0;
            let mut batch = Vec::new();
            while let Some(block) = blocks.next_if(|_| signatures < JOB_SIGNATURES) {
                signatures += 1 + block.transactions.len();
                batch.push(block);
            }
            let job = self.job();
            if let Some(pursuit) = &mut self.pursuit {
                for block in &batch {
                    if let Some(piece) = pursuit.piece_mut(block.height().get()) {
                        piece.state = PieceState::Checking(job);
                    }
                }
            }
            self.checking.insert(job, Checking { from, bytes: each * batch.len() });
            self.actions.push_back(Action::CheckBlocks { job, blocks: batch });
        }
    }

    /// The results of a job of fetched blocks. What is proven invalid is its sender's fault, even if nobody wants the block
    /// any more.
    pub(super) fn fetched_blocks_checked(
        &mut self,
        job: u64,
        results: Vec<Result<CheckedBlock, InvalidBlock>>,
    ) {
        let Some(Checking { from, .. }) = self.checking.remove(&job) else { return };
        if results.iter().all(Result::is_ok)
            && let Some(state) = self.peers.get_mut(&from)
            && std::mem::take(&mut state.unthanked)
        {
            self.actions.push_back(Action::Credit { peer: from, deed: Deed::Answer });
        }
        for result in results {
            match result {
                Ok(block) => {
                    let height = block.place.height.get();
                    let piece = self
                        .pursuit
                        .as_mut()
                        .and_then(|pursuit| pursuit.piece_mut(height))
                        .filter(|piece| matches!(piece.state, PieceState::Checking(own) if own == job));
                    if let Some(piece) = piece {
                        piece.state = PieceState::Checked(block);
                    }
                }
                Err(InvalidBlock { place, reason }) => {
                    self.blame_block(from, &place, reason);
                    if let Some(pursuit) = &mut self.pursuit {
                        pursuit.drop_from(&from);
                        pursuit.drop_job(job);
                    }
                    break;
                }
            }
        }
    }

    /// Puts the window in order.
    pub(super) fn settle(&mut self) {
        while let Some(pursuit) = &mut self.pursuit {
            match pursuit.settle() {
                Ok(()) => break,
                Err(Trouble::Diverged(peer)) => {
                    let leads = pursuit.leader == peer;
                    if let Some(state) = self.peers.get_mut(&peer) {
                        state.diverged = !leads;
                    }
                }
                Err(Trouble::NotOurs) => {
                    let cursor = pursuit.cursor;
                    let on_main =
                        self.recent.main_at(cursor.height.get()).is_some_and(|main| *main == cursor);
                    let differs = if on_main { cursor.height } else { self.tip().height.next() };
                    self.search_fork(differs.get());
                    break;
                }
            }
        }
        self.follow_search();
    }

    /// Looks for where the leader's branch leaves ours, below a height at which they differ.
    pub(super) fn search_fork(&mut self, differs: u64) {
        let lowest = self.recent.lowest().height.get();
        let Some(pursuit) = &mut self.pursuit else { return };
        if pursuit.searches >= MAX_SEARCHES {
            self.abandon(PeerState::disprove);
        } else {
            pursuit.search(lowest, differs);
        }
    }

    /// Goes on from a search that is done.
    fn follow_search(&mut self) {
        let Some(pursuit) = &mut self.pursuit else { return };
        let Stage::Forking(search) = &pursuit.stage else { return };
        match search.next() {
            Next::Ask(_) => {}
            Next::Found(height) => match self.recent.main_at(height) {
                Some(fork) => pursuit.follow_from(*fork),
                None => self.pursuit = None,
            },
            Next::TooDeep => self.abandon_too_deep(),
        }
    }

    /// Gives up the leader's branch, which leaves ours too deep to be followed.
    pub(super) fn abandon_too_deep(&mut self) {
        let below = self.recent.lowest().height;
        let Some(pursuit) = self.pursuit.take() else { return };
        let Some(state) = self.peers.get_mut(&pursuit.leader) else { return };
        state.ignored = true;
        let claimed = Height::new(state.claim.map_or(0, |claim| claim.height));
        self.emit(Event::BranchTooDeep { peer: pursuit.leader, below, claimed });
    }

    /// Gives up the pursuit, and does something to its leader.
    pub(super) fn abandon(&mut self, then: impl FnOnce(&mut PeerState)) {
        if let Some(pursuit) = self.pursuit.take()
            && let Some(state) = self.peers.get_mut(&pursuit.leader)
        {
            then(state);
        }
    }

    /// The leader's branch has a block that is too early: it is followed again when that is due.
    pub(super) fn mute_leader(&mut self, until: Time) {
        self.abandon(|state| state.muted_until = until);
    }
}

/// Whether blocks are an answer to what was asked: heights from the start on, one after the other, not beyond the end.
fn answers(request: &Request, blocks: &[Block]) -> bool {
    let asked = request.start..=request.end;
    asked.zip(blocks).filter(|(height, block)| block.height().get() == *height).count() == blocks.len()
}
