//! The manager's client side: requests and the cheap, cloneable handle that makes them.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bt2c_discovery::KnownPeer;
use bt2c_proto::{
    BlockHash, CloseCode, Feature, Frame, FrameError, Height, Message, MessageKind, Network, NodeId,
    PeerAddr, PeerId, Time, TxHash,
};
use bt2c_security::{Ban, Credentials, Deed, Offence, Subject, TlsError};
use parking_lot::RwLock;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::{
    config::Tip,
    decisions::{Decision, Explanation},
    env::Clock,
    event::{Event, Inbound},
    local::OwnChain,
    metrics::Metrics,
    peer::{Peer, PeerInfo},
    reason::CloseReason,
    session::handshake::Tls,
};

/// What a relayed message carries, so that it is relayed once and not to those who have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Inventory {
    /// A block.
    Block(BlockHash),
    /// A transaction.
    Transaction(TxHash),
}

/// Who this node is.
#[derive(Debug, Clone)]
pub struct LocalInfo {
    /// Its identity.
    pub peer_id: PeerId,
    /// Its label.
    pub node_id: NodeId,
    /// Its network.
    pub network: Network,
    /// Where it listens, with real ports.
    pub listen: Vec<SocketAddr>,
    /// What it knows beyond the base protocol.
    pub features: Vec<Feature>,
}

/// Why [`Handle::connect_to_peer`] failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The connection ended before the peer's hello was accepted.
    #[error("no connection: {0}")]
    Failed(CloseReason),
    /// The manager has stopped.
    #[error("the manager has stopped")]
    Stopped,
}

/// A message kind that is the manager's own to handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is handled by the manager itself")]
pub struct ReservedKind(pub MessageKind);

/// Why [`Handle::set_credentials`] failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// They are not this node's: its key and label stay the same while it runs.
    #[error("the credentials are those of {0}, under its label; a running node keeps its key and label")]
    Other(PeerId),
    /// They make no TLS configuration.
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
}

/// What a handle asks of the actor. Each reply goes to who asked; a reply nobody waits for is dropped.
#[derive(Debug)]
pub(crate) enum Request {
    Connect { addr: PeerAddr, reply: oneshot::Sender<Result<PeerId, CloseReason>> },
    Disconnect { peer: PeerId, code: CloseCode, reply: oneshot::Sender<bool> },
    Broadcast { frame: Frame, reply: oneshot::Sender<usize> },
    Relay { inventory: Inventory, frame: Frame },
    Seen { inventory: Inventory, peer: PeerId },
    Report { peer: PeerId, offence: Offence, evidence: String },
    Credit { peer: PeerId, deed: Deed },
    Explain { subject: Subject, reply: oneshot::Sender<Explanation> },
    Decisions { reply: oneshot::Sender<Vec<Decision>> },
    Peers { reply: oneshot::Sender<Vec<PeerInfo>> },
    Known { reply: oneshot::Sender<Vec<KnownPeer>> },
    Bans { reply: oneshot::Sender<Vec<Ban>> },
    Ban { subject: Subject, duration: Option<Duration>, reason: String, reply: oneshot::Sender<Option<Ban>> },
    Unban { subject: Subject, reply: oneshot::Sender<bool> },
    Allow { subject: Subject },
    Disallow { subject: Subject, reply: oneshot::Sender<bool> },
    IsBanned { ip: IpAddr, reply: oneshot::Sender<Option<Ban>> },
    SetTls { tls: Tls },
}

/// The registered handlers, by kind.
pub(crate) type Routes = RwLock<BTreeMap<MessageKind, mpsc::Sender<Inbound>>>;

