//! `config check` and `config print-default`.

use std::{fs, path::Path};

use anyhow::Result;

use super::{args::ConfigCommand, output};
use crate::config::{ConfigError, Layers, default_file};

pub(super) fn config(command: &ConfigCommand) -> Result<()> {
    match command {
        ConfigCommand::Check { file } => {
            let layers = Layers { file: Some(read(file)?), ..Layers::default() };
            let config = layers.load()?;
            output::line(format_args!("{}: a valid configuration for {}", file.display(), config.network))
        }
        ConfigCommand::PrintDefault { network } => output::text(&default_file(*network)),
    }
}

/// A configuration file with its path.
pub(super) fn read(path: &Path) -> Result<(std::path::PathBuf, String), ConfigError> {
    let text =
        fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    Ok((path.to_owned(), text))
}
