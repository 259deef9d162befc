//! The dial choice.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use bt2c_proto::{Defence, Netgroup, PeerId, Time};
use rand::RngExt;

use crate::{
    book::{Entry, Table},
    discovery::NodeDiscovery,
    reach::Group,
};

/// The connections as their owner sees them. Kept by the owner, updated as they come and go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Connected {
    /// Where connections lead that we dialled, from the moment the target is handed out until the connection is gone.
    pub outbound: BTreeSet<SocketAddr>,
    /// Where the peers that dialled us say that they listen.
    pub inbound: BTreeSet<SocketAddr>,
    /// Who is connected, in either direction.
    pub peers: BTreeSet<PeerId>,
    /// What experience says of identities, connected or not: above 0 good, below bad. Who is not here is a stranger.
    pub standings: BTreeMap<PeerId, i32>,
    /// The same of netgroups.
    pub group_standings: BTreeMap<Netgroup, i32>,
}

impl Connected {
    pub(crate) fn holds(&self, addr: SocketAddr) -> bool {
        self.outbound.contains(&addr) || self.inbound.contains(&addr)
    }

    /// What speaks for an address at which that identity answered last, if any did.
    fn standing(&self, addr: SocketAddr, peer: Option<&PeerId>) -> i32 {
        let own = peer.and_then(|peer| self.standings.get(peer)).copied().unwrap_or(0);
        own + self.group_standings.get(&Netgroup::of(addr.ip())).copied().unwrap_or(0)
    }
}

/// Where to dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DialTarget {
    /// The address.
    pub addr: SocketAddr,
    /// The only identity to be accepted there, if any.
    pub pin: Option<PeerId>,
    /// Why this one.
    pub reason: DialReason,
}

/// Why an address is dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DialReason {
    /// The operator wants to be connected to it at any time. Exempt from the group counts.
    Operator,
    /// A seed: the node knows nobody better. Exempt from the group counts.
    Seed,
    /// An outbound peer of the last run.
    Anchor,
    /// An address of the book.
    Book,
    /// Only to learn whether the address answers, beside the outbound slots. It ends with the peer's hello, or already
    /// after TLS if that peer is connected: report [`NodeDiscovery::handle_answered`] and close.
    Feeler,
}

impl NodeDiscovery {
    /// Whom to dial now, if anybody. Call until it returns `None`, entering each target in `view.outbound`.
    ///
    /// In this order: peers that the operator wants connected at any time; then, while outbound slots are free, the
    /// anchors of the last run, the seeds if the node knows nobody else, the book, and the seeds again; and beside the
    /// slots a feeler. Anchors and the book give one peer a netgroup. Never an own, banned, connected or dialled address, nor one whose wait
    /// after a failure is not over.
    pub fn next_dial(&mut self, now: Time, view: &Connected) -> Option<DialTarget> {
        self.wake = None;
        if self.live.is_empty() {
            self.alone_since.get_or_insert(now);
        } else {
            self.alone_since = None;
        }
        self.ask_named(now, view);
        let feeler = self.feelers.out().is_some_and(|addr| view.outbound.contains(&addr));
        let free = view.outbound.len() - usize::from(feeler) < self.config.outbound_wanted;
        let mut target = self.next_named(now, view, DialReason::Operator);
        if free {
            target = target
                .or_else(|| self.next_anchor(now, view))
                .or_else(|| {
                    self.wants_seeds(now, view).then(|| self.next_named(now, view, DialReason::Seed))?
                })
                .or_else(|| self.next_from_book(now, view))
                .or_else(|| self.next_named(now, view, DialReason::Seed));
        }
        target.or_else(|| self.next_feeler(now, view, !free))
    }

    /// A seed that dialled us is not dialled, and so would never be asked: without any outbound peer it is.
    fn ask_named(&mut self, now: Time, view: &Connected) {
        if !self.live.is_empty() {
            return;
        }
        let known: Vec<_> = self.operator.known_among(&view.peers).collect();
        if known.is_empty() {
            return;
        }
        if self.ask_named_at <= now {
            self.ask_named_at = now + self.config.interval;
            for peer in known {
                self.to_ask.insert(peer, self.askable(now, &peer));
            }
        }
        self.wake_at(self.ask_named_at);
    }

