//! Reports: what came of runs, as data and as a page.

mod page;

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use anyhow::{Context, Result};
use bt2c_p2p::{Direction, Peer};
use serde::{Deserialize, Serialize};

use super::{
    outcome::Expectation,
    plan::{HostPlan, Role},
    record::History,
    world::{Host, PARTS, World},
};

/// Everything that `--report` writes as `report.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Version of the format.
    pub version: u32,
    /// The command line that made it.
    pub command: String,
    /// A line for each run.
    pub summary: Vec<Summary>,
    /// What is shown of runs in full.
    pub runs: Vec<Run>,
}

/// A run in one line.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The scenario's name.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// Honest nodes.
    pub nodes: usize,
    /// Whether connections were encrypted.
    pub tls: bool,
    /// Settings of all nodes.
    pub settings: Vec<(String, String)>,
    /// Virtual time in seconds.
    pub virtual_s: u64,
    /// Time that it took, in seconds.
    pub wall_s: f64,
    /// Memory of the process that played it, at the highest, in MiB; missing where the system does not tell.
    pub memory_mb: Option<u64>,
    /// Messages received.
    pub messages: u64,
    /// The trace's hash.
    pub trace: String,
    /// Expectations that are met, and all there are.
    pub met: usize,
    /// How many expectations there are.
    pub of: usize,
    /// Expectations that are not met.
    pub failed: Vec<Finding>,
    /// Known gaps.
    pub gaps: Vec<Finding>,
    /// The defence that was off.
    pub without: Option<String>,
    /// Its place among the runs that are shown in full.
    pub run: Option<usize>,
}

/// An expectation in a [`Summary`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What is expected.
    pub name: String,
    /// What was found.
    pub found: String,
}

/// A run in full.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Run {
    /// The scenario's name.
    pub scenario: String,
    /// What it shows.
    pub about: String,
    /// The seed.
    pub seed: u64,
    /// Honest nodes.
    pub nodes: usize,
    /// Virtual time until proposing stopped, in seconds.
    pub duration_s: f64,
    /// Whether connections were encrypted.
    pub tls: bool,
    /// The defence that was off.
    pub without: Option<String>,
    /// What was expected.
    pub expectations: Vec<Expectation>,
    /// What happened from outside.
    pub timeline: Vec<Moment>,
    /// The hosts.
    pub hosts: Vec<HostView>,
    /// Connections at the end: who dialled, and who was dialled.
    pub links: Vec<(usize, usize)>,
    /// What is told over time.
    pub samples: Samples,
    /// Bytes of messages received.
    pub traffic: Traffic,
    /// How each block spread.
    pub propagation: Vec<Propagation>,
}

/// An entry of a time line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Moment {
    /// When, in seconds.
    pub at_s: f64,
    /// The first word of what happened.
    pub kind: String,
    /// What happened.
    pub what: String,
}

/// A host in a report.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HostView {
    /// Its number.
    pub name: String,
    /// Its address.
    pub ip: String,
    /// Where it is.
    pub region: String,
    /// `proposer`, `node` or `attacker:NAME`.
    pub role: String,
    /// Whether anything runs on it at the end.
    pub up: bool,
}

/// What is told at moments of a run; every list is as long as the moments.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Samples {
    /// The moments, in seconds.
    pub at_s: Vec<f64>,
    /// Hosts that have peers.
    pub up: Vec<usize>,
    /// Fewest peers of such a host.
    pub peers_min: Vec<usize>,
    /// Peers of such hosts on average.
    pub peers_mean: Vec<f64>,
    /// Most peers of such a host.
    pub peers_max: Vec<usize>,
    /// Bans so far.
    pub bans: Vec<usize>,
    /// Lowest tip.
    pub height_min: Vec<u64>,
    /// Highest tip.
    pub height_max: Vec<u64>,
}

/// Bytes of messages, by type, in each interval.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Traffic {
    /// The ends of the intervals, in seconds.
    pub at_s: Vec<f64>,
    /// Bytes in each, by type.
    pub bytes: BTreeMap<String, Vec<u64>>,
}

/// How a block spread.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Propagation {
    /// Its height.
    pub height: u64,
    /// When the first node had it, in seconds.
    pub at_s: f64,
    /// How many nodes ever had it.
    pub nodes: usize,
    /// Milliseconds until every twentieth of the nodes had it, from none to all; missing where that never was.
    pub delays_ms: Vec<Option<u64>>,
}

/// Most blocks whose spread is told.
const BLOCKS: usize = 300;

/// Steps of the share of nodes that have a block.
const SHARES: usize = 20;

impl Run {
    /// What a world holds at the end of a run.
    pub(super) async fn of(world: &World) -> Self {
        let setup = &world.setup;
        let links = links(world).await;
        let history = world.record.history();
        let moments: Vec<_> = (0..=PARTS).map(|part| world.plan.end * part / PARTS).collect();
        Self {
            seed: setup.seed,
            nodes: setup.nodes,
            duration_s: world.plan.end.as_secs_f64(),
            tls: setup.tls,
            without: setup.without.map(|defence| defence.to_string()),
            timeline: history.notes.iter().map(|(at, what)| moment(*at, what)).collect(),
            hosts: hosts(world),
            links,
            samples: samples(&history, &moments),
            traffic: traffic(&history, &moments),
            propagation: propagation(&history, world.plan.honest().count()),
            ..Self::default()
        }
    }
}

fn moment(at: Duration, what: &str) -> Moment {
    let kind = what.split(' ').next().unwrap_or_default();
    Moment { at_s: at.as_secs_f64(), kind: kind.to_owned(), what: what.to_owned() }
}

