//! The addresses that the operator named: seeds, and peers to stay connected to. Literals and DNS names.
//!
//! One named address stands for one node: however many addresses a name resolves to, one connection satisfies it. So a
//! name server that lies gains one outbound slot and no more.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use bt2c_proto::{Host, PeerAddr, PeerId, Time};
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::{
    backoff::{Backoff, Retry},
    config::DiscoveryConfig,
    dial::{Connected, DialReason, DialTarget},
};

/// All named addresses, in the order in which they are tried.
#[derive(Debug)]
pub(crate) struct Operator {
    named: Vec<Named>,
    /// Every socket address that some name stands for now.
    addrs: BTreeSet<SocketAddr>,
    to_resolve: BTreeSet<(Box<str>, u16)>,
}

/// One named address.
#[derive(Debug)]
struct Named {
    addr: PeerAddr,
    reason: DialReason,
    /// What it stands for: a literal's address, or what its name last resolved to, starting with the next to dial.
    addrs: Vec<SocketAddr>,
    /// How many of `addrs` failed since the last wait.
    failed: usize,
    lookup: Lookup,
    /// Who answered there last.
    peer: Option<PeerId>,
    retry: Retry,
}

/// The state of a DNS lookup.
#[derive(Debug, Clone, Copy)]
enum Lookup {
    /// A literal: there is nothing to look up.
    Literal,
    /// Known until then, the moment of the next lookup. Starts in the past.
    Known { until: Time },
    /// Asked for; asked for again if no answer came by then.
    Asked { until: Time },
}

/// What a search for a named address to dial found.
pub(crate) struct Search {
    pub(crate) target: Option<DialTarget>,
    /// When one that waits can be dialled.
    pub(crate) wake: Option<Time>,
}

impl Operator {
    /// Seeds are tried in random order, so that a fleet with one configuration does not fall on the first of them.
    pub(crate) fn new(config: &DiscoveryConfig, rng: &mut ChaCha8Rng) -> Self {
        let mut seeds: Vec<_> = config.seeds.iter().map(|addr| Named::new(addr, DialReason::Seed)).collect();
        seeds.shuffle(rng);
        let mut named: Vec<_> =
            config.connect.iter().map(|addr| Named::new(addr, DialReason::Operator)).collect();
        named.extend(seeds);
        let mut operator = Self { named, addrs: BTreeSet::new(), to_resolve: BTreeSet::new() };
        operator.index();
        operator
    }

    /// Whether the operator named this address, or it is what a name stands for.
    pub(crate) fn names(&self, addr: SocketAddr) -> bool {
        self.addrs.contains(&addr)
    }

    /// Who answered last at an address that some name stands for now.
    pub(crate) fn peer_at(&self, addr: SocketAddr) -> Option<PeerId> {
        self.named.iter().find(|named| named.addrs.first() == Some(&addr)).and_then(|named| named.peer)
    }

    /// Those of these peers that answered at an address which the operator named.
    pub(crate) fn known_among(&self, peers: &BTreeSet<PeerId>) -> impl Iterator<Item = PeerId> {
        self.named.iter().filter_map(|named| named.peer).filter(|peer| peers.contains(peer))
    }

    /// What the operator called an address that was offered as a target.
    pub(crate) fn named_as(&self, addr: SocketAddr, pin: Option<PeerId>) -> Option<&PeerAddr> {
        let mut named = self.named.iter();
        let found = named.find(|named| named.addr.pin == pin && named.addrs.first() == Some(&addr));
        found.map(|named| &named.addr)
    }

    /// The first of one kind that is not connected, may be dialled and need not wait. Starts lookups on the way.
    pub(crate) fn next(
        &mut self,
        now: Time,
        reason: DialReason,
        view: &Connected,
        open: impl Fn(SocketAddr) -> bool,
    ) -> Search {
        let mut wake = None;
        for named in self.named.iter_mut().filter(|named| named.reason == reason && !named.is_met(view)) {
            if named.retry.at > now {
                wake = [wake, Some(named.retry.at)].into_iter().flatten().min();
                continue;
            }
            if named.wants_lookup(now) {
                named.lookup = Lookup::Asked { until: now + LOOKUP_PATIENCE };
                if let Host::Name(name) = &named.addr.host {
                    self.to_resolve.insert((name.clone(), named.addr.port));
                }
            }
            if let Some(index) = named.addrs.iter().position(|addr| open(*addr)) {
                named.addrs.rotate_left(index);
                let target = DialTarget { addr: named.addrs[0], pin: named.addr.pin, reason };
                return Search { target: Some(target), wake };
            }
        }
        Search { target: None, wake }
    }

