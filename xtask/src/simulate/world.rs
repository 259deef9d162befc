//! A network of real nodes in memory.

mod chain;
mod expect;
mod hosts;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use bt2c_node::genesis::{DEVNET_VALIDATORS, devnet_genesis_with};
use bt2c_p2p::env::MemoryDisk;
use bt2c_proto::{BlockHash, Genesis, Height, Time, TxHash};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::{
    clock::SimClock,
    identity,
    net::SimNet,
    outcome::{Expectation, Outcome},
    plan::{Plan, Setup},
    record::Record,
    schedule::Step,
};

pub use chain::ChainPlan;
pub use hosts::{Host, Life, PORT};

use chain::Chain;

/// Length of a slot.
pub const BLOCK_TIME: Duration = Duration::from_secs(10);

/// When worlds begin: 2026-01-01T00:00:00Z.
pub const EPOCH: Time = Time::from_secs(1_767_225_600);

/// Where a node keeps what it keeps, on its own disk.
const HOME: &str = "/node";

/// Parts into which a run is divided where something is told over time.
pub(super) const PARTS: u32 = 120;

/// Nodes, the network between them, virtual time.
#[derive(Debug)]
pub struct World {
    /// What it was made from.
    pub setup: Setup,
    /// What is there and what happens.
    pub plan: Plan,
    /// The network between the hosts.
    pub net: SimNet,
    /// The hosts, as numbered in the plan.
    pub hosts: Vec<Host>,
    /// What came of it so far.
    pub record: Record,
    /// The transactions that wallets gave to nodes: to which host, and what it said.
    pub transactions: Vec<(TxHash, usize, Result<(), String>)>,
    /// What attackers counted.
    pub counts: Arc<parking_lot::Mutex<BTreeMap<&'static str, u64>>>,
    tip: (u64, BlockHash),
    tip_block: serde_json::Value,
    chain: Chain,
    started: Instant,
    genesis: Genesis,
    watchers: TaskTracker,
}

impl World {
    /// A world in which nothing has happened yet. To be made on a runtime whose clock is paused.
    ///
    /// # Errors
    /// A schedule that names hosts which are not there, two hosts at one address, or a chain that cannot be made.
    #[expect(clippy::disallowed_methods, reason = "this is virtual time")]
    pub fn new(setup: Setup, plan: Plan) -> Result<Self> {
        let (highest, count) = (plan.schedule.highest_host(), plan.hosts.len());
        if let Some(highest) = highest.filter(|highest| *highest >= count) {
            bail!("the schedule names host {highest}, but there are {count}, counted from 0");
        }
        let last = plan.schedule.steps().last().map_or(Duration::ZERO, |timed| timed.at);
        ensure!(
            last <= plan.end,
            "the last step is at {last:?}, after the end at {:?}: a longer --duration?",
            plan.end
        );
        let blocks = plan.chain.blocks;
        let before = BLOCK_TIME.as_secs() * (blocks + 1) * u64::from(blocks > 0);
        let genesis = devnet_genesis_with(EPOCH.as_secs() - before, BLOCK_TIME, DEVNET_VALIDATORS)?;
        let chain = Chain::of(plan.chain, &genesis)?;
        let net = SimNet::new(setup.seed);
        let hosts = plan.hosts.iter().enumerate().map(|(number, host)| {
            let disk = if host.has_chain { chain.disk.after_power_loss(0) } else { MemoryDisk::new() };
            Host::new(number, host, disk, &net)
        });
        let hosts = hosts.collect::<Result<_>>()?;
        Ok(Self {
            record: Record::new(plan.end / PARTS),
            net,
            hosts,
            transactions: Vec::new(),
            counts: Arc::default(),
            tip: (chain.tip.height().get(), chain.tip.hash()),
            tip_block: serde_json::to_value(&chain.tip)?,
            chain,
            started: Instant::now(),
            genesis,
            watchers: TaskTracker::new(),
            setup,
            plan,
        })
    }

    /// The genesis that all nodes share.
    pub const fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// Virtual time since the start.
    pub fn passed(&self) -> Duration {
        self.started.elapsed()
    }

