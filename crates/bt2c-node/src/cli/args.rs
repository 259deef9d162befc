//! The command line as clap sees it: every command, flag and example, and nothing that acts.

mod conformance;
mod offline;
mod running;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use bt2c_proto::{Network, NodeId, PeerAddr};
use bt2c_sync::Checkpoint;
use clap::{Args, Parser, Subcommand};

use crate::config::{ApiAddr, KeySource, LogFormat, parse_addr, parse_duration};

pub(crate) use conformance::ConformanceArgs;
pub(crate) use offline::{
    ChainCommand, ChainFileArgs, ChainGenerateArgs, ChainPruneArgs, ChainQueryArgs, ConfigCommand,
    GenesisCommand, GenesisNewArgs, GenesisShowArgs, IdArgs,
};
pub(crate) use running::{
    BanArgs, ConnectArgs, DisconnectArgs, ExplainArgs, PeersArgs, QueryArgs, SubjectArgs, TargetArgs,
    TxCommand, TxSendArgs, TxSubmitArgs,
};

/// A BT2C node, and everything to run and look after one.
#[derive(Debug, Parser)]
#[command(name = "bt2c-node", version, max_term_width = 110)]
#[command(
    after_help = "Start here:\n  bt2c-node devnet                     four nodes on this machine, for a minute\n  \
    bt2c-node run --network devnet       one node\n  bt2c-node status                     how it is doing"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run several real nodes on this machine, with block production
    #[command(after_help = "Example:\n  bt2c-node devnet --nodes 6 --block-time 3s --duration 5m")]
    Devnet(DevnetArgs),
    /// Run a node until it is told to stop
    #[command(
        after_help = "Example:\n  bt2c-node run --network devnet --produce --key devnet:1\n  bt2c-node run --network devnet --data-dir ./second --listen 127.0.0.1:0 --api off --connect 127.0.0.1:8336"
    )]
    Run(Box<RunArgs>),
    /// Show this node's identity; make one if there is none
    #[command(after_help = "Example:\n  bt2c-node id --public-key > validator.pub")]
    Id(IdArgs),
    /// Show how the running node is doing
    #[command(after_help = "Example:\n  bt2c-node status --json | jq .height")]
    Status(QueryArgs),
    /// List the peers of the running node
    #[command(after_help = "Example:\n  bt2c-node peers --known")]
    Peers(PeersArgs),
    /// List whom the running node has banned
    #[command(after_help = "Example:\n  bt2c-node bans --json")]
    Bans(QueryArgs),
    /// Read the running node's stored chain again, and compare it with its peers'
    #[command(
        after_help = "Example:\n  bt2c-node verify\n\nBytes, hashes, links and Merkle roots are checked while the node goes on; `chain verify` checks every signature too, of a node that is not running."
    )]
    Verify(QueryArgs),
    /// Say what was decided about a peer, an address or a block, by which rule, on what evidence
    #[command(
        after_help = "Examples:\n  bt2c-node explain 192.0.2.7\n  bt2c-node explain 3fa94c07…   (a PeerId or a block's hash, 64 hex digits)\n  bt2c-node explain 1200        (the block at that height)"
    )]
    Explain(ExplainArgs),
    /// Ban an IP, a network or a PeerId
    #[command(after_help = "Example:\n  bt2c-node ban 192.0.2.0/24 --for 12h --reason \"port scans\"")]
    Ban(BanArgs),
    /// Lift a ban
    #[command(after_help = "Example:\n  bt2c-node unban 192.0.2.0/24")]
    Unban(SubjectArgs),
    /// Never limit or ban a subject, until the node stops
    #[command(
        after_help = "Example:\n  bt2c-node allow 198.51.100.7\n\nTo keep it over a restart, set `allow` in the configuration."
    )]
    Allow(SubjectArgs),
    /// Take an exemption back
    #[command(after_help = "Example:\n  bt2c-node disallow 198.51.100.7")]
    Disallow(SubjectArgs),
    /// Connect the running node to a peer
    #[command(after_help = "Example:\n  bt2c-node connect 192.0.2.1:8338")]
    Connect(ConnectArgs),
    /// Disconnect the running node from a peer
    #[command(after_help = "Example:\n  bt2c-node disconnect 3fa94c07")]
    Disconnect(DisconnectArgs),
    /// Send transactions
    #[command(subcommand, after_help = "Example:\n  bt2c-node tx send --to bt2c_3zMyBJ… --amount 150000000")]
    Tx(TxCommand),
    /// Look at, check, move or make the chain of a node that is not running
    #[command(subcommand, after_help = "Example:\n  bt2c-node chain info --data-dir ./node1")]
    Chain(ChainCommand),
    /// Make or show a genesis
    #[command(subcommand, after_help = "Example:\n  bt2c-node genesis show --network devnet")]
    Genesis(GenesisCommand),
    /// Check or print configuration files
    #[command(subcommand, after_help = "Example:\n  bt2c-node config print-default > config.toml")]
    Config(ConfigCommand),
    /// Check any implementation against the protocol page, from outside
    #[command(
        after_help = "Example:\n  bt2c-node conformance 127.0.0.1:8336\n  bt2c-node conformance 192.0.2.1:8338 --gentle --json\n\nExit code 0 if nothing failed, 1 otherwise. The checks end with violations, for which the protocol lets the peer ban this address for an hour; --gentle leaves them out."
    )]
    Conformance(ConformanceArgs),
}