    pub(crate) fn poll_resolve(&mut self) -> Option<(Box<str>, u16)> {
        self.to_resolve.pop_first()
    }

    /// Takes what a name resolved to; nothing means that the lookup failed. Says whether an unpinned entry was meant,
    /// whose addresses are anybody's to dial.
    pub(crate) fn resolved(
        &mut self,
        now: Time,
        name: &str,
        port: u16,
        addrs: &[SocketAddr],
        backoff: Backoff,
        rng: &mut ChaCha8Rng,
    ) -> bool {
        let mut unpinned = false;
        let meant = |named: &&mut Named| {
            named.addr.port == port && matches!(&named.addr.host, Host::Name(host) if **host == *name)
        };
        for named in self.named.iter_mut().filter(meant) {
            if addrs.is_empty() {
                // What an earlier lookup found stays in use.
                named.lookup = Lookup::Known { until: now };
                named.retry.fail(now, backoff, rng);
                continue;
            }
            named.lookup = Lookup::Known { until: now + LOOKUP_LIFETIME };
            named.addrs = addrs.iter().copied().take(MAX_ADDRS_PER_NAME).collect();
            named.failed = 0;
            unpinned |= named.addr.pin.is_none();
        }
        self.index();
        unpinned
    }

    /// A dial failed. A name's other addresses are tried at once; the wait comes when all have failed.
    pub(crate) fn failed(&mut self, now: Time, addr: SocketAddr, backoff: Backoff, rng: &mut ChaCha8Rng) {
        for named in self.meant(addr) {
            named.addrs.rotate_left(1);
            named.failed += 1;
            if named.failed >= named.addrs.len() {
                named.failed = 0;
                named.retry.fail(now, backoff, rng);
                if let Lookup::Known { until } = &mut named.lookup {
                    *until = now;
                }
            }
        }
    }

    pub(crate) fn answered(&mut self, addr: SocketAddr, peer: PeerId) {
        for named in self.meant(addr) {
            named.peer = Some(peer);
            named.failed = 0;
        }
    }

    /// A connection ended; `lasted` says whether it was one worth going back to.
    pub(crate) fn ended(
        &mut self,
        now: Time,
        addr: SocketAddr,
        lasted: bool,
        backoff: Backoff,
        rng: &mut ChaCha8Rng,
    ) {
        for named in self.meant(addr) {
            if lasted {
                named.retry.reset(now, backoff, rng);
            } else {
                named.retry.fail(now, backoff, rng);
            }
        }
    }

    /// Those of which `addr` is the one dialled last.
    fn meant(&mut self, addr: SocketAddr) -> impl Iterator<Item = &mut Named> {
        self.named.iter_mut().filter(move |named| named.addrs.first() == Some(&addr))
    }

    fn index(&mut self) {
        self.addrs = self.named.iter().flat_map(|named| named.addrs.iter().copied()).collect();
    }
}

impl Named {
    fn new(addr: &PeerAddr, reason: DialReason) -> Self {
        let literal = addr.socket_addr();
        Self {
            addr: addr.clone(),
            reason,
            addrs: literal.into_iter().collect(),
            failed: 0,
            lookup: if literal.is_some() {
                Lookup::Literal
            } else {
                Lookup::Known { until: Time::default() }
            },
            peer: None,
            retry: Retry::default(),
        }
    }

    /// Whether a connection to it exists or is under way, in either direction.
    fn is_met(&self, view: &Connected) -> bool {
        let identity = |peer: &Option<PeerId>| peer.is_some_and(|peer| view.peers.contains(&peer));
        identity(&self.addr.pin) || identity(&self.peer) || self.addrs.iter().any(|addr| view.holds(*addr))
    }

    fn wants_lookup(&self, now: Time) -> bool {
        match self.lookup {
            Lookup::Literal => false,
            Lookup::Known { until } | Lookup::Asked { until } => until <= now,
        }
    }
}

/// Most addresses kept of one name.
const MAX_ADDRS_PER_NAME: usize = 32;

/// How long a lookup holds while its addresses work; the resolver does not say.
const LOOKUP_LIFETIME: Duration = Duration::from_secs(10 * 60);

/// How long an answer to a lookup is waited for before it is asked for again.
const LOOKUP_PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