    /// Seeds come before the book when there is nobody to go by: nothing has ever answered, or no outbound
    /// peer was found for a whole interval. They take at most half of the slots then.
    fn wants_seeds(&self, now: Time, view: &Connected) -> bool {
        let waited = self.alone_since.is_some_and(|since| now.since(since) >= self.config.interval);
        let nobody = self.live.is_empty() && (waited || self.book.table_len(Table::Tried) == 0);
        let seeds = view.outbound.iter().filter(|addr| self.operator.names(**addr)).count();
        nobody && seeds < self.config.outbound_wanted.div_ceil(2)
    }

    fn next_named(&mut self, now: Time, view: &Connected, reason: DialReason) -> Option<DialTarget> {
        let (own, bans) = (&self.own, &self.bans);
        let open = |addr: SocketAddr| {
            !own.contains(addr) && bans.until(now, addr.ip()).is_none() && !view.holds(addr)
        };
        let search = self.operator.next(now, reason, view, open);
        search.wake.into_iter().for_each(|at| self.wake_at(at));
        search.target
    }

    fn next_anchor(&mut self, now: Time, view: &Connected) -> Option<DialTarget> {
        let groups = self.groups(view);
        while let Some(anchor) = self.pending_anchors.pop() {
            let open = self.is_open(now, view, anchor.addr) && !view.peers.contains(&anchor.peer);
            if open && !groups.contains(&Group::of(anchor.addr)) {
                self.defer(now, anchor.addr);
                let pin = Some(anchor.peer);
                return Some(DialTarget { addr: anchor.addr, pin, reason: DialReason::Anchor });
            }
        }
        None
    }

    /// An address of either table, equally likely as long as both have one, whose group has no outbound peer yet. Of two
    /// drawn at random it is the one with the better standing: enough to avoid those who wasted our time, and too little
    /// for anybody who earned a good one to be all that a node sees.
    fn next_from_book(&mut self, now: Time, view: &Connected) -> Option<DialTarget> {
        let groups = self.groups(view);
        let tables = if self.rng.random() { [Table::New, Table::Tried] } else { [Table::Tried, Table::New] };
        for table in tables {
            let drawn = self.book.draw(table, SAMPLE, &mut self.rng);
            let may_dial = |addr: SocketAddr, entry: &Entry| {
                !groups.contains(&Group::of(addr))
                    && self.is_open(now, view, addr)
                    && !self.operator.names(addr)
                    && !entry.peer.is_some_and(|peer| view.peers.contains(&peer))
            };
            let drawn = drawn.filter(|(addr, entry)| may_dial(*addr, entry));
            let standing = |addr, entry: &Entry| view.standing(addr, entry.peer.as_ref());
            let drawn: Vec<_> =
                drawn.map(|(addr, entry)| (addr, entry.retry.at, standing(addr, entry))).collect();
            let due = drawn.iter().filter(|(_, at, _)| *at <= now).take(CHOICES);
            if let Some((addr, ..)) = due.min_by_key(|(.., standing)| Reverse(*standing)).copied() {
                self.defer(now, addr);
                return Some(DialTarget { addr, pin: None, reason: DialReason::Book });
            }
            let unseen = self.book.table_len(table) > SAMPLE;
            let wake = if unseen { Some(now + RESAMPLE) } else { drawn.iter().map(|(_, at, _)| *at).min() };
            wake.into_iter().for_each(|at| self.wake_at(at));
        }
        None
    }

    /// The groups that have an outbound peer. Those that the operator named take none.
    fn groups(&self, view: &Connected) -> BTreeSet<Group> {
        if !self.config.defences.has(Defence::OutboundGroups) {
            return BTreeSet::new();
        }
        let counted = view.outbound.iter().filter(|addr| !self.operator.names(**addr));
        counted.map(|addr| Group::of(*addr)).collect()
    }

    /// Whether an address of the book is neither banned nor connected.
    pub(crate) fn is_open(&self, now: Time, view: &Connected, addr: SocketAddr) -> bool {
        self.bans.until(now, addr.ip()).is_none() && !view.holds(addr)
    }

    /// Does not offer an address again at once, whatever its dial comes to.
    fn defer(&mut self, now: Time, addr: SocketAddr) {
        let until = now + self.config.backoff_base;
        if let Some(entry) = self.book.get_mut(addr) {
            entry.retry.at = entry.retry.at.max(until);
        }
    }

    /// Asks to be woken no later than that.
    pub(crate) fn wake_at(&mut self, at: Time) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }
}

/// How many addresses of a table are looked at in one choice: all of a small book, a random part of a large one.
const SAMPLE: usize = 256;

/// Among how many the better one is chosen.
const CHOICES: usize = 2;

/// When to look at another part of a large book if the first had nobody to dial.
const RESAMPLE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
