//! For how long an answer is waited for, and what becomes of one that is late.

use std::time::Duration;

use bt2c_proto::{CloseCode, Defence, Height, PeerId, Time, limits::FRAME_LIMIT};

use super::{Core, GenesisState, PeerState, Purpose, elect::SHOW_WITHIN, peers::Request};
use crate::{config::PART_BYTES, event::Event};

impl Core {
    /// How long nothing may come of an answer: of a stream a part, of another answer all of it. Who was slow so far is waited
    /// for longer, but no more than twice as long.
    fn patience(&self, state: &PeerState, request: &Request) -> Duration {
        let bytes = match request.stream {
            Some(_) => PART_BYTES as u64,
            None => (request.end - request.start + 1).saturating_mul(self.average_block() as u64),
        };
        let transfer = state.throughput.time_for(bytes.min(FRAME_LIMIT as u64)).unwrap_or_default();
        self.stall.wait() + transfer.min(self.stall.wait())
    }

    /// When what a peer owes is asked of others. The time in which we took nothing does not count.
    fn late_at(&self, state: &PeerState, request: &Request) -> Time {
        request.progress.max(self.saturated_at) + self.patience(state, request)
    }

    /// When its connection is closed.
    fn dead_at(&self, request: &Request) -> Time {
        request.since().max(self.saturated_at) + self.config.close_timeout
    }

    /// Gives up waiting for answers whose time is over.
    pub(super) fn expire_requests(&mut self, now: Time) {
        if !self.config.defences.has(Defence::StallTimeout) || self.saturated {
            return;
        }
        let (mut late, mut dead) = (Vec::new(), Vec::new());
        for (peer, state) in &self.peers {
            let Some(request) = &state.request else { continue };
            if now >= self.dead_at(request) && !state.ignored {
                dead.push(*peer);
            } else if now >= self.late_at(state, request) && !request.late {
                late.push(*peer);
            }
        }
        for peer in late {
            self.give_up_waiting(now, peer);
        }
        for peer in dead {
            self.close(peer, CloseCode::Timeout);
        }
    }

    /// What a peer still owes is asked of others.
    fn give_up_waiting(&mut self, now: Time, peer: PeerId) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let Some(request) = &mut state.request else { return };
        request.late = true;
        let (start, end) = (Height::new(request.next), Height::new(request.end));
        if request.throttled_until.is_none() && !request.cancelled {
            // A slow line of our own makes blocks late; who does not show what it claims says nothing of that.
            if request.purpose == Purpose::Range {
                self.stall.lengthen(now);
            }
            state.slow_down();
            self.emit(Event::Stalled { peer, start, end });
        }
        self.cancel(peer);
    }

    /// When those who claim much more than others are no longer waited for.
    fn show_timeout(&self) -> Option<Time> {
        let probes = self.peers.values().filter_map(|state| state.request);
        let ends = probes
            .filter(|request| request.purpose == Purpose::Probe)
            .map(|request| request.sent + SHOW_WITHIN);
        ends.filter(|at| self.pursuit.is_none() && *at > self.now).min()
    }

    /// When something about requests has to be done.
    pub(super) fn fetch_timeout(&self) -> Option<Time> {
        let busy = self.pursuit.is_some() || self.has_candidates();
        let requests = self.peers.values().filter(|state| !state.ignored).filter_map(|state| {
            match &state.request {
                Some(_) if !self.config.defences.has(Defence::StallTimeout) || self.saturated => None,
                Some(request) if request.late => Some(self.dead_at(request)),
                Some(request) => Some(self.late_at(state, request)),
                None if busy || state.genesis == GenesisState::Unasked => {
                    // What was due at the last input was done then, if there was anything to do.
                    Some(state.pace.ready_at().max(state.muted_until)).filter(|at| *at > self.now)
                }
                None => None,
            }
        });
        requests.chain(self.headers_timeout()).chain(self.show_timeout()).min()
    }
}
