//! `conformance`, which needs no node of ours at all.

use std::time::Duration;

use bt2c_proto::{BlockHash, Network, PeerAddr};
use clap::Args;

use crate::{config::parse_duration, conformance};

/// `conformance`
#[derive(Debug, Args)]
pub(crate) struct ConformanceArgs {
    /// The peer to check
    #[arg(value_name = "HOST:PORT", value_parser = endpoint)]
    pub(crate) target: PeerAddr,
    /// The network it must be on [default: what its hello tells]
    #[arg(long)]
    pub(crate) network: Option<Network>,
    /// The hash of the genesis block it must have [default: what it tells and serves]
    #[arg(long, value_name = "HASH")]
    pub(crate) genesis: Option<BlockHash>,
    /// Only checks with this in their name; may be repeated
    #[arg(long, value_name = "TEXT", value_parser = part_of_a_name)]
    pub(crate) only: Vec<String>,
    /// Leave out the violations, for which the peer may ban this address
    #[arg(long)]
    pub(crate) gentle: bool,
    /// Dial a peer on 127.0.0.0/8 from one address too, as any other, and see it ban
    #[arg(long)]
    pub(crate) one_address: bool,
    /// Longest wait for any one thing
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub(crate) step: Duration,
    /// Longest time for all checks together
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

fn part_of_a_name(text: &str) -> Result<String, String> {
    if conformance::names().any(|name| name.contains(text)) {
        Ok(text.to_owned())
    } else {
        let names: Vec<_> = conformance::names().collect();
        Err(format!("no check has that in its name; there are {}", names.join(", ")))
    }
}

fn endpoint(text: &str) -> Result<PeerAddr, String> {
    let addr: PeerAddr = text.parse().map_err(|error: bt2c_proto::AddrError| error.to_string())?;
    if addr.pin.is_some() {
        return Err(
            "the identity is for the check to find out: leave out what stands before the @".to_owned()
        );
    }
    Ok(addr)
}
