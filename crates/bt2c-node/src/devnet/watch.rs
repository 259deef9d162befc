//! What a person watching a devnet is told: who met whom, which block reached all nodes and how fast.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bt2c_p2p::env::Clock;
use bt2c_proto::{BlockHash, Height, NodeId, Time};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Screen, nodes::Nodes};
use crate::node::{BlockAdded, NodeEvent, NodeEvents};

/// Events that may wait to be told; nodes wait when it is full.
const QUEUE: usize = 1024;

/// Blocks whose spreading is followed at once; older ones are told as far as they came.
const FOLLOWED: usize = 64;

/// Up to this many nodes every meeting is told, above only each node's first.
const FEW: usize = 6;

/// What was counted, by node.
#[derive(Debug)]
pub(super) struct Summary(Mutex<Vec<(u64, u64)>>);

impl Summary {
    /// Blocks produced by a node, and transactions on its chain since it started.
    pub(super) fn of(&self, node: usize) -> (u64, u64) {
        self.0.lock()[node]
    }
}

/// A block on its way.
#[derive(Debug)]
struct Spreading {
    first: Time,
    last: Time,
    producer: Option<usize>,
    transactions: usize,
    reached: BTreeSet<usize>,
}

/// Collects the events of all nodes and tells what they amount to.
pub(super) struct Watch {
    sources: Vec<NodeEvents>,
    names: BTreeMap<NodeId, usize>,
    clock: Arc<dyn Clock>,
    screen: Screen,
    summary: Arc<Summary>,
    spreading: BTreeMap<(Height, BlockHash), Spreading>,
    met: BTreeSet<usize>,
}

impl Watch {
    pub(super) fn new(nodes: &Nodes, clock: Arc<dyn Clock>, screen: Screen) -> Self {
        let names = nodes.iter().map(|node| node.handle().p2p().local().node_id.clone());
        Self {
            sources: nodes.iter().map(|node| node.subscribe()).collect(),
            names: names.zip(0..).collect(),
            clock,
            screen,
            summary: Arc::new(Summary(Mutex::new(vec![(0, 0); nodes.len()]))),
            spreading: BTreeMap::new(),
            met: BTreeSet::new(),
        }
    }

    /// What is counted.
    pub(super) fn summary(&self) -> Arc<Summary> {
        Arc::clone(&self.summary)
    }

    /// Tells what happens until it is told to stop.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let (sender, mut events) = mpsc::channel(QUEUE);
        let forwarders = TaskTracker::new();
        for (node, source) in std::mem::take(&mut self.sources).into_iter().enumerate() {
            let (sender, clock) = (sender.clone(), Arc::clone(&self.clock));
            forwarders.spawn(stop.clone().run_until_cancelled_owned(forward(node, source, clock, sender)));
        }
        drop(sender);
        while let Some((node, at, event)) = events.recv().await {
            self.handle(node, at, &event);
        }
        while self.spreading.pop_first().map(|(place, block)| self.tell_block(place.0, &block)).is_some() {}
    }

    fn handle(&mut self, node: usize, at: Time, event: &NodeEvent) {
        match event {
            NodeEvent::PeerUp(peer) if peer.direction == "outbound" => {
                let is_first = self.met.insert(node);
                if let Some(other) =
                    self.names.get(&peer.node_id).filter(|_| is_first || self.names.len() <= FEW)
                {
                    self.screen.met(node, *other);
                }
            }
            NodeEvent::PeerDown(down) => self.screen.lost(node, down.peer.node_id.as_str(), &down.reason),
            NodeEvent::Block(block) => self.block(node, at, block),
            NodeEvent::Reorganisation(change) => self.screen.reorganised(node, change),
            NodeEvent::Ban(ban) => {
                self.screen.warn(&format!("node {} banned {}: {}", node + 1, ban.subject, ban.reason))
            }
            NodeEvent::Warning(warning) => {
                self.screen.warn(&format!("node {}: {}: {}", node + 1, warning.what, warning.detail));
            }
            _ => {}
        }
    }

    fn block(&mut self, node: usize, at: Time, block: &BlockAdded) {
        {
            let mut summary = self.summary.0.lock();
            summary[node].0 += u64::from(block.from.is_none());
            summary[node].1 += u64::try_from(block.transactions).unwrap_or(u64::MAX);
        }
        let entry = self.spreading.entry((block.height, block.hash)).or_insert_with(|| Spreading {
            first: at,
            last: at,
            producer: None,
            transactions: block.transactions,
            reached: BTreeSet::new(),
        });
        if block.from.is_none() {
            entry.producer = Some(node);
        }
        entry.first = entry.first.min(at);
        entry.last = entry.last.max(at);
        entry.reached.insert(node);
        if entry.reached.len() == self.names.len() {
            let entry = self.spreading.remove(&(block.height, block.hash)).expect("it was entered above");
            self.tell_block(block.height, &entry);
        } else if self.spreading.len() > FOLLOWED
            && let Some((place, oldest)) = self.spreading.pop_first()
        {
            self.tell_block(place.0, &oldest);
        }
    }

    fn tell_block(&self, height: Height, block: &Spreading) {
        let spread: Duration = block.last.since(block.first);
        self.screen.block(
            height,
            block.producer,
            block.transactions,
            block.reached.len(),
            self.names.len(),
            spread,
        );
    }
}

async fn forward(
    node: usize,
    mut source: NodeEvents,
    clock: Arc<dyn Clock>,
    sender: mpsc::Sender<(usize, Time, NodeEvent)>,
) {
    while let Some(event) = source.next().await {
        if sender.send((node, clock.now(), event)).await.is_err() {
            return;
        }
    }
}
