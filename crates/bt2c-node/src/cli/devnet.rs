//! `devnet`: sets up what the devnet module needs from a process.

use std::{net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use bt2c_p2p::env::RealClock;
use bt2c_proto::Network;
use indicatif::ProgressBar;
use tokio_util::sync::CancellationToken;

use super::{args::DevnetArgs, logging, run::Signals};
use crate::{
    config::{LogFormat, NodeConfig},
    descriptors,
    devnet::{self, Options, Screen},
};

/// How long background work may take to end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) fn devnet(args: DevnetArgs) -> Result<ExitCode> {
    // Removed with everything in it when it is dropped; a directory that was named stays.
    let temporary =
        tempfile::Builder::new().prefix("bt2c-devnet-").tempdir().context("no temporary directory")?;
    let data_dir = args.data_dir.clone().unwrap_or_else(|| temporary.path().to_owned());
    let default_api = SocketAddr::from(([127, 0, 0, 1], 26660));
    let options = Options {
        nodes: usize::from(args.nodes),
        block_time: args.block_time,
        txs_per_block: args.txs_per_block,
        duration: args.duration,
        data_dir,
        api: args.api.map_or(Some(default_api), |api| api.0),
        api_may_move: args.api.is_none(),
        port: args.port,
    };
    let filter = std::env::var("BT2C_LOG").unwrap_or_else(|_| "error".to_owned());
    logging::init(&filter, LogFormat::Text, &ProgressBar::hidden())?;
    // All of them are in this process. If it may not open as many files, they meet all the same: there are no others.
    let each = descriptors::needed(&NodeConfig::for_network(Network::Devnet));
    descriptors::raise(each.saturating_mul(u64::from(args.nodes)));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    let agreed = runtime.block_on(async {
        let screen = Screen::new(Arc::new(RealClock::new()));
        let stop = CancellationToken::new();
        let mut signals = Signals::new()?;
        let run = devnet::run(&options, &screen, &stop);
        tokio::pin!(run);
        loop {
            tokio::select! {
                biased;
                () = signals.next() => {
                    if stop.is_cancelled() {
                        return Ok(false);
                    }
                    stop.cancel();
                }
                outcome = &mut run => return outcome,
            }
        }
    });
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    drop(temporary);
    Ok(if agreed? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
