//! Peers that the operator named and that cannot be had. Each cause is told once, until the peer is had: a wrong pin or
//! a name that does not resolve is for the operator to mend, and would otherwise only show as a peer that is missing.

use std::collections::BTreeSet;

use bt2c_proto::{CloseCode, Host, PeerAddr};

use super::core::{Action, Core};
use crate::reason::{CloseReason, HandshakeFailure};

/// What was told already.
#[derive(Debug, Default)]
pub(super) struct Unreached(BTreeSet<(PeerAddr, CloseReason)>);

impl Unreached {
    /// Notes a cause and says whether it is to be told.
    fn note(&mut self, addr: &PeerAddr, reason: CloseReason) -> bool {
        let is_new = self.0.insert((addr.clone(), reason));
        if self.0.len() > MAX_TOLD {
            self.0.pop_first();
        }
        is_new
    }

    /// The peer was had: what fails from now on is news.
    fn forget(&mut self, addr: &PeerAddr) {
        self.0.retain(|(told, _)| told != addr);
    }
}

impl Core {
    /// There is no connection to a peer that the operator named.
    pub(super) fn tell_unreached(&mut self, addr: &PeerAddr, reason: CloseReason) {
        if !is_passing(reason) && self.unreached.note(addr, reason) {
            self.actions.push_back(Action::Unreached { addr: addr.clone(), reason });
        }
    }

    /// There is one.
    pub(super) fn forget_unreached(&mut self, addr: &PeerAddr) {
        self.unreached.forget(addr);
    }

    /// A name of the operator's did or did not resolve.
    pub(super) fn tell_lookup(&mut self, name: &str, port: u16, found: bool) {
        let reason = CloseReason::Handshake(HandshakeFailure::Resolve);
        let config = std::sync::Arc::clone(&self.config);
        let named = config.discovery.connect.iter().chain(&config.discovery.seeds);
        let meant =
            |addr: &&PeerAddr| addr.port == port && matches!(&addr.host, Host::Name(host) if **host == *name);
        for addr in named.filter(meant) {
            if found {
                self.unreached.0.remove(&(addr.clone(), reason));
            } else {
                self.tell_unreached(addr, reason);
            }
        }
    }
}

/// Whether a cause is part of a network's ordinary life, with nothing for the operator to mend.
const fn is_passing(reason: CloseReason) -> bool {
    use CloseCode::{Full, Idle, Pruned, Replaced, Shutdown};
    matches!(
        reason,
        CloseReason::Local(Full | Idle | Pruned | Replaced | Shutdown)
            | CloseReason::Remote(Full | Idle | Pruned | Replaced | Shutdown)
    )
}

/// Most causes that are remembered as told. Beyond them one may be told twice.
const MAX_TOLD: usize = 256;
