//! The leader's headers: where its branch leaves ours, and which blocks are of it.

use std::{sync::Arc, time::Duration};

use bt2c_proto::{BlockHash, BlockHeader, GetHeaders, PeerId, Time, limits::MAX_HEADERS};

use super::{
    Action, Blame, Core, PeerState,
    fork::ForkSearch,
    peers::HeadersRequest,
    pursuit::{Pursuit, Stage},
};
use crate::{chain::BlockRef, consensus::Invalid};

/// Headers asked for to find a fork: more than forks are long, and few enough to come at once.
const FORK_HEADERS: u64 = 128;

/// A header has seven hundred bytes, most of them its signature: of blocks that are smaller than this, headers ahead would
/// take more than a twentieth of the leader's line. Then a helper's blocks are known to be of the leader's branch by those
/// of the leader that name them as ancestors, which costs nothing.
const WORTH_HEADERS: usize = 14_000;

/// Headers that are with the workers.
#[derive(Debug)]
pub(super) struct CheckingHeaders {
    from: PeerId,
    headers: Arc<[BlockHeader]>,
}

impl Core {
    /// Asks the leader for headers: where the fork is if that is wanted, else as far as the window reaches if there is
    /// somebody else whose blocks they can tell to be of its branch.
    pub(super) fn ask_headers(&mut self, now: Time) {
        let Some(leader) = self.leader() else { return };
        if !self.wants_headers(now) {
            return;
        }
        let locating = self.pursuit.as_ref().is_some_and(|pursuit| matches!(pursuit.stage, Stage::Locating));
        let locator = self.locator();
        let Some(state) = self.peers.get_mut(&leader) else { return };
        state.pace.take(now);
        state.headers_request = Some(HeadersRequest { sent: now, locator: locator.clone() });
        let count = if locating { FORK_HEADERS } else { MAX_HEADERS as u64 };
        let question = GetHeaders { locator, count };
        self.actions.push_back(Action::RequestHeaders { peer: leader, question });
    }

    fn wants_headers(&self, now: Time) -> bool {
        let Some(pursuit) = &self.pursuit else { return false };
        let Some(state) = self.peers.get(&pursuit.leader) else { return false };
        let idle = state.headers_request.is_none() && pursuit.headers_job.is_none();
        if !state.tells_headers || !idle || !state.usable() {
            return false;
        }
        match pursuit.stage {
            Stage::Locating => state.pace.ready_at() <= now,
            Stage::Forking(_) => false,
            Stage::Fetching => {
                let known = pursuit.last_header().map_or(pursuit.cursor.height.get(), |(height, _)| height);
                let window = pursuit.cursor.height.get() + self.config.window_blocks;
                let helped = self.peers.iter().any(|(peer, state)| {
                    *peer != pursuit.leader
                        && state.is_ahead_of(pursuit.cursor.height.get())
                        && state.usable()
                });
                // Blocks come first: half of what the leader serves is kept for them, and most of its line.
                let wanted = self.average_block() >= WORTH_HEADERS
                    && known < window
                    && state.claim.is_some_and(|claim| claim.height > known);
                helped && wanted && state.pace.is_rested(now)
            }
        }
    }

    /// Hashes of blocks that the leader should know, highest first: the last of its headers, then of our main chain ten
    /// steps of one, then doubling ones. The genesis block is understood.
    fn locator(&self) -> Vec<BlockHash> {
        let told = self.pursuit.as_ref().and_then(|pursuit| pursuit.last_header());
        let mut locator: Vec<BlockHash> = told.map(|(_, hash)| hash).into_iter().collect();
        let (tip, lowest) = (self.tip().height.get(), self.recent.lowest().height.get());
        let (mut height, mut step) = (tip, 1);
        while let Some(place) = self.recent.main_at(height) {
            locator.push(place.hash);
            if height == lowest {
                break;
            }
            if locator.len() > 10 {
                step *= 2;
            }
            height = height.saturating_sub(step).max(lowest);
        }
        locator
    }

    /// A peer told headers.
    pub fn handle_headers(&mut self, now: Time, peer: PeerId, headers: Vec<BlockHeader>) {
        let asked = self.peers.get_mut(&peer).and_then(|state| state.headers_request.take());
        let Some(HeadersRequest { locator, .. }) = asked else {
            self.counters.unasked_answers += 1;
            return;
        };
        let genesis = self.consensus.genesis().hash();
        let above = |parent: &BlockHash| locator.contains(parent) || *parent == genesis;
        let first = headers.first().map(BlockRef::from);
        if let Some(stray) = first_stray(&headers).or(first.filter(|first| !above(&first.parent))) {
            self.blame(peer, Blame::Headers { height: stray.height, hash: stray.hash });
        } else if self.leader() == Some(peer) {
            self.leader_told(peer, first, headers);
        }
        self.advance(now);
    }

