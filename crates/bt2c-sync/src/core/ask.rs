//! What to ask of whom, and when.

use std::{cmp::Reverse, collections::VecDeque, time::Duration};

use bt2c_proto::{GetBlocks, Height, PeerId, Time, limits::MAX_BLOCKS};

use super::{
    Action, Core, GenesisState, PeerState, Purpose,
    fork::Next,
    peers::{Claim, Request},
    pursuit::{Pursuit, Stage},
};

/// Work is taken over from a slow peer if that saves more than this.
const WORTH_TAKING: Duration = Duration::from_secs(1);

/// What a peer is guessed to send in a millisecond of which nothing is known yet, in bytes: 8 Mbit/s.
const GUESSED_BYTES_PER_MS: u64 = 1000;

impl Core {
    /// Asks every peer that is free for what is wanted most of it.
    pub(super) fn ask(&mut self, now: Time) {
        let unasked = |state: &PeerState| state.genesis == GenesisState::Unasked;
        if self.pursuit.is_none() && !self.has_candidates() && !self.peers.values().any(unasked) {
            return;
        }
        self.ask_headers(now);
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
            let question = self.question_for(now, &peer, &mut wanted);
            if let Some((purpose, start, end)) = question.or_else(|| self.take_over(now, &peer)) {
                self.request(now, peer, purpose, start, end);
            }
        }
    }

    fn request(&mut self, now: Time, peer: PeerId, purpose: Purpose, start: u64, end: u64) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        state.pace.take(now);
        let (from, to) = (Height::new(start), Height::new(end));
        let range = if state.streams && purpose == Purpose::Range && start < end {
            self.next_stream = self.next_stream.wrapping_add(1);
            GetBlocks::stream(self.next_stream, from, to)
        } else {
            GetBlocks::range(from, to)
        };
        state.request = Some(Request {
            purpose,
            start,
            end,
            asked_end: end,
            next: start,
            stream: range.request_id,
            cancelled: false,
            sent: now,
            progress: now,
            measured: now,
            unmeasured: 0,
            throttled_until: None,
            late: false,
        });
        self.actions.push_back(Action::Request { peer, range });
    }

    /// Calls off what a stream has not brought yet.
    pub(super) fn cancel(&mut self, peer: PeerId) {
        let request = self.peers.get_mut(&peer).and_then(|state| state.request.as_mut());
        if let Some(request) = request.filter(|request| !request.cancelled)
            && let Some(request_id) = request.stream
        {
            request.cancelled = true;
            self.actions.push_back(Action::Cancel { peer, request_id });
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
        let is_doubtful = || match self.keeps_what_we_lack(state) {
            true => self.is_far(claim, state) && self.wants_proof(claim),
            // It is not followed, so nothing else would show whether it has it.
            false => claim.height > state.proven,
        };
        if !leads && self.is_candidate(state).is_some() && is_doubtful() {
            return Some((Purpose::Probe, claim.height, claim.height));
        }
        let pursuit = self.pursuit.as_ref()?;
        match &pursuit.stage {
            Stage::Forking(search) if leads => match search.next() {
                Next::Ask(height) => Some((Purpose::Fork, height, height)),
                Next::Found(_) | Next::TooDeep => None,
            },
            Stage::Forking(_) | Stage::Locating => None,
            Stage::Fetching if state.diverged && !leads => None,
            // It helps from there on.
            Stage::Fetching if !leads && !state.keeps(pursuit.next_height()) => None,
            Stage::Fetching => {
                let wanted = wanted.get_or_insert_with(|| self.wanted(now, pursuit));
                let range = self.range_for(wanted, state, claim, leads);
                let confirmation = || pursuit.unconfirmed(claim.height).filter(|_| leads);
                range.or_else(|| confirmation().map(|height| (Purpose::Range, height, height)))
            }
        }
    }

    /// Whether a claim, if true, would change whom we follow.
    pub(super) fn wants_proof(&self, claim: Claim) -> bool {
        let may_lead = |state: &&PeerState| state.usable() && self.keeps_what_we_lack(state);
        let proven = self.peers.values().filter(may_lead).map(|state| state.proven).max();
        claim.height > proven.unwrap_or(0).saturating_add(self.config.max_reorg_depth)
            || proven.unwrap_or(0) <= self.tip().height.get()
    }

    /// Whether a peer can help with what is pursued.
    fn helps(&self, now: Time, state: &PeerState, pursuit: &Pursuit) -> bool {
        let reaches = state.claim.is_some_and(|claim| claim.height >= pursuit.next_height());
        let has = reaches && state.keeps(pursuit.next_height());
        state.usable() && state.muted_until <= now && !state.diverged && !state.is_late() && has
    }

    /// Bytes of what is here.
    fn held(&self, pursuit: &Pursuit) -> usize {
        let checking: usize = self.checking.values().map(|job| job.bytes).sum();
        pursuit.bytes().saturating_add(checking)
    }

    /// What of the window is neither here nor asked for.
    fn wanted(&self, now: Time, pursuit: &Pursuit) -> Wanted {
        let requests = || self.peers.values().filter_map(|state| state.request);
        let asked: Vec<(u64, u64)> = requests().filter_map(|request| request.outstanding()).collect();
        let last = pursuit.cursor.height.get() + self.config.window_blocks;
        let due: u64 = asked.iter().map(|(start, end)| (end.min(&last) + 1).saturating_sub(*start)).sum();
        let due = usize::try_from(due).unwrap_or(usize::MAX).saturating_mul(self.average_block());
        let helpers = || self.peers.values().filter(|state| self.helps(now, state, pursuit));
        Wanted {
            head: pursuit.next_height(),
            run_end: pursuit.run_end(),
            last,
            held: self.held(pursuit).saturating_add(due),
            least_demerits: helpers().map(|state| state.demerits).min().unwrap_or(0),
            gaps: pursuit.gaps(last, asked.into_iter()).into(),
        }
    }

    /// The blocks to ask a peer for.
    fn range_for(
        &self,
        wanted: &mut Wanted,
        state: &PeerState,
        claim: Claim,
        leads: bool,
    ) -> Option<(Purpose, u64, u64)> {
        let last = claim.height.min(wanted.last);
        let (start, gap_end) = wanted.gaps.front().copied().filter(|(start, _)| *start <= last)?;
        let head = start == wanted.head;
        // All that is fetched waits for the head: it is for peers that were not late, while there are such.
        if head && state.demerits > wanted.least_demerits {
            return None;
        }
        if state.streams && gap_end == wanted.last {
            // The window slides along with what the leader sends; we read no faster than it does. Others take over from it if
            // that saves time.
            if leads && start == wanted.run_end + 1 {
                wanted.gaps.clear();
                return Some((Purpose::Range, start, claim.height));
            }
            // As the window slides there is always a little more to ask for, and a peer takes few requests.
            if !head && gap_end < claim.height && gap_end - start < self.config.window_blocks / 4 {
                return None;
            }
        }
        let most = if state.streams { u64::MAX } else { MAX_BLOCKS as u64 };
        let count = state.range_blocks(self.average_block(), self.config.window_bytes).min(most);
        // The head is asked for however much is held: only it lets go of the rest.
        let bytes = usize::try_from(count).unwrap_or(usize::MAX).saturating_mul(self.average_block());
        if !head && wanted.held.saturating_add(bytes) > self.config.window_bytes {
            return None;
        }
        let end = gap_end.min(last).min(start.saturating_add(count - 1));
        wanted.held = wanted.held.saturating_add(bytes);
        match end == gap_end {
            true => drop(wanted.gaps.pop_front()),
            false => wanted.gaps[0].0 = end + 1,
        }
        Some((Purpose::Range, start, end))
    }

    /// The blocks that a peer with nothing to do takes over from the one that will be busy longest, if it streams: as many
    /// as make both end at once. No fault of the slow one: it sends what it is left with.
    fn take_over(&mut self, now: Time, peer: &PeerId) -> Option<(Purpose, u64, u64)> {
        let pursuit = self.pursuit.as_ref().filter(|pursuit| matches!(pursuit.stage, Stage::Fetching))?;
        let last = pursuit.cursor.height.get() + self.config.window_blocks;
        let state = self.peers.get(peer).filter(|state| self.helps(now, state, pursuit))?;
        let last = last.min(state.claim?.height);
        let room = self.config.window_bytes.saturating_sub(self.held(pursuit)) / self.average_block();
        let time = |state: &PeerState, blocks: u64| {
            let bytes = blocks.saturating_mul(self.average_block() as u64);
            let guess = || Duration::from_millis(bytes / GUESSED_BYTES_PER_MS);
            state.throughput.time_for(bytes).unwrap_or_else(guess).as_millis()
        };
        let rest = |state: &PeerState| {
            let (next, end) = state.request.filter(|request| request.stream.is_some())?.outstanding()?;
            let end = end.min(last).min(next.saturating_add(room as u64));
            let left = (end + 1).checked_sub(next).filter(|left| *left > 0)?;
            Some((next, left, time(state, left)))
        };
        let others = self.peers.iter().filter_map(|(other, state)| Some((*other, rest(state)?)));
        let (busy, (next, left, slow)) = others.max_by_key(|(_, (.., busy_for))| *busy_for)?;
        let quick = time(state, left);
        // Each sends as much as the times say that both end together.
        let both = (slow + quick).max(1);
        if slow - slow * quick / both <= WORTH_TAKING.as_millis() {
            return None;
        }
        let kept = u64::try_from(u128::from(left) * quick / both).unwrap_or(left).min(left - 1);
        let (start, end) = (next + kept, next + left - 1);
        let request = self.peers.get_mut(&busy)?.request.as_mut()?;
        request.end = start - 1;
        if kept == 0 {
            self.cancel(busy);
        }
        Some((Purpose::Range, start, end))
    }
}

/// What is still to be asked for in one round of questions.
#[derive(Debug)]
struct Wanted {
    /// The next height to store.
    head: u64,
    /// The last height of those that are here without a gap.
    run_end: u64,
    /// The last height of the window.
    last: u64,
    /// Bytes that are here or on their way.
    held: usize,
    /// Of those who can.
    least_demerits: u32,
    /// Runs of heights, ascending.
    gaps: VecDeque<(u64, u64)>,
}
