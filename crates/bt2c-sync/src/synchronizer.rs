//! The synchroniser as a whole: starts and stops the actor.

use std::{collections::BTreeMap, sync::Arc};

use bt2c_p2p::{Env, Handle as P2PHandle, Tip};
use bt2c_proto::{Block, Feature, Height, MessageKind, PeerId};
use tokio::sync::{broadcast, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    actor::{Actor, InOrder, Inputs, Peers},
    chain::BlockRef,
    check::{ChainFault, Consistency},
    config::{SyncConfig, SyncConfigError},
    consensus::Consensus,
    core::{Core, Counters},
    ingress::Handle,
    metrics::SyncMetrics,
    store::{ChainStore, StoreError},
};

/// Requests that may wait for the actor. When full, whoever asks waits.
const REQUESTS: usize = 256;

/// Events that a subscriber may be behind before it is told to start over.
const EVENTS: usize = 4096;

/// Messages of each kind that may wait; when full, the sessions that bring more wait, and read no more from their peers.
/// Large messages few, small ones many.
const ANSWERS: usize = 8;
const PUSHED_BLOCKS: usize = 16;
const PUSHED_TRANSACTIONS: usize = 256;
const QUESTIONS: usize = 64;

/// What peers ask, in one row: a cancel must not overtake what it cancels.
const ASKING: [MessageKind; 3] = [MessageKind::GetBlocks, MessageKind::GetHeaders, MessageKind::Cancel];

/// Results of jobs that may wait for the actor.
const RESULTS: usize = 64;

/// Keeps the chain: fetches what others have, checks and stores it, serves it, and passes on what is new.
///
/// Dropping it without [`BlockchainSynchronizer::stop`] ends its tasks too, but does not wait for them.
#[derive(Debug)]
pub struct BlockchainSynchronizer {
    handle: Handle,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Why a [`BlockchainSynchronizer`] did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration contradicts itself.
    #[error("configuration: {0}")]
    Config(#[from] SyncConfigError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl BlockchainSynchronizer {
    /// What it knows beyond the base protocol.
    pub const FEATURES: &[Feature] = &[Feature::BlockStream, Feature::Headers];

    /// Starts on a chain and a network: takes over the messages `get_blocks`, `blocks`, `cancel`, `get_headers`, `headers`,
    /// `new_block`, `new_transaction` and `throttled`. The features [`BlockchainSynchronizer::FEATURES`] are its to offer:
    /// put them into the manager's configuration.
    ///
    /// # Errors
    /// If the configuration contradicts itself, or the store cannot be read.
    pub fn start(
        config: SyncConfig,
        env: Env,
        p2p: P2PHandle,
        store: Arc<dyn ChainStore>,
        consensus: Arc<dyn Consensus>,
    ) -> Result<Self, StartError> {
        config.validate()?;
        let main = top_of(&*store, config.max_reorg_depth)?;
        let core = Core::new(config, Arc::clone(&consensus), main);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (requests, requests_in) = mpsc::channel(REQUESTS);
        let (done, done_in) = mpsc::channel(RESULTS);
        let events = broadcast::Sender::new(EVENTS);
        let metrics = Arc::new(SyncMetrics::default());
        p2p.set_tip(core.tip().tip());
        p2p.set_first_block(store.first_body());
        let inputs = Inputs {
            requests: requests_in,
            peers: p2p.subscribe(),
            blocks: register(&p2p, &[MessageKind::Blocks], ANSWERS),
            new_blocks: register(&p2p, &[MessageKind::NewBlock], PUSHED_BLOCKS),
            new_transactions: register(&p2p, &[MessageKind::NewTransaction], PUSHED_TRANSACTIONS),
            headers: register(&p2p, &[MessageKind::Headers], ANSWERS),
            questions: register(&p2p, &ASKING, QUESTIONS),
            throttles: register(&p2p, &[MessageKind::Throttled], ANSWERS),
            done: done_in,
        };
        let handle = Handle {
            requests,
            events: events.clone(),
            store: Arc::clone(&store),
            consensus: Arc::clone(&consensus),
            metrics: Arc::clone(&metrics),
            compute: Arc::clone(&env.compute),
        };
        let actor = Actor {
            core,
            env,
            p2p,
            store,
            consensus,
            metrics,
            events,
            done,
            tasks: tasks.clone(),
            stop: stop.clone(),
            checked: InOrder::default(),
            peers: Peers::default(),
            replies: BTreeMap::new(),
            waiting: Vec::new(),
            counted: Counters::default(),
            next_request: 0,
            complained: None,
        };
        tasks.spawn(actor.run(inputs));
        tasks.close();
        Ok(Self { handle, stop, tasks })
    }

    /// The client side.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Stops, and returns when everything that was being stored is.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }

    /// Waits until no connected peer is known to have a better chain; see [`Handle::sync`].
    pub async fn sync(&self) -> Option<Tip> {
        self.handle.sync().await
    }

    /// Handles a block that a peer pushed; see [`Handle::handle_new_block`].
    pub async fn handle_new_block(&self, block: Block, from: PeerId) {
        self.handle.handle_new_block(block, from).await;
    }

    /// Checks the stored chain and compares it with what the peers say; see [`Handle::verify_chain_consistency`].
    ///
    /// # Errors
    /// The first fault.
    pub async fn verify_chain_consistency(
        &self,
        progress: impl FnMut(u64, u64) + Send,
    ) -> Result<Consistency, ChainFault> {
        self.handle.verify_chain_consistency(progress).await
    }
}

impl Drop for BlockchainSynchronizer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn register(p2p: &P2PHandle, kinds: &[MessageKind], room: usize) -> mpsc::Receiver<bt2c_p2p::Inbound> {
    let (sender, receiver) = mpsc::channel(room);
    for kind in kinds {
        p2p.register_message_handler(*kind, sender.clone()).expect("these kinds are for handlers");
    }
    receiver
}

/// The end of the main chain, as far down as a branch may leave it.
fn top_of(store: &dyn ChainStore, depth: u64) -> Result<Vec<BlockRef>, StoreError> {
    let tip = store.tip();
    let lowest = tip.height.get().saturating_sub(depth);
    let mut top = Vec::new();
    for height in lowest..=tip.height.get() {
        top.push(store.main(Height::new(height))?.ok_or(StoreError::Missing(tip.hash))?);
    }
    Ok(top)
}

#[cfg(test)]
mod tests;
