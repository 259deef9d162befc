//! Configuration of the manager. Defaults are the numbers of the seed and of docs/protocol.md.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use bt2c_discovery::DiscoveryConfig;
use bt2c_proto::{BlockHash, Feature, Height, Network};
use bt2c_security::{SecurityConfig, SecurityConfigError};

/// How a [`P2PManager`](crate::P2PManager) behaves.
#[derive(Debug, Clone)]
pub struct P2PConfig {
    /// The network; peers of another are refused.
    pub network: Network,
    /// Hash of the genesis block; peers that name another are refused.
    pub genesis_hash: BlockHash,
    /// Where to listen; port 0 picks a free one. None: outbound connections only.
    pub listen: Vec<SocketAddr>,
    /// The address at which others reach this node, if it is not the one it listens on: its port is told in hello, and
    /// it is never dialled.
    pub external_addr: Option<SocketAddr>,
    /// Software and version told in hello, for people; at most 256 bytes.
    pub user_agent: String,
    /// What this node knows beyond the base protocol, told in hello. Default none: whoever handles the messages of a
    /// feature puts it in.
    pub features: Vec<Feature>,
    /// Directory of `bans.json` and `peers.json`; none keeps both in memory only.
    pub data_dir: Option<PathBuf>,
    /// Connections in all. Default 100 (the seed). Too low starves the network of slots, too high this machine of
    /// memory (up to 5 MiB each under load) and descriptors.
    pub max_connections: usize,
    /// Dial, TLS and both hellos together. Default 10 s (the seed). Lower cuts off slow links, higher lets silent
    /// connections hold their slot.
    pub connection_timeout: Duration,
    /// TLS alone, on connections that others opened. Default 5 s.
    pub tls_timeout: Duration,
    /// How often a peer is asked whether it is there. Default 30 s (the seed).
    pub ping_interval: Duration,
    /// Silence after which a peer is gone. Default 75 s: two pings and a half.
    pub silence_timeout: Duration,
    /// Time without a useful message after which a peer may be pruned, if there are more than `outbound_wanted` others.
    /// Default 20 min: four blocks at the seed's block time.
    pub idle_timeout: Duration,
    /// A started frame must be complete after this and one second for each 8 KiB. Default 30 s.
    pub frame_timeout: Duration,
    /// Bytes queued for one peer. Default 4 MiB: four full frames.
    pub send_queue_bytes: usize,
    /// Time without progress in writing after which a peer is too slow. Default 20 s.
    pub send_timeout: Duration,
    /// Inbound connections from one IP (IPv6: /64). Default 3.
    pub inbound_per_ip: usize,
    /// Inbound connections from one IPv4 /24 or IPv6 /48. Default 10.
    pub inbound_per_subnet: usize,
    /// Inbound handshakes under way from one IP. Default 2.
    pub pending_per_ip: usize,
    /// Inbound handshakes under way in all. Default 32: bounds the RSA work that strangers can ask for at once.
    pub pending_total: usize,
    /// Limits, penalties, bans.
    pub security: SecurityConfig,
    /// Seeds, peers to stay connected to, address book, dial choice.
    pub discovery: DiscoveryConfig,
}

impl P2PConfig {
    /// The defaults for a network.
    pub fn for_network(network: Network, genesis_hash: BlockHash) -> Self {
        Self {
            network,
            genesis_hash,
            listen: Vec::new(),
            external_addr: None,
            user_agent: concat!("bt2c/", env!("CARGO_PKG_VERSION")).to_owned(),
            features: Vec::new(),
            data_dir: None,
            max_connections: 100,
            connection_timeout: Duration::from_secs(10),
            tls_timeout: Duration::from_secs(5),
            ping_interval: Duration::from_secs(30),
            silence_timeout: Duration::from_secs(75),
            idle_timeout: Duration::from_secs(20 * 60),
            frame_timeout: Duration::from_secs(30),
            send_queue_bytes: 4 * 1024 * 1024,
            send_timeout: Duration::from_secs(20),
            inbound_per_ip: 3,
            inbound_per_subnet: 10,
            pending_per_ip: 2,
            pending_total: 32,
            security: SecurityConfig::default(),
            discovery: DiscoveryConfig::for_network(network),
        }
    }

