//! A network of real nodes in memory.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use bt2c_node::{
    NodeEvent, P2PNode,
    config::NodeConfig,
    genesis::{DEVNET_VALIDATORS, devnet_genesis_with},
};
use bt2c_p2p::{
    Env,
    env::{Clock, InlineCompute, MemoryDisk, VirtualClock},
};
use bt2c_proto::{Block, Genesis, Height, Network, Time, Transaction, TxHash};
use bt2c_security::{Credentials, fixtures};
use bt2c_sync::signed_transaction;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio_util::task::TaskTracker;

use super::{
    Expectation, Outcome, Trace,
    net::{HostSpec, Link, Region, SimHost, SimNet},
};

/// Most nodes of a world: one for each published identity.
pub const MAX_NODES: usize = fixtures::IDENTITIES;

/// Length of a slot.
pub const BLOCK_TIME: Duration = Duration::from_secs(10);

/// The link of a node: as fast as need be, but neither even nor without loss.
const LINK: Link = Link { jitter: Duration::from_millis(5), loss: 500, ..Link::PERFECT };

/// When worlds begin: 2026-01-01T00:00:00Z.
const EPOCH: Time = Time::from_secs(1_767_225_600);

const PORT: u16 = 8336;

/// What a run is made from.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// Nodes in all.
    pub nodes: usize,
    /// Virtual time.
    pub duration: Duration,
    /// Decides everything that is left to chance.
    pub seed: u64,
}

/// What sets a node apart from the others.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Its link to the network.
    pub link: Link,
    /// How far its clock is ahead of the others', in milliseconds; negative: behind.
    pub skew_ms: i64,
}

impl Default for Place {
    fn default() -> Self {
        Self { link: LINK, skew_ms: 0 }
    }
}

/// A running node and its place.
#[derive(Debug)]
pub struct SimNode {
    /// The node.
    pub node: P2PNode,
    /// Its address; each node is in an IPv4 /16 of its own.
    pub ip: IpAddr,
    rest: Remains,
}

/// What all nodes together did.
#[derive(Debug, Default)]
struct Counts {
    bans: AtomicUsize,
    reorganisations: AtomicUsize,
}

/// What is left of a node that crashed: enough to start it again.
#[derive(Debug, Clone)]
pub struct Remains {
    index: usize,
    place: Place,
    disk: MemoryDisk,
}

/// Nodes, the network between them, virtual time.
#[derive(Debug)]
pub struct World {
    /// What it was made from.
    pub setup: Setup,
    /// The network between the nodes, to be cut and healed.
    pub net: SimNet,
    /// The nodes, in the order in which they joined.
    pub nodes: Vec<SimNode>,
    /// Chance, for scenarios.
    pub rng: ChaCha8Rng,
    joined: usize,
    counts: Arc<Counts>,
    clock: VirtualClock,
    genesis: Genesis,
    trace: Trace,
    watchers: TaskTracker,
}

impl World {
    /// An empty world. To be made on a runtime whose clock is paused.
    ///
    /// # Errors
    /// If the built-in parameters are out of their limits.
    pub fn new(setup: Setup) -> Result<Self> {
        let genesis = devnet_genesis_with(EPOCH.as_secs(), BLOCK_TIME, DEVNET_VALIDATORS)?;
        Ok(Self {
            setup,
            net: SimNet::new(setup.seed),
            nodes: Vec::new(),
            rng: ChaCha8Rng::seed_from_u64(setup.seed),
            joined: 0,
            counts: Arc::default(),
            clock: VirtualClock::new(EPOCH),
            genesis,
            trace: Trace::default(),
            watchers: TaskTracker::new(),
        })
    }

    /// The genesis that all nodes share.
    pub const fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// Virtual time since the start.
    pub fn passed(&self) -> Duration {
        self.clock.now().since(EPOCH)
    }

    /// Lets virtual time pass.
    pub async fn wait(&self, duration: Duration) {
        self.clock.sleep_until(self.clock.now() + duration).await;
    }

    /// Starts the next node. The first [`DEVNET_VALIDATORS`] propose blocks; all know the first as their seed.
    ///
    /// # Errors
    /// If the node does not start.
    pub async fn join(&mut self) -> Result<()> {
        self.join_at(Place::default()).await
    }

    /// Like [`World::join`], at a place of its own.
    ///
    /// # Errors
    /// If the node does not start.
    pub async fn join_at(&mut self, place: Place) -> Result<()> {
        let index = self.joined;
        self.joined += 1;
        let region = Region::ALL[index % Region::ALL.len()];
        let host =
            self.net.add_host(HostSpec { link: place.link, ..HostSpec::new(address(index), region) })?;
        self.start(Remains { index, place, disk: MemoryDisk::new() }, host).await
    }

    /// Kills a node: no goodbye, no last write; its peers see resets. It keeps what is on its disk.
    pub async fn crash(&mut self, position: usize) -> Remains {
        let SimNode { node, ip, rest, .. } = self.nodes.remove(position);
        self.net.crash(ip);
        drop(node);
        // Its tasks end when they are next polled; until then they hold its files.
        self.wait(Duration::from_millis(1)).await;
        rest
    }

    /// Starts a node that crashed, on what its disk holds. It becomes the last of [`World::nodes`].
    ///
    /// # Errors
    /// If the node does not start.
    pub async fn restart(&mut self, rest: Remains) -> Result<()> {
        let host = self.net.restart(address(rest.index))?;
        self.start(rest, host).await
    }