/// A manager's client side. Cloning is cheap; every clone speaks to the same manager.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) requests: mpsc::Sender<Request>,
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) chain: watch::Sender<OwnChain>,
    pub(crate) local: LocalInfo,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Handle {
    /// Who this node is.
    pub fn local(&self) -> &LocalInfo {
        &self.shared.local
    }

    /// The counters of this manager, to be registered wherever metrics are shown.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Events from now on. A subscriber that falls behind by more than the channel holds is told so by its receiver, and
    /// should ask for [`Handle::peers`] and start over.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.shared.events.subscribe()
    }

    /// Sends every message of this kind to `handler`, which replaces an earlier one. While the channel is full the
    /// session waits, and reads no more from its peer.
    ///
    /// # Errors
    /// [`ReservedKind`] for hello, ping, pong, get_peers, peers and disconnect.
    pub fn register_message_handler(
        &self,
        kind: MessageKind,
        handler: mpsc::Sender<Inbound>,
    ) -> Result<(), ReservedKind> {
        match kind {
            MessageKind::GetBlocks
            | MessageKind::Blocks
            | MessageKind::NewBlock
            | MessageKind::NewTransaction
            | MessageKind::Throttled
            | MessageKind::Cancel
            | MessageKind::GetHeaders
            | MessageKind::Headers => {
                self.shared.routes.write().insert(kind, handler);
                Ok(())
            }
            _ => Err(ReservedKind(kind)),
        }
    }

    /// Sets the tip that hellos tell.
    pub fn set_tip(&self, tip: Tip) {
        self.shared.chain.send_modify(|chain| chain.tip = tip);
    }

    /// Sets the lowest height from which on every block is here; hellos tell it unless it is 0.
    pub fn set_first_block(&self, first: Height) {
        self.shared.chain.send_modify(|chain| chain.first_block = first);
    }

    /// Encodes a message once, for any number of receivers.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] if it does not fit a frame.
    pub fn frame(&self, message: &Message) -> Result<Frame, FrameError> {
        Frame::encode(message, &self.shared.local.node_id, self.now())
    }

    /// The node's time.
    pub fn now(&self) -> Time {
        self.shared.clock.now()
    }

    /// Connects to an address and waits for the peer's hello. A peer that is connected already is the answer too.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn connect_to_peer(&self, addr: PeerAddr) -> Result<PeerId, ConnectError> {
        let outcome = self.ask(|reply| Request::Connect { addr, reply }).await;
        outcome.ok_or(ConnectError::Stopped)?.map_err(ConnectError::Failed)
    }

    /// Closes the connection to a peer; false if there is none.
    pub async fn disconnect_from_peer(&self, peer: PeerId, code: CloseCode) -> bool {
        self.ask(|reply| Request::Disconnect { peer, code, reply }).await.unwrap_or(false)
    }

    /// Queues a message for every peer; tells how many took it. Peers whose queue is full are skipped.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] if it does not fit a frame.
    pub async fn broadcast_message(&self, message: &Message) -> Result<usize, FrameError> {
        let frame = self.frame(message)?;
        Ok(self.ask(|reply| Request::Broadcast { frame, reply }).await.unwrap_or(0))
    }

    /// Queues a frame for every peer that is not known to have what it carries; once for each [`Inventory`].
    pub async fn relay(&self, inventory: Inventory, frame: Frame) {
        self.tell(Request::Relay { inventory, frame }).await;
    }

    /// Notes that a peer has something, so that it is not sent there.
    pub async fn mark_seen(&self, inventory: Inventory, peer: PeerId) {
        self.tell(Request::Seen { inventory, peer }).await;
    }

    /// Charges a peer with an offence, with the evidence for it.
    pub async fn report(&self, peer: PeerId, offence: Offence, evidence: String) {
        self.tell(Request::Report { peer, offence, evidence }).await;
    }

    /// Notes that a peer did something useful. It raises the peer's standing, and speaks for it when slots are short.
    pub async fn credit(&self, peer: PeerId, deed: Deed) {
        self.tell(Request::Credit { peer, deed }).await;
    }

    /// Why things are as they are for an identity or an address range; `None` when the manager has stopped.
    pub async fn explain(&self, subject: Subject) -> Option<Explanation> {
        self.ask(|reply| Request::Explain { subject, reply }).await
    }

    /// Every decision that is remembered, latest first.
    pub async fn decisions(&self) -> Vec<Decision> {
        self.ask(|reply| Request::Decisions { reply }).await.unwrap_or_default()
    }

    /// The connected peers.
    pub async fn peers(&self) -> Vec<PeerInfo> {
        self.ask(|reply| Request::Peers { reply }).await.unwrap_or_default()
    }

    /// The addresses that discovery knows.
    pub async fn known_peers(&self) -> Vec<KnownPeer> {
        self.ask(|reply| Request::Known { reply }).await.unwrap_or_default()
    }

    /// The bans in force.
    pub async fn bans(&self) -> Vec<Ban> {
        self.ask(|reply| Request::Bans { reply }).await.unwrap_or_default()
    }

    /// Bans; `None` if the subject is allow-listed or the table is full.
    pub async fn ban(&self, subject: Subject, duration: Option<Duration>, reason: String) -> Option<Ban> {
        self.ask(|reply| Request::Ban { subject, duration, reason, reply }).await.flatten()
    }

    /// Lifts a ban; false if there was none.
    pub async fn unban(&self, subject: Subject) -> bool {
        self.ask(|reply| Request::Unban { subject, reply }).await.unwrap_or(false)
    }

    /// Exempts a subject from limits and bans.
    pub async fn allow(&self, subject: Subject) {
        self.tell(Request::Allow { subject }).await;
    }

    /// Takes an exemption back; false if there was none.
    pub async fn disallow(&self, subject: Subject) -> bool {
        self.ask(|reply| Request::Disallow { subject, reply }).await.unwrap_or(false)
    }

    /// The ban that an address is under.
    pub async fn is_banned(&self, ip: IpAddr) -> Option<Ban> {
        self.ask(|reply| Request::IsBanned { ip, reply }).await.flatten()
    }

    /// Shows a reissued certificate on connections from now on; those that exist go on with the old one.
    ///
    /// # Errors
    /// [`CredentialsError`]; the old certificate stays in use.
    pub async fn set_credentials(&self, credentials: &Credentials) -> Result<(), CredentialsError> {
        if credentials.peer_id() != self.local().peer_id || credentials.node_id() != &self.local().node_id {
            return Err(CredentialsError::Other(credentials.peer_id()));
        }
        let tls = Tls::new(credentials, Arc::clone(&self.shared.clock))?;
        self.tell(Request::SetTls { tls }).await;
        Ok(())
    }

    /// The connected peer of this identity.
    pub async fn peer(&self, id: PeerId) -> Option<Peer> {
        self.peers().await.into_iter().map(|info| info.peer).find(|peer| peer.id() == id)
    }

    /// Sends a request; waits while the actor is behind.
    async fn tell(&self, request: Request) {
        // An error means that the manager has stopped, and with it whatever the request was about.
        let _ = self.shared.requests.send(request).await;
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.tell(request(reply)).await;
        answer.await.ok()
    }
}
