//! `cargo xtask siege`: builds the node and what besieges it, and lets them at each other.

use std::{ffi::OsString, path::Path};

use anyhow::Result;

use crate::{ci, layers};

/// What the siege is told.
#[derive(Debug, Default, clap::Args)]
#[command(disable_help_flag = true)]
pub struct Args {
    /// Arguments of the siege itself: `--help` lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    args: Vec<OsString>,
}

/// Lays siege to a node built from this very source, as the tests build it.
///
/// # Errors
/// Something did not hold, which is told, or the siege could not be held.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    let build = [
        "build",
        "--package",
        "bt2c-node",
        "--bin",
        "bt2c-node",
        "--package",
        "bt2c-tests",
        "--bin",
        "siege",
    ];
    ci::run_cargo(root, &build)?;
    let built = layers::metadata(root)?.target_directory.join("debug");
    let mut siege = ci::command(root, built.join("siege"));
    siege.arg("--node").arg(built.join("bt2c-node")).args(&args.args);
    ci::succeed(siege)
}