    async fn start(&mut self, rest: Remains, host: SimHost) -> Result<()> {
        let (index, ip) = (rest.index, address(rest.index));
        let mut config = NodeConfig::simulation(Network::Devnet);
        config.p2p.listen = vec![SocketAddr::new(ip, PORT)];
        config.data_dir = Some("/node".into());
        if index > 0 {
            config.p2p.discovery.seeds = vec![SocketAddr::new(address(0), PORT).into()];
        }
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let env = Env {
            net: Arc::new(host),
            clock: Arc::new(self.skewed(rest.place.skew_ms)),
            disk: Arc::new(rest.disk.clone()),
            compute: Arc::new(InlineCompute),
            seed,
            tap: Some(Arc::new(self.trace.clone())),
        };
        let credentials = Credentials::issue(fixtures::identity(index), None, self.clock.now())?;
        let mut builder =
            P2PNode::builder(config).env(env).genesis(self.genesis.clone()).credentials(credentials);
        if index < DEVNET_VALIDATORS {
            builder = builder.producer(fixtures::devnet_validator(index));
        }
        let node = builder.start().await.with_context(|| format!("node {index} does not start"))?;
        self.watch(index, &node);
        self.nodes.push(SimNode { node, ip, rest });
        Ok(())
    }

    /// The clock of a node that is wrong by this much.
    fn skewed(&self, ms: i64) -> VirtualClock {
        let off = Duration::from_millis(ms.unsigned_abs());
        let now = self.clock.now();
        VirtualClock::new(if ms < 0 { now - off } else { now + off })
    }

    fn watch(&self, index: usize, node: &P2PNode) {
        let (mut events, trace, clock) = (node.subscribe(), self.trace.clone(), self.clock.clone());
        let counts = Arc::clone(&self.counts);
        self.watchers.spawn(async move {
            while let Some(event) = events.next().await {
                trace.event(clock.now().since(EPOCH).as_millis(), index, &event);
                let counter = match event {
                    NodeEvent::Ban(_) => &counts.bans,
                    NodeEvent::Reorganisation(_) => &counts.reorganisations,
                    _ => continue,
                };
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
    }

    /// Stops all proposing and lets what is under way arrive.
    pub async fn settle(&self) {
        self.nodes.iter().for_each(|sim| sim.node.stop_producing());
        self.wait(BLOCK_TIME * 3).await;
    }

    /// The tip of each node.
    pub async fn tips(&self) -> Vec<(Height, String)> {
        let mut tips = Vec::new();
        for sim in &self.nodes {
            let status = sim.node.status().await;
            tips.push((status.height, status.tip_hash.short()));
        }
        tips
    }

    /// Expects one tip, at `least` at the lowest.
    pub async fn expect_one_tip(&self, least: u64) -> Expectation {
        let mut tips = self.tips().await;
        tips.sort();
        tips.dedup();
        let found =
            tips.iter().map(|(height, hash)| format!("{height} {hash}")).collect::<Vec<_>>().join(", ");
        let met = tips.len() == 1 && tips[0].0.get() >= least;
        Expectation { name: "all nodes are on one tip", met, found: format!("{found} (at least {least})") }
    }

    /// Expects that nobody banned anybody.
    pub fn expect_no_bans(&self) -> Expectation {
        let bans = self.counts.bans.load(Ordering::Relaxed);
        Expectation { name: "no honest node is banned", met: bans == 0, found: format!("{bans} bans") }
    }

    /// Expects that every node has at least that many peers.
    pub async fn expect_peers(&self, least: usize) -> Expectation {
        let mut fewest = usize::MAX;
        for sim in &self.nodes {
            let peers = sim.node.status().await.peers;
            fewest = fewest.min(peers.inbound + peers.outbound);
        }
        let found = format!("the loneliest has {fewest} (at least {least})");
        Expectation { name: "every node has found peers", met: fewest >= least, found }
    }

    /// Reorganisations on all nodes so far.
    pub fn reorganisations(&self) -> usize {
        self.counts.reorganisations.load(Ordering::Relaxed)
    }

    /// A transaction between two published identities, valid now.
    pub fn transaction(&self, nonce: u64) -> Transaction {
        let (from, to) = (fixtures::identity(0), fixtures::identity(1).address());
        signed_transaction(&from, self.genesis.hash(), to, 1, 1, nonce, self.clock.now().as_secs())
    }

    /// How many nodes have this transaction on their chain.
    ///
    /// # Errors
    /// If a node's chain cannot be read.
    pub async fn nodes_with(&self, hash: TxHash) -> Result<usize> {
        let mut count = 0;
        for sim in &self.nodes {
            count += usize::from(holds(&sim.node, hash).await?);
        }
        Ok(count)
    }

    /// Stops every node and sums up.
    pub(super) async fn finish(self, expectations: Vec<Expectation>) -> Result<Outcome> {
        let passed = self.passed();
        for sim in self.nodes {
            sim.node.stop().await;
        }
        self.watchers.close();
        self.watchers.wait().await;
        let (trace, messages) = self.trace.digest();
        Ok(Outcome { expectations, trace, messages, passed })
    }
}

async fn holds(node: &P2PNode, hash: TxHash) -> Result<bool> {
    let handle = node.handle();
    for height in 1..=node.status().await.height.get() {
        let bytes =
            handle.block_at(Height::new(height)).await?.context("a block below the tip is missing")?;
        let block: Block = serde_json::from_slice(&bytes)?;
        if block.transactions.iter().any(|transaction| transaction.hash == hash) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A global-looking address in a /16 of its own.
fn address(index: usize) -> IpAddr {
    let group = u8::try_from(index).expect("a world has at most 64 nodes");
    IpAddr::V4(Ipv4Addr::new(40, group, 0, 1))
}
