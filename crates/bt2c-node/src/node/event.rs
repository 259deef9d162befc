//! What a node tells its subscribers: the events of its peers and of its chain in one stream, in the words of the
//! control API.

use bt2c_p2p::{Event as PeerEvent, Peer};
use bt2c_proto::{BlockHash, Height, NodeId, PeerId, TxHash};
use bt2c_sync::Event as ChainEvent;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::{self, error::RecvError};

use crate::api::BanView;

/// Something that a person or a script watching a node cares about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum NodeEvent {
    /// A peer's hello was accepted.
    PeerUp(PeerUp),
    /// A peer is gone.
    PeerDown(PeerDown),
    /// A block came onto the main chain.
    Block(BlockAdded),
    /// The main chain left its path for a better one.
    Reorganisation(Reorganisation),
    /// A transaction came into the pool.
    Transaction(TransactionAdded),
    /// Someone was banned.
    Ban(BanView),
    /// A ban ended or was lifted.
    Unban(Unbanned),
    /// Blocks are being fetched.
    Sync(SyncProgress),
    /// Something that the operator should look at.
    Warning(Warning),
    /// This subscriber was too slow, and events were dropped for it.
    Lagged(Lagged),
}

impl NodeEvent {
    /// The kind, as named in the event stream.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::PeerUp(_) => "peer_up",
            Self::PeerDown(_) => "peer_down",
            Self::Block(_) => "block",
            Self::Reorganisation(_) => "reorganisation",
            Self::Transaction(_) => "transaction",
            Self::Ban(_) => "ban",
            Self::Unban(_) => "unban",
            Self::Sync(_) => "sync",
            Self::Warning(_) => "warning",
            Self::Lagged(_) => "lagged",
        }
    }
}

/// Data of [`NodeEvent::PeerUp`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerUp {
    /// Its identity.
    pub peer_id: PeerId,
    /// Its label.
    pub node_id: NodeId,
    /// The address of its end.
    pub addr: String,
    /// `inbound` or `outbound`.
    pub direction: String,
}

impl From<&Peer> for PeerUp {
    fn from(peer: &Peer) -> Self {
        Self {
            peer_id: peer.id(),
            node_id: peer.node_id().clone(),
            addr: peer.addr().to_string(),
            direction: peer.direction().name().to_owned(),
        }
    }
}

/// Data of [`NodeEvent::PeerDown`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerDown {
    /// The peer.
    #[serde(flatten)]
    pub peer: PeerUp,
    /// Who ended it and why, such as `local: timeout`.
    pub reason: String,
}

/// Data of [`NodeEvent::Block`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockAdded {
    /// Its height.
    pub height: Height,
    /// Its hash.
    pub hash: BlockHash,
    /// How many transactions it holds.
    pub transactions: usize,
    /// Who sent it; missing if it was made here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<PeerId>,
}

/// Data of [`NodeEvent::Reorganisation`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reorganisation {
    /// Height of the tip now.
    pub height: Height,
    /// Hash of the tip now.
    pub hash: BlockHash,
    /// Height of the last block that both paths share.
    pub fork_height: Height,
    /// How many blocks left the main chain.
    pub reverted: usize,
}

/// Data of [`NodeEvent::Transaction`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionAdded {
    /// Its hash.
    pub hash: TxHash,
    /// Who sent it; missing if it was submitted here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<PeerId>,
}

/// Data of [`NodeEvent::Unban`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unbanned {
    /// IP, CIDR or PeerId.
    pub subject: String,
}

/// Data of [`NodeEvent::Sync`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncProgress {
    /// Our height.
    pub height: Height,
    /// The height that is aimed at.
    pub target_height: Height,
    /// Peers that are asked.
    pub peers: usize,
    /// Blocks stored a second.
    pub blocks_per_s: u64,
    /// Bytes of these blocks a second.
    #[serde(default)]
    pub bytes_per_s: u64,
    /// Seconds that the rest takes at that speed; missing while nothing is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<u64>,
    /// What holds it up most: `peers`, `bandwidth`, `verification`, `disk` or `limits`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slowed_by: Option<String>,
}

