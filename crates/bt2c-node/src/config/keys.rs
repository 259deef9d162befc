//! The table of configuration keys: the one place that names each, says what it does, and where its value lives.
//!
//! The file, the environment, `config print-default` and the check for unknown keys are all made from it.

mod network;
mod node;
mod security;
mod sync;

use super::{
    node_config::NodeConfig,
    value::{Kind, Raw, ValueError},
};

/// A configuration key.
#[derive(Debug)]
pub(crate) struct Key {
    /// Its name in the file; in the environment it is upper case, after `BT2C_`.
    pub(crate) name: &'static str,
    /// What it counts or takes.
    pub(crate) unit: &'static str,
    /// What it does, and what goes wrong when it is too low or too high.
    pub(crate) about: &'static str,
    pub(crate) kind: Kind,
    pub(crate) show: fn(&NodeConfig) -> Raw,
    pub(crate) apply: fn(&mut NodeConfig, &Raw) -> Result<(), ValueError>,
}

/// Keys that belong together.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) title: &'static str,
    pub(crate) keys: &'static [Key],
}

/// All keys, in the order in which they are printed.
pub(crate) const SECTIONS: &[Section] = &[
    node::NODE,
    node::CONTROL,
    network::CONNECTIONS,
    network::TIMES,
    network::DISCOVERY,
    security::RATES,
    security::BANS,
    sync::CHAIN,
];

/// Every key.
pub(crate) fn all() -> impl Iterator<Item = &'static Key> {
    SECTIONS.iter().flat_map(|section| section.keys)
}

/// The key of that name.
pub(crate) fn find(name: &str) -> Option<&'static Key> {
    all().find(|key| key.name == name)
}

/// One entry of the table: name, the field, unit, and the text that `config print-default` shows.
macro_rules! key {
    ($name:ident, $($field:ident).+ : $type:ty, $unit:literal, $about:literal) => {
        $crate::config::keys::Key {
            name: stringify!($name),
            unit: $unit,
            about: $about,
            kind: <$type as $crate::config::value::Setting>::KIND,
            show: |config| $crate::config::value::Setting::show(&config.$($field).+),
            apply: |config, raw| {
                config.$($field).+ = <$type as $crate::config::value::Setting>::read(raw)?;
                Ok(())
            },
        }
    };
}
pub(crate) use key;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bt2c_proto::Network;

    use super::*;

    #[test]
    fn names_are_unique_and_every_key_gives_back_what_it_shows() {
        let mut names = BTreeSet::new();
        let mut config = NodeConfig::for_network(Network::Testnet);
        for key in all() {
            assert!(names.insert(key.name), "{} is listed twice", key.name);
            let shown = (key.show)(&config);
            (key.apply)(&mut config, &shown).unwrap_or_else(|error| panic!("{}: {error}", key.name));
            assert_eq!((key.show)(&config), shown, "{}", key.name);
        }
    }

    #[test]
    fn every_key_says_what_it_is() {
        for key in all() {
            assert!(!key.unit.is_empty() && key.about.len() > 20 && key.about.ends_with('.'), "{}", key.name);
        }
    }
}
