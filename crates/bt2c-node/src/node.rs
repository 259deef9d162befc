//! [`P2PNode`]: everything a node is made of, wired together, on whatever [`Env`](bt2c_p2p::Env) it is given.
//!
//! The same in a process and in a simulation: nothing here touches signals, standard streams or logging set-up. What a
//! node owns, in the order in which it starts: data directory, identity, chain store, [`P2PManager`],
//! [`BlockchainSynchronizer`], producer, control API; it stops in reverse order.

mod builder;
mod error;
mod event;
mod files;
mod handle;
mod metrics;
mod opening;
mod producer;
mod renewal;

use bt2c_p2p::P2PManager;
use bt2c_proto::{Block, PeerId, Transaction};
use bt2c_security::Identity;
use bt2c_sync::BlockchainSynchronizer;
use parking_lot::Mutex;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    api::{ApiServer, StatusView, Token},
    config::NodeConfig,
    home::HomeLock,
};

pub use bt2c_sync::SubmitError;
pub use builder::P2PNodeBuilder;
pub use error::StartError;
pub use event::{
    BlockAdded, Lagged, NodeEvent, NodeEvents, PeerDown, PeerUp, Reorganisation, SyncProgress,
    TransactionAdded, Unbanned, Warning,
};
pub use handle::NodeHandle;
pub(crate) use opening::store_config;

use files::RunningFiles;
use producer::Producer;

/// A running node: the main interface of this crate.
///
/// Dropping it without [`P2PNode::stop`] ends its tasks too, but without goodbyes, and leaves `run.json` behind.
#[derive(Debug)]
pub struct P2PNode {
    handle: NodeHandle,
    p2p: P2PManager,
    sync: BlockchainSynchronizer,
    /// Ends the producer, if there is one.
    producing: Mutex<Option<CancellationToken>>,
    /// Ends the other tasks of this crate.
    stopping: CancellationToken,
    _stop_on_drop: DropGuard,
    tasks: TaskTracker,
    api: Option<(ApiServer, Token)>,
    files: Option<RunningFiles>,
    _home: Option<HomeLock>,
}

impl P2PNode {
    /// A node with this configuration; what it does not say can be set on the builder.
    pub fn builder(config: NodeConfig) -> P2PNodeBuilder {
        P2PNodeBuilder::new(config)
    }

    /// The node's client side: cheap to clone, usable from any task.
    pub fn handle(&self) -> NodeHandle {
        self.handle.clone()
    }

    /// Waits until the node has a peer. Finding peers goes on by itself from the start to the end; dropping the future
    /// only stops the waiting.
    pub async fn connect_to_network(&self) -> PeerId {
        let mut events = self.handle.p2p().subscribe();
        loop {
            if let Some(info) = self.handle.p2p().peers().await.first() {
                return info.peer.id();
            }
            // Any event, and also having missed some, is a reason to look again.
            if matches!(events.recv().await, Err(tokio::sync::broadcast::error::RecvError::Closed)) {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Checks a transaction, takes it into the pool and tells the peers.
    ///
    /// # Errors
    /// Why it was not taken.
    pub async fn broadcast_transaction(&self, transaction: Transaction) -> Result<(), SubmitError> {
        self.handle.broadcast_transaction(transaction).await
    }

    /// Checks a block, stores it and tells the peers.
    ///
    /// # Errors
    /// Why it was not taken.
    pub async fn broadcast_block(&self, block: Block) -> Result<(), SubmitError> {
        self.handle.broadcast_block(block).await
    }

    /// How the node is doing.
    pub async fn status(&self) -> StatusView {
        self.handle.status().await
    }

    /// What happens from now on.
    pub fn subscribe(&self) -> NodeEvents {
        self.handle.subscribe()
    }

    /// Where the control API is, and the token that changes through it need.
    pub fn api(&self) -> Option<(std::net::SocketAddr, &Token)> {
        self.api.as_ref().map(|(server, token)| (server.addr(), token))
    }

    /// Proposes blocks in the slots of this key from now on, in the place of an earlier one.
    pub fn start_producing(&self, validator: Identity) {
        let stop = self.stopping.child_token();
        if let Some(earlier) = self.producing.lock().replace(stop.clone()) {
            earlier.cancel();
        }
        self.tasks.spawn(Producer::new(self.handle.clone(), validator).run(stop));
    }

    /// Proposes no more blocks.
    pub fn stop_producing(&self) {
        if let Some(stop) = self.producing.lock().take() {
            stop.cancel();
        }
    }

    /// Stops everything in reverse order of its start, with a goodbye to every peer; returns when all of it has ended.
    pub async fn stop(self) {
        let Self { p2p, sync, stopping, tasks, api, files, _home: home, .. } = self;
        if let Some(files) = files {
            files.remove();
        }
        if let Some((api, _)) = api {
            api.stop().await;
        }
        stopping.cancel();
        tasks.close();
        tasks.wait().await;
        sync.stop().await;
        p2p.stop().await;
        drop(home);
    }
}
