//! `config check` and `config print-default`.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use bt2c_proto::Network;
use serde::Serialize;

use super::{args::ConfigCommand, logging, output};
use crate::{
    config::{ConfigError, Layers, default_file},
    genesis::{GenesisFile, GenesisFileError},
};

/// What `config check --json` prints of a valid file.
#[derive(Serialize)]
struct CheckView<'a> {
    file: &'a Path,
    network: Network,
    valid: bool,
}

pub(super) fn config(command: &ConfigCommand) -> Result<()> {
    match command {
        ConfigCommand::Check { file, json } => check(file, *json),
        ConfigCommand::PrintDefault { network } => output::text(&default_file(*network)),
    }
}

fn check(file: &Path, json: bool) -> Result<()> {
    let layers = Layers { file: Some(read(file)?), ..Layers::default() };
    let config = layers.load()?;
    let network = config.network;
    let name = || file.display().to_string();
    logging::parse_filter(&config.log).with_context(name)?;
    if let Some(path) = &config.genesis {
        let found = GenesisFile::read(path).with_context(name)?.network();
        if found != network {
            return Err(GenesisFileError::OtherNetwork { found, expected: network }).with_context(name);
        }
    }
    if json {
        return output::json(&CheckView { file, network, valid: true });
    }
    output::line(format_args!("{}: a valid configuration for {network}", file.display()))
}

/// A configuration file with its path.
pub(super) fn read(path: &Path) -> Result<(std::path::PathBuf, String), ConfigError> {
    let text =
        fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    Ok((path.to_owned(), text))
}
