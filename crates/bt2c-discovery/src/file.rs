//! `peers.json`: the book and the anchors over a restart.
//!
//! One JSON object: `version`, `network`, `key` (the secret of the buckets, in hex), `anchors` and `peers`. Failures
//! and waits are not kept: after a restart everybody gets a fresh chance.

use std::net::{IpAddr, SocketAddr};

use bt2c_proto::{Network, PeerId, Time, canonical};
use serde::{Deserialize, Serialize};

use crate::{book::Book, buckets::BucketKey, config::DiscoveryConfig, reach::belongs};

/// An outbound peer to go back to after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Anchor {
    pub(crate) addr: SocketAddr,
    pub(crate) peer: PeerId,
}

/// How many anchors are kept [Bitcoin Core's `MAX_BLOCK_RELAY_ONLY_ANCHORS`].
pub(crate) const MAX_ANCHORS: usize = 2;

/// What a file held.
pub(crate) struct Loaded {
    pub(crate) book: Book,
    pub(crate) anchors: Vec<Anchor>,
}

/// Why a peers file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeersFileError {
    /// It is not the JSON that was written.
    #[error("the peers file is damaged")]
    Damaged(#[source] serde_json::Error),
    /// It is of another version.
    #[error("the peers file has version {found}; this program reads version {VERSION}")]
    Version {
        /// The version in the file.
        found: u64,
    },
    /// It belongs to a node of another network.
    #[error("the peers file is of {found}, this node of {expected}")]
    Network {
        /// The network in the file.
        found: Network,
        /// Ours.
        expected: Network,
    },
    /// Its key is not 32 hex digits.
    #[error("the peers file has a key that is not 32 hex digits")]
    Key,
}

#[derive(Deserialize)]
struct Head {
    version: u64,
}

#[derive(Serialize, Deserialize)]
struct File {
    version: u64,
    network: Network,
    key: String,
    anchors: Vec<Anchor>,
    peers: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
struct Row {
    addr: SocketAddr,
    source: IpAddr,
    seen: Time,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answered: Option<Answered>,
}

/// The last answer of an address, and whether it holds a seat among the tried.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Answered {
    at: Time,
    peer: PeerId,
    tried: bool,
}

/// Reads a file. Rows that the network does not keep, or that find no seat, are left out; times ahead of ours become now.
pub(crate) fn read(now: Time, json: &[u8], config: &DiscoveryConfig) -> Result<Loaded, PeersFileError> {
    let head: Head = serde_json::from_slice(json).map_err(PeersFileError::Damaged)?;
    if head.version != VERSION {
        return Err(PeersFileError::Version { found: head.version });
    }
    let file: File = serde_json::from_slice(json).map_err(PeersFileError::Damaged)?;
    if file.network != config.network {
        return Err(PeersFileError::Network { found: file.network, expected: config.network });
    }
    let key = parse_key(&file.key).ok_or(PeersFileError::Key)?;
    let usable = |addr: SocketAddr| addr.port() != 0 && belongs(config.network, addr.ip());
    let mut book = Book::new(key, config.new_buckets, config.tried_buckets);
    // Everyone goes back to the table it was in; seats among the new that the tried pass through are free again by then.
    let (tried, new): (Vec<Row>, Vec<Row>) =
        file.peers.into_iter().partition(|row| row.answered.is_some_and(|answered| answered.tried));
    for row in tried.into_iter().chain(new).filter(|row| usable(row.addr)) {
        let addr = canonical(row.addr);
        book.add(row.seen.min(now), addr, row.source.to_canonical());
        match row.answered {
            Some(answered) if answered.tried => book.answered(answered.at.min(now), addr, answered.peer),
            Some(answered) => book.recall_answer(answered.at.min(now), addr, answered.peer),
            None => {}
        }
    }
    let anchors = file.anchors.into_iter().filter(|anchor| usable(anchor.addr)).take(MAX_ANCHORS);
    let anchors = anchors.map(|anchor| Anchor { addr: canonical(anchor.addr), ..anchor }).collect();
    Ok(Loaded { book, anchors })
}

/// Writes a file.
pub(crate) fn write(book: &Book, anchors: &[Anchor], network: Network) -> Vec<u8> {
    let peers = book.iter().map(|(addr, entry)| Row {
        addr,
        source: entry.source,
        seen: entry.seen,
        answered: entry.answered.zip(entry.peer).map(|(at, peer)| Answered {
            at,
            peer,
            tried: entry.is_tried(),
        }),
    });
    let [first, second] = book.key().0;
    let file = File {
        version: VERSION,
        network,
        key: format!("{first:016x}{second:016x}"),
        anchors: anchors.to_vec(),
        peers: peers.collect(),
    };
    serde_json::to_vec(&file).expect("texts and integers have a JSON form")
}

fn parse_key(text: &str) -> Option<BucketKey> {
    let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (first, second) = digits.then(|| text.split_at(16))?;
    let half = |digits| u64::from_str_radix(digits, 16).ok();
    Some(BucketKey([half(first)?, half(second)?]))
}

const VERSION: u64 = 1;

#[cfg(test)]
mod tests;
