//! The core: what discovery knows, what it is told, and what it wants done.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use bt2c_proto::{PeerAddr, PeerId, Time, canonical};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    answers::Answers,
    backoff::Backoff,
    bans::Bans,
    book::{Book, Table},
    buckets::BucketKey,
    config::DiscoveryConfig,
    feeler::Feelers,
    file::{self, Anchor, PeersFileError},
    intake::Intake,
    operator::Operator,
    own::OwnAddrs,
    reach::belongs,
};

/// Whom a node knows, tells, asks and dials. A pure core:
///
/// - `handle_*` and [`NodeDiscovery::next_dial`] take what happened and when,
/// - [`NodeDiscovery::poll_action`] hands out what to do, until it returns `None`,
/// - [`NodeDiscovery::poll_timeout`] says when to call [`NodeDiscovery::handle_timeout`] next.
///
/// The owner polls actions and asks for the next dial after each call that changes anything. Every target that
/// `next_dial` returns ends in [`NodeDiscovery::handle_dial_failed`], [`NodeDiscovery::handle_self`],
/// [`NodeDiscovery::handle_answered`] (a feeler) or [`NodeDiscovery::handle_connected`]; the last is followed by
/// [`NodeDiscovery::handle_disconnected`].
pub struct NodeDiscovery {
    pub(crate) config: DiscoveryConfig,
    pub(crate) rng: ChaCha8Rng,
    pub(crate) book: Book,
    pub(crate) operator: Operator,
    pub(crate) own: OwnAddrs,
    pub(crate) bans: Bans,
    pub(crate) intake: Intake,
    pub(crate) answers: Answers,
    pub(crate) feelers: Feelers,
    /// Outbound connections that are up: who is there, and since when.
    pub(crate) live: BTreeMap<SocketAddr, (PeerId, Time)>,
    /// The outbound peers to go back to after a restart, as last known.
    pub(crate) anchors: Vec<Anchor>,
    /// Those of the last run that were not dialled yet.
    pub(crate) pending_anchors: Vec<Anchor>,
    /// Since when there has been no outbound connection, as far as time has been told.
    pub(crate) alone_since: Option<Time>,
    /// When a dial that is not possible yet becomes possible.
    pub(crate) wake: Option<Time>,
    round: Round,
    pub(crate) to_ask: BTreeMap<PeerId, u64>,
    /// When the operator's peers are asked next that dialled us, while we have no outbound peer.
    pub(crate) ask_named_at: Time,
    saving: Saving,
}

/// When connected peers are asked next, and how long after that again.
#[derive(Debug)]
struct Round {
    at: Time,
    gap: Duration,
}

/// When the peers file is written next.
#[derive(Debug, Default)]
struct Saving {
    changed: Option<Time>,
    last: Option<Time>,
    ready: bool,
}

/// What discovery wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiscoveryAction {
    /// Look up a DNS name and report to [`NodeDiscovery::handle_resolved`], failures too.
    Resolve {
        /// The name.
        name: Box<str>,
        /// The port that goes with its addresses.
        port: u16,
    },
    /// Send `get_peers` to a connected peer; its answer goes to [`NodeDiscovery::handle_peers`].
    AskPeers {
        /// Whom to ask: an outbound peer, or one that the operator named.
        peer: PeerId,
        /// How many addresses to ask for, 10 to 1000.
        count: u64,
    },
    /// Replace the peers file by these bytes. They hold the key of the book: readable by the owner only.
    Persist(Vec<u8>),
}

/// Who named an address. Addresses of one source's netgroup share a small part of the book.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The operator.
    Operator,
    /// A node seen at this IP.
    Peer(IpAddr),
}

/// How many addresses the book holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BookSize {
    /// Those that somebody named.
    pub new: usize,
    /// Those that answered a dial.
    pub tried: usize,
}

/// One address of the book, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownPeer {
    /// The address.
    pub addr: SocketAddr,
    /// Who named it first.
    pub source: IpAddr,
    /// When it was last named, or answered.
    pub seen: Time,
    /// When it last answered a dial.
    pub answered: Option<Time>,
    /// Who answered.
    pub peer: Option<PeerId>,
    /// Dials that failed since the last connection that lasted.
    pub failures: u32,
    /// Not dialled before this.
    pub retry_at: Time,
}

