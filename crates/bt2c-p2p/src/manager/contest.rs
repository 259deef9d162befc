//! Two connections between the same two nodes.
//!
//! Of the same direction, the newer replaces the older. Of opposite directions, the one that the lower PeerId dialled
//! stays; both sides see the same two identities, so both close the same one. But the one that would stay may be the
//! ghost of a peer that crashed and came back. So the newcomer is held while the incumbent is asked for a sign of life:
//! if it gives one, the newcomer is refused; if not, it was a ghost and is replaced.

use std::{collections::BTreeMap, time::Duration};

use bt2c_proto::{CloseCode, Hello, PeerId, Time};

use super::{
    connection::{Conn, State},
    core::{Action, Core},
};
use crate::{
    peer::{ConnectionId, Direction},
    reason::{CloseReason, Refusal},
};

/// Beyond the wait that the ping limit may ask for, how long a probe may take at most, whatever the session says: a
/// newcomer still waits for our hello then.
const PROBE_PATIENCE: Duration = Duration::from_secs(3);

/// The newcomers that are held.
#[derive(Debug, Default)]
pub(super) struct Contests(BTreeMap<PeerId, Contest>);

#[derive(Debug, Clone, Copy)]
struct Contest {
    newcomer: ConnectionId,
    incumbent: ConnectionId,
    until: Time,
}

impl Contests {
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.0.values().map(|contest| contest.until).min()
    }
}

impl Core {
    /// A good hello came in on `newcomer` while `incumbent` is open.
    pub(super) fn settle_duplicate(
        &mut self,
        now: Time,
        peer: PeerId,
        incumbent: ConnectionId,
        newcomer: ConnectionId,
        hello: Box<Hello>,
    ) {
        let direction = |id: ConnectionId| self.connections.get(&id).map(|conn| conn.direction);
        let (Some(old), Some(new)) = (direction(incumbent), direction(newcomer)) else { return };
        let lower_is_local = self.local.peer_id < peer;
        let newcomer_stays = old == new || (new == Direction::Outbound) == lower_is_local;
        if newcomer_stays {
            // One that is held loses against the newcomer as it would have against the incumbent.
            if let Some(held) = self.contests.0.remove(&peer) {
                self.actions
                    .push_back(Action::Refuse { connection: held.newcomer, refusal: Refusal::Replaced });
            }
            self.retire(now, incumbent, CloseCode::Replaced);
            self.admit(now, newcomer, peer, hello);
            return;
        }
        if let Some(earlier) = self.contests.0.remove(&peer) {
            self.close(earlier.newcomer, CloseCode::Replaced);
        }
        if let Some(conn) = self.connections.get_mut(&newcomer) {
            conn.state = State::Held { peer, hello };
        }
        let until = now + self.config.security.ping_interval_min + PROBE_PATIENCE;
        self.contests.0.insert(peer, Contest { newcomer, incumbent, until });
        self.actions.push_back(Action::Probe { connection: incumbent });
    }

    /// The incumbent lives, and the newcomer is refused; or it was a ghost.
    pub(crate) fn handle_probed(&mut self, now: Time, incumbent: ConnectionId, alive: bool) {
        let found = self.contests.0.iter().find(|(_, contest)| contest.incumbent == incumbent);
        if let Some((&peer, &Contest { newcomer, .. })) = found {
            if alive {
                self.contests.0.remove(&peer);
                self.actions.push_back(Action::Refuse { connection: newcomer, refusal: Refusal::Replaced });
            } else {
                self.end_ghost(now, incumbent);
            }
        }
        self.settle(now);
    }

    /// Incumbents whose probe took too long are ghosts.
    pub(super) fn end_contests(&mut self, now: Time) {
        let over: Vec<_> = self.contests.0.values().filter(|contest| contest.until <= now).copied().collect();
        over.into_iter().for_each(|contest| self.end_ghost(now, contest.incumbent));
    }

    fn end_ghost(&mut self, now: Time, incumbent: ConnectionId) {
        self.retire(now, incumbent, CloseCode::Timeout);
        self.resolve_contest_after_close(now, incumbent);
    }

    /// One of the two is gone: if it was the incumbent, the newcomer is admitted.
    pub(super) fn resolve_contest_after_close(&mut self, now: Time, gone: ConnectionId) {
        let found = self.contests.0.iter().find(|(_, c)| c.incumbent == gone || c.newcomer == gone);
        let Some((&peer, &contest)) = found else { return };
        self.contests.0.remove(&peer);
        if contest.incumbent != gone {
            return;
        }
        let held = self.connections.get_mut(&contest.newcomer).and_then(|conn| {
            let placeholder = State::Secured { peer, label: None };
            match std::mem::replace(&mut conn.state, placeholder) {
                State::Held { hello, .. } => Some(hello),
                other => {
                    conn.state = other;
                    None
                }
            }
        });
        if let Some(hello) = held {
            self.admit(now, contest.newcomer, peer, hello);
        }
    }

    /// Ends an open connection for the sake of another to the same peer: its end is told before the other's beginning.
    fn retire(&mut self, now: Time, connection: ConnectionId, code: CloseCode) {
        let Some(mut conn) = self.connections.remove(&connection) else { return };
        let reason = CloseReason::Local(code);
        let State::Open { peer, .. } = conn.state else {
            self.connections.insert(connection, conn);
            return;
        };
        self.account(now, connection, &conn, reason);
        self.actions.push_back(Action::Down { connection, reason });
        conn = Conn { state: State::Retired { peer }, ..conn };
        self.connections.insert(connection, conn);
        self.close(connection, code);
    }
}
