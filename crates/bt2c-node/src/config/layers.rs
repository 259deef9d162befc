//! The four sources of a configuration, laid over each other: defaults, file, environment, flags.

use std::{fmt, io, path::PathBuf};

use bt2c_proto::Network;

use super::{
    file,
    keys::{self, Key},
    nearest::nearest,
    node_config::{Contradiction, NodeConfig},
    value::{Raw, Setting, ValueError},
};

/// Prefix of environment variables that set keys.
const PREFIX: &str = "BT2C_";

/// Variables with this prefix that are flags of the command line and no keys.
const NO_KEYS: [&str; 2] = ["BT2C_DATA_DIR", "BT2C_CONFIG"];

/// What is laid over the defaults.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// The network if no layer names one; testnet if this does not either.
    pub network: Option<Network>,
    /// The configuration file: its path, for messages, and its text.
    pub file: Option<(PathBuf, String)>,
    /// The environment; variables that do not begin with `BT2C_` are skipped.
    pub environment: Vec<(String, String)>,
    pub(crate) flags: Vec<(&'static str, Raw)>,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A line of the configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// A flag.
    Flag(&'static str),
    /// A setting of a simulation: key and value.
    Setting(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "--{}", name.replace('_', "-")),
            Self::Setting(setting) => write!(f, "setting {setting}"),
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The file is no TOML.
    #[error("{}:{line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        message: Box<str>,
    },
    /// No key has that name.
    #[error("{origin}: no key is named {name:?}{}", hint(*nearest))]
    UnknownKey {
        /// Where it stands.
        origin: Origin,
        /// As it stands there.
        name: Box<str>,
        /// The key that was probably meant.
        nearest: Option<&'static str>,
    },
    /// The value does not fit the key.
    #[error("{origin}: {key}: {source}")]
    Value {
        /// Where it stands.
        origin: Origin,
        /// The key.
        key: &'static str,
        /// What is wrong.
        #[source]
        source: ValueError,
    },
    /// The values contradict each other.
    #[error("configuration: {0}")]
    Contradiction(#[from] Contradiction),
}

fn hint(nearest: Option<&str>) -> String {
    match nearest {
        Some(name) => format!("; the nearest is {name:?}"),
        None => "; `bt2c-node config print-default` lists them all".to_owned(),
    }
}

/// One value on its way into the configuration.
struct Assignment {
    key: &'static Key,
    raw: Result<Raw, ValueError>,
    origin: Origin,
}

impl Layers {
    /// Lays a flag over everything else.
    ///
    /// # Panics
    /// If no key has that name, which a test of the command line rules out.
    pub(crate) fn flag(&mut self, key: &'static str, value: Raw) {
        assert!(keys::find(key).is_some(), "flags set keys that exist, {key} does not");
        self.flags.push((key, value));
    }

    /// The configuration that results.
    ///
    /// # Errors
    /// The first key or value that is wrong, in the order file, environment, flags.
    pub fn load(self) -> Result<NodeConfig, ConfigError> {
        Ok(self.resolve()?.0)
    }

    /// Like [`Layers::load`]; also tells whether a layer named the network.
    pub(crate) fn resolve(self) -> Result<(NodeConfig, bool), ConfigError> {
        let fallback = self.network;
        let assignments = self.assignments()?;
        let mut named = None;
        for assignment in assignments.iter().filter(|assignment| assignment.key.name == "network") {
            named = Some(
                assignment
                    .value()
                    .and_then(|raw| Network::read(raw).map_err(|source| assignment.error(source)))?,
            );
        }
        let mut config = NodeConfig::for_network(named.or(fallback).unwrap_or(Network::Testnet));
        for assignment in &assignments {
            let raw = assignment.value()?;
            (assignment.key.apply)(&mut config, raw).map_err(|source| assignment.error(source))?;
        }
        config.validate()?;
        Ok((config, named.is_some()))
    }

    fn assignments(self) -> Result<Vec<Assignment>, ConfigError> {
        let mut all = Vec::new();
        if let Some((path, text)) = self.file {
            let entries = file::parse(&text).map_err(|error| ConfigError::Syntax {
                path: path.clone(),
                line: error.line,
                message: error.message.into(),
            })?;
            for entry in entries {
                let origin = Origin::File { path: path.clone(), line: entry.line };
                all.push(Assignment { key: known(&entry.key, &origin)?, raw: entry.value, origin });
            }
        }
        for (name, text) in self.environment {
            let Some(key) = name.strip_prefix(PREFIX) else { continue };
            if NO_KEYS.contains(&name.as_str()) {
                continue;
            }
            let origin = Origin::Variable(name.clone());
            let key = known(&key.to_ascii_lowercase(), &origin)?;
            all.push(Assignment { key, raw: key.kind.read_variable(&text), origin });
        }
        for (name, raw) in self.flags {
            let key = keys::find(name).expect("checked when the flag was laid");
            all.push(Assignment { key, raw: Ok(raw), origin: Origin::Flag(name) });
        }
        Ok(all)
    }
}

impl NodeConfig {
    /// Sets one key to what a text says, as an environment variable would.
    ///
    /// # Errors
    /// If there is no such key, or the text does not fit it. What keys have to do with each other is checked at the
    /// start of a node.
    pub fn set(&mut self, key: &str, text: &str) -> Result<(), ConfigError> {
        let origin = Origin::Setting(format!("{key}={text}"));
        let key = known(key, &origin)?;
        let raw = key.kind.read_variable(text);
        let assignment = Assignment { key, raw, origin };
        (key.apply)(self, assignment.value()?).map_err(|source| assignment.error(source))
    }
}

impl Assignment {
    fn value(&self) -> Result<&Raw, ConfigError> {
        self.raw.as_ref().map_err(|source| self.error(source.clone()))
    }

    fn error(&self, source: ValueError) -> ConfigError {
        ConfigError::Value { origin: self.origin.clone(), key: self.key.name, source }
    }
}

fn known(name: &str, origin: &Origin) -> Result<&'static Key, ConfigError> {
    keys::find(name).ok_or_else(|| ConfigError::UnknownKey {
        origin: origin.clone(),
        name: name.into(),
        nearest: nearest(name, keys::all().map(|key| key.name)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Layers {
        Layers { file: Some(("c.toml".into(), text.to_owned())), ..Layers::default() }
    }

    #[test]
    fn later_layers_win() {
        let mut layers = file("max_connections = 1\nping_interval = \"20s\"\nmin_peers = 3\n");
        layers.environment = vec![("BT2C_MAX_CONNECTIONS".into(), "2".into()), ("HOME".into(), "/".into())];
        layers.environment.push(("BT2C_MIN_PEERS".into(), "4".into()));
        layers.flag("max_connections", Raw::Integer(3));
        let config = layers.load().unwrap();
        assert_eq!(config.p2p.max_connections, 3);
        assert_eq!(config.p2p.discovery.outbound_wanted, 4);
        assert_eq!(config.p2p.ping_interval.as_secs(), 20);
        assert_eq!(config.p2p.connection_timeout.as_secs(), 10);
    }

    #[test]
    fn the_network_brings_its_own_defaults_whatever_layer_names_it() {
        let mut layers = file("network = \"testnet\"");
        layers.flag("network", Raw::Text("devnet".into()));
        let (config, named) = layers.resolve().unwrap();
        assert!(named);
        assert_eq!(config.network, Network::Devnet);
        assert_eq!(config.p2p.listen[0].port(), Network::Devnet.default_port());
        assert_eq!(config.p2p.discovery.network, Network::Devnet);
        let (config, named) = Layers::default().resolve().unwrap();
        assert_eq!((config.network, named), (Network::Testnet, false));
    }

    #[test]
    fn unknown_keys_name_their_place_and_the_nearest_key() {
        let error = file("\n\nmax_conections = 7\n").load().unwrap_err().to_string();
        assert_eq!(error, "c.toml:3: no key is named \"max_conections\"; the nearest is \"max_connections\"");
        let environment = vec![("BT2C_PNG_INTERVAL".into(), "3s".into())];
        let error = Layers { environment, ..Layers::default() }.load().unwrap_err().to_string();
        assert!(error.contains("BT2C_PNG_INTERVAL") && error.contains("\"ping_interval\""), "{error}");
    }

    #[test]
    fn bad_values_name_their_place_and_key() {
        let error = file("ping_interval = 30\n").load().unwrap_err().to_string();
        assert!(error.starts_with("c.toml:1: ping_interval: ") && error.contains("\"30s\""), "{error}");
        let error = file("connect = [\"nonsense\"]\n").load().unwrap_err().to_string();
        assert!(error.starts_with("c.toml:1: connect: \"nonsense\": "), "{error}");
        let error = file("a = = 1").load().unwrap_err().to_string();
        assert!(error.starts_with("c.toml:1: "), "{error}");
    }

    #[test]
    fn contradictions_are_refused() {
        let error = file("silence_timeout = \"10s\"").load().unwrap_err().to_string();
        assert!(error.contains("silence_timeout") && error.contains("ping_interval"), "{error}");
    }
}
