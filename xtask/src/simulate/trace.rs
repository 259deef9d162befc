//! What happened and when, as a running hash.

use std::{collections::BTreeMap, sync::Arc};

use bt2c_node::NodeEvent;
use bt2c_p2p::env::Tap;
use bt2c_proto::{PeerId, Time};
use parking_lot::Mutex;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// A running SHA-256 over every message that any node received (virtual time, from, to, content) and every change of a
/// node's peers and bans. Cloning shares it.
///
/// The salts of RSA-PSS signatures are random, and so are the hashes of blocks that commit to them. Signatures are
/// therefore masked, and hashes stand as the order in which they first appeared.
#[derive(Debug, Clone, Default)]
pub struct Trace(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    hash: Sha256,
    messages: u64,
    hashes: BTreeMap<String, usize>,
}

impl Trace {
    /// Adds an event of a node, `at` milliseconds after the start. What follows from messages alone is left out.
    pub fn event(&self, at: u128, node: usize, event: &NodeEvent) {
        let what = match event {
            NodeEvent::PeerUp(up) => format!("{} {} {}", up.peer_id, up.addr, up.direction),
            NodeEvent::PeerDown(down) => format!("{} {}", down.peer.peer_id, down.reason),
            NodeEvent::Reorganisation(reorg) => format!("{} {}", reorg.height, reorg.reverted),
            NodeEvent::Ban(ban) => format!("{} {}", ban.subject, ban.reason),
            _ => return,
        };
        self.0.lock().hash.update(format!("{at} {node} {} {what}\n", event.kind()));
    }

    /// The hash so far in hex, and how many messages are in it.
    pub fn digest(&self) -> (String, u64) {
        let state = self.0.lock();
        (data_encoding::HEXLOWER.encode(&state.hash.clone().finalize()), state.messages)
    }
}

impl Tap for Trace {
    fn message(&self, at: Time, from: PeerId, to: PeerId, body: &[u8]) {
        let mut state = self.0.lock();
        let content = match serde_json::from_slice::<Value>(body) {
            Ok(mut message) => {
                mask(&mut message, &mut state.hashes);
                message.to_string().into_bytes()
            }
            Err(_) => body.to_vec(),
        };
        state.hash.update(format!("{} {from} {to} ", at.as_millis()));
        state.hash.update(content);
        state.messages += 1;
    }
}

/// Replaces what differs between two runs of the same seed.
fn mask(value: &mut Value, hashes: &mut BTreeMap<String, usize>) {
    match value {
        Value::Array(entries) => entries.iter_mut().for_each(|entry| mask(entry, hashes)),
        Value::Object(fields) => {
            for (name, field) in fields {
                match (name.as_str(), &mut *field) {
                    ("signature", _) => *field = Value::Null,
                    ("hash" | "previous_hash" | "merkle_root" | "last_block_hash", Value::String(hash)) => {
                        let next = hashes.len();
                        *field = (*hashes.entry(std::mem::take(hash)).or_insert(next)).into();
                    }
                    (_, field) => mask(field, hashes),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traced(bodies: &[&str]) -> String {
        let (trace, peer) = (Trace::default(), PeerId::from_bytes([1; 32]));
        for body in bodies {
            trace.message(Time::from_secs(1), peer, peer, body.as_bytes());
        }
        trace.digest().0
    }

    #[test]
    fn signatures_and_the_hashes_over_them_do_not_count_but_everything_else_does() {
        let first =
            traced(&["{\"block\":{\"hash\":\"aa\",\"signature\":\"x\"}}", "{\"previous_hash\":\"aa\"}"]);
        let second =
            traced(&["{\"block\":{\"hash\":\"bb\",\"signature\":\"y\"}}", "{\"previous_hash\":\"bb\"}"]);
        let other_link =
            traced(&["{\"block\":{\"hash\":\"bb\",\"signature\":\"y\"}}", "{\"previous_hash\":\"cc\"}"]);
        let other_height = traced(&["{\"block\":{\"hash\":\"aa\",\"signature\":\"x\",\"height\":1}}"]);
        assert_eq!(first, second);
        assert_ne!(first, other_link);
        assert_ne!(first, other_height);
        assert_ne!(traced(&["not JSON"]), traced(&["no JSON"]));
    }
}