    /// What a clock that is right shows.
    pub fn now(&self) -> Time {
        EPOCH + self.passed()
    }

    /// A clock of this world, which is wrong by so much: see [`SimClock::new`].
    pub fn clock(&self, skew_ms: i64, drift_ppm: i32) -> SimClock {
        SimClock::new(self.started, EPOCH, skew_ms, drift_ppm)
    }

    /// Lets virtual time pass until that much is over since the start.
    pub async fn wait_until(&self, at: Duration) {
        tokio::time::sleep_until(self.started + at).await;
    }

    /// Takes every step of the schedule at its time, lets proposing end, and waits until what is under way has arrived.
    ///
    /// # Errors
    /// A step that cannot be taken, such as the start of a node with settings that contradict each other.
    pub async fn run(&mut self) -> Result<()> {
        for timed in self.plan.schedule.steps().to_vec() {
            self.wait_until(timed.at).await;
            self.record.note(timed.at, timed.step.to_string());
            self.take(&timed.step).await.with_context(|| format!("step {}", timed.step))?;
        }
        self.wait_until(self.plan.end).await;
        self.rest();
        self.wait_until(self.plan.end + BLOCK_TIME * 3).await;
        Ok(())
    }

    /// Takes a step now.
    ///
    /// # Errors
    /// If it cannot be taken.
    pub async fn take(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Join(host) | Step::Restart(host) => self.start(*host).await?,
            Step::Leave(host) => self.leave(*host).await,
            Step::Crash(host) => self.kill(*host, false),
            Step::PowerLoss(host) => self.kill(*host, true),
            Step::Cut(from, to) => drop(self.net.cut(&self.ips(from), &self.ips(to))),
            Step::CutOneWay(from, to) => drop(self.net.cut_one_way(&self.ips(from), &self.ips(to))),
            Step::Heal => self.net.heal(),
            Step::Disk(host, fault) => self.hosts[*host].disk().set_fault(*fault),
            Step::Transact(host) => self.transact(*host).await?,
            Step::Rest => self.rest(),
        }
        Ok(())
    }

    fn ips(&self, hosts: &[usize]) -> Vec<std::net::IpAddr> {
        hosts.iter().map(|host| self.plan.hosts[*host].ip).collect()
    }

    fn rest(&self) {
        self.hosts.iter().filter_map(Host::node).for_each(bt2c_node::P2PNode::stop_producing);
    }

    async fn transact(&mut self, host: usize) -> Result<()> {
        let Some(node) = self.hosts[host].node().map(bt2c_node::P2PNode::handle) else { return Ok(()) };
        let nonce = self.transactions.len() as u64 + 1;
        let transaction = identity::transaction(0, self.genesis.hash(), nonce, self.now().as_secs())?;
        let hash = transaction.hash;
        let taken = node.broadcast_transaction(transaction).await;
        self.transactions.push((hash, host, taken.map_err(|error| error.to_string())));
        Ok(())
    }

    /// The tip of each honest node that is up, by host.
    pub async fn tips(&self) -> Vec<(usize, Height, String)> {
        let mut tips = Vec::new();
        for (number, node) in self.honest_nodes() {
            let status = node.status().await;
            tips.push((number, status.height, status.tip_hash.short()));
        }
        tips
    }

    /// The honest nodes that are up, by host.
    pub fn honest_nodes(&self) -> impl Iterator<Item = (usize, &bt2c_node::P2PNode)> {
        let up = self.hosts.iter().enumerate().filter_map(|(number, host)| Some((number, host.node()?)));
        up.filter(|(number, _)| self.plan.hosts[*number].is_honest())
    }

    /// Stops every host and sums up.
    pub(super) async fn finish(mut self, expectations: Vec<Expectation>) -> Outcome {
        let passed = self.passed();
        let report = super::report::Run::of(&self).await;
        for host in &mut self.hosts {
            host.stop().await;
        }
        self.watchers.close();
        self.watchers.wait().await;
        let (trace, messages) = self.record.digest();
        Outcome { expectations, trace, messages, passed, run: report }
    }
}
