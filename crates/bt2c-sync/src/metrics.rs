//! What the synchroniser counts. One value a node, so that nodes in one process do not mix.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::{
    core::{Bottleneck, Core, Counters},
    event::Event,
};

/// Counters and gauges of a [`BlockchainSynchronizer`](crate::BlockchainSynchronizer).
#[derive(Debug, Default)]
pub struct SyncMetrics {
    height: Gauge,
    target: Gauge,
    blocks: Counter,
    reorganisations: Counter,
    equivocations: Counter,
    too_deep: Counter,
    stalls: Counter,
    store_failures: Counter,
    orphans: Gauge,
    pool_transactions: Gauge,
    pool_bytes: Gauge,
    unasked_answers: Counter,
    late_answers: Counter,
    busy: Counter,
    slot_full: Counter,
    fetched_blocks: Counter,
    fetched_bytes: Counter,
    held_up_by: Family<[(&'static str, &'static str); 1], Gauge>,
    pub(crate) served_blocks: Counter,
    pub(crate) served_bytes: Counter,
    pub(crate) unserved: Counter,
}

impl SyncMetrics {
    /// Registers everything under `bt2c_sync_`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("bt2c_sync");
        registry.register("height", "Height of the main chain", self.height.clone());
        registry.register("target_height", "Height that is aimed at", self.target.clone());
        registry.register("blocks", "Blocks that came onto the main chain", self.blocks.clone());
        registry.register(
            "reorganisations",
            "Changes of the main chain's path",
            self.reorganisations.clone(),
        );
        registry.register("equivocations", "Slots with two blocks", self.equivocations.clone());
        registry.register(
            "branches_too_deep",
            "Branches not followed for their depth",
            self.too_deep.clone(),
        );
        registry.register("stalls", "Requests that were not answered in time", self.stalls.clone());
        registry.register("store_failures", "Imports that the store failed", self.store_failures.clone());
        registry.register("orphans", "Blocks that wait for their parent", self.orphans.clone());
        registry.register("pool_transactions", "Transactions that wait", self.pool_transactions.clone());
        registry.register("pool_bytes", "Bytes of transactions that wait", self.pool_bytes.clone());
        let help = "Answers that matched no request";
        registry.register("unasked_answers", help, self.unasked_answers.clone());
        registry.register("late_answers", "Answers that came after their time", self.late_answers.clone());
        let help = "Pushed objects dropped because too many were being checked";
        registry.register("busy_drops", help, self.busy.clone());
        let help = "Pushed blocks dropped for being the third of their slot";
        registry.register("slot_drops", help, self.slot_full.clone());
        registry.register("fetched_blocks", "Fetched blocks that were stored", self.fetched_blocks.clone());
        registry.register("fetched_bytes", "Bytes of these blocks", self.fetched_bytes.clone());
        let help = "What holds up synchronisation most: 1 for that cause";
        registry.register("held_up_by", help, self.held_up_by.clone());
        registry.register("served_blocks", "Blocks sent in answers", self.served_blocks.clone());
        registry.register("served_bytes", "Bytes of blocks sent in answers", self.served_bytes.clone());
        registry.register(
            "unserved",
            "Requests for blocks that were dropped or failed",
            self.unserved.clone(),
        );
    }

    pub(crate) fn count(&self, event: &Event) {
        match event {
            Event::BlockAdded { .. } => self.blocks.inc(),
            Event::Reorganised { .. } => self.reorganisations.inc(),
            Event::Equivocation { .. } => self.equivocations.inc(),
            Event::BranchTooDeep { .. } => self.too_deep.inc(),
            Event::Stalled { .. } => self.stalls.inc(),
            Event::StoreFailed { .. } => self.store_failures.inc(),
            Event::SyncProgress(progress) => {
                let held_up = progress.bottleneck.filter(|_| progress.height < progress.target);
                for cause in Bottleneck::ALL {
                    let gauge = self.held_up_by.get_or_create(&[("cause", cause.name())]);
                    gauge.set(i64::from(held_up == Some(cause)));
                }
                0
            }
            Event::TransactionAdded { .. } => 0,
        };
    }

    /// Follows the core's state; `before` is what its counters were the last time.
    pub(crate) fn follow(&self, core: &Core, before: &mut Counters) {
        let now = core.counters();
        self.unasked_answers.inc_by(now.unasked_answers - before.unasked_answers);
        self.late_answers.inc_by(now.late_answers - before.late_answers);
        self.busy.inc_by(now.busy - before.busy);
        self.slot_full.inc_by(now.slot_full - before.slot_full);
        self.fetched_blocks.inc_by(now.fetched_blocks - before.fetched_blocks);
        self.fetched_bytes.inc_by(now.fetched_bytes - before.fetched_bytes);
        *before = now;
        self.height.set(signed(core.tip().height.get()));
        self.target.set(signed(core.target().get()));
        self.orphans.set(signed(core.orphans().0 as u64));
        self.pool_transactions.set(signed(core.pool().len() as u64));
        self.pool_bytes.set(signed(core.pool().bytes() as u64));
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
