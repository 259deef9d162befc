//! From a wish to be connected to a dial: what discovery proposes, and what users ask for.

use std::net::IpAddr;

use bt2c_proto::{CloseCode, PeerAddr, PeerId, Time};

use super::{
    connection::{Conn, State, Target},
    core::{Action, Core},
    eviction::Standing,
    slots,
};
use crate::{
    peer::{ConnectionId, Direction},
    reason::{CloseReason, HandshakeFailure},
};

/// What became of the wish for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// This peer is connected already.
    Connected(PeerId),
    /// It is dialled; the outcome is that of this connection.
    Dialled(ConnectionId),
}

impl Core {
    /// An operator, or a user of the crate, wants a connection. An error says what is wrong with whom the address is
    /// connected to already.
    pub(crate) fn connect(&mut self, now: Time, addr: PeerAddr) -> Result<Wanted, CloseReason> {
        if let Some(pin) = addr.pin.filter(|pin| self.peers.contains_key(pin)) {
            return Ok(Wanted::Connected(pin));
        }
        let remote = addr.socket_addr();
        let mut open = self.connections.values().filter(|conn| conn.is_open());
        let there = open
            .find(|conn| remote.is_some() && conn.direction == Direction::Outbound && conn.remote == remote)
            .and_then(Conn::peer);
        match there {
            Some(_) if addr.pin.is_some() => {
                let reason = CloseReason::Handshake(HandshakeFailure::Pin);
                self.tell_unreached(&addr, reason);
                Err(reason)
            }
            Some(peer) => Ok(Wanted::Connected(peer)),
            None => {
                let connection = self.dial(addr.clone(), Some(addr), None);
                self.settle(now);
                Ok(Wanted::Dialled(connection))
            }
        }
    }

    /// Whether discovery is asked whom to dial: while nothing stops, and there is room.
    pub(super) fn may_dial(&self) -> bool {
        !self.stopping && self.connections.len() < slots::table_limit(&self.config)
    }

    fn dial(&mut self, addr: PeerAddr, named: Option<PeerAddr>, target: Option<Target>) -> ConnectionId {
        let remote = addr.socket_addr();
        let connection = self.new_connection(Conn {
            direction: Direction::Outbound,
            remote,
            pin: addr.pin,
            named,
            target,
            state: State::Connecting,
            closing: false,
            standing: Standing::default(),
            asks: None,
            clock_ahead: None,
        });
        self.view.outbound.extend(remote);
        self.actions.push_back(Action::Dial { connection, addr });
        connection
    }

    /// A name was looked up.
    pub(crate) fn handle_resolved(&mut self, now: Time, name: &str, port: u16, ips: &[IpAddr]) {
        self.tell_lookup(name, port, !ips.is_empty());
        self.discovery.handle_resolved(now, name, port, ips);
        self.settle(now);
    }

    pub(super) fn dial_target(&mut self, now: Time, target: bt2c_discovery::DialTarget) {
        let expected = target.pin.or_else(|| self.discovery.peer_at(target.addr));
        let banned = self.security.is_banned(now, target.addr.ip()).is_some()
            || expected.is_some_and(|peer| self.security.is_peer_banned(now, &peer).is_some());
        let named = self.discovery.named_as(target.addr, target.pin).cloned();
        if banned {
            if let Some(named) = named {
                self.tell_unreached(&named, CloseReason::Local(CloseCode::Banned));
            }
            return self.discovery.handle_dial_failed(now, target.addr);
        }
        let addr = PeerAddr { pin: target.pin, ..target.addr.into() };
        let feeler = target.reason == bt2c_discovery::DialReason::Feeler;
        self.dial(addr, named, Some(Target { addr: target.addr, feeler }));
    }
}