/// `devnet`
#[derive(Debug, Args)]
pub(crate) struct DevnetArgs {
    /// How many nodes, on 127.0.0.1, 127.0.0.2, …
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) nodes: u8,
    /// Length of a slot, at least 1s
    #[arg(long, default_value = "2s", value_parser = block_time)]
    pub(crate) block_time: Duration,
    /// Transactions made for each block
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub(crate) txs_per_block: u32,
    /// How long to run
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    pub(crate) duration: Duration,
    /// Where to keep the nodes' data [default: a temporary directory]
    #[arg(long)]
    pub(crate) data_dir: Option<PathBuf>,
    /// Control API and status page of node 1 [default: 127.0.0.1:26660, or another port if that is taken]
    #[arg(long)]
    pub(crate) api: Option<ApiAddr>,
    /// Port of every node [default: any free one]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    pub(crate) port: u16,
}

/// Where a node's configuration comes from.
#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// The network: mainnet, testnet or devnet [default: that of the genesis or the data directory, else testnet]
    #[arg(long)]
    pub(crate) network: Option<Network>,
    /// Configuration file [default: config.toml in the data directory]
    #[arg(long, value_name = "FILE", env = "BT2C_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Genesis file of the network
    #[arg(long, value_name = "FILE")]
    pub(crate) genesis: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) home: HomeArgs,
}

/// Where a node's data is.
#[derive(Debug, Args)]
pub(crate) struct HomeArgs {
    /// Data directory [default: bt2c in the user's data directory]
    #[arg(long, value_name = "DIR", env = "BT2C_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

/// `run`
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// A label for people, shown to peers
    #[arg(long, value_name = "ID")]
    pub(crate) node_id: Option<NodeId>,
    /// Where to listen for peers; port 0 picks a free one; may be repeated
    #[arg(long, value_name = "ADDR", value_parser = parse_addr)]
    pub(crate) listen: Vec<SocketAddr>,
    /// The address at which others reach this node, if it is another
    #[arg(long, value_name = "ADDR", value_parser = parse_addr)]
    pub(crate) external_addr: Option<SocketAddr>,
    /// Peer to stay connected to, host:port or peerid@host:port; may be repeated
    #[arg(long, value_name = "ADDR")]
    pub(crate) connect: Vec<PeerAddr>,
    /// Where to begin when no peer is known, host:port or peerid@host:port; may be repeated
    #[arg(long, value_name = "ADDR")]
    pub(crate) seed: Vec<PeerAddr>,
    /// Block known to be of the right chain, below which transaction signatures are not checked; may be repeated
    #[arg(long, value_name = "HEIGHT:HASH")]
    pub(crate) checkpoint: Vec<Checkpoint>,
    /// Connections in all
    #[arg(long, value_name = "N")]
    pub(crate) max_connections: Option<u32>,
    /// Where to serve the control API, or off
    #[arg(long, value_name = "ADDR|off")]
    pub(crate) api: Option<ApiAddr>,
    /// Propose blocks in the slots of the key
    #[arg(long)]
    pub(crate) produce: bool,
    /// The validator's private key, PKCS#8 PEM; on the devnet also devnet:1 to devnet:4, the published keys
    /// [default: the node's identity]
    #[arg(long, value_name = "FILE|devnet:N", requires = "produce")]
    pub(crate) key: Option<KeySource>,
    /// How to write logs: text or json
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
    /// What to log, such as debug or info,bt2c_p2p=debug
    #[arg(long, value_name = "FILTER")]
    pub(crate) log: Option<String>,
}

fn block_time(text: &str) -> Result<Duration, String> {
    let block_time = parse_duration(text).map_err(|error| error.to_string())?;
    if (Duration::from_secs(1)..=Duration::from_secs(86_400)).contains(&block_time) {
        Ok(block_time)
    } else {
        Err("a block time is 1s to 1d: timestamps have whole seconds".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        fn check(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("bt2c-node "), "{} has no example", command.get_name());
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn block_times_below_a_second_are_refused() {
        assert!(block_time("500ms").is_err() && block_time("2d").is_err());
        assert_eq!(block_time("2s"), Ok(Duration::from_secs(2)));
    }
}
