//! `bench sync`: how fast a fresh node has a chain, beside what one stream and one disk could do.

use std::path::Path;

use anyhow::{Context, Result};
use bt2c_proto::Height;
use bt2c_sync::{BlockRef, ChainStore, Checkpoint};
use bytes::Bytes;
use serde::Serialize;

use super::{
    chain::{self, Recipe},
    figures::{Scratch, as_float, directory, median, mib, table},
    limit::{self, Wire},
    node::{Limits, Servers, Synced},
};

/// Options of `bench sync`.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// Blocks to sync, of one transaction each.
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1..))]
    blocks: u64,
    /// From how many peers; several numbers are measured one after the other.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [1, 4],
        value_parser = clap::value_parser!(u8).range(1..=16))]
    peers: Vec<u8>,
    /// How often everything is measured; medians are shown.
    #[arg(long, value_name = "K", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    #[command(flatten)]
    limits: Limits,
    /// Prints the figures as JSON.
    #[arg(long)]
    json: bool,
}

/// The figures of one way to sync.
#[derive(Debug, Serialize)]
struct Line {
    peers: u8,
    /// Whether signatures of transactions are checked, or a checkpoint stands at the tip.
    signatures: bool,
    blocks_per_second: f64,
    megabytes_per_second: f64,
    /// How many cores the syncing node kept busy.
    cores_busy: f64,
    peak_memory: u64,
    /// What one stream into a flat file does.
    flat_blocks_per_second: f64,
    /// For how many blocks a second all cores could check the signatures, if they did nothing else: one of a block whose
    /// transaction's is spared, else two.
    cores_blocks_per_second: f64,
    /// To the lower of these: the median of the ratios within one run.
    ratio: f64,
    target: f64,
}

/// What was measured at once, in one run.
struct Run {
    /// Blocks a second of the flat program.
    flat: f64,
    /// Signatures a second.
    rsa: f64,
    /// For each number of peers and each way.
    synced: Vec<(u8, bool, Synced)>,
}

/// What ratios to the limit are wanted: checkpointed, and with signatures.
const TARGETS: (f64, f64) = (0.7, 0.8);

/// Measures everything `runs` times in turn, and prints the medians.
pub(super) fn run(root: &Path, args: &Args) -> Result<()> {
    let bench = directory(root)?;
    let (dir, tip) = Recipe { blocks: args.blocks, transactions: 1 }.make(&bench)?;
    let wire = Wire::new(&bodies(&dir)?)?;
    let mut runs = Vec::new();
    for number in 1..=args.runs {
        eprintln!("run {number} of {}", args.runs);
        runs.push(measure(args, &bench, &dir, tip, &wire)?);
    }
    let lines = lines(args, &wire, &runs);
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&lines)?),
        false => print(&lines),
    }
    Ok(())
}

/// All bodies above the genesis block.
pub(super) fn bodies(dir: &Path) -> Result<Vec<Bytes>> {
    let store = chain::open(dir)?;
    Ok(store.bodies(Height::new(1)..=store.tip().height, usize::MAX)?)
}

fn measure(args: &Args, bench: &Path, dir: &Path, tip: BlockRef, wire: &Wire) -> Result<Run> {
    let scratch = Scratch::new(bench, "flat")?;
    let flat = wire.stored(scratch.path(), chain::genesis()?.hash()).context("the flat program")?;
    let rsa = limit::verifications()?;
    let mut synced = Vec::new();
    for &peers in &args.peers {
        let servers = Servers::start(dir, peers, args.limits)?;
        for signatures in [false, true] {
            let scratch = Scratch::new(bench, "sync")?;
            let checkpoint = Checkpoint { height: tip.height, hash: tip.hash };
            let checkpoint = (!signatures).then_some(checkpoint);
            let height = tip.height.get();
            synced.push((peers, signatures, servers.sync(scratch.path(), height, checkpoint)?));
        }
    }
    Ok(Run { flat, rsa, synced })
}

fn lines(args: &Args, wire: &Wire, runs: &[Run]) -> Vec<Line> {
    let block = as_float(wire.body_bytes()) / as_float(wire.blocks) / 1e6;
    let ways = args.peers.iter().flat_map(|peers| [(*peers, false), (*peers, true)]);
    ways.enumerate()
        .map(|(way, (peers, signatures))| {
            let synced = |run: &Run| run.synced[way].2;
            // A block's own signature is always checked, its transaction's unless there is a checkpoint.
            let cores = |run: &Run| run.rsa / if signatures { 2.0 } else { 1.0 };
            let limit = |run: &Run| run.flat.min(cores(run));
            let rate = median(runs.iter().map(|run| synced(run).rate()));
            Line {
                peers,
                signatures,
                blocks_per_second: rate,
                megabytes_per_second: rate * block,
                cores_busy: median(
                    runs.iter().map(|run| synced(run).processor_seconds / synced(run).seconds),
                ),
                peak_memory: runs.iter().map(|run| synced(run).peak_memory).max().unwrap_or(0),
                flat_blocks_per_second: median(runs.iter().map(|run| run.flat)),
                cores_blocks_per_second: median(runs.iter().map(cores)),
                ratio: median(runs.iter().map(|run| synced(run).rate() / limit(run))),
                target: if signatures { TARGETS.1 } else { TARGETS.0 },
            }
        })
        .collect()
}

fn print(lines: &[Line]) {
    let header = [
        "transaction signatures",
        "peers",
        "blocks/s",
        "MB/s",
        "cores busy",
        "peak memory",
        "flat/s",
        "cores/s",
        "ratio",
        "wanted",
    ];
    let mut table = table(&header, 1);
    for line in lines {
        table.add_row([
            if line.signatures { "checked" } else { "checkpoint at the tip" }.to_owned(),
            line.peers.to_string(),
            format!("{:.0}", line.blocks_per_second),
            format!("{:.1}", line.megabytes_per_second),
            format!("{:.1}", line.cores_busy),
            mib(line.peak_memory),
            format!("{:.0}", line.flat_blocks_per_second),
            format!("{:.0}", line.cores_blocks_per_second),
            format!("{:.2}", line.ratio),
            format!("{:.1}", line.target),
        ]);
    }
    println!("{table}");
}
