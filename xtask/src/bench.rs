//! `cargo xtask bench`: what the network costs, beside what it would cost at least.
//!
//! Every figure stands beside a limit that was measured in the same run, for times alone differ from machine to machine and
//! from hour to hour. Where a limit is a matter of code alone, instructions are counted instead. docs/performance.md says
//! what is measured, and how.

mod chain;
mod figures;
mod fixed;
mod instructions;
mod limit;
mod measured;
mod memory;
mod node;
mod stages;
mod store;
mod sync;

use std::path::Path;

use anyhow::{Result, bail};

use crate::ci;

/// Options of `bench`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    gate: instructions::Args,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// How fast a fresh node syncs a chain from one peer and from four, beside one stream into a flat file.
    Sync(sync::Args),
    /// Whether a node that syncs a million blocks needs more memory than for ten thousand.
    Memory(memory::Args),
    /// How fast the chain store appends, imports and exports, beside a flat file that is synced as often.
    Store(store::Args),
    /// What each step of a block's way costs on one core.
    Stages(stages::Args),
    /// Nodes that serve a chain.
    #[command(hide = true)]
    Serve(node::ServeArgs),
    /// A node that syncs a chain.
    #[command(hide = true)]
    Join(node::JoinArgs),
    /// One fixed piece of work, to be counted by callgrind.
    #[command(hide = true)]
    Measured(measured::Args),
}

/// Runs a benchmark, in an optimised build: of another one, the figures would mean nothing.
///
/// # Errors
/// What could not be measured, or does not hold.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    if cfg!(debug_assertions) {
        return run_optimised(root);
    }
    match &args.command {
        Some(Command::Sync(args)) => sync::run(root, args),
        Some(Command::Memory(args)) => memory::run(root, args),
        Some(Command::Store(args)) => store::run(root, args),
        Some(Command::Stages(args)) => stages::run(root, args),
        Some(Command::Serve(args)) => node::serve(args),
        Some(Command::Join(args)) => node::join(args),
        Some(Command::Measured(args)) => measured::run(args),
        None if args.gate.asked() => instructions::run(root, &args.gate),
        None => bail!("nothing to measure: see --help"),
    }
}

/// Builds this program for release and starts it with the same arguments.
fn run_optimised(root: &Path) -> Result<()> {
    eprintln!("this build is not optimised: going on in a release build");
    let mut command = ci::command(root, ci::cargo());
    command.args(["run", "--quiet", "--release", "--package", "xtask", "--"]);
    command.args(std::env::args_os().skip(1));
    ci::succeed(command)
}
