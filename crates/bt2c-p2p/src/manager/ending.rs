//! The end of a connection: who hears of it, and what it says against the remote.

use bt2c_proto::{CloseCode, Time};
use bt2c_security::Offence;

use super::{
    connection::{Conn, State},
    core::{Action, Core},
};
use crate::{
    peer::{ConnectionId, Direction},
    reason::{CloseReason, HandshakeFailure},
};

impl Core {
    /// Ends a connection.
    pub(crate) fn close(&mut self, connection: ConnectionId, code: CloseCode) {
        let Some(conn) = self.connections.get_mut(&connection) else { return };
        if !std::mem::replace(&mut conn.closing, true) {
            self.actions.push_back(Action::Close { connection, code });
        }
    }

    /// A connection is over. `fault`: what the remote did wrong in TLS.
    pub(crate) fn handle_closed(
        &mut self,
        now: Time,
        connection: ConnectionId,
        reason: CloseReason,
        fault: Option<Offence>,
    ) {
        let Some(conn) = self.connections.remove(&connection) else { return };
        self.asked.remove(&connection);
        if let State::Retired { .. } = conn.state {
            return;
        }
        if let Some(addr) = conn.remote {
            if let Some(offence) = fault {
                self.count_failed(now, conn.direction, addr, offence);
                self.security.report(now, addr.ip(), conn.peer(), offence, &reason.to_string());
            } else if !conn.is_open() && reason == CloseReason::Local(CloseCode::Protocol) {
                // The violation was charged when it was found.
                self.count_failed(now, conn.direction, addr, Offence::Protocol);
            } else if !conn.is_open() && conn.direction == Direction::Inbound && is_time_out(reason) {
                self.security.record_unfinished_attempt(now, addr.ip());
            }
        }
        if let Some(named) = conn.named.as_ref().filter(|_| !conn.is_open()) {
            self.tell_unreached(named, reason);
        }
        self.note_end(now, &conn, reason);
        self.account(now, connection, &conn, reason);
        if conn.is_open() {
            self.actions.push_back(Action::Down { connection, reason });
        } else if let Some(addr) = conn.remote {
            let (direction, peer) = (conn.direction, conn.peer());
            self.actions.push_back(Action::Failed { connection, addr, direction, peer, reason });
        }
        self.resolve_contest_after_close(now, connection);
        self.settle(now);
    }

    /// Tells discovery of a connection that ended.
    pub(super) fn account(&mut self, now: Time, connection: ConnectionId, conn: &Conn, reason: CloseReason) {
        self.leave_view(connection, conn);
        self.tell_discovery(now, conn, reason);
    }

    /// Takes a connection that ended out of what discovery sees.
    fn leave_view(&mut self, connection: ConnectionId, conn: &Conn) {
        if let (Direction::Outbound, Some(addr)) = (conn.direction, conn.remote) {
            let same = |(id, other): (&ConnectionId, &Conn)| {
                *id != connection && other.direction == Direction::Outbound && other.remote == Some(addr)
            };
            if !self.connections.iter().any(same) {
                self.view.outbound.remove(&addr);
            }
        }
        if let State::Open { peer, listens } = &conn.state {
            let same = |(id, other): (&ConnectionId, &Conn)| {
                *id != connection
                    && matches!(&other.state, State::Open { listens: also, .. } if also == listens)
            };
            if let Some(addr) = listens.as_ref().filter(|_| !self.connections.iter().any(same)) {
                self.view.inbound.remove(addr);
            }
            if self.peers.get(peer) == Some(&connection) {
                self.peers.remove(peer);
                self.view.peers.remove(peer);
            }
        }
    }

    fn tell_discovery(&mut self, now: Time, conn: &Conn, reason: CloseReason) {
        let (Direction::Outbound, Some(addr)) = (conn.direction, conn.remote) else { return };
        let honest =
            !matches!(reason, CloseReason::Local(CloseCode::Protocol | CloseCode::Banned | CloseCode::Rate));
        match (&conn.state, conn.target) {
            (State::Open { .. }, _) => return self.discovery.handle_disconnected(now, addr, honest),
            // That is how we end a feeler that found what it was sent for.
            (State::Secured { peer, .. }, Some(target))
                if target.feeler && reason == CloseReason::Local(CloseCode::Pruned) =>
            {
                return self.discovery.handle_answered(now, target.addr, *peer);
            }
            (_, Some(target)) => self.discovery.handle_dial_failed(now, target.addr),
            (_, None) => {}
        }
        use CloseCode::{Genesis, Network, SelfConnection};
        match reason {
            CloseReason::Local(SelfConnection) => self.discovery.handle_self(now, addr),
            // A node of another network is of no use, whichever of us noticed.
            CloseReason::Local(Network | Genesis) | CloseReason::Remote(Network | Genesis) => {
                self.discovery.remove_peer(now, addr);
            }
            _ => {}
        }
    }
}

/// Whether the time for TLS or hello was over.
const fn is_time_out(reason: CloseReason) -> bool {
    matches!(
        reason,
        CloseReason::Handshake(HandshakeFailure::Timeout) | CloseReason::Local(CloseCode::Timeout)
    )
}
