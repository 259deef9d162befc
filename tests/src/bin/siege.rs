//! `siege`: hundreds of hostile connections against a node, and a table of how it fared. Run by `cargo xtask siege`.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use bt2c_tests::siege::{Kind, Mix, Siege, run};
use clap::Parser;

/// Lays siege to a node of its own and prints how it fared; fails if anything does not hold.
#[derive(Debug, Parser)]
struct Args {
    /// The node's program
    #[arg(long, value_name = "FILE")]
    node: PathBuf,
    /// For how long
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Hostile connections at a time
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=1000))]
    connections: u16,
    /// One kind of hostile connection alone, by its name in the table
    #[arg(long, value_name = "KIND", value_parser = Kind::from_name)]
    only: Option<Kind>,
    /// Where to keep the node's log
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Where to write the numbers as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let connections = usize::from(args.connections);
    let mix = args.only.map_or_else(|| Mix::of_all(connections), |kind| Mix::only(kind, connections));
    let siege = Siege {
        node: args.node,
        duration: Duration::from_secs(args.seconds),
        mix,
        before: Duration::from_secs(args.seconds.min(15)),
        log: args.log,
        identities: connections,
    };
    let runtime = tokio::runtime::Runtime::new().context("no runtime")?;
    let report = runtime.block_on(run(siege))?;
    print!("{report}");
    if let Some(path) = args.json {
        std::fs::write(&path, serde_json::to_vec_pretty(&report)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(if report.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
