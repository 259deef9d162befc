//! Proposes blocks in the slots of one key.

use std::{sync::Arc, time::Duration};

use bt2c_p2p::Env;
use bt2c_proto::{Address, Block, Time};
use bt2c_security::Identity;
use bt2c_sync::{Template, ValidatorSchedule, sealed_block};
use tokio_util::sync::CancellationToken;

use super::NodeHandle;

/// Slots looked ahead for the next own one; after as many of others, the producer wakes up and looks on.
const LOOK_AHEAD: u64 = 10_000;

/// What making a block is modelled to cost in a simulation: one RSA signature.
const COST: Duration = Duration::from_millis(2);

/// How far behind a chain that is being fetched a node may be and still propose: one that is further behind would only
/// make blocks that nobody follows.
const MAX_BEHIND: u64 = 2;

/// Builds a block on the tip in each slot of its key.
pub(super) struct Producer {
    node: NodeHandle,
    env: Env,
    schedule: Arc<ValidatorSchedule>,
    validator: Identity,
    address: Address,
}

impl Producer {
    pub(super) fn new(node: NodeHandle, validator: Identity) -> Self {
        let (env, schedule) = (node.env().clone(), node.schedule());
        Self { node, env, schedule, address: validator.address(), validator }
    }

    pub(super) async fn run(self, stop: CancellationToken) {
        // A slot that has begun may hold a block of this key already, from before a restart.
        let mut slot = self.slot_now().map_or(0, |slot| slot + 1);
        loop {
            let next = (slot..slot.saturating_add(LOOK_AHEAD))
                .find(|&slot| self.schedule.proposer(slot) == self.address);
            let wake_at = next.unwrap_or_else(|| slot.saturating_add(LOOK_AHEAD));
            let wake = self.env.clock.sleep_until(Time::from_secs(self.schedule.slot_start(wake_at)));
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = wake => {}
            }
            if next.is_some() {
                self.propose(wake_at).await;
            }
            slot = self.slot_now().unwrap_or(0).max(wake_at.saturating_add(1));
        }
    }

    fn slot_now(&self) -> Option<u64> {
        self.schedule.slot_at(self.env.clock.now().as_secs())
    }

    async fn propose(&self, slot: u64) {
        // A timer may fire a moment early; the block is dated within its slot all the same.
        let timestamp = self.env.clock.now().as_secs().max(self.schedule.slot_start(slot));
        if self.schedule.slot_at(timestamp) != Some(slot) {
            tracing::warn!(slot, "own slot missed: the machine was busy or asleep");
            return;
        }
        let Some(status) = self.node.sync().status().await else { return };
        if status.target.get() > status.tip.height.get().saturating_add(MAX_BEHIND) {
            tracing::debug!(slot, "own slot skipped while syncing");
            return;
        }
        let Some(template) = self.node.sync().template(timestamp).await else { return };
        if self.schedule.slot_at(template.parent.timestamp) >= Some(slot) {
            return;
        }
        let block = self.seal(template, timestamp).await;
        let height = block.height();
        match self.node.broadcast_block(block).await {
            Ok(()) => tracing::debug!(slot, height = height.get(), "block proposed"),
            Err(error) => tracing::warn!(slot, height = height.get(), %error, "own block was not taken"),
        }
    }

    async fn seal(&self, template: Template, timestamp: u64) -> Block {
        let validator = self.validator.clone();
        let seal = move || sealed_block(&template.parent, timestamp, &validator, template.transactions);
        self.env.compute.compute(COST, seal).await
    }
}
