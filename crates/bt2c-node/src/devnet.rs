//! Several real nodes in one process: sockets on 127.0.0.1 … 127.0.0.N, TLS, stores on disk, blocks, transactions.
//!
//! The course of a devnet: start the nodes, wait until all have met, produce blocks and transactions for a while, stop
//! producing, let the last block settle, compare the tips.

mod load;
mod nodes;
mod screen;
mod watch;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use bt2c_p2p::Env;
use bt2c_proto::Genesis;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::genesis::{DEVNET_VALIDATORS, devnet_genesis_with, remembered};

pub(crate) use screen::Screen;

use load::Load;
use nodes::Nodes;

/// How long the nodes may take to meet before blocks are produced anyway.
const MEETING: Duration = Duration::from_secs(15);

/// How long the last block may take to reach everyone, beside one block time.
const SETTLING: Duration = Duration::from_secs(5);

/// How long tips must stay the same to count as settled.
const STILL: Duration = Duration::from_millis(500);

/// What a devnet is to be.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) nodes: usize,
    pub(crate) block_time: Duration,
    pub(crate) txs_per_block: u32,
    pub(crate) duration: Duration,
    pub(crate) data_dir: PathBuf,
    /// Node 1's control API.
    pub(crate) api: Option<SocketAddr>,
    /// Whether another port may be taken if that one is in use.
    pub(crate) api_may_move: bool,
    pub(crate) port: u16,
}

/// Runs a devnet to its end, or until `stop`; whether all nodes ended on the same tip.
pub(crate) async fn run(options: &Options, screen: &Screen, stop: &CancellationToken) -> Result<bool> {
    let env = Env::real().context("no randomness from the system")?;
    let genesis = genesis(options, &env)?;
    // An earlier run in the same directory decided on the block time.
    let asked = options.block_time;
    let options = &Options { block_time: genesis.block_time(), ..options.clone() };
    screen.title(options, &genesis);
    if asked != options.block_time {
        screen.kept_block_time(asked, options);
    }
    let tasks = TaskTracker::new();
    let watching = CancellationToken::new();
    let (watch, feed) = watch::watch(options.nodes, env.clock.clone(), screen.clone(), watching.clone());
    let summary = watch.summary();
    tasks.spawn(watch.run());
    let nodes = Nodes::start(options, &env, &genesis, screen, feed).await?;
    live(options, &env, &nodes, screen, stop, &tasks).await;
    let agreed = settle(options, &env, &nodes).await;
    watching.cancel();
    tasks.close();
    tasks.wait().await;
    screen.summary(&nodes.rows(&summary).await, agreed);
    nodes.stop().await;
    Ok(agreed)
}

/// The genesis of an earlier run in the same directory, or one that begins now.
fn genesis(options: &Options, env: &Env) -> Result<Genesis> {
    let first = options.data_dir.join("node1");
    if let Some(genesis) = remembered(&*env.disk, &first)? {
        return Ok(genesis);
    }
    let now = env.clock.now().as_secs();
    devnet_genesis_with(now, options.block_time, options.nodes.min(DEVNET_VALIDATORS))
        .context("devnet genesis")
}

/// From the first connection to the last block.
async fn live(
    options: &Options,
    env: &Env,
    nodes: &Nodes,
    screen: &Screen,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) {
    let end = env.clock.now() + options.duration;
    let meeting = tokio::time::timeout(MEETING, nodes.meet());
    tokio::select! {
        biased;
        () = stop.cancelled() => return,
        () = env.clock.sleep_until(end) => return,
        met = meeting => {
            if met.is_err() {
                screen.warn("not all nodes have met yet; producing blocks anyway");
            }
        }
    }
    nodes.start_producing();
    let loading = stop.child_token();
    tasks.spawn(Load::new(options, env.clone(), nodes).run(loading.clone()));
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = env.clock.sleep_until(end) => {}
    }
    loading.cancel();
    nodes.stop_producing();
}

/// Waits, not for long, until all nodes have had the same tip for a moment; whether they do. A block that was being made
/// when its producer was stopped may still come.
async fn settle(options: &Options, env: &Env, nodes: &Nodes) -> bool {
    let end = env.clock.now() + options.block_time + SETTLING;
    let mut tips = nodes.tips();
    let mut since = env.clock.now();
    loop {
        let now = env.clock.now();
        let agreed = tips.windows(2).all(|pair| pair[0] == pair[1]);
        if now >= end || (agreed && now.since(since) >= STILL) {
            return agreed;
        }
        env.clock.sleep_until(now + STILL / 5).await;
        let current = nodes.tips();
        if current != tips {
            (tips, since) = (current, env.clock.now());
        }
    }
}
