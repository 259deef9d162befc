//! Hundreds of hostile connections of mixed kinds against one real node, which is a process of its own.
//!
//! Eight honest peers are connected before. The node has to keep them, to answer their pings, to serve them blocks, and to
//! take the blocks that they push; to keep its memory under a bound that follows from its limits; to give back every
//! descriptor; to ban nobody honest; not to panic; and to stop cleanly. [`run`] measures all that and returns a
//! [`Report`], which says what did not hold.
//!
//! The network is a main network of its own making, because there the limits on groups of addresses hold for loopback as
//! they do for the world. The node runs with its defaults.

mod attacks;
mod honest;
mod hostile;
mod kinds;
mod node;
mod report;
mod world;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    num::NonZero,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use bt2c_node::api::BanView;
use bt2c_p2p::P2PConfig;
use bt2c_proto::{BlockHash, Network, limits::FRAME_LIMIT};
use bt2c_sync::SyncConfig;
use tokio::{
    net::TcpSocket,
    task::JoinSet,
    time::{MissedTickBehavior, timeout},
};
use tokio_util::sync::CancellationToken;

use self::{
    honest::{HONEST, Honest, NEWCOMER, PUSH_EVERY},
    hostile::Camp,
    node::{Node, TICK},
    world::{SERVED, World},
};
use crate::{Attacker, Shown, ip, now, victim::credentials};

pub use self::{
    kinds::{Kind, Mix},
    report::{KindReport, Report, RoundTrips, Times, Usage},
};

/// What to do.
#[derive(Debug, Clone)]
pub struct Siege {
    /// The node's program, `bt2c-node` or one that does the same.
    pub node: PathBuf,
    /// For how long.
    pub duration: Duration,
    /// Hostile connections at a time, by kind.
    pub mix: Mix,
    /// For how long round trips are measured before.
    pub before: Duration,
    /// Where to keep the node's log.
    pub log: Option<PathBuf>,
    /// Hostile identities made besides the 54 published ones.
    pub identities: usize,
}

/// How long a newcomer waits for TLS and hello: what the node itself allows for them.
const CONNECTED_WITHIN: Duration = Duration::from_secs(10);

/// How long the node may take to give back what it held for the attackers: their connections' deadlines are 10 s.
const RECOVERY: Duration = Duration::from_secs(20);

/// How often a newcomer tries to get in.
const NEWCOMER_EVERY: Duration = Duration::from_secs(3);

/// Lays siege to a node and says how it fared.
///
/// # Errors
/// What kept the siege from being held. What the node did wrong is in the report.
pub async fn run(siege: Siege) -> Result<Report> {
    let dir = tempfile::tempdir()?;
    let pushes = siege.duration.as_secs() / PUSH_EVERY.as_secs() + 8;
    let world = World::make(dir.path(), now(), pushes)?;
    let node = Node::start(&siege.node, dir.path(), &world).await?;
    let honest = Honest::connect(node.addr, &world).await?;
    let camp = Arc::new(Camp::new(node.addr, world, siege.identities)?);
    tokio::time::sleep(siege.before).await;
    let mut report =
        Report { connections: siege.mix.total(), duration_s: siege.duration.as_secs(), ..Report::default() };
    report.before = RoundTrips::new(&honest.take_trips());
    report.memory.start = node.memory()?.0;
    report.memory.bound = report.memory.start + bound(&siege.mix);
    report.descriptors.start = count(node.descriptors()?);
    let processor = node.processor_s()?;

    honest.push_blocks();
    let stop = CancellationToken::new();
    let besieged = Arc::clone(&camp).besiege(&siege.mix, stop.clone());
    let watched = async {
        let watched = watch(&node, &camp, siege.duration, &mut report).await;
        report.processor_s = node.processor_s()? - processor;
        report.during = RoundTrips::new(&honest.take_trips());
        stop.cancel();
        watched
    };
    let (besieged, watched) = tokio::join!(besieged, watched);
    besieged.and(watched)?;

    recover(&node, &honest, &mut report).await?;
    judge(&node, &honest, &camp, &siege.mix, &mut report).await?;
    honest.stop().await;
    let ended = node.stop().await?;
    report.log_bytes = count(ended.log.len());
    if let Some(path) = siege.log {
        std::fs::write(&path, &ended.log).with_context(|| format!("cannot write {}", path.display()))?;
    }
    report.expect(ended.code == Some(0), || format!("the node ended with {:?}", ended.code));
    report.expect(ended.complaints.is_empty(), || format!("in the node's log: {:#?}", ended.complaints));
    Ok(report)
}

/// Looks at the node and lets newcomers knock, for as long as the siege lasts.
async fn watch(node: &Node, camp: &Camp, duration: Duration, report: &mut Report) -> Result<()> {
    let begun = instant();
    let mut rhythm = tokio::time::interval(TICK);
    rhythm.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut newcomers = JoinSet::new();
    while begun.elapsed() < duration {
        rhythm.tick().await;
        report.descriptors.peak = report.descriptors.peak.max(count(node.descriptors()?));
        if begun.elapsed() >= NEWCOMER_EVERY * report.newcomers.0 && newcomers.is_empty() {
            report.newcomers.0 += 1;
            newcomers.spawn(knock(report.newcomers.0, node.addr, camp.world.genesis));
        }
        while let Some(let_in) = newcomers.try_join_next() {
            report.newcomers.1 += u32::from(let_in?);
        }
    }
    Ok(())
}

