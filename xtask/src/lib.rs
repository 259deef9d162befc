//! Checks and benchmarks of the BT2C workspace, as `cargo xtask COMMAND`.
//!
//! Each command is a module with a `run` function; [`Command`] is the list of them.

pub mod bench;
pub mod ci;
pub mod coverage;
pub mod fuzz;
pub mod layers;
pub mod siege;
pub mod simulate;
mod table;
#[cfg(test)]
mod threats;
pub mod vectors;

use std::path::Path;

use anyhow::{Context, Result};

/// Checks of the BT2C workspace.
#[derive(Debug, clap::Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
pub struct Xtask {
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Measures beside a limit of the same run, or counts instructions against committed figures.
    Bench(bench::Args),
    /// Everything that must hold before a change lands, in order, stopping at the first failure.
    Ci(ci::Args),
    /// Prints which lines of bt2c-proto and bt2c-security their tests reach.
    Coverage,
    /// Runs the fuzz targets, each for some seconds.
    Fuzz(fuzz::Args),
    /// Proves that dependencies only point down, and that pure crates and cores touch no runtime, clock or randomness.
    Layers,
    /// Hundreds of hostile connections against one real node, measured: see CONTRIBUTING.md.
    Siege(siege::Args),
    /// Runs networks of the real node on virtual time.
    Simulate(Box<simulate::Args>),
    /// Checks docs/protocol.md and the code against the golden vectors.
    Vectors {
        /// First writes the vectors into the page.
        #[arg(long)]
        bless: bool,
    },
}

impl Xtask {
    /// Runs the command that was asked for.
    ///
    /// # Errors
    /// What does not hold, or what kept the command from finding out.
    pub fn run(self) -> Result<()> {
        let root =
            Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask is a member of a workspace")?;
        match self.command {
            Command::Bench(args) => bench::run(root, &args),
            Command::Ci(args) => ci::run(root, &args),
            Command::Coverage => coverage::run(root),
            Command::Fuzz(args) => fuzz::run(root, &args),
            Command::Simulate(args) => simulate::run(&args),
            Command::Siege(args) => siege::run(root, &args),
            Command::Layers => layers::run(root),
            Command::Vectors { bless } => vectors::run(root, bless),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Xtask::command().debug_assert();
    }
}
