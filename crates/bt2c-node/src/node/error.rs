//! Why a node did not start.

use std::{io, net::SocketAddr};

use bt2c_security::{IdentityFileError, IssueError, KeyError};
use bt2c_sync::{CheckpointError, ScheduleError, StoreError};

use crate::{
    config::{Contradiction, KeySourceError},
    genesis::GenesisFileError,
    home::HomeError,
};

/// Why a node did not start; nothing of it runs then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration contradicts itself.
    #[error("configuration: {0}")]
    Config(#[from] Contradiction),
    /// The machine gives no randomness.
    #[error("no randomness from the system: {0}")]
    Randomness(#[source] io::Error),
    /// There is no genesis, or not the right one.
    #[error(transparent)]
    Genesis(#[from] GenesisFileError),
    /// A validator of the genesis cannot be used.
    #[error("genesis: {0}")]
    Schedule(#[from] ScheduleError),
    /// The data directory cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The identity on disk cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityFileError),
    /// No identity could be made.
    #[error("no identity: {0}")]
    Key(#[from] KeyError),
    /// No certificate could be made.
    #[error("no certificate: {0}")]
    Certificate(#[from] IssueError),
    /// There is no key to propose with.
    #[error("cannot propose blocks: {0}")]
    Producer(#[from] KeySourceError),
    /// The key to produce with is no validator's.
    #[error(
        "{0} is no validator of this genesis, so it can propose nothing: check --key (on the devnet: --key devnet:1 to \
         devnet:4), or run without --produce"
    )]
    NotAValidator(bt2c_proto::Address),
    /// The chain cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The stored chain is not the one of the checkpoints.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The synchroniser cannot start on it.
    #[error(transparent)]
    Sync(#[from] bt2c_sync::StartError),
    /// Peers cannot be met.
    #[error("{0}{hint}", hint = hint(.0))]
    P2P(#[from] bt2c_p2p::StartError),
    /// The control API cannot be served.
    #[error(
        "cannot serve the control API on {addr}: {source}; choose another address with --api, or --api off"
    )]
    Api {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// What to do about it, where that is the same every time.
const fn hint(error: &bt2c_p2p::StartError) -> &'static str {
    match error {
        bt2c_p2p::StartError::Listen { .. } => "; choose another address or port with --listen",
        _ => "",
    }
}
