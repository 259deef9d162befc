//! The address book: every address the node knows, in two tables of keyed buckets.
//!
//! The *new* table holds addresses that somebody named; the *tried* table those that answered a dial of ours. An
//! address sits in one seat of one table. A seat is given up in two cases only: in the new table when its holder has
//! proved useless, in the tried table when its holder has not answered lately. So a flood of new names cannot displace
//! what works.
//!
//! Invariant: an address has an entry exactly if it has a seat.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    time::Duration,
};

use bt2c_proto::{PeerId, Time};
use rand_chacha::ChaCha8Rng;

use crate::{backoff::Retry, buckets::BucketKey, seats::Seats};

/// What is known of one address.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Who named it first.
    pub(crate) source: IpAddr,
    /// When it was last named, or answered.
    pub(crate) seen: Time,
    /// When it last answered a dial of ours.
    pub(crate) answered: Option<Time>,
    /// Who answered.
    pub(crate) peer: Option<PeerId>,
    pub(crate) retry: Retry,
    table: Table,
    seat: u32,
}

/// Which of the two tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    New,
    Tried,
}

impl Entry {
    /// Whether it sits in the tried table.
    pub(crate) fn is_tried(&self) -> bool {
        self.table == Table::Tried
    }

    /// Whether it is worth telling others: it answered us, and does not keep failing since.
    pub(crate) fn is_good(&self) -> bool {
        self.is_tried() && self.retry.failures < DOUBTFUL
    }

    /// Whether it may be given up: it never answered, or not for a week, and many dials have failed.
    pub(crate) fn is_dead(&self, now: Time) -> bool {
        self.retry.failures >= DEAD && self.answered.is_none_or(|answered| now.since(answered) > WEEK)
    }

    /// Whether a newcomer may take its seat in the new table.
    fn is_replaceable(&self, now: Time) -> bool {
        self.retry.failures >= DOUBTFUL || now.since(self.seen) > MONTH
    }
}

/// The two tables and their entries.
pub(crate) struct Book {
    key: BucketKey,
    new: Seats,
    tried: Seats,
    entries: BTreeMap<SocketAddr, Entry>,
}

impl Book {
    pub(crate) const fn new(key: BucketKey, new_buckets: NonZeroU16, tried_buckets: NonZeroU16) -> Self {
        let new = Seats::new(new_buckets);
        let tried = Seats::new(tried_buckets);
        Self { key, new, tried, entries: BTreeMap::new() }
    }

    pub(crate) const fn key(&self) -> BucketKey {
        self.key
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) const fn table_len(&self, table: Table) -> usize {
        match table {
            Table::New => self.new.len(),
            Table::Tried => self.tried.len(),
        }
    }

    pub(crate) fn get(&self, addr: SocketAddr) -> Option<&Entry> {
        self.entries.get(&addr)
    }

    pub(crate) fn get_mut(&mut self, addr: SocketAddr) -> Option<&mut Entry> {
        self.entries.get_mut(&addr)
    }

    /// All entries, by address.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (SocketAddr, &Entry)> {
        self.entries.iter().map(|(addr, entry)| (*addr, entry))
    }

    /// Up to that many entries of one table, at random.
    pub(crate) fn draw<'a>(
        &'a self,
        table: Table,
        amount: usize,
        rng: &mut ChaCha8Rng,
    ) -> impl Iterator<Item = (SocketAddr, &'a Entry)> + use<'a> {
        let seats = match table {
            Table::New => &self.new,
            Table::Tried => &self.tried,
        };
        let drawn: Vec<_> = seats.draw(amount, rng).collect();
        drawn.into_iter().map(|addr| (addr, &self.entries[&addr]))
    }

    /// Notes that `source` named an address, and says whether it is new to the book and found a seat.
    pub(crate) fn add(&mut self, now: Time, addr: SocketAddr, source: IpAddr) -> bool {
        if let Some(known) = self.entries.get_mut(&addr) {
            known.seen = known.seen.max(now);
            return false;
        }
        let entry = Entry {
            source,
            seen: now,
            answered: None,
            peer: None,
            retry: Retry::default(),
            table: Table::New,
            seat: 0,
        };
        self.seat_new(now, addr, entry)
    }

    /// Notes that an address answered a dial as `peer`, and moves it to the tried table.
    ///
    /// If the holder of its seat there answered lately, both stay where they are: the address keeps its seat among the
    /// new. Otherwise the holder goes back among the new, if it finds a seat.
    pub(crate) fn answered(&mut self, now: Time, addr: SocketAddr, peer: PeerId) {
        let Some(entry) = self.entries.get_mut(&addr) else { return };
        entry.answered = Some(now);
        entry.seen = now;
        entry.peer = Some(peer);
        if entry.is_tried() {
            return;
        }
        let seat = self.key.tried_seat(self.tried.buckets, addr);
        if let Some(holder) = self.tried.at(seat) {
            let recent = |at: Time| now.since(at) < RECENT;
            let holder_entry = &self.entries[&holder];
            if holder_entry.is_good() && holder_entry.answered.is_some_and(recent) {
                return;
            }
            self.move_to_tried(addr, seat);
            if let Some(entry) = self.entries.remove(&holder) {
                self.seat_new(now, holder, entry);
            }
        } else {
            self.move_to_tried(addr, seat);
        }
    }

    /// An address among the new had answered before, and was left there.
    pub(crate) fn recall_answer(&mut self, at: Time, addr: SocketAddr, peer: PeerId) {
        if let Some(entry) = self.entries.get_mut(&addr) {
            (entry.answered, entry.peer) = (Some(at), Some(peer));
        }
    }

    pub(crate) fn remove(&mut self, addr: SocketAddr) -> bool {
        let Some(entry) = self.entries.remove(&addr) else { return false };
        match entry.table {
            Table::New => self.new.rise(entry.seat),
            Table::Tried => self.tried.rise(entry.seat),
        }
        true
    }

    /// Puts an entry without a seat among the new, unless a better one holds its seat.
    fn seat_new(&mut self, now: Time, addr: SocketAddr, entry: Entry) -> bool {
        let seat = self.key.new_seat(self.new.buckets, addr, entry.source);
        if let Some(holder) = self.new.at(seat) {
            if !self.entries[&holder].is_replaceable(now) {
                return false;
            }
            self.remove(holder);
        }
        self.new.sit(seat, addr);
        self.entries.insert(addr, Entry { table: Table::New, seat, ..entry });
        true
    }

    /// Moves an entry from its seat among the new to a seat among the tried, whose holder loses it.
    fn move_to_tried(&mut self, addr: SocketAddr, seat: u32) {
        let entry = self.entries.get_mut(&addr).expect("only entries of the book are moved");
        self.new.rise(entry.seat);
        self.tried.rise(seat);
        self.tried.sit(seat, addr);
        (entry.table, entry.seat) = (Table::Tried, seat);
    }
}

/// Failures in a row after which an address is no longer told to others and may lose its seat among the new.
const DOUBTFUL: u32 = 3;

/// Failures in a row after which an address that never answered is given up: about ten minutes of trying.
const DEAD: u32 = 8;

/// How long an answer protects a seat in the tried table [Bitcoin Core's `ADDRMAN_REPLACEMENT`].
const RECENT: Duration = Duration::from_secs(4 * 60 * 60);

/// How long an address that once answered is kept though it fails.
const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How long a name that nobody repeats protects a seat in the new table [Bitcoin Core's `ADDRMAN_HORIZON`].
const MONTH: Duration = Duration::from_secs(30 * 24 * 60 * 60);

#[cfg(test)]
mod tests;
