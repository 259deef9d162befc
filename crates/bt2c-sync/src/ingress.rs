//! The synchroniser's client side: requests, and the handle that makes them.

use std::sync::Arc;

use bt2c_p2p::{Tip, env::Compute};
use bt2c_proto::{Block, BlockHash, Height, PeerId, Transaction};
use bytes::Bytes;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::{
    chain::BlockRef,
    check::{ChainCheck, ChainFault, Consistency},
    consensus::Consensus,
    core::{BlockDecision, Bottleneck, Contribution, Counters, SubmitError},
    cost,
    event::Event,
    metrics::SyncMetrics,
    store::{ChainStore, StoreError},
};

/// What a handle asks of the actor. A reply that nobody waits for is dropped.
#[derive(Debug)]
pub(crate) enum Request {
    Transaction { transaction: Transaction, reply: oneshot::Sender<Result<(), SubmitError>> },
    Block { block: Block, reply: oneshot::Sender<Result<(), SubmitError>> },
    PushedBlock { block: Block, from: PeerId },
    Template { timestamp: u64, reply: oneshot::Sender<Template> },
    Explain { hash: BlockHash, reply: oneshot::Sender<Vec<BlockDecision>> },
    Decisions { reply: oneshot::Sender<Vec<BlockDecision>> },
    Sync { reply: oneshot::Sender<Tip> },
    Status { reply: oneshot::Sender<SyncStatus> },
}

/// What a block to be proposed is made of.
#[derive(Debug, Clone)]
pub struct Template {
    /// The tip, which the block follows.
    pub parent: BlockRef,
    /// Waiting transactions that a block of the date asked for may hold, best first.
    pub transactions: Vec<Transaction>,
}

/// Where the synchroniser stands.
#[derive(Debug, Clone)]
pub struct SyncStatus {
    /// The end of the main chain.
    pub tip: BlockRef,
    /// The height that is aimed at; the tip's if nothing better is known.
    pub target: Height,
    /// Whether a peer is known to have a better chain.
    pub syncing: bool,
    /// What peers say that their tips are.
    pub claims: Vec<(PeerId, Height, Option<BlockHash>)>,
    /// What connected peers contributed to the chain, where it was anything.
    pub contributions: Vec<(PeerId, Contribution)>,
    /// What holds up synchronisation most, while blocks are fetched.
    pub bottleneck: Option<Bottleneck>,
    /// Transactions that wait for a block.
    pub pool_count: usize,
    /// Bytes of their canonical forms.
    pub pool_bytes: usize,
    /// What was dropped without a word.
    pub counters: Counters,
}

/// The synchroniser's client side. Cloning is cheap; every clone speaks to the same synchroniser.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(crate) requests: mpsc::Sender<Request>,
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) store: Arc<dyn ChainStore>,
    pub(crate) consensus: Arc<dyn Consensus>,
    pub(crate) metrics: Arc<SyncMetrics>,
    pub(crate) compute: Arc<dyn Compute>,
}

/// Blocks that are checked in one job by [`Handle::verify_chain_consistency`], at most.
const CHECK_STEP: u64 = 500;

impl Handle {
    /// Events from now on. A subscriber that falls behind by more than the channel holds is told so by its receiver, and
    /// should look at the store and start over.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Checks a transaction, takes it into the pool and passes it on.
    ///
    /// # Errors
    /// Why it was not taken.
    pub async fn submit_transaction(&self, transaction: Transaction) -> Result<(), SubmitError> {
        self.ask(|reply| Request::Transaction { transaction, reply }).await.ok_or(SubmitError::Stopped)?
    }

    /// Checks a block, stores it and passes it on.
    ///
    /// # Errors
    /// Why it was not taken.
    pub async fn submit_block(&self, block: Block) -> Result<(), SubmitError> {
        self.ask(|reply| Request::Block { block, reply }).await.ok_or(SubmitError::Stopped)?
    }

    /// Handles a block that a peer pushed, as the synchroniser does with those that come by itself.
    pub async fn handle_new_block(&self, block: Block, from: PeerId) {
        self.tell(Request::PushedBlock { block, from }).await;
    }

    /// What to make a block with this date (seconds) of; `None` if the synchroniser has stopped.
    pub async fn template(&self, timestamp: u64) -> Option<Template> {
        self.ask(|reply| Request::Template { timestamp, reply }).await
    }

    /// Waits until no connected peer is known to have a better chain, and tells the tip; `None` if the synchroniser has
    /// stopped. Without peers that is at once.
    pub async fn sync(&self) -> Option<Tip> {
        self.ask(|reply| Request::Sync { reply }).await
    }

    /// Where the synchroniser stands; `None` if it has stopped.
    pub async fn status(&self) -> Option<SyncStatus> {
        self.ask(|reply| Request::Status { reply }).await
    }

    /// What was decided about a block lately, latest first.
    pub async fn explain_block(&self, hash: BlockHash) -> Vec<BlockDecision> {
        self.ask(|reply| Request::Explain { hash, reply }).await.unwrap_or_default()
    }

    /// Every decision about blocks that is remembered, latest first.
    pub async fn decisions(&self) -> Vec<BlockDecision> {
        self.ask(|reply| Request::Decisions { reply }).await.unwrap_or_default()
    }

    /// The stored chain.
    pub fn store(&self) -> &Arc<dyn ChainStore> {
        &self.store
    }

    /// The rules of the chain.
    pub fn consensus(&self) -> &Arc<dyn Consensus> {
        &self.consensus
    }

    /// The counters of this synchroniser, to be registered wherever metrics are shown.
    pub fn metrics(&self) -> &SyncMetrics {
        &self.metrics
    }

    /// The end of the main chain.
    pub fn tip(&self) -> BlockRef {
        self.store.tip()
    }

    /// The canonical bytes of the main chain's block at a height. Reads the disk.
    ///
    /// # Errors
    /// If the store fails.
    pub fn block_at(&self, height: Height) -> Result<Option<Bytes>, StoreError> {
        Ok(self.store.bodies(height..=height, 0)?.pop())
    }

    /// Checks the stored chain from the genesis block, or the first that is kept, to the tip (bytes, hashes, links, roots),
    /// telling how many blocks are done of how many, and compares it with what the peers say.
    ///
    /// # Errors
    /// The first fault.
    pub async fn verify_chain_consistency(
        &self,
        mut progress: impl FnMut(u64, u64) + Send,
    ) -> Result<Consistency, ChainFault> {
        let mut check = ChainCheck::new(&*self.store);
        let of = check.tip().height.get() + 1;
        loop {
            let (store, consensus) = (Arc::clone(&self.store), Arc::clone(&self.consensus));
            let step = move || {
                let result = check.step(&*store, &*consensus, CHECK_STEP);
                (check, result)
            };
            let (stepped, result) = self.compute.compute(cost::SERVE, step).await;
            check = stepped;
            let done = result?;
            progress(check.checked(), of);
            if done {
                break;
            }
        }
        let claims = self.status().await.map_or_else(Vec::new, |status| status.claims);
        Ok(Consistency::compare(&*self.store, check.tip().tip(), &claims)?)
    }

    async fn tell(&self, request: Request) {
        // An error means that the actor has stopped; whoever waits for a reply sees that there is none.
        let _ = self.requests.send(request).await;
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.tell(request(reply)).await;
        answer.await.ok()
    }
}