/// An honest newcomer says hello; whether it is answered.
async fn knock(turn: u32, node: SocketAddr, genesis: BlockHash) -> bool {
    let from = ip(2, u8::try_from(turn % 250).unwrap_or(0) + 1);
    let knocking = async {
        let socket = TcpSocket::new_v4().ok()?;
        socket.bind(SocketAddr::new(from, 0)).ok()?;
        let stream = socket.connect(node).await.ok()?;
        let mut peer =
            Attacker::over(stream, &Shown::credentials(&credentials(NEWCOMER, now()))).await.ok()?;
        let mut hello = peer.hello();
        hello["genesis_hash"] = genesis.to_string().into();
        peer.try_greet(hello).await.then_some(())
    };
    timeout(CONNECTED_WITHIN, knocking).await.is_ok_and(|let_in| let_in.is_some())
}

/// Waits until the node has given back its descriptors and has every block that was pushed.
async fn recover(node: &Node, honest: &Honest, report: &mut Report) -> Result<()> {
    let begun = instant();
    loop {
        report.descriptors.end = count(node.descriptors()?);
        report.blocks.1 = node.get("/status").await?["height"].as_u64().context("a height")? - SERVED;
        report.blocks.0 = honest.pushed();
        let recovered =
            report.descriptors.end <= report.descriptors.start && report.blocks.1 >= report.blocks.0;
        if recovered && honest.overdue(Duration::ZERO) == 0 || begun.elapsed() > RECOVERY {
            break;
        }
        tokio::time::sleep(TICK).await;
    }
    (report.memory.end, report.memory.peak) = node.memory()?;
    Ok(())
}

/// Holds what was measured against what must hold.
async fn judge(node: &Node, honest: &Honest, camp: &Camp, mix: &Mix, report: &mut Report) -> Result<()> {
    let bans: Vec<BanView> = serde_json::from_value(node.get("/bans").await?)?;
    report.kinds = mix.kinds().map(|(kind, _)| kind_report(kind, camp, &bans)).collect();
    report.banned_identities = bans.iter().filter(|ban| ban.subject.len() == PEER_ID).count();
    report.endings = endings(&node.get_text("/metrics").await?);
    let of_honest = |ban: &&BanView| honest.subjects().contains(&ban.subject);
    let failures =
        bans.iter().filter(of_honest).map(|ban| format!("honest {} is banned: {}", ban.subject, ban.reason));
    report.failures.extend(failures);
    report.failures.extend(honest.lost());
    let peers = node.get("/peers").await?;
    let up = peers.as_array().context("a list of peers")?.iter().filter_map(|peer| peer["peer_id"].as_str());
    let up = up.filter(|id| honest.subjects().iter().any(|subject| subject == id)).count();
    report.expect(up == usize::from(HONEST), || {
        format!("{up} of {HONEST} honest peers are connected at the end")
    });
    let overdue = honest.overdue(Duration::ZERO);
    report.expect(overdue == 0, || format!("{overdue} pings of honest peers were not answered"));
    report.judge();
    Ok(())
}

fn kind_report(kind: Kind, camp: &Camp, bans: &[BanView]) -> KindReport {
    let (tally, prefix) = (camp.tally(kind), hostile::prefix(kind));
    let mut banned = BTreeMap::new();
    for ban in bans.iter().filter(|ban| ban.subject.starts_with(&prefix)) {
        *banned.entry(ban.reason.clone()).or_default() += 1;
    }
    KindReport {
        kind: kind.name(),
        made: tally.made.load(Ordering::Relaxed),
        closed: tally.closed.load(Ordering::Relaxed),
        banned,
        is_offence: kind.is_offence(),
    }
}

/// How many connections ended, by whom and with which code, as `/metrics` counts them.
fn endings(metrics: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| -> Option<(String, u64)> {
        let labels = line.strip_prefix("bt2c_p2p_connections_closed_total{by=\"")?;
        let (by, rest) = labels.split_once("\",code=\"")?;
        let (code, count) = rest.split_once("\"} ")?;
        Some((format!("{by} {code}"), count.parse().ok().filter(|count| *count > 0)?))
    };
    metrics.lines().filter_map(line).collect()
}

/// What the node may take beyond what it had, in bytes, by its default limits.
fn bound(mix: &Mix) -> u64 {
    let (p2p, sync) =
        (P2PConfig::for_network(Network::Mainnet, BlockHash::from_bytes([0; 32])), SyncConfig::default());
    let askers = mix.count(&[Kind::SlowReader, Kind::RequestFlood, Kind::HalfClose]).min(p2p.max_connections);
    // Who asks and does not read: a full queue, and a frame on its way out.
    let queues = askers * (p2p.send_queue_bytes + FRAME_LIMIT);
    // Everybody else: a frame on its way in, and a message that waits for its handler.
    let frames = (p2p.max_connections - askers) * 2 * FRAME_LIMIT;
    // One body is parsed on each core at a time, and takes up to 16 times its length.
    let parsing = std::thread::available_parallelism().map_or(1, NonZero::get) * 16 * FRAME_LIMIT;
    // Blocks that are being checked, and that wait for their parents, once as objects and once as bytes.
    let blocks = 2 * (sync.max_pushed_bytes + sync.max_orphan_bytes);
    (queues + frames + parsing + blocks) as u64
}

/// Characters of a PeerId.
const PEER_ID: usize = 64;

fn count(value: usize) -> u64 {
    value as u64
}

/// The one clock of the siege.
#[expect(clippy::disallowed_methods, reason = "real round trips of a real process are measured")]
fn instant() -> Instant {
    Instant::now()
}
