//! Connections between BT2C nodes: who is connected, what passes between them, what is relayed.
//!
//! A [`P2PManager`] listens, dials, holds sessions, answers pings and address requests, limits and bans, and hands typed
//! messages to whoever registered for them. It takes everything it needs from the outside through [`Env`]: with
//! [`Env::real`] it is a node on a network, with [`Env::simulated`] the same code runs in memory on virtual time.
//!
//! Decisions are made in two pure cores, one for the manager and one for each session; tasks around them move bytes.
//!
//! ```
//! use std::time::Duration;
//!
//! use bt2c_p2p::{Env, Event, MemoryNet, P2PConfig, P2PManager, Tip};
//! use bt2c_proto::{BlockHash, Height, Network, Time};
//! use bt2c_security::{Credentials, fixtures};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?.block_on(async {
//! let network = MemoryNet::new(Duration::from_millis(20));
//! let now = Time::from_secs(1_712_352_000);
//! let genesis = BlockHash::from_bytes([7; 32]);
//! let mut managers = Vec::new();
//! for (index, ip) in ["192.0.2.1", "198.51.100.1"].into_iter().enumerate() {
//!     let ip = ip.parse()?;
//!     let env = Env::simulated(network.host(ip), now, [index as u8; 32]);
//!     let credentials = Credentials::issue(fixtures::identity(index), None, now)?;
//!     let mut config = P2PConfig::for_network(Network::Devnet, genesis);
//!     config.listen = vec![(ip, 8336).into()];
//!     let tip = Tip { height: Height::GENESIS, hash: genesis };
//!     managers.push(P2PManager::start(config, env, credentials, tip).await?);
//! }
//! let (a, b) = (managers[0].handle(), managers[1].handle());
//! let mut events = b.subscribe();
//! let met = a.connect_to_peer("198.51.100.1:8336".parse()?).await?;
//! assert_eq!(met, b.local().peer_id);
//! assert!(matches!(events.recv().await?, Event::PeerUp(peer) if peer.id() == a.local().peer_id));
//! for manager in managers {
//!     manager.stop().await;
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod config;
mod decisions;
pub mod env;
mod event;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod local;
mod manager;
mod metrics;
mod peer;
mod reason;
mod session;

pub use config::{ConfigError, P2PConfig, Tip};
pub use decisions::{Decision, DecisionKind, Explanation};
pub use env::{Env, MemoryNet};
pub use event::{Event, Inbound};
pub use manager::{
    P2PManager, StartError,
    ingress::{ConnectError, CredentialsError, Handle, Inventory, LocalInfo, ReservedKind},
};
pub use metrics::{DropCause, Metrics};
pub use peer::{ConnectionId, Direction, Peer, PeerInfo, SendError};
pub use reason::{CloseReason, HandshakeFailure};
