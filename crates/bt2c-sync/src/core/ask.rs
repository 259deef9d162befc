//! What to ask of whom, when, and for how long to wait.

use std::{cmp::Reverse, collections::VecDeque};

use bt2c_proto::{
    CloseCode, Defence, GetBlocks, Height, PeerId, Time,
    limits::{FRAME_LIMIT, MAX_BLOCKS},
};

use super::{
    Action, Core, GenesisState, PeerState, Purpose,
    peers::{Claim, Request},
    pursuit::{Next, Pursuit, Stage},
};
use crate::event::Event;

impl Core {
    /// Asks every peer that is free for what is wanted most of it.
    pub(super) fn ask(&mut self, now: Time) {
        let unasked = |state: &PeerState| state.genesis == GenesisState::Unasked;
        if self.pursuit.is_none() && !self.has_candidates() && !self.peers.values().any(unasked) {
            return;
        }
        let leader = self.leader();
        let free =
            |state: &PeerState| state.request.is_none() && !state.ignored && state.pace.ready_at() <= now;
        let mut order: Vec<(bool, u32, Reverse<i32>, PeerId)> = self
            .peers
            .iter()
            .filter(|(_, state)| free(state))
            .map(|(peer, state)| (Some(*peer) != leader, state.demerits, Reverse(state.standing), *peer))
            .collect();
        order.sort_unstable();
        let mut wanted = None;
        for (.., peer) in order {
            let Some((purpose, start, end)) = self.question_for(now, &peer, &mut wanted) else { continue };
            let Some(state) = self.peers.get_mut(&peer) else { continue };
            state.pace.take(now);
            state.request =
                Some(Request { purpose, start, end, sent: now, throttled_until: None, late: false });
            let range = GetBlocks { start_height: Height::new(start), end_height: Height::new(end) };
            self.actions.push_back(Action::Request { peer, range });
        }
    }

    /// What is wanted most of a free peer.
    fn question_for(
        &self,
        now: Time,
        peer: &PeerId,
        wanted: &mut Option<Wanted>,
    ) -> Option<(Purpose, u64, u64)> {
        let state = self.peers.get(peer)?;
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
            Stage::Fetching if state.diverged && !leads => None,
            Stage::Fetching => {
                let wanted = wanted.get_or_insert_with(|| self.wanted(pursuit));
                let range = self.range_for(wanted, state, claim);
                let confirmation = || pursuit.unconfirmed(claim.height).filter(|_| leads);
                range.or_else(|| confirmation().map(|height| (Purpose::Range, height, height)))
            }
        }
    }

    /// Whether a claim, if true, would change whom we follow.
    fn wants_proof(&self, claim: Claim) -> bool {
        let proven = self.peers.values().filter(|state| state.usable()).map(|state| state.proven).max();
        claim.height > proven.unwrap_or(0).saturating_add(self.config.max_reorg_depth)
            || proven.unwrap_or(0) <= self.tip().height.get()
    }

    /// What of the window is neither here nor asked for.
    fn wanted(&self, pursuit: &Pursuit) -> Wanted {
        let asked: Vec<(u64, u64)> = self
            .peers
            .values()
            .filter_map(|other| other.request)
            .filter(|request| request.purpose == Purpose::Range && !request.late)
            .map(|request| (request.start, request.end))
            .collect();
        let last = pursuit.cursor.height.get() + self.config.window_blocks;
        let checking: usize = self.checking.values().map(|job| job.bytes).sum();
        let held = pursuit.bytes() + checking + asked.len() * FRAME_LIMIT;
        Wanted { head: pursuit.next_height(), last, held, gaps: pursuit.gaps(last, asked.into_iter()).into() }
    }

    /// The blocks to ask a peer for.
    fn range_for(&self, wanted: &mut Wanted, state: &PeerState, claim: Claim) -> Option<(Purpose, u64, u64)> {
        let last = claim.height.min(wanted.last);
        let (start, gap_end) = wanted.gaps.front().copied().filter(|(start, _)| *start <= last)?;
        // The head is asked for however much is held: only it lets go of the rest.
        if start > wanted.head && wanted.held + FRAME_LIMIT > self.config.window_bytes {
            return None;
        }
        let count = state.range_blocks(self.average_block).min(MAX_BLOCKS as u64);
        let end = gap_end.min(last).min(start + count - 1);
        wanted.held += FRAME_LIMIT;
        match end == gap_end {
            true => drop(wanted.gaps.pop_front()),
            false => wanted.gaps[0].0 = end + 1,
        }
        Some((Purpose::Range, start, end))
    }

    /// Gives up waiting for answers whose time is over.
    pub(super) fn expire_requests(&mut self, now: Time) {
        if !self.config.defences.has(Defence::StallTimeout) {
            return;
        }
        let mut stalled = Vec::new();
        let mut dead = Vec::new();
        for (peer, state) in &mut self.peers {
            let Some(request) = &mut state.request else { continue };
            if now.since(request.since()) >= self.config.close_timeout && !state.ignored {
                dead.push(*peer);
            } else if now.since(request.sent) >= self.config.request_timeout && !request.late {
                request.late = true;
                if request.throttled_until.is_some() {
                    continue;
                }
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
                Some(_) if !self.config.defences.has(Defence::StallTimeout) => None,
                Some(request) if request.late => Some(request.since() + self.config.close_timeout),
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

/// What is still to be asked for in one round of questions.
#[derive(Debug)]
struct Wanted {
    /// The next height to store.
    head: u64,
    /// The last height of the window.
    last: u64,
    /// Bytes that are here or on their way.
    held: usize,
    /// Runs of heights, ascending.
    gaps: VecDeque<(u64, u64)>,
}
