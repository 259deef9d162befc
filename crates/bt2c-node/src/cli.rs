//! The command line: what the binary does besides running a node.
//!
//! Exit codes: 0 on success, 2 for bad usage, 1 otherwise, with one line on standard error that says what failed, on
//! what, and what to do.

mod args;
mod chain;
mod change;
mod client;
mod config;
mod conformance;
mod devnet;
mod explain;
mod genesis;
mod identity;
mod logging;
mod outfile;
pub(crate) mod output;
mod progress;
mod query;
mod run;
mod settings;
mod tx;
mod watch;

use std::{io::Write, process::ExitCode};

use anyhow::Result;
use clap::{Parser, error::ErrorKind};

use args::{Cli, Command};

/// Runs the command that the process's arguments name; the whole of the binary.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing can be done if even this cannot be printed.
            let _ = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked { ExitCode::SUCCESS } else { ExitCode::from(2) };
        }
    };
    match dispatch(cli.command) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {}", output::causes(&error));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<ExitCode> {
    match command {
        Command::Devnet(args) => return devnet::devnet(args),
        Command::Conformance(args) => return conformance::conformance(&args),
        Command::Run(args) => run::run(*args),
        Command::Id(args) => identity::id(&args),
        Command::Status(args) => query::status(&args),
        Command::Peers(args) => query::peers(&args),
        Command::Bans(args) => query::bans(&args),
        Command::Verify(args) => query::verify(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Ban(args) => change::ban(args),
        Command::Unban(args) => change::unban(&args),
        Command::Allow(args) => change::allow(&args),
        Command::Disallow(args) => change::disallow(&args),
        Command::Connect(args) => change::connect(args),
        Command::Disconnect(args) => change::disconnect(&args),
        Command::Tx(command) => tx::tx(command),
        Command::Chain(command) => chain::chain(command),
        Command::Genesis(command) => genesis::genesis(command),
        Command::Config(command) => config::config(&command),
    }
    .map(|()| ExitCode::SUCCESS)
}
