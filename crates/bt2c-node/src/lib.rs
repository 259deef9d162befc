//! The BT2C node: [`P2PNode`], which wires the layers below into one thing, and the binary around it.
//!
//! As a library this crate runs nodes, in a process of one's own or in a simulation: a [`P2PNode`] takes its
//! configuration ([`config`]), its network's parameters ([`genesis`]) and its surroundings ([`Env`](bt2c_p2p::Env)), and
//! gives a [`NodeHandle`]. As a binary it adds what a process needs: the command line, logs, signals, progress bars. The
//! control API ([`api`]) belongs to the node and is off where it is not configured.
//!
//! Two nodes in memory, on virtual time; one of them proposes a block in each slot:
//!
//! ```
//! use std::time::Duration;
//!
//! use bt2c_node::{NodeEvent, P2PNode, config::NodeConfig, genesis::devnet_genesis};
//! use bt2c_p2p::{Env, MemoryNet};
//! use bt2c_proto::{Network, Time};
//! use bt2c_security::{Credentials, fixtures};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?.block_on(async {
//! let network = MemoryNet::new(Duration::from_millis(20));
//! let now = Time::from_secs(devnet_genesis().timestamp());
//! let mut nodes = Vec::new();
//! for (index, ip) in ["192.0.2.1", "198.51.100.1"].into_iter().enumerate() {
//!     let ip = ip.parse()?;
//!     let mut config = NodeConfig::simulation(Network::Devnet);
//!     config.p2p.listen = vec![(ip, 8336).into()];
//!     config.p2p.discovery.seeds = vec!["192.0.2.1:8336".parse()?];
//!     let node = P2PNode::builder(config)
//!         .env(Env::simulated(network.host(ip), now, [index as u8; 32]))
//!         .credentials(Credentials::issue(fixtures::identity(index), None, now)?);
//!     nodes.push(node.start().await?);
//! }
//! nodes[1].connect_to_network().await;
//! let mut events = nodes[1].subscribe();
//! nodes[0].start_producing(fixtures::devnet_validator(0));
//! while let Some(event) = events.next().await {
//!     if let NodeEvent::Block(block) = event {
//!         assert_eq!(block.hash, nodes[1].status().await.tip_hash);
//!         break;
//!     }
//! }
//! for node in nodes {
//!     node.stop().await;
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod api;
mod chain;
mod cli;
pub mod config;
mod conformance;
mod descriptors;
mod devnet;
pub mod genesis;
mod home;
mod node;
mod random;

pub use cli::main;
pub use home::HomeError;
pub use node::{
    BlockAdded, Lagged, NodeEvent, NodeEvents, NodeHandle, P2PNode, P2PNodeBuilder, PeerDown, PeerUp,
    Reorganisation, StartError, SubmitError, SyncProgress, TransactionAdded, Unbanned, Warning,
};
