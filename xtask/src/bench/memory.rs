//! `bench memory`: whether a long chain takes more memory to sync than a short one.

use std::path::Path;

use anyhow::{Result, ensure};
use bt2c_sync::DiskStoreConfig;
use serde::Serialize;

use super::{
    chain::Recipe,
    figures::{Scratch, as_float, directory, mib, table},
    node::{Limits, Servers, Synced},
};

/// Options of `bench memory`.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// Blocks of the long chain; none has a transaction.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    blocks: u64,
    /// Blocks of the short chain.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    beside: u64,
    #[command(flatten)]
    limits: Limits,
    /// Prints the figures as JSON.
    #[arg(long)]
    json: bool,
}

/// What the long chain may take beside what the short one does and the index's cache, which only a long chain fills: a
/// quarter for the allocator.
const FLAT: f64 = 1.25;

const MIB: f64 = 1_048_576.0;

#[derive(Debug, Serialize)]
struct Figures {
    synced: [Synced; 2],
    ratio: f64,
    /// Bytes that the long chain may take.
    bound: f64,
}

/// Syncs both chains, each in a process of its own, and compares what these had in memory at most.
pub(super) fn run(root: &Path, args: &Args) -> Result<()> {
    let bench = directory(root)?;
    let sync = |blocks| -> Result<Synced> {
        let (chain, tip) = Recipe { blocks, transactions: 0 }.make(&bench)?;
        let scratch = Scratch::new(&bench, "memory")?;
        eprintln!("syncing {blocks} blocks");
        Servers::start(&chain, 1, args.limits)?.sync(scratch.path(), tip.height.get(), None)
    };
    let synced = [sync(args.beside)?, sync(args.blocks)?];
    let [short, long] = synced.map(|synced| as_float(synced.peak_memory));
    ensure!(short > 0.0, "this system does not tell how much memory a process had");
    let cache = as_float(DiskStoreConfig::default().cache_bytes as u64);
    let figures = Figures { synced, ratio: long / short, bound: (short + cache) * FLAT };
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&figures)?),
        false => print(&figures),
    }
    ensure!(long <= figures.bound, "memory is not flat: more than {:.0} MiB", figures.bound / MIB);
    Ok(())
}

fn print(figures: &Figures) {
    let mut table = table(&["blocks", "seconds", "blocks/s", "peak memory", "ratio"], 0);
    for (synced, ratio) in figures.synced.iter().zip([1.0, figures.ratio]) {
        table.add_row([
            synced.blocks.to_string(),
            format!("{:.1}", synced.seconds),
            format!("{:.0}", synced.rate()),
            mib(synced.peak_memory),
            format!("{ratio:.2}"),
        ]);
    }
    println!("{table}");
    println!(
        "the longer one may take {:.0} MiB: a quarter more than the shorter one and the index's cache",
        figures.bound / MIB
    );
}
