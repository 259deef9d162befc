//! Transactions for a devnet: a fixed number a block time, made of published keys, spread over the nodes.

use std::time::Duration;

use bt2c_p2p::Env;
use bt2c_proto::{BlockHash, Transaction};
use bt2c_security::{Identity, fixtures};
use bt2c_sync::signed_transaction;
use tokio_util::sync::CancellationToken;

use super::{Options, nodes::Nodes};
use crate::node::NodeHandle;

/// Different senders; each signature is made in turn by one of them.
const SENDERS: usize = 8;

/// What one signature is modelled to cost in a simulation.
const COST: Duration = Duration::from_millis(2);

/// Makes transactions.
pub(super) struct Load {
    env: Env,
    nodes: Vec<NodeHandle>,
    senders: Vec<Identity>,
    genesis: BlockHash,
    interval: Duration,
    made: u64,
}

impl Load {
    pub(super) fn new(options: &Options, env: Env, nodes: &Nodes) -> Self {
        let nodes: Vec<_> = nodes.iter().map(|node| node.handle()).collect();
        Self {
            env,
            genesis: nodes.first().map(|node| node.genesis().hash()).expect("a devnet has a node"),
            nodes,
            senders: (0..SENDERS).map(fixtures::identity).collect(),
            interval: options.block_time.checked_div(options.txs_per_block).unwrap_or(Duration::MAX),
            made: 0,
        }
    }

    /// Sends one transaction after the other, evenly over time, until it is told to stop.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut due = self.env.clock.now();
        loop {
            due = due + self.interval;
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.env.clock.sleep_until(due) => {}
            }
            let transaction = self.make().await;
            let node = &self.nodes[usize::try_from(self.made).unwrap_or(0) % self.nodes.len()];
            if let Err(error) = node.broadcast_transaction(transaction).await {
                tracing::warn!(%error, "devnet transaction");
            }
            self.made += 1;
        }
    }

    async fn make(&self) -> Transaction {
        let turn = usize::try_from(self.made).unwrap_or(0);
        let sender = self.senders[turn % SENDERS].clone();
        let recipient = self.senders[(turn + 1) % SENDERS].address();
        let (genesis, nonce, now) = (self.genesis, self.made, self.env.clock.now().as_secs());
        let sign = move || signed_transaction(&sender, genesis, recipient, 100_000_000, 1000, nonce, now);
        self.env.compute.compute(COST, sign).await
    }
}
