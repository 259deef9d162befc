//! What a person watching a devnet is told: who met whom, which block reached all nodes and how fast.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bt2c_p2p::env::Clock;
use bt2c_proto::{BlockHash, Height, NodeId, Time};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Screen, screen::Reach};
use crate::node::{BlockAdded, NodeEvent, NodeEvents, NodeHandle};

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
    /// Blocks produced by a node, and transactions that reached it in blocks of this run.
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
    events: mpsc::Receiver<Sighting>,
    nodes: usize,
    names: BTreeMap<NodeId, usize>,
    screen: Screen,
    summary: Arc<Summary>,
    spreading: BTreeMap<(Height, BlockHash), Spreading>,
    met: BTreeSet<(usize, usize)>,
}

/// Brings the events of nodes to a [`Watch`], which ends when the feed and all its nodes are gone.
pub(super) struct Feed {
    events: mpsc::Sender<Sighting>,
    clock: Arc<dyn Clock>,
    forwarders: TaskTracker,
    stop: CancellationToken,
}

/// What a node told, and when.
struct Sighting {
    node: usize,
    at: Time,
    what: Seen,
}

enum Seen {
    /// It was started under this name.
    Started(NodeId),
    Event(NodeEvent),
}

/// A watch over that many nodes, and the feed that brings it their events until `stop`.
pub(super) fn watch(
    nodes: usize,
    clock: Arc<dyn Clock>,
    screen: Screen,
    stop: CancellationToken,
) -> (Watch, Feed) {
    let (sender, events) = mpsc::channel(QUEUE);
    let watch = Watch {
        events,
        nodes,
        names: BTreeMap::new(),
        screen,
        summary: Arc::new(Summary(Mutex::new(vec![(0, 0); nodes]))),
        spreading: BTreeMap::new(),
        met: BTreeSet::new(),
    };
    (watch, Feed { events: sender, clock, forwarders: TaskTracker::new(), stop })
}

impl Feed {
    /// Brings a node's events from now on, and the peers that it has already.
    pub(super) fn follow(&self, index: usize, node: &NodeHandle) {
        let forwarder = Forwarder {
            index,
            node: node.clone(),
            source: node.subscribe(),
            events: self.events.clone(),
            clock: Arc::clone(&self.clock),
        };
        self.forwarders.spawn(self.stop.clone().run_until_cancelled_owned(forwarder.run()));
    }
}

struct Forwarder {
    index: usize,
    node: NodeHandle,
    source: NodeEvents,
    events: mpsc::Sender<Sighting>,
    clock: Arc<dyn Clock>,
}

impl Forwarder {
    async fn run(mut self) {
        let local = self.node.p2p().local().node_id.clone();
        self.send(Seen::Started(local)).await;
        for info in self.node.p2p().peers().await {
            self.send(Seen::Event(NodeEvent::PeerUp((&info.peer).into()))).await;
        }
        while let Some(event) = self.source.next().await {
            self.send(Seen::Event(event)).await;
        }
    }

    async fn send(&self, what: Seen) {
        // Nobody watches any more: the devnet is about to end.
        let _ = self.events.send(Sighting { node: self.index, at: self.clock.now(), what }).await;
    }
}

impl Watch {
    /// What is counted.
    pub(super) fn summary(&self) -> Arc<Summary> {
        Arc::clone(&self.summary)
    }

    /// Tells what happens until there is nobody left who tells it.
    pub(super) async fn run(mut self) {
        while let Some(Sighting { node, at, what }) = self.events.recv().await {
            match what {
                Seen::Started(name) => drop(self.names.insert(name, node)),
                Seen::Event(event) => self.handle(node, at, &event),
            }
        }
        while let Some((place, block)) = self.spreading.pop_first() {
            self.tell_block(place.0, &block);
        }
    }

    fn handle(&mut self, node: usize, at: Time, event: &NodeEvent) {
        match event {
            NodeEvent::PeerUp(peer) if peer.direction == "outbound" => {
                let is_first = self.met.range((node, 0)..(node + 1, 0)).next().is_none();
                if let Some(&other) = self.names.get(&peer.node_id)
                    && self.met.insert((node, other))
                    && (is_first || self.nodes <= FEW)
                {
                    self.screen.met(node, other);
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
        let place = (block.height, block.hash);
        let entry = self.spreading.entry(place).or_insert_with(|| Spreading {
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
        if entry.reached.len() == self.nodes {
            let entry = self.spreading.remove(&place).expect("it was entered above");
            self.tell_block(block.height, &entry);
        } else if self.spreading.len() > FOLLOWED
            && let Some((place, oldest)) = self.spreading.pop_first()
        {
            self.tell_block(place.0, &oldest);
        }
    }

    /// Tells of a block and counts it. One that nobody produced is of an earlier run, fetched by a node that is new.
    fn tell_block(&self, height: Height, block: &Spreading) {
        let Some(producer) = block.producer else { return };
        {
            let mut summary = self.summary.0.lock();
            summary[producer].0 += 1;
            for &node in &block.reached {
                summary[node].1 += u64::try_from(block.transactions).unwrap_or(u64::MAX);
            }
        }
        let reach =
            Reach { nodes: self.nodes, reached: block.reached.len(), spread: block.last.since(block.first) };
        self.screen.block(height, producer, block.transactions, reach);
    }
}
