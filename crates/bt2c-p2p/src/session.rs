//! One connection: a pure core and the task that drives it.

pub(crate) mod core;
mod delivery;
pub(crate) mod handshake;
pub(crate) mod queue;
pub(crate) mod task;
mod writing;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bt2c_proto::{CloseCode, Hello, Message, PeerId};
use bt2c_security::{Offence, SessionQuota};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use self::queue::Outbox;
use crate::{
    env::{Clock, Tap},
    local::OwnChain,
    manager::ingress::Routes,
    metrics::Metrics,
    peer::{ConnectionId, LinkStats, Peer},
    reason::{CloseReason, Refusal},
};

/// What a connection's task tells the manager.
#[derive(Debug)]
pub(crate) enum Note {
    /// TLS is done with `remote` and showed this certificate (DER). The reply is the connection's quota, or why the
    /// connection may not go on.
    Secured {
        connection: ConnectionId,
        remote: SocketAddr,
        certificate: Vec<u8>,
        reply: oneshot::Sender<Result<Consent, CloseReason>>,
    },
    /// The peer's hello is in; a [`Command::Admit`] or [`Command::Refuse`] is awaited.
    Hello { connection: ConnectionId, hello: Box<Hello> },
    /// By its hello it is so many seconds later at the peer than here.
    Clock { connection: ConnectionId, ahead: i64 },
    /// A message that the manager itself handles.
    Message { connection: ConnectionId, message: Message },
    /// The peer did this.
    Report { connection: ConnectionId, offence: Offence, evidence: String },
    /// A measured round trip.
    Rtt { connection: ConnectionId, rtt: Duration },
    /// Whether the probed peer is there.
    Probed { connection: ConnectionId, alive: bool },
    /// Nothing useful was heard for the idle time-out.
    Idle { connection: ConnectionId },
    /// The connection is over; `fault`: what the remote did wrong in TLS, if it did.
    Closed { connection: ConnectionId, reason: CloseReason, fault: Option<Offence> },
}

/// The manager's consent to a connection: who it is with, and the limits that it works under.
#[derive(Debug)]
pub(crate) struct Consent {
    /// Whose certificate it is.
    pub(crate) peer: PeerId,
    pub(crate) incoming: SessionQuota,
    /// A secret of this connection, by which its pings are unevenly spaced.
    pub(crate) ping_secret: u64,
}

/// What the manager tells a connection's task.
#[derive(Debug)]
pub(crate) enum Command {
    /// The hello is accepted.
    Admit(Peer),
    /// The hello is refused.
    Refuse(Refusal),
    /// Find out whether the peer is there.
    Probe,
    /// Close the connection.
    Close(CloseCode),
}

/// What a session task shares with the rest of the node.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) notes: mpsc::Sender<Note>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) chain: watch::Receiver<OwnChain>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) send_timeout: Duration,
    pub(crate) tap: Option<Arc<dyn Tap>>,
}

/// A connection's own ends of what is shared.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) connection: ConnectionId,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) stats: Arc<LinkStats>,
    pub(crate) outbox: Arc<Outbox>,
}
