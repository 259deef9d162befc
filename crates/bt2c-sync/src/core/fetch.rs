//! What to make of answers: pieces of the window, steps of a search, proofs of a claim.

use std::{sync::Arc, time::Duration};

use bt2c_proto::{Block, Blocks, CloseCode, Defence, Height, PeerId, Time};
use bt2c_security::Deed;

use super::{
    Action, Blame, Checking, Core, GenesisState, PeerState, Purpose, Unchecked,
    fork::{ForkSearch, Next},
    peers::{Claim, Request},
    pursuit::{Stage, Trouble},
    window::{Piece, PieceState},
};
use crate::{
    chain::{BlockRef, CheckedBlock},
    consensus::InvalidBlock,
    event::Event,
};

/// Searches for a fork with one leader before another one is preferred.
const MAX_SEARCHES: u32 = 4;

/// The least that a throughput is measured with, in bytes.
const TELLING_BYTES: usize = 16 * 1024;

/// A time with which a throughput is measured however little came.
const TELLING_TIME: Duration = Duration::from_secs(1);

/// Signatures to check in one job: about a millisecond of one core, so that an answer spreads over all of them.
const JOB_SIGNATURES: usize = 32;

impl Core {
    /// A peer answered, or sent a part of its answer; the message had `size` bytes.
    pub fn handle_blocks(&mut self, now: Time, peer: PeerId, answer: Blocks, size: usize) {
        let saturated_at = self.saturated_at;
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let Some(mut request) = state.request.take() else {
            self.counters.unasked_answers += 1;
            return;
        };
        let goes_on = answer.goes_on();
        let fits = answer.request_id == request.stream && answers(&request, &answer.blocks);
        let Blocks { blocks, .. } = answer;
        if request.late {
            self.counters.late_answers += 1;
        } else if !goes_on {
            state.unthanked = request.purpose == Purpose::Range && !request.is_empty(&blocks);
        }
        if !fits {
            let (start, end) = (Height::new(request.start), Height::new(request.end));
            self.blame(peer, Blame::Range { start, end });
            return self.advance(now);
        }
        if !blocks.is_empty() {
            // The time for a few bytes says how far away a peer is, not how fast; unless it is longer than any way.
            let time = now.since(request.measured.max(saturated_at));
            request.unmeasured += size;
            if request.unmeasured >= TELLING_BYTES || time >= TELLING_TIME {
                state.throughput.measure(std::mem::take(&mut request.unmeasured), time);
                request.measured = now;
            }
            request.next += blocks.len() as u64;
            request.progress = now;
        }
        if goes_on {
            state.request = Some(request);
        }
        if request.purpose != Purpose::Genesis && !blocks.is_empty() {
            self.measure_blocks(size / blocks.len());
        }
        match request.purpose {
            Purpose::Genesis => self.genesis_answered(peer, blocks.first()),
            Purpose::Probe => self.probe_answered(peer, &request, blocks.first()),
            Purpose::Fork => self.fork_answered(peer, &request, blocks.first()),
            Purpose::Range => self.range_answered(peer, &request, blocks, size),
        }
        if goes_on && request.next > request.end {
            self.cancel(peer);
        }
        self.advance(now);
    }

