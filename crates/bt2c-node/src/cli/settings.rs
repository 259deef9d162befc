//! What a command that works with a node's data is configured with: the four layers, the data directory, the genesis.

use std::path::PathBuf;

use anyhow::Result;
use bt2c_p2p::env::RealDisk;
use bt2c_proto::{Genesis, Network};

use super::{args::NodeArgs, config};
use crate::{
    config::{Layers, NodeConfig, Raw, Setting},
    genesis::{self, GenesisFile, GenesisFileError, devnet_genesis},
    home::{CONFIG_FILE, default_data_dir},
};

/// A resolved configuration.
pub(super) struct Settings {
    pub(super) config: NodeConfig,
    pub(super) home: PathBuf,
    /// The genesis of `--genesis` or the configuration.
    given: Option<Genesis>,
    /// The genesis that the data directory was started with.
    remembered: Option<Genesis>,
    /// Whether the user named the network.
    named: bool,
}

impl Settings {
    /// Lays `args` over file and environment.
    pub(super) fn load(args: &NodeArgs) -> Result<Self> {
        Self::with(args, None, |_| ())
    }

    /// Like [`Settings::load`], with the devnet where nothing names a network.
    pub(super) fn load_or_devnet(args: &NodeArgs) -> Result<Self> {
        Self::with(args, Some(Network::Devnet), |_| ())
    }

    /// Like [`Settings::load`], with more flags.
    pub(super) fn with(
        args: &NodeArgs,
        fallback: Option<Network>,
        flags: impl FnOnce(&mut Layers),
    ) -> Result<Self> {
        let home = args.home.data_dir.clone().map_or_else(default_data_dir, Ok)?;
        let remembered = genesis::remembered(&RealDisk, &home)?;
        let mut layers = Layers { environment: environment(), ..Layers::default() };
        layers.file = match &args.config {
            Some(path) => Some(config::read(path)?),
            None => Some(home.join(CONFIG_FILE))
                .filter(|path| path.exists())
                .map(|path| config::read(&path))
                .transpose()?,
        };
        set(&mut layers, "network", args.network.as_ref());
        set(&mut layers, "genesis", args.genesis.as_ref());
        flags(&mut layers);
        layers.network = remembered.as_ref().map(Genesis::network).or(fallback);
        let (mut config, mut named) = layers.clone().resolve()?;
        let given = config.genesis.as_ref().map(|path| GenesisFile::read(path)).transpose()?;
        if let Some(given) = given.as_ref().filter(|_| !named) {
            // A genesis names its network, and with it the defaults.
            layers.network = Some(given.network());
            (config, named) = layers.resolve()?;
        }
        config.data_dir = Some(home.clone());
        Ok(Self { config, home, given, remembered, named })
    }

    /// The genesis to start with: the one given, or the one of the data directory, or the built-in one.
    pub(super) fn genesis(&self) -> Result<Genesis, GenesisFileError> {
        let found = match (&self.given, &self.remembered) {
            (Some(given), Some(remembered)) if given != remembered => {
                return Err(GenesisFileError::other_chain(&self.home, remembered, given));
            }
            (Some(genesis), _) => genesis.clone(),
            (None, Some(remembered)) if self.named && remembered.network() != self.config.network => {
                return Err(GenesisFileError::OtherHome {
                    dir: self.home.clone(),
                    found: remembered.network(),
                    expected: self.config.network,
                });
            }
            (None, Some(remembered)) => remembered.clone(),
            (None, None) if self.config.network == Network::Devnet => devnet_genesis(),
            (None, None) => return Err(GenesisFileError::Missing(self.config.network)),
        };
        if found.network() != self.config.network {
            return Err(GenesisFileError::OtherNetwork {
                found: found.network(),
                expected: self.config.network,
            });
        }
        Ok(found)
    }
}

/// Lays a flag over the rest, if it was given.
pub(super) fn set<T: Setting>(layers: &mut Layers, key: &'static str, value: Option<&T>) {
    if let Some(value) = value {
        layers.flag(key, value.show());
    }
}

/// Like [`set`], for flags that may be repeated.
pub(super) fn set_list<T: ToString>(layers: &mut Layers, key: &'static str, values: &[T]) {
    if !values.is_empty() {
        layers.flag(key, Raw::List(values.iter().map(T::to_string).collect()));
    }
}

/// The environment, as far as it is text: what is not cannot name a key.
fn environment() -> Vec<(String, String)> {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).collect()
}
