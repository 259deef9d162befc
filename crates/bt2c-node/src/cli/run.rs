//! `run`: a node until it is told to stop.

use std::time::Duration;

use anyhow::{Context, Result};
use bt2c_p2p::env::{Clock, RealClock};
use bt2c_proto::Time;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    args::RunArgs,
    logging,
    settings::{Settings, set, set_list},
    watch::Watch,
};
use crate::{
    config::{Layers, Raw},
    descriptors,
    node::P2PNode,
};

/// How long background work may take to end after a clean stop.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) fn run(args: RunArgs) -> Result<()> {
    let mut settings = Settings::with(&args.node, None, |layers| lay_flags(&args, layers))?;
    let genesis = settings.genesis()?;
    let bar = logging::progress_bar();
    logging::init(&settings.config.log, settings.config.log_format, &bar)?;
    if let Some(shortage) = descriptors::fit(&mut settings.config)? {
        tracing::warn!("{shortage}");
    }
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
        tracing::info!("stopping; another signal, a second later or more, ends at once");
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
    set_list(layers, "checkpoints", &args.checkpoint);
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
        height = tip.height.get(),
        "listening"
    );
}

/// A second signal: whoever sent it does not want to wait.
fn exit_at_once() {
    std::process::exit(130);
}

/// Signals closer to one another than this are one wish: GNU timeout sends two, to the process and to its group.
const SAME_WISH: Duration = Duration::from_secs(1);

/// SIGINT and SIGTERM.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    clock: RealClock,
    wishes: Wishes,
}

impl Signals {
    pub(super) fn new() -> Result<Self> {
        let catch = |kind| signal(kind).context("signals cannot be caught");
        Ok(Self {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
            clock: RealClock::new(),
            wishes: Wishes::default(),
        })
    }

    /// Completes at the next one that is not the echo of the last.
    pub(super) async fn next(&mut self) {
        loop {
            tokio::select! {
                biased;
                _ = self.interrupt.recv() => {}
                _ = self.terminate.recv() => {}
            }
            if self.wishes.is_new(self.clock.now()) {
                return;
            }
        }
    }
}

/// Tells signals that were meant from their echoes.
#[derive(Default)]
struct Wishes {
    last: Option<Time>,
}

impl Wishes {
    fn is_new(&mut self, now: Time) -> bool {
        let is_echo = self.last.is_some_and(|last| now.since(last) < SAME_WISH);
        if !is_echo {
            self.last = Some(now);
        }
        !is_echo
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_signals_at_once_are_one_wish() {
        let mut wishes = Wishes::default();
        let at = |millis: u64| Time::from_millis(10_000 + millis);
        assert!(wishes.is_new(at(0)));
        assert!(!wishes.is_new(at(1)) && !wishes.is_new(at(999)));
        assert!(wishes.is_new(at(1000)));
    }
}
