//! A connected peer, as the layers above see it.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bt2c_proto::{Frame, Height, Hello, NodeId, PeerId, Time};

use crate::session::queue::Outbox;

/// Identifies one connection of this process; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub(crate) u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who opened a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// The other side.
    Inbound,
    /// We.
    Outbound,
}

impl Direction {
    /// The name in metrics and the control API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A peer whose hello was accepted, on one connection. Cloning is cheap.
#[derive(Clone)]
pub struct Peer {
    inner: Arc<Inner>,
}

struct Inner {
    connection: ConnectionId,
    id: PeerId,
    addr: SocketAddr,
    direction: Direction,
    hello: Hello,
    since: Time,
    standing: i32,
    outbox: Arc<Outbox>,
    stats: Arc<LinkStats>,
}

/// What a session counts for its link.
#[derive(Debug, Default)]
pub(crate) struct LinkStats {
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    /// Round-trip time in milliseconds plus one; 0 is unknown.
    rtt: AtomicU64,
}

impl LinkStats {
    pub(crate) fn set_rtt(&self, rtt: Duration) {
        let millis = u64::try_from(rtt.as_millis()).unwrap_or(u64::MAX - 1);
        self.rtt.store(millis.saturating_add(1), Ordering::Relaxed);
    }
}

/// Why a frame was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The peer reads more slowly than it is sent to; its queue is full.
    #[error("the peer's send queue is full")]
    Full,
    /// The connection is closed.
    #[error("the connection is closed")]
    Closed,
    /// The peer takes no frame of that size, by its hello.
    #[error("the peer takes no frame that long")]
    TooLong,
}

impl Peer {
    #[expect(clippy::too_many_arguments, reason = "the one place where a peer is put together")]
    pub(crate) fn new(
        connection: ConnectionId,
        id: PeerId,
        addr: SocketAddr,
        direction: Direction,
        hello: Hello,
        since: Time,
        standing: i32,
        outbox: Arc<Outbox>,
        stats: Arc<LinkStats>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner { connection, id, addr, direction, hello, since, standing, outbox, stats }),
        }
    }

    /// The peer's identity.
    pub fn id(&self) -> PeerId {
        self.inner.id
    }

    /// The connection; a peer that comes back has another.
    pub fn connection(&self) -> ConnectionId {
        self.inner.connection
    }

    /// The peer's label.
    pub fn node_id(&self) -> &NodeId {
        &self.inner.hello.node_id
    }

    /// The address of its end of the connection.
    pub fn addr(&self) -> SocketAddr {
        self.inner.addr
    }

    /// Who opened the connection.
    pub fn direction(&self) -> Direction {
        self.inner.direction
    }

    /// What it said of itself. Its tip is a hint.
    pub fn hello(&self) -> &Hello {
        &self.inner.hello
    }

    /// The height it claimed at hello: a hint.
    pub fn height(&self) -> Height {
        self.inner.hello.block_height
    }

    /// Since when it is connected.
    pub fn since(&self) -> Time {
        self.inner.since
    }

    /// What experience said of it when it connected, −100 to 100: its own standing and its address group's.
    pub fn standing(&self) -> i32 {
        self.inner.standing
    }

    /// Queues a frame.
    ///
    /// # Errors
    /// [`SendError::Full`] if its queue has no room even after pushed transactions were dropped from it.
    pub fn send(&self, frame: Frame) -> Result<(), SendError> {
        self.inner.outbox.push(frame)
    }

    /// Completes once `bytes` more fit into the queue, or the connection is closed.
    pub async fn wait_for_room(&self, bytes: usize) {
        self.inner.outbox.wait_for_room(bytes).await;
    }

    /// Completes once at most `bytes` wait to be sent, or the connection is closed.
    pub async fn wait_until_queued(&self, bytes: usize) {
        self.inner.outbox.wait_until_queued(bytes).await;
    }

    /// Bytes received and sent, TLS excluded.
    pub fn traffic(&self) -> (u64, u64) {
        let stats = &self.inner.stats;
        (stats.bytes_in.load(Ordering::Relaxed), stats.bytes_out.load(Ordering::Relaxed))
    }

    /// The last measured round-trip time.
    pub fn rtt(&self) -> Option<Duration> {
        self.inner.stats.rtt.load(Ordering::Relaxed).checked_sub(1).map(Duration::from_millis)
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({} {} {})", self.node_id(), self.id().short(), self.addr())
    }
}

/// A peer and what the manager thinks of it.
#[derive(Debug, Clone)]
pub struct PeerInfo {
    /// The peer.
    pub peer: Peer,
    /// Its standing, −100 to 100: 0 is a stranger's, offences lower it, useful work raises it, both wear off.
    pub score: i32,
}
