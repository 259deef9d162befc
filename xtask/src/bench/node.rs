//! Real nodes on loopback addresses: those that serve a chain, and the one that syncs it. Each kind is a process of its own,
//! so that peak memory is that of the syncing node alone.

use std::{
    io::{self, Read},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use bt2c_p2p::{Env, P2PConfig, P2PManager};
use bt2c_proto::Network;
use bt2c_security::{Credentials, fixtures};
use bt2c_sync::{BlockchainSynchronizer, ChainStore, Checkpoint, Handle, SyncConfig, ValidatorSchedule};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use super::{
    chain,
    figures::{peak_memory, processor_time, rate},
};

/// Options that a measured node has.
#[derive(Debug, Clone, Copy, clap::Args)]
#[group(skip)]
pub(super) struct Limits {
    /// Requests a minute that the serving nodes take from each peer, instead of the usual 100.
    #[arg(long, value_name = "N")]
    pub(super) requests_per_minute: Option<NonZeroU32>,
}

impl Limits {
    fn arguments(self) -> Vec<String> {
        self.requests_per_minute.map(|limit| format!("--requests-per-minute={limit}")).into_iter().collect()
    }
}

/// `bench serve`, hidden: nodes that serve a chain until their standard input ends.
#[derive(Debug, clap::Args)]
pub(super) struct ServeArgs {
    chain: PathBuf,
    #[arg(long)]
    peers: u8,
    #[command(flatten)]
    limits: Limits,
}

/// `bench join`, hidden: a node that syncs a chain from nothing.
#[derive(Debug, clap::Args)]
pub(super) struct JoinArgs {
    /// Where it keeps the chain.
    chain: PathBuf,
    /// Up to which height.
    #[arg(long)]
    height: u64,
    #[arg(long)]
    checkpoint: Option<Checkpoint>,
    #[arg(long, required = true)]
    peer: Vec<SocketAddr>,
}

/// What came of a sync.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Synced {
    pub(super) blocks: u64,
    pub(super) seconds: f64,
    /// Of all cores together; 0 where the system does not tell.
    pub(super) processor_seconds: f64,
    /// Bytes that were resident at most; 0 where the system does not tell.
    pub(super) peak_memory: u64,
}

impl Synced {
    pub(super) fn rate(&self) -> f64 {
        rate(self.blocks, Duration::from_secs_f64(self.seconds))
    }
}

/// A sync that makes no progress for so long has failed.
const STUCK: Duration = Duration::from_secs(120);

/// A node: everything below the façade that syncs.
struct Node {
    manager: P2PManager,
    synchronizer: BlockchainSynchronizer,
}

impl Node {
    async fn start(
        number: u8,
        store: Arc<dyn ChainStore>,
        schedule: Arc<ValidatorSchedule>,
        limits: Limits,
    ) -> Result<Self> {
        let env = Env::real().context("no randomness")?;
        let ip = IpAddr::V4(Ipv4Addr::new(127, 1, number, 1));
        let mut config = P2PConfig::for_network(Network::Devnet, schedule.parameters().hash());
        config.listen = vec![SocketAddr::new(ip, 0)];
        config.features = BlockchainSynchronizer::FEATURES.to_vec();
        if let Some(limit) = limits.requests_per_minute {
            config.security.requests_per_minute = limit;
        }
        let credentials = Credentials::issue(fixtures::identity(number.into()), None, env.clock.now())?;
        let manager = P2PManager::start(config, env.clone(), credentials, store.tip().tip()).await?;
        let handle = manager.handle();
        let synchronizer =
            BlockchainSynchronizer::start(SyncConfig::default(), env, handle, store, schedule)?;
        Ok(Self { manager, synchronizer })
    }

    async fn stop(self) {
        self.synchronizer.stop().await;
        self.manager.stop().await;
    }
}

fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")
}

