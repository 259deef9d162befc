//! The JSON of the control API. Field names are the contract that scripts rely on; the client reads the same types.

use std::net::SocketAddr;

use bt2c_discovery::KnownPeer;
use bt2c_p2p::PeerInfo;
use bt2c_proto::{BlockHash, Height, Network, NodeId, PeerAddr, PeerId, Time, TxHash};
use bt2c_security::{Ban, Subject};
use bt2c_sync::Consistency;
use serde::{Deserialize, Serialize};

/// `GET /status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusView {
    /// The network's name.
    pub network: Network,
    /// Hash of its genesis block.
    pub genesis_hash: BlockHash,
    /// This node's label.
    pub node_id: NodeId,
    /// This node's identity.
    pub peer_id: PeerId,
    /// The software's version.
    pub version: String,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// Height of the tip.
    pub height: Height,
    /// Hash of the tip.
    pub tip_hash: BlockHash,
    /// Whether blocks are missing that a peer is known to have.
    pub syncing: bool,
    /// The height that the node is on its way to; its own if there is nothing to fetch.
    pub target_height: Height,
    /// While blocks are fetched, what holds that up most: `peers`, `bandwidth`, `verification`, `disk` or `limits`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slowed_by: Option<String>,
    /// Connected peers whose blocks were fetched and stored, and how much that was.
    #[serde(default)]
    pub contributors: Vec<Contributor>,
    /// Transactions that wait for a block.
    pub pending_transactions: usize,
    /// The lowest height from which on every block is kept: 0 unless old ones are pruned.
    pub first_block: Height,
    /// Why blocks cannot be stored at the moment; it is tried again, and what is stored is served meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_error: Option<String>,
    /// Connected peers, by who opened the connection.
    pub peers: PeerCounts,
}

/// What a peer contributed to the chain since it connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contributor {
    /// Its identity.
    pub peer_id: PeerId,
    /// Blocks that were fetched from it and stored.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// How many peers are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PeerCounts {
    /// Opened by them.
    pub inbound: usize,
    /// Opened by us.
    pub outbound: usize,
}

/// An entry of `GET /peers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerView {
    /// Its identity.
    pub peer_id: PeerId,
    /// Its label.
    pub node_id: NodeId,
    /// The address of its end.
    pub addr: SocketAddr,
    /// `inbound` or `outbound`.
    pub direction: String,
    /// Seconds since its hello was accepted.
    pub connected_s: u64,
    /// Last round-trip time, once there was one.
    pub rtt_ms: Option<u64>,
    /// The height that it claimed last: a hint.
    pub height: Height,
    /// Its software, as it says.
    pub user_agent: Option<String>,
    /// The extensions it knows.
    pub features: Vec<String>,
    /// Bytes received from it, TLS excluded.
    pub bytes_in: u64,
    /// Bytes sent to it, TLS excluded.
    pub bytes_out: u64,
    /// Its standing, −100 to 100: 0 is a stranger's, offences lower it, useful work raises it.
    pub score: i32,
}

impl PeerView {
    /// What is shown of a peer at `now`, with the height that it claimed last, if that is known.
    pub fn new(info: &PeerInfo, claimed: Option<Height>, now: Time) -> Self {
        let peer = &info.peer;
        let hello = peer.hello();
        let (bytes_in, bytes_out) = peer.traffic();
        Self {
            peer_id: peer.id(),
            node_id: peer.node_id().clone(),
            addr: peer.addr(),
            direction: peer.direction().name().to_owned(),
            connected_s: now.since(peer.since()).as_secs(),
            rtt_ms: peer.rtt().map(|rtt| u64::try_from(rtt.as_millis()).unwrap_or(u64::MAX)),
            height: claimed.unwrap_or_else(|| peer.height()),
            user_agent: hello.user_agent.as_ref().map(ToString::to_string),
            features: hello.features.iter().flatten().map(ToString::to_string).collect(),
            bytes_in,
            bytes_out,
            score: info.score,
        }
    }
}

/// An entry of `GET /peers/known`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownPeerView {
    /// The address.
    pub addr: SocketAddr,
    /// Who answered there last.
    pub peer_id: Option<PeerId>,
    /// When it was last named or answered, in seconds since the Unix epoch.
    pub seen: u64,
    /// When it last answered a dial, in seconds since the Unix epoch.
    pub answered: Option<u64>,
    /// Dials that failed since.
    pub failures: u32,
}

impl From<KnownPeer> for KnownPeerView {
    fn from(known: KnownPeer) -> Self {
        Self {
            addr: known.addr,
            peer_id: known.peer,
            seen: known.seen.as_secs(),
            answered: known.answered.map(Time::as_secs),
            failures: known.failures,
        }
    }
}

/// An entry of `GET /bans`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanView {
    /// IP, CIDR or PeerId.
    pub subject: String,
    /// The rule that was broken, or the operator's words.
    pub reason: String,
    /// What proves it.
    pub evidence: String,
    /// Start, in seconds since the Unix epoch.
    pub since: u64,
    /// End, in seconds since the Unix epoch.
    pub until: u64,
}

impl From<&Ban> for BanView {
    fn from(ban: &Ban) -> Self {
        Self {
            subject: ban.subject.to_string(),
            reason: ban.reason.clone(),
            evidence: ban.evidence.clone(),
            since: ban.since.as_secs(),
            until: ban.until.as_secs(),
        }
    }
}

/// Body of `POST /bans`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BanRequest {
    /// IP, CIDR or PeerId.
    pub subject: Subject,
    /// For how many seconds; the configured duration if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_s: Option<u64>,
    /// Why; `operator` if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A line of the answer to `POST /verify`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum VerifyView {
    /// So far nothing is wrong.
    Progress {
        /// Blocks that were read.
        checked: u64,
        /// Blocks that there are.
        of: u64,
    },
    /// The first thing that is wrong; the last line.
    Fault {
        /// What, and where.
        fault: String,
    },
    /// Everything that is stored is whole; the last line.
    Whole(ConsistencyView),
}

/// How a chain of which everything is whole stands beside the peers'.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsistencyView {
    /// Height of the tip when the check began.
    pub height: Height,
    /// Its hash.
    pub tip_hash: BlockHash,
    /// Peers whose tip is on our main chain.
    pub agreeing: Vec<PeerId>,
    /// Peers whose tip is above ours or unknown.
    pub ahead: Vec<PeerId>,
    /// Peers whose tip is at a height at which we have another block.
    pub differing: Vec<PeerId>,
}

impl From<Consistency> for ConsistencyView {
    fn from(consistency: Consistency) -> Self {
        let Consistency { tip, agreeing, ahead, differing } = consistency;
        Self { height: tip.height, tip_hash: tip.hash, agreeing, ahead, differing }
    }
}

/// Body of `POST /allow`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllowRequest {
    /// IP, CIDR or PeerId.
    pub subject: Subject,
}

/// Body of `POST /peers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectRequest {
    /// Where to, optionally pinned: `peerid@host:port`.
    pub addr: PeerAddr,
}

/// Answer to `POST /peers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectView {
    /// Who answered there.
    pub peer_id: PeerId,
}

/// Answer to `POST /transactions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionView {
    /// Its hash.
    pub hash: TxHash,
}

/// Every refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorView {
    /// One line: what, on what, and what to do.
    pub error: String,
}
