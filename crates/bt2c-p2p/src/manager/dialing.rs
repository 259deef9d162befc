//! From a wish to be connected to a dial: what discovery proposes, and what users ask for.

use std::net::IpAddr;

use bt2c_proto::{PeerAddr, PeerId, Time};

use super::{
    connection::{Conn, State, Target},
    core::{Action, Core},
    slots,
};
use crate::peer::{ConnectionId, Direction};

impl Core {
    /// An operator, or a user of the crate, wants a connection. `Err`: the peer that is connected there already.
    pub(crate) fn connect(&mut self, now: Time, addr: PeerAddr) -> Result<ConnectionId, PeerId> {
        let remote = addr.socket_addr();
        let open = self.connections.values().find(|conn| {
            conn.is_open()
                && (remote.is_some() && conn.direction == Direction::Outbound && conn.remote == remote
                    || addr.pin.is_some() && conn.peer() == addr.pin)
        });
        if let Some(peer) = open.and_then(Conn::peer) {
            return Err(peer);
        }
        let connection = self.dial(addr, None);
        self.settle(now);
        Ok(connection)
    }

    /// Whether discovery is asked whom to dial: while nothing stops, and there is room.
    pub(super) fn may_dial(&self) -> bool {
        !self.stopping && self.connections.len() < slots::table_limit(&self.config)
    }

    fn dial(&mut self, addr: PeerAddr, target: Option<Target>) -> ConnectionId {
        let remote = addr.socket_addr();
        let connection = self.new_connection(Conn {
            direction: Direction::Outbound,
            remote,
            pin: addr.pin,
            target,
            state: State::Connecting,
            closing: false,
        });
        self.view.outbound.extend(remote);
        self.actions.push_back(Action::Dial { connection, addr });
        connection
    }

    /// A name was looked up.
    pub(crate) fn handle_resolved(&mut self, now: Time, name: &str, port: u16, ips: &[IpAddr]) {
        self.discovery.handle_resolved(now, name, port, ips);
        self.settle(now);
    }

    pub(super) fn dial_target(&mut self, now: Time, target: bt2c_discovery::DialTarget) {
        let banned = self.security.is_banned(now, target.addr.ip()).is_some()
            || target.pin.is_some_and(|peer| self.security.is_peer_banned(now, &peer).is_some());
        if banned {
            return self.discovery.handle_dial_failed(now, target.addr);
        }
        let addr = PeerAddr { pin: target.pin, ..target.addr.into() };
        let feeler = target.reason == bt2c_discovery::DialReason::Feeler;
        self.dial(addr, Some(Target { addr: target.addr, feeler }));
    }
}
