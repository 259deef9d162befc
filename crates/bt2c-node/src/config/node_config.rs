//! Everything an operator can set about a node.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr};

use bt2c_discovery::DiscoveryConfigError;
use bt2c_p2p::{ConfigError as P2PConfigError, P2PConfig};
use bt2c_proto::{BlockHash, Network, NodeId};
use bt2c_sync::{
    BlockchainSynchronizer, Checkpoint, CheckpointError, Checkpoints, DiskStoreConfig, SyncConfig,
    SyncConfigError,
};

use super::{key_source::KeySource, value::TextSetting};

/// How a node behaves. [`Default`] is the testnet with every number of the reference.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NodeConfig {
    /// The network to join. Default testnet, as in the reference.
    pub network: Network,
    /// The genesis file; none: the one the data directory was started with, or the built-in devnet genesis.
    pub genesis: Option<PathBuf>,
    /// A label for people; none: the first 40 hex digits of the PeerId.
    pub node_id: Option<NodeId>,
    /// Where identity, chain, bans and peers are kept; none keeps all in memory.
    pub data_dir: Option<PathBuf>,
    /// Whether to propose blocks.
    pub produce: bool,
    /// The validator's private key; none: the node's identity.
    pub key: Option<KeySource>,
    /// Where the control API is served. Default 127.0.0.1:26660.
    pub api: ApiAddr,
    /// Connections to the control API at once. Default 64: a status page uses two, a script one.
    pub api_connections: usize,
    /// What is logged. Default info.
    pub log: String,
    /// How log lines are written. Default text.
    pub log_format: LogFormat,
    /// Peers: connections, limits, bans, discovery. `network`, `genesis_hash` and `data_dir` in it are set at start.
    pub p2p: P2PConfig,
    /// Blocks known to be of the right chain, at most one of each height. Default none.
    pub checkpoints: Vec<Checkpoint>,
    /// The chain: fetching, reorganisations, the transaction pool.
    pub sync: SyncConfig,
    /// Bytes of stored blocks above which old ones are removed; default 0: all are kept.
    pub prune_bytes: u64,
    /// Size in bytes at which a file of blocks is full and the next begins; default 64 MiB. Old blocks are removed a file
    /// at a time.
    pub segment_bytes: u64,
}

/// Least size of a file of blocks in bytes: fewer make a file of every few blocks.
const MIN_SEGMENT_BYTES: u64 = 64 << 10;

impl NodeConfig {
    /// The defaults on a network.
    pub fn for_network(network: Network) -> Self {
        let mut p2p = P2PConfig::for_network(network, BlockHash::from_bytes([0; 32]));
        p2p.listen = vec![SocketAddr::from(([0, 0, 0, 0], network.default_port()))];
        p2p.features = BlockchainSynchronizer::FEATURES.to_vec();
        Self {
            network,
            genesis: None,
            node_id: None,
            data_dir: None,
            produce: false,
            key: None,
            api: ApiAddr(Some(SocketAddr::from(([127, 0, 0, 1], 26660)))),
            api_connections: 64,
            log: "info".to_owned(),
            log_format: LogFormat::Text,
            p2p,
            checkpoints: Vec::new(),
            sync: SyncConfig::default(),
            prune_bytes: 0,
            segment_bytes: DiskStoreConfig::default().segment_bytes,
        }
    }

    /// The preset of simulations: the defaults, but nothing touches the machine: no control API, no data directory.
    pub fn simulation(network: Network) -> Self {
        Self { api: ApiAddr(None), ..Self::for_network(network) }
    }

    /// The checkpoints as the rules of the chain take them.
    ///
    /// # Errors
    /// If there are two of one height.
    pub fn checkpoints(&self) -> Result<Checkpoints, CheckpointError> {
        Checkpoints::new(self.checkpoints.iter().copied())
    }

    /// Checks the fields against each other.
    ///
    /// # Errors
    /// The first contradiction found.
    pub fn validate(&self) -> Result<(), Contradiction> {
        self.p2p.validate()?;
        self.p2p.discovery.validate()?;
        self.sync.validate()?;
        self.checkpoints()?;
        if self.api_connections == 0 {
            return Err(Contradiction::ApiConnections);
        }
        if self.segment_bytes < MIN_SEGMENT_BYTES {
            return Err(Contradiction::SegmentBytes(self.segment_bytes));
        }
        let least = self.segment_bytes.saturating_mul(2);
        if self.prune_bytes != 0 && self.prune_bytes < least {
            return Err(Contradiction::PruneBytes { given: self.prune_bytes, least });
        }
        if self.p2p.listen.is_empty() && self.p2p.external_addr.is_some() {
            return Err(Contradiction::ExternalAddr);
        }
        if let Some(addr) =
            self.p2p.external_addr.filter(|addr| addr.ip().is_unspecified() || addr.port() == 0)
        {
            return Err(Contradiction::NoAddr(addr));
        }
        Ok(())
    }
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self::for_network(Network::Testnet)
    }
}

/// A [`NodeConfig`] that contradicts itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Contradiction {
    /// Among the settings of connections.
    #[error(transparent)]
    P2P(#[from] P2PConfigError),
    /// Among the settings of discovery.
    #[error("discovery: {0}")]
    Discovery(#[from] DiscoveryConfigError),
    /// Among the settings of the chain.
    #[error(transparent)]
    Sync(#[from] SyncConfigError),
    /// Among the checkpoints.
    #[error(transparent)]
    Checkpoints(#[from] CheckpointError),
    /// The API could not be asked at all.
    #[error("api_connections is 0; to have no control API write api = \"off\"")]
    ApiConnections,
    /// Too many files of blocks.
    #[error("segment_bytes {0} is below the least possible value, {MIN_SEGMENT_BYTES}")]
    SegmentBytes(u64),
    /// Next to nothing would be kept.
    #[error("prune_bytes {given} is below two files of blocks, {least} bytes; 0 keeps all blocks")]
    PruneBytes {
        /// What was asked for.
        given: u64,
        /// The least possible value.
        least: u64,
    },
    /// Others would be told of an address where nobody listens.
    #[error("external_addr is set, but listen is empty: nobody could connect there")]
    ExternalAddr,
    /// Others would be told of an address that is none.
    #[error(
        "external_addr {0} is nothing to connect to: write the address and port that others reach, such as 203.0.113.7:8338"
    )]
    NoAddr(SocketAddr),
}

/// Where the control API is served: an address, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiAddr(pub Option<SocketAddr>);

impl FromStr for ApiAddr {
    type Err = ApiAddrError;

    fn from_str(text: &str) -> Result<Self, ApiAddrError> {
        match text {
            "off" => Ok(Self(None)),
            addr => addr.parse().map(|addr| Self(Some(addr))).map_err(|_| ApiAddrError),
        }
    }
}

impl fmt::Display for ApiAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(addr) => addr.fmt(f),
            None => f.write_str("off"),
        }
    }
}

impl TextSetting for ApiAddr {}

/// A text that is no [`ApiAddr`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected ip:port, [v6]:port or off, such as 127.0.0.1:26660")]
pub struct ApiAddrError;

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = LogFormatError;

    fn from_str(text: &str) -> Result<Self, LogFormatError> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(LogFormatError),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

impl TextSetting for LogFormat {}

/// A text that is no [`LogFormat`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected text or json")]
pub struct LogFormatError;
