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
    /// Lengths of the chains, none with a transaction; each is compared with the first.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [10_000, 100_000, 1_000_000],
        value_parser = clap::value_parser!(u64).range(1..))]
    blocks: Vec<u64>,
    #[command(flatten)]
    limits: Limits,
    /// Prints the figures as JSON.
    #[arg(long)]
    json: bool,
}

/// What a longer chain may take, in what the first one does and the index's cache, which only a long chain fills: a quarter
/// more for the allocator.
const FLAT: f64 = 1.25;

#[derive(Debug, Serialize)]
struct Figures {
    #[serde(flatten)]
    synced: Synced,
    /// Of the memory to that of the first chain.
    ratio: f64,
}

/// Syncs each chain in a process of its own, and compares what these had in memory at most.
pub(super) fn run(root: &Path, args: &Args) -> Result<()> {
    let bench = directory(root)?;
    let mut lines: Vec<Figures> = Vec::new();
    for &blocks in &args.blocks {
        let (chain, tip) = Recipe { blocks, transactions: 0 }.make(&bench)?;
        let scratch = Scratch::new(&bench, "memory")?;
        eprintln!("syncing {blocks} blocks");
        let synced = Servers::start(&chain, 1, args.limits)?.sync(scratch.path(), tip.height.get(), None)?;
        ensure!(synced.peak_memory > 0, "this system does not tell how much memory a process had");
        let first = lines.first().map_or(synced.peak_memory, |first| first.synced.peak_memory);
        lines.push(Figures { ratio: as_float(synced.peak_memory) / as_float(first), synced });
    }
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&lines)?),
        false => print(&lines),
    }
    let cache = as_float(DiskStoreConfig::default().cache_bytes as u64);
    let most = lines.iter().map(|line| line.synced.peak_memory).max().unwrap_or(0);
    let first = lines.first().map_or(0, |first| first.synced.peak_memory);
    ensure!(
        as_float(most) <= (as_float(first) + cache) * FLAT,
        "memory is not flat: {} is more than a quarter above the first chain's {} and the index's cache",
        mib(most),
        mib(first)
    );
    Ok(())
}

fn print(lines: &[Figures]) {
    let mut table = table(&["blocks", "seconds", "blocks/s", "peak memory", "ratio"], 0);
    for Figures { synced, ratio } in lines {
        table.add_row([
            synced.blocks.to_string(),
            format!("{:.1}", synced.seconds),
            format!("{:.0}", synced.rate()),
            mib(synced.peak_memory),
            format!("{ratio:.2}"),
        ]);
    }
    println!("{table}");
}
