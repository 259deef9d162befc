//! What dials, lookups and connections came to.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use bt2c_proto::{PeerId, Time, canonical};

use crate::{
    discovery::{NodeDiscovery, Source},
    file::{Anchor, MAX_ANCHORS},
};

impl NodeDiscovery {
    /// A dial ended without a hello: refused, timed out, another key than the pinned one, or not allowed after all.
    pub fn handle_dial_failed(&mut self, now: Time, addr: SocketAddr) {
        let addr = canonical(addr);
        let backoff = self.backoff();
        self.feelers.ended(addr);
        self.operator.failed(now, addr, backoff, &mut self.rng);
        let Some(entry) = self.book.get_mut(addr) else { return };
        entry.retry.fail(now, backoff, &mut self.rng);
        // Without any outbound peer it may be our own network that is down.
        if entry.is_dead(now) && !self.live.is_empty() {
            self.remove_peer(now, addr);
        }
    }

    /// A feeler found an address to answer, as that peer.
    pub fn handle_answered(&mut self, now: Time, addr: SocketAddr, peer: PeerId) {
        let addr = canonical(addr);
        let backoff = self.backoff();
        self.answered(now, addr, peer);
        if let Some(entry) = self.book.get_mut(addr) {
            entry.retry.reset(now, backoff, &mut self.rng);
        }
    }

    /// An outbound connection is up: hello came in both ways. The peer is asked for addresses at once.
    pub fn handle_connected(&mut self, now: Time, addr: SocketAddr, peer: PeerId) {
        let addr = canonical(addr);
        self.answered(now, addr, peer);
        self.live.insert(addr, (peer, now));
        self.update_anchors();
        self.ask_newcomer(now, peer);
    }

    /// An outbound connection is gone. `honest` says whether the peer kept to the rules; one that did not, or whose
    /// connection did not last a minute, is gone back to ever more slowly.
    pub fn handle_disconnected(&mut self, now: Time, addr: SocketAddr, honest: bool) {
        let addr = canonical(addr);
        let Some((_, since)) = self.live.remove(&addr) else { return };
        let lasted = honest && now.since(since) >= LASTING;
        let backoff = self.backoff();
        self.operator.ended(now, addr, lasted, backoff, &mut self.rng);
        if let Some(entry) = self.book.get_mut(addr) {
            if lasted {
                entry.retry.reset(now, backoff, &mut self.rng);
            } else {
                entry.retry.fail(now, backoff, &mut self.rng);
            }
        }
        if !honest {
            self.anchors.retain(|anchor| anchor.addr != addr);
        }
        self.update_anchors();
        self.changed(now);
    }

    /// An address is our own: one that we listen at, or one where a dial met ourselves, which ends that dial. It is
    /// not dialled again.
    pub fn handle_self(&mut self, now: Time, addr: SocketAddr) {
        let addr = canonical(addr);
        self.feelers.ended(addr);
        self.own.insert(addr);
        self.remove_peer(now, addr);
    }

    /// The answer to a [`DiscoveryAction::Resolve`](crate::DiscoveryAction::Resolve); no addresses if it failed.
    pub fn handle_resolved(&mut self, now: Time, name: &str, port: u16, ips: &[IpAddr]) {
        let addrs: Vec<_> = ips.iter().map(|ip| canonical(SocketAddr::new(*ip, port))).collect();
        let backoff = self.backoff();
        if self.operator.resolved(now, name, port, &addrs, backoff, &mut self.rng) {
            for addr in addrs {
                self.add_peer(now, addr, Source::Operator);
            }
        }
    }

    /// An address answered a dial. One that was not in the book (an operator's) enters it now.
    fn answered(&mut self, now: Time, addr: SocketAddr, peer: PeerId) {
        self.feelers.ended(addr);
        self.operator.answered(addr, peer);
        self.add_peer(now, addr, Source::Operator);
        self.book.answered(now, addr, peer);
        self.changed(now);
    }

    /// The anchors are the outbound peers that have lasted longest. While there are too few, those before stay: a node
    /// that stops or loses its network keeps its way back.
    fn update_anchors(&mut self) {
        let live = self.live.iter().filter(|(addr, _)| !self.operator.names(**addr));
        let mut longest: Vec<_> =
            live.map(|(addr, (peer, since))| (*since, Anchor { addr: *addr, peer: *peer })).collect();
        longest.sort_by_key(|(since, anchor)| (*since, anchor.addr));
        let mut anchors: Vec<_> = longest.into_iter().map(|(_, anchor)| anchor).take(MAX_ANCHORS).collect();
        for before in self.anchors.drain(..) {
            if anchors.len() < MAX_ANCHORS && anchors.iter().all(|anchor| anchor.addr != before.addr) {
                anchors.push(before);
            }
        }
        self.anchors = anchors;
    }
}

/// How long a connection must have lasted for its address to be gone back to without a growing wait. Nodes whose slots
/// are full say so right after hello.
const LASTING: Duration = Duration::from_secs(60);
