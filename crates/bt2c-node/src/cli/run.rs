//! `run`: a node until it is told to stop.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    args::RunArgs,
    logging,
    settings::{Settings, set, set_list},
    watch::Watch,
};
use crate::{
    config::{Layers, Raw},
    node::P2PNode,
};

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
        let mut watch = Watch::new(&node.handle(), bar);
        tokio::select! {
            biased;
            () = signals.next() => {}
            () = watch.run() => {}
        }
        tracing::info!("stopping; a second signal ends at once");
        watch.finish();
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
