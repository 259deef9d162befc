//! What the manager tells everyone who subscribes.

use std::net::SocketAddr;

use bt2c_proto::{Message, PeerId, Time};
use bt2c_security::{Ban, Subject};

use crate::{
    peer::{ConnectionId, Direction, Peer},
    reason::CloseReason,
};

/// Something happened to the set of peers or bans.
#[derive(Debug, Clone)]
pub enum Event {
    /// A peer's hello was accepted.
    PeerUp(Peer),
    /// A peer is gone.
    PeerDown {
        /// The peer.
        peer: Peer,
        /// Why.
        reason: CloseReason,
    },
    /// A connection ended before its hello was accepted.
    Failed {
        /// The connection.
        connection: ConnectionId,
        /// The other side.
        addr: SocketAddr,
        /// Who opened it.
        direction: Direction,
        /// The other side's identity, if TLS got that far.
        peer: Option<PeerId>,
        /// Why.
        reason: CloseReason,
    },
    /// Someone was banned.
    Banned(Ban),
    /// A ban ended or was lifted.
    Unbanned(Subject),
}

/// A message for a registered handler.
#[derive(Debug, Clone)]
pub struct Inbound {
    /// Who sent it.
    pub peer: Peer,
    /// The message, parsed and within its limits.
    pub message: Message,
    /// When it was read.
    pub received: Time,
    /// Length of its frame's body in bytes.
    pub len: usize,
}
