//! `conformance`: checks any implementation from outside, and shows what came of it.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use bt2c_proto::{Host, PeerAddr};
use indicatif::ProgressStyle;

use super::{
    args::ConformanceArgs,
    logging::progress_bar,
    output::{self, Paint, colours, pairs, table},
};
use crate::conformance::{self, Identities, Options, Report, Verdict};

pub(super) fn conformance(args: &ConformanceArgs) -> Result<ExitCode> {
    let identities = Identities::make();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let report = runtime.block_on(async {
        let target = resolve(&args.target).await?;
        reach(target, args.step).await.with_context(|| {
            format!("nothing answers at {target}: is the peer running, and is this its port for peers?")
        })?;
        let options = Options {
            target,
            network: args.network,
            genesis: args.genesis,
            only: args.only.clone(),
            gentle: args.gentle,
            one_address: args.one_address,
            step: args.step,
            whole: args.timeout,
        };
        let bar = progress_bar();
        bar.set_style(ProgressStyle::with_template("{pos:>3} {msg}").expect("a fixed template"));
        let report = conformance::run(&options, identities, |check| {
            bar.inc(1);
            bar.set_message(check.name);
        })
        .await;
        bar.finish_and_clear();
        Ok::<_, anyhow::Error>(report)
    })?;
    if args.json {
        output::json(&report)?;
    } else {
        show(&report)?;
    }
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn resolve(target: &PeerAddr) -> Result<SocketAddr> {
    if let Some(addr) = target.socket_addr() {
        return Ok(addr);
    }
    let Host::Name(name) = &target.host else { unreachable!("all other hosts are addresses") };
    let mut found = tokio::net::lookup_host((&**name, target.port)).await;
    let first = found.as_mut().ok().and_then(Iterator::next);
    first.with_context(|| format!("{name} has no address: is the name right?"))
}

/// Whether there is anything to check. Closed again at once, before TLS.
async fn reach(target: SocketAddr, step: Duration) -> Result<()> {
    let stream = tokio::time::timeout(step, tokio::net::TcpStream::connect(target)).await;
    stream.context("no answer in time")?.map(drop).map_err(Into::into)
}

fn show(report: &Report) -> Result<()> {
    let rows = report.checks.iter().map(|row| {
        vec![row.name.to_owned(), row.says.to_owned(), row.result.name().to_owned(), row.seen.clone()]
    });
    output::text(&table(&["check", "the protocol page says", "result", "seen"], &[], rows.collect()))?;
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "not told".to_owned());
    output::text("\n")?;
    output::text(&pairs(&[
        ("peer", format!("{} at {}", or_none(&report.node_id), report.target)),
        ("software", or_none(&report.user_agent)),
        ("network", format!("{} (genesis {})", or_none(&report.network), or_none(&report.genesis_hash))),
    ]))?;
    let paint = Paint(colours(&std::io::stdout()));
    let counts = format!(
        "{} passed, {} failed, {} skipped, {} banned",
        report.passed, report.failed, report.skipped, report.banned
    );
    output::line(if report.is_good() { paint.good(counts) } else { paint.bad(counts) })?;
    if report.node_id.is_none() {
        output::line(
            "without its hello nothing else can be checked; perhaps it bans this address, after an earlier run",
        )?;
    }
    let failed = report.checks.iter().filter(|row| row.result == Verdict::Failed);
    output::text(&pairs(&failed.map(|row| (row.name, row.seen.clone())).collect::<Vec<_>>()))
}