fn hosts(world: &World) -> Vec<HostView> {
    let plans = world.plan.hosts.iter().enumerate();
    plans
        .map(|(number, plan)| HostView {
            name: number.to_string(),
            ip: plan.ip.to_string(),
            region: plan.region.name().to_owned(),
            role: match plan.role {
                Role::Node => "node".to_owned(),
                Role::Proposer(_) => "proposer".to_owned(),
                Role::Attacker(attack) => format!("attacker:{}", attack.name),
            },
            up: !matches!(world.hosts[number].life, super::world::Life::None),
        })
        .collect()
}

async fn links(world: &World) -> Vec<(usize, usize)> {
    // Attackers have many identities, but one address.
    let hosts = world.plan.hosts.iter().zip(&world.hosts).enumerate();
    let find = |peer: &Peer| {
        let is = |(_, (plan, host)): &(_, (&HostPlan, &Host))| {
            if plan.is_honest() { host.peer_id == peer.id() } else { plan.ip == peer.addr().ip() }
        };
        hosts.clone().find(is).map(|(number, _)| number)
    };
    let mut links = Vec::new();
    for (number, node) in world.honest_nodes() {
        for info in node.handle().p2p().peers().await {
            let Some(other) = find(&info.peer) else { continue };
            // Told by the dialler, or, where that is no node, by the other side.
            match info.peer.direction() {
                Direction::Outbound => links.push((number, other)),
                Direction::Inbound if world.hosts[other].node().is_none() => links.push((other, number)),
                Direction::Inbound => {}
            }
        }
    }
    links
}

fn samples(history: &History, moments: &[Duration]) -> Samples {
    let mut samples = Samples::default();
    let mut peers: BTreeMap<usize, usize> = BTreeMap::new();
    let mut tips: BTreeMap<usize, u64> = BTreeMap::new();
    let (mut changes, mut heads) = (history.peers.iter().peekable(), history.tips.iter().peekable());
    for moment in moments {
        while let Some((_, host, _, gone)) = changes.next_if(|(at, ..)| at <= moment) {
            let count = peers.entry(*host).or_default();
            *count = if gone.is_some() { count.saturating_sub(1) } else { *count + 1 };
        }
        while let Some((_, host, height, _)) = heads.next_if(|(at, ..)| at <= moment) {
            tips.insert(*host, height.get());
        }
        let up: Vec<_> = peers.values().copied().filter(|count| *count > 0).collect();
        let sum: usize = up.iter().sum();
        samples.at_s.push(moment.as_secs_f64());
        samples.up.push(up.len());
        samples.peers_min.push(up.iter().copied().min().unwrap_or(0));
        samples.peers_max.push(up.iter().copied().max().unwrap_or(0));
        #[expect(clippy::cast_precision_loss, reason = "counts of peers are small")]
        samples.peers_mean.push(sum as f64 / up.len().max(1) as f64);
        samples.bans.push(history.bans.iter().filter(|(at, ..)| at <= moment).count());
        samples.height_min.push(tips.values().copied().min().unwrap_or(0));
        samples.height_max.push(tips.values().copied().max().unwrap_or(0));
    }
    samples
}

fn traffic(history: &History, moments: &[Duration]) -> Traffic {
    let intervals = moments.len() - 1;
    let mut bytes: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for ((interval, kind), amount) in &history.traffic {
        let row = bytes.entry((*kind).to_owned()).or_insert_with(|| vec![0; intervals]);
        // What comes after the end, while the network settles, counts to the last interval no more.
        let place = usize::try_from(*interval).unwrap_or(usize::MAX);
        if let Some(cell) = row.get_mut(place) {
            *cell += amount;
        }
    }
    Traffic { at_s: moments[1..].iter().map(Duration::as_secs_f64).collect(), bytes }
}

fn propagation(history: &History, nodes: usize) -> Vec<Propagation> {
    let mut spreads: Vec<_> = history.blocks.values().filter(|spread| spread.height.get() > 0).collect();
    spreads.sort_by_key(|spread| (spread.height, spread.seen.values().min().copied()));
    spreads.truncate(BLOCKS);
    let spread = |spread: &super::record::Spread| {
        let mut moments: Vec<_> = spread.seen.values().copied().collect();
        moments.sort_unstable();
        let first = moments.first().copied().unwrap_or_default();
        let until = |share: usize| {
            let needed = (nodes * share).div_ceil(SHARES).max(1);
            let delay = moments.get(needed - 1)?.saturating_sub(first);
            u64::try_from(delay.as_millis()).ok()
        };
        Propagation {
            height: spread.height.get(),
            at_s: first.as_secs_f64(),
            nodes: moments.len(),
            delays_ms: (0..=SHARES).map(until).collect(),
        }
    };
    spreads.into_iter().map(spread).collect()
}

impl Report {
    /// The version of the format that is written.
    pub const VERSION: u32 = 1;

    /// Writes `report.json` and `report.html` into a directory, which is made if need be.
    ///
    /// # Errors
    /// If that cannot be written.
    pub fn write(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        let json = serde_json::to_string(self)?;
        for (name, content) in [("report.html", page::fill(&json)), ("report.json", json)] {
            let path = dir.join(name);
            fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }

    /// Reads the `report.json` of a directory.
    ///
    /// # Errors
    /// If there is none, or it is of another version.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("report.json");
        let text = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let report: Self =
            serde_json::from_slice(&text).with_context(|| format!("{} is no report", path.display()))?;
        anyhow::ensure!(
            report.version == Self::VERSION,
            "{} has version {}, this program reads version {}",
            path.display(),
            report.version,
            Self::VERSION
        );
        Ok(report)
    }
}