/// Serves until told to end. Tells the addresses on a line.
pub(super) fn serve(args: &ServeArgs) -> Result<()> {
    let (store, schedule) = (chain::open(&args.chain)?, chain::schedule(None)?);
    runtime()?.block_on(async {
        let mut nodes = Vec::new();
        for number in 1..=args.peers {
            nodes.push(Node::start(number, store.clone(), Arc::clone(&schedule), args.limits).await?);
        }
        let addrs: Vec<_> =
            nodes.iter().flat_map(|node| node.manager.handle().local().listen.clone()).collect();
        println!("{}", serde_json::to_string(&addrs)?);
        let (ended, end) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let ends = io::stdin().read(&mut [0]);
            drop((ends, ended));
        });
        // An error is the sender's end, which is what is waited for.
        let _: Result<(), _> = end.await;
        for node in nodes {
            node.stop().await;
        }
        Ok(())
    })
}

/// Syncs, and tells on a line what came of it.
pub(super) fn join(args: &JoinArgs) -> Result<()> {
    let (store, schedule) = (chain::open(&args.chain)?, chain::schedule(args.checkpoint)?);
    let seconds = runtime()?.block_on(async {
        let node = Node::start(0, store, schedule, Limits { requests_per_minute: None }).await?;
        let seconds = until_synced(&node, args).await;
        node.stop().await;
        seconds
    })?;
    let synced = Synced {
        blocks: args.height,
        seconds,
        processor_seconds: processor_time().unwrap_or(0.0),
        peak_memory: peak_memory().unwrap_or(0),
    };
    println!("{}", serde_json::to_string(&synced)?);
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
async fn until_synced(node: &Node, args: &JoinArgs) -> Result<f64> {
    let start = std::time::Instant::now();
    let handle = node.synchronizer.handle();
    let mut events = handle.subscribe();
    for peer in &args.peer {
        node.manager.handle().connect_to_peer((*peer).into()).await?;
    }
    while handle.tip().height.get() < args.height {
        // A reader that was too slow is told so: the tip is looked at all the same.
        let event = tokio::time::timeout(STUCK, events.recv()).await;
        ensure!(event.is_ok(), "no progress at height {}: {}", handle.tip().height, status(&handle).await);
    }
    Ok(start.elapsed().as_secs_f64())
}

async fn status(handle: &Handle) -> String {
    handle.status().await.map_or_else(|| "stopped".to_owned(), |status| format!("{status:?}"))
}

/// The process that serves; ends with this value.
pub(super) struct Servers {
    child: Child,
    /// Its end ends the child.
    stdin: Option<ChildStdin>,
    addrs: Vec<SocketAddr>,
}

impl Servers {
    /// Starts so many nodes that serve the chain in a directory.
    pub(super) fn start(chain: &std::path::Path, peers: u8, limits: Limits) -> Result<Self> {
        let mut command = own("serve")?;
        command.arg(chain).arg(format!("--peers={peers}")).args(limits.arguments());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take();
        let mut line = String::new();
        let out = child.stdout.take().context("the servers' output is piped")?;
        io::BufRead::read_line(&mut io::BufReader::new(out), &mut line)?;
        let addrs = serde_json::from_str(&line).context("the serving nodes did not start")?;
        Ok(Self { child, stdin, addrs })
    }

    /// Syncs a chain from them, in a process of its own.
    pub(super) fn sync(
        &self,
        into: &std::path::Path,
        height: u64,
        checkpoint: Option<Checkpoint>,
    ) -> Result<Synced> {
        let mut command = own("join")?;
        command.arg(into).arg(format!("--height={height}"));
        command.args(checkpoint.map(|checkpoint| format!("--checkpoint={checkpoint}")));
        command.args(self.addrs.iter().map(|addr| format!("--peer={addr}")));
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            bail!("the syncing node: {}", output.status);
        }
        serde_json::from_slice(&output.stdout).context("reading what the syncing node says")
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // It ends by itself; if it has ended already, that is what is wanted.
        let _ = self.child.wait();
    }
}

/// A hidden command of this program.
fn own(command: &str) -> Result<Command> {
    let mut own = Command::new(std::env::current_exe().context("finding this program")?);
    own.args(["bench", command]);
    Ok(own)
}
