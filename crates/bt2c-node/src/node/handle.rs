//! A node's client side.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bt2c_p2p::{Direction, Env, Handle as P2PHandle};
use bt2c_proto::{Block, BlockHash, Genesis, Height, PeerId, Time, Transaction};
use bt2c_sync::{BlockRef, Contribution, Handle as SyncHandle, StoreError, SubmitError, ValidatorSchedule};
use bytes::Bytes;

use super::{event::NodeEvents, metrics::Metrics};
use crate::api::{Contributor, PeerCounts, StatusView};

/// What reading one block is modelled to cost in a simulation.
const READ_COST: Duration = Duration::from_millis(1);

/// A node's client side. Cloning is cheap; every clone speaks to the same node.
#[derive(Debug, Clone)]
pub struct NodeHandle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) p2p: P2PHandle,
    pub(super) sync: SyncHandle,
    pub(super) schedule: Arc<ValidatorSchedule>,
    pub(super) genesis_hash: BlockHash,
    pub(super) env: Env,
    pub(super) started: Time,
    pub(super) metrics: Metrics,
}

impl NodeHandle {
    pub(super) fn new(shared: Shared) -> Self {
        Self { shared: Arc::new(shared) }
    }

    /// The peers' side: connections, bans, addresses.
    pub fn p2p(&self) -> &P2PHandle {
        &self.shared.p2p
    }

    /// The chain's side: tip, pool, synchronisation.
    pub fn sync(&self) -> &SyncHandle {
        &self.shared.sync
    }

    /// The network's parameters.
    pub fn genesis(&self) -> &Genesis {
        self.shared.schedule.parameters()
    }

    /// The node's time.
    pub fn now(&self) -> Time {
        self.shared.env.clock.now()
    }

    /// The surroundings that the node was given.
    pub(crate) fn env(&self) -> &Env {
        &self.shared.env
    }

    pub(super) fn schedule(&self) -> Arc<ValidatorSchedule> {
        Arc::clone(&self.shared.schedule)
    }

    /// What happens from now on.
    pub fn subscribe(&self) -> NodeEvents {
        NodeEvents::new(self.p2p().subscribe(), self.sync().subscribe())
    }

    /// How the node is doing.
    pub async fn status(&self) -> StatusView {
        let local = self.p2p().local();
        // Once it has stopped, the synchroniser has nothing to say beyond what is stored.
        let chain = self.sync().status().await;
        let tip = chain.as_ref().map_or_else(|| self.sync().tip(), |chain| chain.tip);
        let mut peers = PeerCounts::default();
        for info in self.p2p().peers().await {
            match info.peer.direction() {
                Direction::Inbound => peers.inbound += 1,
                Direction::Outbound => peers.outbound += 1,
            }
        }
        StatusView {
            network: local.network,
            genesis_hash: self.shared.genesis_hash,
            node_id: local.node_id.clone(),
            peer_id: local.peer_id,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: self.uptime_s(),
            height: tip.height,
            tip_hash: tip.hash,
            syncing: chain.as_ref().is_some_and(|chain| chain.syncing),
            target_height: chain.as_ref().map_or(tip.height, |chain| chain.target),
            slowed_by: chain.as_ref().and_then(|chain| chain.bottleneck).map(|cause| cause.to_string()),
            contributors: chain.iter().flat_map(|chain| &chain.contributions).map(contributor).collect(),
            pending_transactions: chain.map_or(0, |chain| chain.pool_count),
            first_block: self.sync().store().first_body(),
            store_error: self.sync().store().failure().map(|error| error.as_ref().to_owned()),
            peers,
        }
    }

    /// The heights that peers claimed last, in their hello or with what they sent since.
    pub(crate) async fn claimed_heights(&self) -> BTreeMap<PeerId, Height> {
        let claims = self.sync().status().await.map_or_else(Vec::new, |status| status.claims);
        claims.into_iter().map(|(peer, height, _)| (peer, height)).collect()
    }

    /// Checks a transaction, takes it into the pool and tells the peers.
    ///
    /// # Errors
    /// Why it was not taken.
    pub async fn broadcast_transaction(&self, transaction: Transaction) -> Result<(), SubmitError> {
        self.sync().submit_transaction(transaction).await
    }

    /// Checks a block, stores it and tells the peers.
    ///
    /// # Errors
    /// Why it was not taken.
    pub async fn broadcast_block(&self, block: Block) -> Result<(), SubmitError> {
        self.sync().submit_block(block).await
    }

    /// The canonical form of a block, on the main chain or beside it.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn block(&self, hash: BlockHash) -> Result<Option<Bytes>, StoreError> {
        let store = Arc::clone(self.sync().store());
        self.env().compute.compute(READ_COST, move || store.body(&hash)).await
    }

    /// The canonical form of the block of the main chain at a height.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn block_at(&self, height: Height) -> Result<Option<Bytes>, StoreError> {
        let sync = self.sync().clone();
        self.env().compute.compute(READ_COST, move || sync.block_at(height)).await
    }

    /// Where a stored block is, and whether that is on the main chain.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn block_place(&self, hash: BlockHash) -> Result<Option<(BlockRef, bool)>, StoreError> {
        let store = Arc::clone(self.sync().store());
        let find = move || {
            let Some(place) = store.block(&hash)? else { return Ok(None) };
            let main = store.main(place.height)?.is_some_and(|main| main.hash == hash);
            Ok(Some((place, main)))
        };
        self.env().compute.compute(READ_COST, find).await
    }

    /// The hash of the main chain's block at a height.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn main_block(&self, height: Height) -> Result<Option<BlockHash>, StoreError> {
        let store = Arc::clone(self.sync().store());
        self.env().compute.compute(READ_COST, move || Ok(store.main(height)?.map(|main| main.hash))).await
    }

    /// All metrics as OpenMetrics text.
    pub fn metrics_text(&self) -> String {
        self.shared.metrics.text(self.uptime_s())
    }

    fn uptime_s(&self) -> u64 {
        self.now().since(self.shared.started).as_secs()
    }
}

const fn contributor((peer_id, sent): &(PeerId, Contribution)) -> Contributor {
    Contributor { peer_id: *peer_id, blocks: sent.blocks, bytes: sent.bytes }
}