    /// Learns how large blocks are.
    fn measure_blocks(&mut self, each: usize) {
        let before = self.average_block.unwrap_or(each);
        self.average_block = Some((before * 3 + each.max(1)) / 4);
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

    fn probe_answered(&mut self, peer: PeerId, request: &Request, block: Option<&Block>) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let Some(block) = block else {
            return match state.told == request.start {
                // Chains do not become shorter: it never had it.
                true => self.blame(peer, Blame::Height { height: Height::new(request.start) }),
                false => state.disprove(),
            };
        };
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
            if request.next == request.start && !request.cancelled {
                // It has none of them, so its chain ends below.
                let height = request.start.saturating_sub(1);
                if self.config.defences.has(Defence::ClaimDoubt) {
                    state.claim = Some(Claim { height, hash: None }).filter(|_| height > 0);
                }
                state.demerit();
            }
            return;
        }
        let each = size / blocks.len();
        let unchecked = self.take_pieces(peer, blocks, each);
        self.check_fetched(peer, unchecked, each);
    }

    /// Takes what belongs into the window; returns what is to be checked of it.
    fn take_pieces(&mut self, peer: PeerId, blocks: Vec<Block>, each: usize) -> Vec<Unchecked> {
        let mut unchecked = Vec::new();
        let Some(pursuit) = self.pursuit.as_mut() else { return unchecked };
        if !matches!(pursuit.stage, Stage::Fetching) {
            return unchecked;
        }
        let last = pursuit.cursor.height.get() + self.config.window_blocks;
        let leads = pursuit.leader == peer;
        let mut parent = None;
        for block in blocks {
            let place = BlockRef::from(&block.header);
            let height = place.height.get();
            // An honest peer's chain may have changed while it answered: what follows the break is asked for again.
            if parent.is_some_and(|parent| parent != place.parent) {
                break;
            }
            parent = Some(place.hash);
            // What the leader sends after the others is taken however far it reaches, for it is read no faster than it is stored.
            let follows = leads && height == pursuit.run_end() + 1;
            if height < pursuit.next_height() || (height > last && !follows) {
                continue;
            }
            let header = pursuit.header(height);
            let sealed = header.is_some_and(|header| *header == block.header);
            if header.is_some_and(|header| header.hash() != place.hash) {
                if !leads {
                    // It is on another branch, and its right to be so is not in question.
                    if let Some(state) = self.peers.get_mut(&peer) {
                        state.diverged = true;
                    }
                    break;
                }
                pursuit.drop_headers();
            }
            match pursuit.piece(height) {
                Some(piece) if piece.place.hash == place.hash && leads => {
                    pursuit.confirm(height);
                    continue;
                }
                // It is the leader's branch that is followed.
                Some(_) if leads => {}
                Some(_) => continue,
                None => {}
            }
            let stored = self.recent.contains(&place.hash);
            let state = if stored { PieceState::Stored } else { PieceState::Checking(0) };
            pursuit.insert(Piece { from: peer, place, size: each, state });
            if !stored {
                unchecked.push(Unchecked { block: Arc::new(block), sealed });
            }
        }
        unchecked
    }

    /// Sends fetched blocks to the workers, in jobs small enough to keep all of them busy.
    fn check_fetched(&mut self, from: PeerId, blocks: Vec<Unchecked>, each: usize) {
        let mut blocks = blocks.into_iter().peekable();
        while blocks.peek().is_some() {
            let mut signatures = 0;
            let mut batch = Vec::new();
            while let Some(unchecked) = blocks.next_if(|_| signatures < JOB_SIGNATURES) {
                signatures += 1 + unchecked.block.transactions.len();
                batch.push(unchecked);
            }
            let job = self.job();
            if let Some(pursuit) = &mut self.pursuit {
                for unchecked in &batch {
                    if let Some(piece) = pursuit.piece_mut(unchecked.block.height().get()) {
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

    /// Looks for where the leader's branch leaves ours, below a height at which they differ: in its headers, or block by
    /// block if it tells none.
    pub(super) fn search_fork(&mut self, differs: u64) {
        let lowest = self.recent.lowest().height.get();
        let Some(pursuit) = &mut self.pursuit else { return };
        if pursuit.searches >= MAX_SEARCHES {
            return self.abandon(PeerState::disprove);
        }
        let tells_headers = self.peers.get(&pursuit.leader).is_some_and(|state| state.tells_headers);
        pursuit.look_for_fork(match tells_headers {
            true => Stage::Locating,
            false => Stage::Forking(ForkSearch::new(lowest, differs)),
        });
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

/// Whether blocks are an answer to what was asked: heights from the next on, one after the other, not beyond the end.
fn answers(request: &Request, blocks: &[Block]) -> bool {
    let asked = request.next..=request.asked_end;
    asked.zip(blocks).filter(|(height, block)| block.height().get() == *height).count() == blocks.len()
}