    fn leader_told(&mut self, peer: PeerId, first: Option<BlockRef>, headers: Vec<BlockHeader>) {
        let Some(pursuit) = &mut self.pursuit else { return };
        let locating = matches!(pursuit.stage, Stage::Locating);
        let Some(first) = first else {
            // There is nothing above what we have in common, so it claims more than it has; unless it lost what it told.
            if locating {
                self.abandon(PeerState::disprove);
            } else {
                pursuit.drop_headers();
            }
            return;
        };
        if pursuit.last_header().is_none_or(|(_, hash)| hash != first.parent) {
            let main = self
                .recent
                .get(&first.parent)
                .filter(|place| self.recent.main_at(place.height.get()) == Some(place));
            let Some(fork) = main.copied() else {
                let leaves_deep = locating || first.height <= self.recent.lowest().height;
                return if leaves_deep {
                    self.abandon_too_deep()
                };
            };
            let cursor = pursuit.cursor;
            let at_cursor = headers.iter().find(|header| header.height == cursor.height);
            if locating || at_cursor.is_some_and(|header| header.hash() != cursor.hash) {
                pursuit.follow_from(fork);
            } else {
                pursuit.drop_headers();
            }
        }
        self.check_headers(peer, headers);
    }

    fn check_headers(&mut self, from: PeerId, headers: Vec<BlockHeader>) {
        let job = self.job();
        if let Some(pursuit) = &mut self.pursuit {
            pursuit.headers_job = Some(job);
        }
        let headers: Arc<[BlockHeader]> = headers.into();
        self.checking_headers.insert(job, CheckingHeaders { from, headers: Arc::clone(&headers) });
        self.actions.push_back(Action::CheckHeaders { job, headers });
    }

    /// Seals of headers were checked, up to the first bad one.
    pub fn handle_headers_checked(&mut self, now: Time, job: u64, result: Result<(), (usize, Invalid)>) {
        let Some(CheckingHeaders { from, headers }) = self.checking_headers.remove(&job) else { return };
        if let Err((index, reason)) = result
            && let Some(header) = headers.get(index)
        {
            self.blame_block(from, &BlockRef::from(header), reason);
            self.pursuit = self.pursuit.take().filter(|pursuit| pursuit.leader != from);
        } else if let Some(pursuit) = self.pursuit.as_mut().filter(|pursuit| pursuit.headers_job == Some(job))
        {
            pursuit.headers_job = None;
            pursuit.extend_headers(headers.to_vec());
            if let (Some(state), Some(last)) = (self.peers.get_mut(&from), headers.last()) {
                state.shows(BlockRef::from(last).tip());
            }
        }
        self.advance(now);
    }

    /// Stops to wait for headers: what they would tell is found out without.
    pub(super) fn expire_headers(&mut self, now: Time) {
        let due = |(peer, state): (&PeerId, &PeerState)| {
            self.headers_due(peer, state).filter(|at| *at <= now).map(|_| *peer)
        };
        let late: Vec<PeerId> = self.peers.iter().filter_map(due).collect();
        for peer in late {
            if let Some(state) = self.peers.get_mut(&peer) {
                (state.headers_request, state.tells_headers) = (None, false);
                state.demerit();
            }
            let (tip, lowest) = (self.tip().height, self.recent.lowest().height);
            if let Some(pursuit) = self.pursuit.as_mut().filter(|pursuit| pursuit.leader == peer)
                && matches!(pursuit.stage, Stage::Locating)
            {
                pursuit.stage = Stage::Forking(ForkSearch::new(lowest.get(), tip.next().get()));
            }
        }
    }

    pub(super) fn headers_timeout(&self) -> Option<Time> {
        self.peers.iter().filter_map(|(peer, state)| self.headers_due(peer, state)).min()
    }

    /// When a peer's headers are late: those that are waited for soon, others when a slow line had its time, for two
    /// thousand of them are more than a megabyte.
    fn headers_due(&self, peer: &PeerId, state: &PeerState) -> Option<Time> {
        let sent = state.headers_request.as_ref()?.sent;
        let locates = |pursuit: &Pursuit| pursuit.leader == *peer && matches!(pursuit.stage, Stage::Locating);
        let more = match self.pursuit.as_ref().is_some_and(locates) {
            true => Duration::ZERO,
            false => self.config.request_timeout_max,
        };
        Some(sent + self.stall.wait() + more)
    }
}

/// The first header that is not the child of the one before.
fn first_stray(headers: &[BlockHeader]) -> Option<BlockRef> {
    let places: Vec<BlockRef> = headers.iter().map(BlockRef::from).collect();
    places.windows(2).find(|pair| !pair[0].is_parent_of(&pair[1])).map(|pair| pair[1])
}
