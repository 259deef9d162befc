//! Commands that speak to a running node.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use bt2c_proto::{Address, PeerAddr};
use bt2c_security::Subject;
use clap::{Args, Subcommand};

use super::HomeArgs;
use crate::config::{KeySource, parse_addr, parse_duration};

/// How a running node is found.
#[derive(Debug, Args)]
pub(crate) struct TargetArgs {
    #[command(flatten)]
    pub(crate) home: HomeArgs,
    /// Address of its control API [default: as in run.json in the data directory]
    #[arg(long, value_name = "ADDR", value_parser = parse_addr)]
    pub(crate) api: Option<SocketAddr>,
}

/// `status`, `bans`, `verify`
#[derive(Debug, Args)]
pub(crate) struct QueryArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `peers`
#[derive(Debug, Args)]
pub(crate) struct PeersArgs {
    #[command(flatten)]
    pub(crate) query: QueryArgs,
    /// List the address book instead of the connections
    #[arg(long)]
    pub(crate) known: bool,
}

/// `explain`
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// IP, CIDR, PeerId, or a block's hash or height
    pub(crate) subject: String,
    #[command(flatten)]
    pub(crate) query: QueryArgs,
}

/// `ban`
#[derive(Debug, Args)]
pub(crate) struct BanArgs {
    /// IP, CIDR or PeerId
    pub(crate) subject: Subject,
    /// For how long [default: the node's ban_duration]
    #[arg(long = "for", value_name = "DURATION", value_parser = ban_duration)]
    pub(crate) duration: Option<Duration>,
    /// Why, for the list of bans
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    #[command(flatten)]
    pub(crate) query: QueryArgs,
}

/// `unban`, `allow`, `disallow`
#[derive(Debug, Args)]
pub(crate) struct SubjectArgs {
    /// IP, CIDR or PeerId
    pub(crate) subject: Subject,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// `connect`
#[derive(Debug, Args)]
pub(crate) struct ConnectArgs {
    /// Where to: host:port, or peerid@host:port to take that identity alone
    pub(crate) addr: PeerAddr,
    #[command(flatten)]
    pub(crate) query: QueryArgs,
}

/// `disconnect`
#[derive(Debug, Args)]
pub(crate) struct DisconnectArgs {
    /// PeerId or the start of one, or ip:port
    pub(crate) peer: String,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// `tx`
#[derive(Debug, Subcommand)]
pub(crate) enum TxCommand {
    /// Make, sign and send a transaction
    #[command(
        after_help = "Example:\n  bt2c-node tx send --to bt2c_3zMyBJ… --amount 150000000 --fee 1000\n\nAmounts are in sa2shi: 100000000 make one BT2C."
    )]
    Send(TxSendArgs),
    /// Send a signed transaction from a JSON file
    #[command(
        after_help = "Example:\n  bt2c-node tx submit payment.json\n  bt2c-node tx submit - < payment.json"
    )]
    Submit(TxSubmitArgs),
}

/// `tx send`
#[derive(Debug, Args)]
pub(crate) struct TxSendArgs {
    /// Address of who is paid
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) to: Address,
    /// Amount in sa2shi
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=bt2c_proto::limits::MAX_INTEGER))]
    pub(crate) amount: u64,
    /// Fee in sa2shi; the higher, the sooner it is picked
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=bt2c_proto::limits::MAX_INTEGER))]
    pub(crate) fee: u64,
    /// The payer's private key, PKCS#8 PEM; on the devnet also devnet:1 to devnet:4, the published keys
    /// [default: the node's identity]
    #[arg(long, value_name = "FILE|devnet:N")]
    pub(crate) key: Option<KeySource>,
    #[command(flatten)]
    pub(crate) query: QueryArgs,
}

/// `tx submit`
#[derive(Debug, Args)]
pub(crate) struct TxSubmitArgs {
    /// The file, or - for standard input
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) query: QueryArgs,
}

fn ban_duration(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text).map_err(|error| error.to_string())?;
    if duration < Duration::from_secs(1) {
        return Err("a ban lasts a second or more; `bt2c-node unban` lifts one".to_owned());
    }
    Ok(duration)
}
