//! Which nodes a BT2C node knows, whom it tells about them, and whom it dials next.
//!
//! This crate is pure: it opens no socket, reads no clock, and draws its randomness from a seed that it is given. The
//! one stateful type is [`NodeDiscovery`]; whoever owns the connections tells it what happened (`handle_*`), carries
//! out what it asks for ([`DiscoveryAction`]), and asks it whom to dial ([`NodeDiscovery::next_dial`]).
//!
//! Behind it stand
//! - an address book of keyed buckets, in which an address that answered a dial is told apart from one that somebody
//!   merely named, and in which nobody can crowd out the rest,
//! - the addresses that the operator named ([`DiscoveryConfig::seeds`], [`DiscoveryConfig::connect`]), DNS names included,
//! - the rules for what is believed of others' `peers` lists and what is told to them,
//! - the dial choice: one outbound peer a netgroup, remembered anchors first, exponential backoff with jitter, and
//!   short checks ("feelers") of whether a named address answers at all.
//!
//! ```
//! use std::{collections::BTreeSet, net::SocketAddr};
//!
//! use bt2c_discovery::{Connected, DialReason, DiscoveryAction, DiscoveryConfig, NodeDiscovery};
//! use bt2c_proto::{Network, PeerId, Time};
//!
//! let seed: SocketAddr = "8.8.8.8:8338".parse()?;
//! let mut config = DiscoveryConfig::for_network(Network::Mainnet);
//! config.seeds.push(seed.into());
//! config.validate()?;
//! let mut discovery = NodeDiscovery::new(config, [7; 32]);
//! let mut connected = Connected::default();
//!
//! // A fresh node knows nobody but its seed: dial it, and say how that ended.
//! let now = Time::from_secs(1_712_352_000);
//! let target = discovery.next_dial(now, &connected).expect("there is a seed");
//! assert_eq!((target.addr, target.reason), (seed, DialReason::Seed));
//! let peer = PeerId::from_spki_der(b"the seed's key");
//! connected.outbound.insert(target.addr);
//! connected.peers.insert(peer);
//! discovery.handle_connected(now, target.addr, peer);
//!
//! // The new peer is asked for more addresses, and those are dialled next.
//! assert!(matches!(discovery.poll_action(), Some(DiscoveryAction::AskPeers { peer: asked, .. }) if asked == peer));
//! discovery.handle_peers(now, peer, seed.ip(), &["9.9.9.9:8338".parse()?]);
//! let target = discovery.next_dial(now, &connected).expect("the book has one more");
//! assert_eq!(target.reason, DialReason::Book);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod answers;
mod backoff;
mod bans;
mod book;
mod buckets;
mod config;
mod dial;
mod discovery;
mod exchange;
mod feeler;
mod file;
mod intake;
mod operator;
mod outcome;
mod own;
mod reach;
mod seats;

pub use config::{DiscoveryConfig, DiscoveryConfigError};
pub use dial::{Connected, DialReason, DialTarget};
pub use discovery::{BookSize, DiscoveryAction, KnownPeer, NodeDiscovery, Source};
pub use file::PeersFileError;