impl NodeDiscovery {
    /// Discovery with an empty book. `seed` must be unpredictable to others, and decides everything left to chance.
    ///
    /// Expects a configuration that passed [`DiscoveryConfig::validate`].
    pub fn new(config: DiscoveryConfig, seed: [u8; 32]) -> Self {
        let mut rng = ChaCha8Rng::from_seed(seed);
        let key = BucketKey([rng.next_u64(), rng.next_u64()]);
        Self {
            book: Book::new(key, config.new_buckets, config.tried_buckets),
            operator: Operator::new(&config, &mut rng),
            own: OwnAddrs::default(),
            bans: Bans::default(),
            intake: Intake::new(config.intake_spacing, config.intake_burst),
            answers: Answers::default(),
            feelers: Feelers::default(),
            live: BTreeMap::new(),
            anchors: Vec::new(),
            pending_anchors: Vec::new(),
            alone_since: None,
            ask_named_at: Time::default(),
            wake: None,
            round: Round { at: Time::default(), gap: FIRST_GAP },
            to_ask: BTreeMap::new(),
            saving: Saving::default(),
            rng,
            config,
        }
    }

    /// Takes up the book and the anchors of an earlier run, as a [`DiscoveryAction::Persist`] left them. Replaces what
    /// the book holds, so it is called first.
    ///
    /// # Errors
    /// What is wrong with the file. Discovery is then as it was: the caller sets a damaged file aside and goes on, and
    /// leaves one of another version to the program that wrote it.
    pub fn load(&mut self, now: Time, json: &[u8]) -> Result<(), PeersFileError> {
        let loaded = file::read(now, json, &self.config)?;
        self.book = loaded.book;
        self.pending_anchors.clone_from(&loaded.anchors);
        self.anchors = loaded.anchors;
        for own in self.own.iter().collect::<Vec<_>>() {
            self.remove_peer(now, own);
        }
        Ok(())
    }

    /// The peers file as of now. At a stop, take it before the connections are closed.
    pub fn snapshot(&self) -> Vec<u8> {
        file::write(&self.book, &self.anchors, self.config.network)
    }

    /// Adds an address and says whether the book took it as a new one.
    pub fn add_peer(&mut self, now: Time, addr: SocketAddr, source: Source) -> bool {
        let addr = canonical(addr);
        let usable = addr.port() != 0 && belongs(self.config.network, addr.ip()) && !self.own.contains(addr);
        let source = match source {
            Source::Operator => addr.ip(),
            Source::Peer(ip) => ip.to_canonical(),
        };
        let added = usable && self.book.add(now, addr, source);
        if added {
            self.changed(now);
        }
        added
    }

    /// Forgets an address, say of a node that turned out to be of another network, and says whether it was known. One
    /// that the operator named stays named.
    pub fn remove_peer(&mut self, now: Time, addr: SocketAddr) -> bool {
        let addr = canonical(addr);
        self.anchors.retain(|anchor| anchor.addr != addr);
        self.pending_anchors.retain(|anchor| anchor.addr != addr);
        let removed = self.book.remove(addr);
        if removed {
            self.changed(now);
        }
        removed
    }

    /// Neither dials an IP (an IPv6 /64) nor tells others of it until then. The table of bans is bounded: whoever dials
    /// still asks the authority on bans, and reports a banned target with [`NodeDiscovery::handle_dial_failed`].
    pub fn ban_peer(&mut self, ip: IpAddr, until: Time) {
        self.bans.ban(ip, until);
    }

    /// Lifts a ban and says whether there was one.
    pub fn unban_peer(&mut self, ip: IpAddr) -> bool {
        self.bans.unban(ip)
    }

    /// Every address of the book, in order.
    pub fn known(&self) -> Vec<KnownPeer> {
        let known = self.book.iter().map(|(addr, entry)| KnownPeer {
            addr,
            source: entry.source,
            seen: entry.seen,
            answered: entry.answered,
            peer: entry.peer,
            failures: entry.retry.failures,
            retry_at: entry.retry.at,
        });
        known.collect()
    }

