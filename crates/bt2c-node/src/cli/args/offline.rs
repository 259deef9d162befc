//! Commands that need no running node: identity, chain, genesis, configuration.

use std::{num::NonZeroU64, path::PathBuf, time::Duration};

use bt2c_proto::Network;
use clap::{Args, Subcommand};

use super::{HomeArgs, NodeArgs, block_time};
use crate::config::parse_size;

/// `id`
#[derive(Debug, Args)]
pub(crate) struct IdArgs {
    #[command(flatten)]
    pub(crate) home: HomeArgs,
    /// Print the public key alone, as PEM, for `genesis new`
    #[arg(long, conflicts_with = "json")]
    pub(crate) public_key: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `chain`
#[derive(Debug, Subcommand)]
pub(crate) enum ChainCommand {
    /// Show the tip and the size of the chain
    #[command(after_help = "Example:\n  bt2c-node chain info --data-dir ./node1 --json")]
    Info(ChainQueryArgs),
    /// Check every block from the genesis to the tip
    #[command(after_help = "Example:\n  bt2c-node chain verify --data-dir ./node1")]
    Verify(ChainQueryArgs),
    /// Write all blocks to a file, one JSON object a line
    #[command(
        after_help = "Example:\n  bt2c-node chain export blocks.jsonl --data-dir ./node1\n  bt2c-node chain export - | gzip > blocks.jsonl.gz"
    )]
    Export(ChainFileArgs),
    /// Check and append the blocks of a file
    #[command(after_help = "Example:\n  bt2c-node chain import blocks.jsonl --data-dir ./node2")]
    Import(ChainFileArgs),
    /// Remove the oldest blocks to save room; places of blocks and the genesis block stay
    #[command(
        after_help = "Example:\n  bt2c-node chain prune --keep 20GB --data-dir ./node1\n\nBlocks go a whole file at a time (64 MiB unless `segment_bytes` says otherwise), and none that a reorganisation could need. They can only be had again from other nodes. To let a running node do it, set `prune_bytes` in the configuration."
    )]
    Prune(ChainPruneArgs),
    /// Append valid blocks, signed with the devnet's published keys
    #[command(after_help = "Example:\n  bt2c-node chain generate --blocks 10000 --txs 10 --data-dir ./node1")]
    Generate(ChainGenerateArgs),
}

/// `chain info`, `chain verify`
#[derive(Debug, Args)]
pub(crate) struct ChainQueryArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `chain export`, `chain import`
#[derive(Debug, Args)]
pub(crate) struct ChainFileArgs {
    /// The file, or - for standard input or output
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// Print what was done as JSON; an export to standard output prints its blocks alone
    #[arg(long)]
    pub(crate) json: bool,
}

/// `chain prune`
#[derive(Debug, Args)]
pub(crate) struct ChainPruneArgs {
    /// Bytes of blocks to keep, at most, such as 20GB or 512MiB
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) keep: u64,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `chain generate`
#[derive(Debug, Args)]
pub(crate) struct ChainGenerateArgs {
    /// How many blocks
    #[arg(long, value_name = "N")]
    pub(crate) blocks: u64,
    /// Transactions in each
    #[arg(long, value_name = "M", default_value_t = 0)]
    pub(crate) txs: usize,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `genesis`
#[derive(Debug, Subcommand)]
pub(crate) enum GenesisCommand {
    /// Make the genesis file of a new network
    #[command(
        after_help = "Example:\n  bt2c-node id --public-key > a.pub\n  bt2c-node genesis new --network testnet --validator a.pub --validator b.pub:2 --out genesis.json"
    )]
    New(GenesisNewArgs),
    /// Show the genesis that a node would start with
    #[command(
        after_help = "Example:\n  bt2c-node genesis show --network devnet --json\n  bt2c-node genesis show --genesis genesis.json"
    )]
    Show(GenesisShowArgs),
}

/// `genesis new`
#[derive(Debug, Args)]
pub(crate) struct GenesisNewArgs {
    /// The network
    #[arg(long)]
    pub(crate) network: Network,
    /// File with a public key (PEM or base64) and, after a colon, its weight; may be repeated
    #[arg(long = "validator", value_name = "PUBKEYFILE[:WEIGHT]", required = true, value_parser = validator)]
    pub(crate) validators: Vec<(PathBuf, NonZeroU64)>,
    /// Length of a slot
    #[arg(long, default_value = "300s", value_parser = block_time)]
    pub(crate) block_time: Duration,
    /// Genesis time, in seconds since the Unix epoch [default: now]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) time: Option<u64>,
    /// Where to write it [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(long, requires = "out")]
    pub(crate) force: bool,
    /// Print what was written as JSON; without --out the genesis is printed, which is JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `genesis show`
#[derive(Debug, Args)]
pub(crate) struct GenesisShowArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// Print JSON: the form of the file
    #[arg(long)]
    pub(crate) json: bool,
}

/// `config`
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check a configuration file
    #[command(after_help = "Example:\n  bt2c-node config check ./node1/config.toml")]
    Check {
        /// The file
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a configuration file with every key at its default, explained
    #[command(after_help = "Example:\n  bt2c-node config print-default --network mainnet > config.toml")]
    PrintDefault {
        /// Whose defaults: mainnet, testnet or devnet
        #[arg(long, default_value_t = Network::Testnet)]
        network: Network,
    },
}

fn validator(text: &str) -> Result<(PathBuf, NonZeroU64), String> {
    match text.rsplit_once(':') {
        Some((file, weight)) if !file.is_empty() && weight.bytes().all(|byte| byte.is_ascii_digit()) => {
            let weight = weight.parse().map_err(|_| format!("weight {weight:?} is not 1 to 2^64-1"))?;
            Ok((file.into(), weight))
        }
        _ => Ok((text.into(), NonZeroU64::MIN)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validators_have_a_weight_of_one_unless_told() {
        assert_eq!(validator("a.pub"), Ok(("a.pub".into(), NonZeroU64::MIN)));
        assert_eq!(validator("dir:x/a.pub:7"), Ok(("dir:x/a.pub".into(), NonZeroU64::new(7).unwrap())));
        assert!(validator("a.pub:0").is_err());
    }
}
