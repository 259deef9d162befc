//! The commented default configuration.

use bt2c_proto::Network;

use super::{
    keys::{Key, SECTIONS},
    node_config::NodeConfig,
};

/// Width of comment lines.
const WIDTH: usize = 100;

/// A configuration file with every key at its default on `network`, and for each what it does, its unit, and what goes
/// wrong when it is too low or too high.
pub fn default_file(network: Network) -> String {
    let config = NodeConfig::for_network(network);
    let mut text = String::from(
        "# BT2C node configuration, every key at its default.\n\
         # Precedence: defaults < this file < environment (BT2C_ and the key in upper case) < flags.\n\
         # Durations are a whole number and a unit: ms, s, m, h, d.\n\
         # The block time is no key: it belongs to the genesis, so that all nodes of a network have the same\n\
         # (`bt2c-node genesis new --block-time`, 300s unless told otherwise).\n",
    );
    for section in SECTIONS {
        text.push_str(&format!("\n# --- {} ---\n", section.title));
        for key in section.keys {
            text.push_str(&entry(key, &config));
        }
    }
    text
}

fn entry(key: &Key, config: &NodeConfig) -> String {
    let value = (key.show)(config);
    let bounds = format!("Value: {}. Default: {value}.", key.unit);
    format!("\n{}{}{} = {value}\n", wrap(key.about), wrap(&bounds), key.name)
}

/// Comment lines of at most [`WIDTH`] characters, broken at spaces.
fn wrap(text: &str) -> String {
    let mut lines = String::new();
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH && line != "#" {
            lines.push_str(&line);
            lines.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    lines + &line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Layers, keys};

    #[test]
    fn the_printed_defaults_read_back_as_the_defaults_with_every_key_once() {
        for network in [Network::Mainnet, Network::Testnet, Network::Devnet] {
            let text = default_file(network);
            let layers = Layers { file: Some(("config.toml".into(), text.clone())), ..Layers::default() };
            let loaded = layers.load().unwrap();
            let defaults = NodeConfig::for_network(network);
            for key in keys::all() {
                assert_eq!((key.show)(&loaded), (key.show)(&defaults), "{}", key.name);
                let lines = text.lines().filter(|line| line.starts_with(&format!("{} = ", key.name)));
                assert_eq!(lines.count(), 1, "{}", key.name);
            }
        }
    }

    #[test]
    fn comments_are_wrapped() {
        assert!(
            default_file(Network::Testnet).lines().all(|line| line.len() <= WIDTH || !line.starts_with('#'))
        );
    }
}