    /// Who answered last at an address. Whoever dials need not bother if that identity is banned, and reports the target
    /// with [`NodeDiscovery::handle_dial_failed`].
    pub fn peer_at(&self, addr: SocketAddr) -> Option<PeerId> {
        self.book.get(addr).and_then(|entry| entry.peer).or_else(|| self.operator.peer_at(addr))
    }

    /// What the operator called the address of a target, for people, while it is not reported on: with the DNS name it
    /// comes from, and the pin. None if the operator did not name it.
    pub fn named_as(&self, addr: SocketAddr, pin: Option<PeerId>) -> Option<&PeerAddr> {
        self.operator.named_as(addr, pin)
    }

    /// How many addresses the book holds.
    pub const fn size(&self) -> BookSize {
        BookSize { new: self.book.table_len(Table::New), tried: self.book.table_len(Table::Tried) }
    }

    /// The next thing to do, if any.
    pub fn poll_action(&mut self) -> Option<DiscoveryAction> {
        if let Some((name, port)) = self.operator.poll_resolve() {
            return Some(DiscoveryAction::Resolve { name, port });
        }
        if let Some((peer, count)) = self.to_ask.pop_first() {
            return Some(DiscoveryAction::AskPeers { peer, count });
        }
        std::mem::take(&mut self.saving.ready).then(|| DiscoveryAction::Persist(self.snapshot()))
    }

    /// When [`NodeDiscovery::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Time> {
        [Some(self.round.at), self.wake, self.save_at()].into_iter().flatten().min()
    }

    /// Does what is due: a round of questions, a write of the peers file, or only a wake-up to ask for the next dial.
    pub fn handle_timeout(&mut self, now: Time) {
        self.wake = self.wake.filter(|&at| at > now);
        if self.round.at <= now {
            self.start_round(now);
        }
        if self.save_at().is_some_and(|at| at <= now) {
            self.saving = Saving { changed: None, last: Some(now), ready: true };
        }
    }

    /// Asks every outbound peer, and the sooner again the fewer there are: a small network finds together within
    /// seconds, a settled one asks once an interval.
    fn start_round(&mut self, now: Time) {
        let live = self.live.values();
        self.to_ask = live.map(|(peer, _)| (*peer, self.askable(now, peer))).collect();
        self.bans.expire(now);
        let short = self.live.len() < self.config.outbound_wanted;
        self.round.gap = if short {
            self.round.gap.saturating_mul(2).min(self.config.interval)
        } else {
            self.config.interval
        };
        self.round.at = now + self.round.gap;
    }

    /// Asks a peer that just came up, and starts anew with short rounds if it is the only one.
    pub(crate) fn ask_newcomer(&mut self, now: Time, peer: PeerId) {
        self.to_ask.insert(peer, self.askable(now, &peer));
        if self.live.len() == 1 {
            self.round.gap = FIRST_GAP.min(self.config.interval);
            self.round.at = self.round.at.min(now + self.round.gap);
        }
    }

    /// Notes a change that belongs in the peers file.
    pub(crate) fn changed(&mut self, now: Time) {
        self.saving.changed.get_or_insert(now);
    }

    /// Changes are gathered for a moment, and written no more often than the interval says.
    fn save_at(&self) -> Option<Time> {
        let changed = self.saving.changed?;
        let rested = self.saving.last.map_or(changed, |last| last + self.config.persist_interval);
        Some(rested.max(changed + GATHERING))
    }

    pub(crate) const fn backoff(&self) -> Backoff {
        Backoff { base: self.config.backoff_base, max: self.config.backoff_max }
    }
}

impl std::fmt::Debug for NodeDiscovery {
    /// Leaves out the book and its key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeDiscovery")
            .field("size", &self.size())
            .field("live", &self.live)
            .finish_non_exhaustive()
    }
}

/// First gap between rounds while peers are short.
const FIRST_GAP: Duration = Duration::from_secs(2);

/// How long changes are gathered before the peers file is written.
const GATHERING: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;

#[cfg(test)]
mod model;
