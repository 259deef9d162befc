//! Whom to follow, whom to ask for what, and what to make of the answers.

use std::{cmp::Reverse, sync::Arc};

use bt2c_proto::{
    Block, CloseCode, GetBlocks, Height, PeerId, Time,
    limits::{FRAME_LIMIT, MAX_BLOCKS},
};

use super::{
    Action, Blame, Checking, Core, GenesisState, PeerState, Purpose,
    peers::{Claim, Request},
    pursuit::{Next, Piece, PieceState, Pursuit, Stage, Trouble},
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
            state.claim = Some(Claim { height, hash: None }).filter(|_| height > 0);
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
            let wanted = (pursuit.next_height()..last).contains(&height);
            if !wanted || !matches!(pursuit.stage, Stage::Fetching) || pursuit.window.contains_key(&height) {
                continue;
            }
            let stored = self.recent.contains(&place.hash);
            let state = if stored { PieceState::Stored } else { PieceState::Checking(0) };
            pursuit.window.insert(height, Piece { from: peer, place, size: each, state });
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
                    if let Some(piece) = pursuit.window.get_mut(&block.height().get()) {
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
        for result in results {
            match result {
                Ok(block) => {
                    let height = block.place.height.get();
                    let piece = self
                        .pursuit
                        .as_mut()
                        .and_then(|pursuit| pursuit.window.get_mut(&height))
                        .filter(|piece| matches!(piece.state, PieceState::Checking(own) if own == job));
                    if let Some(piece) = piece {
                        piece.state = PieceState::Checked(block);
                    }
                }
                Err(InvalidBlock { place, reason }) => {
                    self.blame_block(from, &place, reason);
                    if let Some(pursuit) = &mut self.pursuit {
                        pursuit.window.retain(|_, piece| piece.from != from);
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
    fn search_fork(&mut self, differs: u64) {
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
    fn abandon(&mut self, then: impl FnOnce(&mut PeerState)) {
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

    /// Whether a peer says it has a better chain than ours, and may be asked for it.
    fn is_candidate(&self, state: &PeerState) -> Option<Claim> {
        let claim = state.claim.filter(|_| state.usable())?;
        let better = self.consensus.better(claim.tip(), self.tip().tip());
        let new = claim.hash.is_none_or(|hash| !self.recent.contains(&hash) && !self.is_arriving(&hash));
        (better && new).then_some(claim)
    }

    /// Whether a block is about to be stored without being asked for.
    fn is_arriving(&self, hash: &bt2c_proto::BlockHash) -> bool {
        let storing = |hash| {
            let importing = self
                .importing
                .as_ref()
                .is_some_and(|importing| importing.batch.iter().any(|block| block.place.hash == hash));
            importing || self.pushes.contains(&hash)
        };
        storing(*hash) || self.orphans.parent_of(hash).is_some_and(storing)
    }

    pub(super) fn has_candidates(&self) -> bool {
        self.peers.values().any(|state| self.is_candidate(state).is_some())
    }

    /// A height so far above ours that it has to be shown before it is believed.
    fn is_far(&self, claim: Claim, state: &PeerState) -> bool {
        let near = self.tip().height.get().saturating_add(state.range_blocks(self.average_block));
        claim.height > near && claim.height > state.proven
    }

    /// Chooses the peer whose branch is followed.
    pub(super) fn elect(&mut self, now: Time) {
        if self.importing.is_some() && self.pursuit.is_none() {
            return;
        }
        let mut shown = Vec::new();
        let (mut highest_far, mut probing) = (0, false);
        for (peer, state) in &self.peers {
            let Some(claim) = self.is_candidate(state).filter(|_| state.muted_until <= now) else { continue };
            if self.is_far(claim, state) {
                highest_far = highest_far.max(claim.height);
                probing |= !state.is_late();
            } else {
                shown.push((*peer, claim.height, state.is_late(), state.demerits));
            }
        }
        let top = shown.iter().map(|(_, height, ..)| *height).max().unwrap_or(0);
        let class = top.saturating_sub(self.config.max_reorg_depth);
        shown.retain(|(_, height, ..)| *height >= class);
        let best = shown
            .iter()
            .min_by_key(|(peer, height, late, demerits)| (*late, *demerits, Reverse(*height), *peer))
            .map(|(peer, ..)| *peer);
        match (&mut self.pursuit, best) {
            (None, Some(leader)) => {
                if !(probing && highest_far > top.saturating_add(self.config.max_reorg_depth)) {
                    self.start_pursuit(leader);
                }
            }
            (None, None) => {}
            (Some(pursuit), Some(best)) => {
                let stays = shown.iter().any(|(peer, _, late, _)| *peer == pursuit.leader && !late);
                if !stays && pursuit.leader != best {
                    pursuit.leader = best;
                    if matches!(pursuit.stage, Stage::Forking(_)) {
                        self.pursuit = None;
                        self.start_pursuit(best);
                    }
                }
            }
            (Some(_), None) => self.end_pursuit(),
        }
    }

    fn start_pursuit(&mut self, leader: PeerId) {
        for state in self.peers.values_mut() {
            state.diverged = false;
        }
        let tip = self.tip();
        let claimed = self.peers.get(&leader).and_then(|state| state.claim).map_or(0, |claim| claim.height);
        self.pursuit = Some(Pursuit::new(leader, tip));
        if claimed <= tip.height.get() {
            // As long as ours, and another tip: they differ there.
            self.search_fork(claimed);
        }
    }

    /// Nobody has a better chain: tells the others of the tip, if it was fetched and not pushed to all.
    fn end_pursuit(&mut self) {
        if self.importing.is_some() {
            return;
        }
        self.pursuit = None;
        let tip = self.tip();
        if let Some(block) = self.fetched_tip.take().filter(|block| block.place.hash == tip.hash) {
            self.actions.push_back(Action::RelayBlock { hash: tip.hash, bytes: block.bytes });
        }
    }

    /// Asks every peer that is free for what is wanted most of it.
    pub(super) fn ask(&mut self, now: Time) {
        let leader = self.pursuit.as_ref().map(|pursuit| pursuit.leader);
        let mut order: Vec<PeerId> = self.peers.keys().copied().collect();
        order.sort_by_key(|peer| (Some(*peer) != leader, self.peers[peer].demerits));
        for peer in order {
            let Some((purpose, start, end)) = self.question_for(now, &peer) else { continue };
            let Some(state) = self.peers.get_mut(&peer) else { continue };
            if state.pace.take(now) {
                state.request = Some(Request { purpose, start, end, sent: now, late: false });
                let range = GetBlocks { start_height: Height::new(start), end_height: Height::new(end) };
                self.actions.push_back(Action::Request { peer, range });
            }
        }
    }

    /// What is wanted most of a peer, if it is free.
    fn question_for(&self, now: Time, peer: &PeerId) -> Option<(Purpose, u64, u64)> {
        let state = self.peers.get(peer)?;
        if state.request.is_some() || state.ignored {
            return None;
        }
        if state.genesis == GenesisState::Unasked {
            return Some((Purpose::Genesis, 0, 0));
        }
        if !state.usable() || state.muted_until > now {
            return None;
        }
        let claim = state.claim?;
        let leads = self.pursuit.as_ref().is_some_and(|pursuit| pursuit.leader == *peer);
        if !leads
            && self.is_candidate(state).is_some()
            && self.is_far(claim, state)
            && self.wants_proof(claim)
        {
            return Some((Purpose::Probe, claim.height, claim.height));
        }
        let pursuit = self.pursuit.as_ref()?;
        match &pursuit.stage {
            Stage::Forking(search) if leads => match search.next() {
                Next::Ask(height) => Some((Purpose::Fork, height, height)),
                Next::Found(_) | Next::TooDeep => None,
            },
            Stage::Forking(_) => None,
            Stage::Fetching => self.range_for(pursuit, state, claim, leads),
        }
    }

    /// Whether a claim, if true, would change whom we follow.
    fn wants_proof(&self, claim: Claim) -> bool {
        let proven = self.peers.values().filter(|state| state.usable()).map(|state| state.proven).max();
        claim.height > proven.unwrap_or(0).saturating_add(self.config.max_reorg_depth)
            || proven.unwrap_or(0) <= self.tip().height.get()
    }

    /// The blocks to ask a peer for. The last one of the window and of the branch are the leader's to send: it takes one
    /// of its blocks to know that what is below is of its branch.
    fn range_for(
        &self,
        pursuit: &Pursuit,
        state: &PeerState,
        claim: Claim,
        leads: bool,
    ) -> Option<(Purpose, u64, u64)> {
        if state.diverged && !leads {
            return None;
        }
        let asked: Vec<(u64, u64)> = self
            .peers
            .values()
            .filter_map(|other| other.request)
            .filter(|request| request.purpose == Purpose::Range && !request.late)
            .map(|request| (request.start, request.end))
            .collect();
        let window_end = pursuit.cursor.height.get() + self.config.window_blocks;
        let last = match leads {
            true => claim.height.min(window_end),
            false => claim.height.min(self.target().get().min(window_end).saturating_sub(1)),
        };
        let count = state.range_blocks(self.average_block).min(MAX_BLOCKS as u64);
        let (start, end) = pursuit.gap(last, count, &asked)?;
        let checking: usize = self.checking.values().map(|job| job.bytes).sum();
        let held = pursuit.bytes() + checking + (asked.len() + 1) * FRAME_LIMIT;
        let is_head = start == pursuit.next_height();
        (is_head || held <= self.config.window_bytes).then_some((Purpose::Range, start, end))
    }

    /// Gives up waiting for answers whose time is over.
    pub(super) fn expire_requests(&mut self, now: Time) {
        let mut stalled = Vec::new();
        let mut dead = Vec::new();
        for (peer, state) in &mut self.peers {
            let Some(request) = &mut state.request else { continue };
            let waited = now.since(request.sent);
            if waited >= self.config.close_timeout && !state.ignored {
                dead.push(*peer);
            } else if waited >= self.config.request_timeout && !request.late {
                request.late = true;
                stalled.push((*peer, Height::new(request.start), Height::new(request.end)));
                state.slow_down();
            }
        }
        for (peer, start, end) in stalled {
            self.emit(Event::Stalled { peer, start, end });
        }
        for peer in dead {
            self.close(peer, CloseCode::Timeout);
        }
    }

    /// When something about requests has to be done.
    pub(super) fn fetch_timeout(&self) -> Option<Time> {
        let busy = self.pursuit.is_some() || self.has_candidates();
        self.peers
            .values()
            .filter(|state| !state.ignored)
            .filter_map(|state| match &state.request {
                Some(request) if request.late => Some(request.sent + self.config.close_timeout),
                Some(request) => Some(request.sent + self.config.request_timeout),
                None if busy || state.genesis == GenesisState::Unasked => {
                    // What was due at the last input was done then, if there was anything to do.
                    Some(state.pace.ready_at().max(state.muted_until)).filter(|at| *at > self.now)
                }
                None => None,
            })
            .min()
    }
}

/// Whether blocks are an answer to what was asked: heights from the start on, one after the other, not beyond the end.
fn answers(request: &Request, blocks: &[Block]) -> bool {
    let asked = request.start..=request.end;
    asked.zip(blocks).filter(|(height, block)| block.height().get() == *height).count() == blocks.len()
}