    /// Checks the fields against each other.
    ///
    /// # Errors
    /// The first contradiction found.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.security.clone().build()?;
        if self.discovery.network != self.network {
            return Err(ConfigError::Networks { p2p: self.network, discovery: self.discovery.network });
        }
        let durations = [
            ("connection_timeout", self.connection_timeout),
            ("tls_timeout", self.tls_timeout),
            ("ping_interval", self.ping_interval),
            ("idle_timeout", self.idle_timeout),
            ("frame_timeout", self.frame_timeout),
            ("send_timeout", self.send_timeout),
        ];
        if let Some((field, _)) = durations.into_iter().find(|(_, value)| value.as_millis() == 0) {
            return Err(ConfigError::TooShort { field });
        }
        if self.max_connections == 0 {
            return Err(ConfigError::NoConnections);
        }
        if self.silence_timeout <= self.ping_interval {
            return Err(ConfigError::Silence { ping: self.ping_interval, silence: self.silence_timeout });
        }
        if self.ping_interval < self.security.ping_interval_min {
            return Err(ConfigError::Ping {
                ping: self.ping_interval,
                limit: self.security.ping_interval_min,
            });
        }
        if self.send_queue_bytes < bt2c_proto::limits::FRAME_LIMIT + 4 {
            return Err(ConfigError::SendQueue(self.send_queue_bytes));
        }
        Ok(())
    }
}

/// A [`P2PConfig`] that contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The limits and penalties contradict each other.
    #[error(transparent)]
    Security(#[from] SecurityConfigError),
    /// Discovery would look for peers of a network that are refused.
    #[error("the network is {p2p}, discovery's is {discovery}")]
    Networks {
        /// The network whose peers are taken.
        p2p: Network,
        /// The network whose addresses are kept.
        discovery: Network,
    },
    /// A duration within which nothing can happen, or that would make a loop spin.
    #[error("{field} is below one millisecond")]
    TooShort {
        /// Which setting.
        field: &'static str,
    },
    /// No connection at all.
    #[error("max_connections is 0")]
    NoConnections,
    /// Every peer would time out before it could answer a ping.
    #[error("silence_timeout {silence:?} is not above ping_interval {ping:?}")]
    Silence {
        /// The ping interval.
        ping: Duration,
        /// The silence time-out.
        silence: Duration,
    },
    /// Peers with the same limits would drop our pings.
    #[error("ping_interval {ping:?} is below the {limit:?} at which pings are dropped")]
    Ping {
        /// The ping interval.
        ping: Duration,
        /// The shortest interval that the limits take.
        limit: Duration,
    },
    /// One full frame must fit.
    #[error("send_queue_bytes {0} does not hold one frame of 1 MiB")]
    SendQueue(usize),
}

/// The tip that this node tells others of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tip {
    /// Its height.
    pub height: Height,
    /// Its hash.
    pub hash: BlockHash,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(change: impl FnOnce(&mut P2PConfig)) -> Result<(), ConfigError> {
        let mut config = P2PConfig::for_network(Network::Devnet, BlockHash::from_bytes([1; 32]));
        assert_eq!(config.validate(), Ok(()));
        change(&mut config);
        config.validate()
    }

    #[test]
    fn each_contradiction_is_refused_by_name() {
        assert_eq!(broken(|config| config.max_connections = 0), Err(ConfigError::NoConnections));
        let idle = broken(|config| config.idle_timeout = Duration::ZERO);
        assert_eq!(idle, Err(ConfigError::TooShort { field: "idle_timeout" }));
        let silence = broken(|config| config.silence_timeout = config.ping_interval);
        assert!(matches!(silence, Err(ConfigError::Silence { .. })));
        let ping = broken(|config| config.ping_interval = Duration::from_secs(4));
        assert!(matches!(ping, Err(ConfigError::Ping { .. })));
        assert_eq!(broken(|config| config.send_queue_bytes = 1024), Err(ConfigError::SendQueue(1024)));
        let security = broken(|config| config.security.ban_duration = Duration::ZERO);
        assert_eq!(security, Err(ConfigError::Security(SecurityConfigError::NoBanDuration)));
        let networks = broken(|config| config.discovery.network = Network::Mainnet);
        assert_eq!(
            networks,
            Err(ConfigError::Networks { p2p: Network::Devnet, discovery: Network::Mainnet })
        );
    }
}
