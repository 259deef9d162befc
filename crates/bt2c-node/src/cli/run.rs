//! `run`: a node until it is told to stop.

use std::time::Duration;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    args::RunArgs,
    logging,
    settings::{Settings, set, set_list},
};
use crate::{
    config::{Layers, Raw},
    node::{NodeEvent, NodeEvents, P2PNode, SyncProgress},
};

/// How often progress is logged where there is no terminal to show a bar on.
const PROGRESS_LOG_INTERVAL: u32 = 10;

/// How long background work may take to end after a clean stop.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) fn run(args: RunArgs) -> Result<()> {
    let settings = Settings::with(&args.node, None, |layers| lay_flags(&args, layers))?;
    let genesis = settings.genesis()?;
    let bar = logging::progress_bar();
    logging::init(&settings.config.log, settings.config.log_format, &bar)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    let outcome = runtime.block_on(async {
        let mut signals = Signals::new()?;
        let node = tokio::select! {
            biased;
            () = signals.next() => return Ok(()),
            node = P2PNode::builder(settings.config).genesis(genesis).start() => node?,
        };
        tell_start(&node);
        let mut watch = Watch { events: node.subscribe(), bar, reports: 0 };
        tokio::select! {
            biased;
            () = signals.next() => {}
            () = watch.run() => {}
        }
        tracing::info!("stopping; a second signal ends at once");
        watch.bar.finish_and_clear();
        tokio::select! {
            biased;
            () = signals.next() => exit_at_once(),
            () = node.stop() => {}
        }
        tracing::info!("stopped");
        Ok(())
    });
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    outcome
}

fn lay_flags(args: &RunArgs, layers: &mut Layers) {
    set(layers, "node_id", args.node_id.as_ref());
    set_list(layers, "listen", &args.listen);
    set(layers, "external_addr", args.external_addr.as_ref());
    set_list(layers, "connect", &args.connect);
    set_list(layers, "seeds", &args.seed);
    set(layers, "max_connections", args.max_connections.as_ref());
    set(layers, "api", args.api.as_ref());
    set(layers, "key", args.key.as_ref());
    set(layers, "log_format", args.log_format.as_ref());
    set(layers, "log", args.log.as_ref());
    if args.produce {
        layers.flag("produce", Raw::Bool(true));
    }
}

fn tell_start(node: &P2PNode) {
    let handle = node.handle();
    let (local, tip) = (handle.p2p().local(), handle.sync().tip());
    let listen: Vec<_> = local.listen.iter().map(ToString::to_string).collect();
    let api = node.api().map_or_else(|| "off".to_owned(), |(addr, _)| format!("http://{addr}/"));
    tracing::info!(
        network = %local.network,
        node_id = %local.node_id,
        peer_id = %local.peer_id,
        p2p = %listen.join(","),
        %api,
        height = %tip.height,
        "listening"
    );
}

/// A second signal: whoever sent it does not want to wait.
fn exit_at_once() {
    std::process::exit(130);
}

/// SIGINT and SIGTERM.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(super) fn new() -> Result<Self> {
        let catch = |kind| signal(kind).context("signals cannot be caught");
        Ok(Self { interrupt: catch(SignalKind::interrupt())?, terminate: catch(SignalKind::terminate())? })
    }

    /// Completes at the next one.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Turns a node's events into log lines and progress.
struct Watch {
    events: NodeEvents,
    bar: ProgressBar,
    reports: u32,
}

impl Watch {
    /// Runs until the node has stopped.
    async fn run(&mut self) {
        while let Some(event) = self.events.next().await {
            self.tell(&event);
        }
    }

    /// Peers come and go at their own will, so they are told at debug; what an operator wants to know is above.
    fn tell(&mut self, event: &NodeEvent) {
        match event {
            NodeEvent::PeerUp(peer) => {
                tracing::debug!(peer = %peer.peer_id.short(), addr = %peer.addr, direction = %peer.direction, "peer up");
            }
            NodeEvent::PeerDown(down) => {
                tracing::debug!(peer = %down.peer.peer_id.short(), addr = %down.peer.addr, reason = %down.reason, "peer down");
            }
            NodeEvent::Block(block) if self.bar.position() == 0 => {
                tracing::info!(height = %block.height, hash = %block.hash.short(), txs = block.transactions, "block");
            }
            NodeEvent::Block(_) => {}
            NodeEvent::Reorganisation(change) => {
                tracing::warn!(height = %change.height, fork = %change.fork_height, reverted = change.reverted, "reorganisation");
            }
            NodeEvent::Transaction(transaction) => {
                tracing::debug!(hash = %transaction.hash.short(), "transaction")
            }
            NodeEvent::Ban(ban) => {
                tracing::warn!(subject = %ban.subject, reason = %ban.reason, evidence = %ban.evidence, "banned");
            }
            NodeEvent::Unban(unban) => tracing::info!(subject = %unban.subject, "ban ended"),
            NodeEvent::Sync(progress) => self.progress(progress),
            NodeEvent::Warning(warning) => {
                tracing::error!(what = %warning.what, detail = %warning.detail, "look at this")
            }
            NodeEvent::Lagged(lagged) => tracing::debug!(missed = lagged.missed, "events missed"),
        }
    }

    fn progress(&mut self, progress: &SyncProgress) {
        if progress.height >= progress.target_height {
            tracing::info!(height = %progress.height, "synced");
            self.bar.reset();
            self.bar.finish_and_clear();
            self.reports = 0;
            return;
        }
        if self.bar.is_hidden() {
            if self.reports.is_multiple_of(PROGRESS_LOG_INTERVAL) {
                tracing::info!(
                    height = %progress.height,
                    target = %progress.target_height,
                    peers = progress.peers,
                    blocks_per_s = progress.blocks_per_s,
                    "syncing"
                );
            }
        } else {
            self.bar.set_style(style());
            self.bar.set_length(progress.target_height.get());
            self.bar.set_message(format!("{} blocks/s from {} peers", progress.blocks_per_s, progress.peers));
        }
        self.bar.set_position(progress.height.get());
        self.reports += 1;
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("syncing {bar:30} {pos} of {len}, {msg}, {eta} left")
        .expect("the template is a constant")
}
