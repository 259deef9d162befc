//! What happened and when, as a running hash.

use std::sync::Arc;

use bt2c_node::NodeEvent;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

/// A running SHA-256 over every node's events with their virtual times. Cloning shares it.
///
/// Hashes of blocks are left out: they cover transaction signatures, whose salts are random.
#[derive(Debug, Clone, Default)]
pub struct Trace(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    hash: Sha256,
    events: u64,
}

impl Trace {
    /// Adds an event of a node, `at` milliseconds after the start.
    pub fn add(&self, at: u128, node: usize, event: &NodeEvent) {
        let what = match event {
            NodeEvent::PeerUp(up) => format!("{} {} {}", up.peer_id, up.addr, up.direction),
            NodeEvent::PeerDown(down) => format!("{} {}", down.peer.peer_id, down.reason),
            NodeEvent::Block(block) => format!("{} {} {:?}", block.height, block.transactions, block.from),
            NodeEvent::Reorganisation(reorg) => format!("{} {}", reorg.height, reorg.reverted),
            NodeEvent::Transaction(transaction) => transaction.hash.to_string(),
            NodeEvent::Ban(ban) => format!("{} {}", ban.subject, ban.reason),
            NodeEvent::Sync(progress) => format!("{} {}", progress.height, progress.target_height),
            NodeEvent::Unban(_) | NodeEvent::Warning(_) | NodeEvent::Lagged(_) => String::new(),
        };
        let mut state = self.0.lock();
        state.hash.update(format!("{at} {node} {} {what}\n", event.kind()));
        state.events += 1;
    }

    /// The hash so far in hex, and how many events are in it.
    pub fn digest(&self) -> (String, u64) {
        let state = self.0.lock();
        (data_encoding::HEXLOWER.encode(&state.hash.clone().finalize()), state.events)
    }
}