/// Data of [`NodeEvent::Warning`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// What happened, as a closed set of names.
    pub what: String,
    /// On what.
    pub detail: String,
}

/// Data of [`NodeEvent::Lagged`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lagged {
    /// How many events were dropped.
    pub missed: u64,
}

/// A subscription to a node's events, from when it was made on.
#[derive(Debug)]
pub struct NodeEvents {
    peers: broadcast::Receiver<PeerEvent>,
    chain: broadcast::Receiver<ChainEvent>,
}

impl NodeEvents {
    pub(crate) const fn new(
        peers: broadcast::Receiver<PeerEvent>,
        chain: broadcast::Receiver<ChainEvent>,
    ) -> Self {
        Self { peers, chain }
    }

    /// The next event; `None` once the node has stopped. Dropping the future loses no event.
    pub async fn next(&mut self) -> Option<NodeEvent> {
        loop {
            let event = tokio::select! {
                biased;
                event = self.peers.recv() => event.map(|event| from_peers(&event)),
                event = self.chain.recv() => event.map(|event| from_chain(&event)),
            };
            match event {
                Ok(Some(event)) => return Some(event),
                Ok(None) => {}
                Err(RecvError::Lagged(missed)) => return Some(NodeEvent::Lagged(Lagged { missed })),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

/// Failed connections are counted in the metrics, not told: others can cause any number of them.
fn from_peers(event: &PeerEvent) -> Option<NodeEvent> {
    Some(match event {
        PeerEvent::PeerUp(peer) => NodeEvent::PeerUp(peer.into()),
        PeerEvent::PeerDown { peer, reason } => {
            NodeEvent::PeerDown(PeerDown { peer: peer.into(), reason: reason.to_string() })
        }
        PeerEvent::Failed { .. } => return None,
        PeerEvent::Banned(ban) => NodeEvent::Ban(ban.into()),
        PeerEvent::Unbanned(subject) => NodeEvent::Unban(Unbanned { subject: subject.to_string() }),
    })
}

fn from_chain(event: &ChainEvent) -> Option<NodeEvent> {
    let warning = |what: &str, detail: String| NodeEvent::Warning(Warning { what: what.to_owned(), detail });
    Some(match event {
        ChainEvent::SyncProgress(progress) => NodeEvent::Sync(SyncProgress {
            height: progress.height,
            target_height: progress.target,
            peers: progress.peers,
            blocks_per_s: progress.blocks_per_s,
            bytes_per_s: progress.bytes_per_s,
            seconds_left: progress.seconds_left,
            slowed_by: progress.bottleneck.map(|cause| cause.to_string()),
        }),
        ChainEvent::BlockAdded { height, hash, transactions, from } => NodeEvent::Block(BlockAdded {
            height: *height,
            hash: *hash,
            transactions: *transactions,
            from: *from,
        }),
        ChainEvent::Reorganised { new_tip, fork, reverted, .. } => {
            NodeEvent::Reorganisation(Reorganisation {
                height: new_tip.height,
                hash: new_tip.hash,
                fork_height: fork.height,
                reverted: reverted.len(),
            })
        }
        ChainEvent::TransactionAdded { hash, from } => {
            NodeEvent::Transaction(TransactionAdded { hash: *hash, from: *from })
        }
        ChainEvent::Equivocation { slot, first, second } => {
            warning("equivocation", format!("slot {slot}: {first} and {second}"))
        }
        ChainEvent::BranchTooDeep { peer, below, claimed } => {
            warning("branch_too_deep", format!("peer {peer} left below {below} and claims {claimed}"))
        }
        ChainEvent::StoreFailed { error } => warning("store_failed", error.clone()),
        ChainEvent::Stalled { .. } => return None,
    })
}
