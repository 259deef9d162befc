//! Whom experience speaks for, and whom against: one standing for each identity and each address group.
//!
//! A standing is a number of points from −100 to 100 that wears off towards 0, from either side. Useful work raises it,
//! offences lower it. It decides nothing alone: it chooses between peers that would do equally well, and makes the next
//! ban of an old offender come sooner ([`SecurityManager`](crate::SecurityManager)). Bans are another matter: they need
//! an offence, and end by themselves.
//!
//! What costs a peer nothing earns it nothing (heights, lists of addresses), and what is cheap to make earns little:
//! each deed has a ceiling, above which it does not lift anyone.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use bt2c_proto::{PeerId, Time};

use crate::{offence::Offence, subject::Subject};

mod file;

pub use file::ReputationFileError;

/// Something useful that a peer did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Deed {
    /// It was the first with a block that became the tip. Only proposers can make one.
    Block,
    /// Blocks that we asked it for came in time and were valid.
    Answer,
    /// It was the first with a valid transaction. Anyone can make those, so they lift nobody far.
    Transaction,
}

impl Deed {
    /// The points that it adds, and the standing above which it adds none.
    const fn worth(self) -> (i32, i32) {
        match self {
            Self::Block => (10, MAX_STANDING),
            Self::Answer => (2, 50),
            Self::Transaction => (1, 20),
        }
    }
}

/// The best standing; the worst is its negative.
pub const MAX_STANDING: i32 = 100;

/// A point of a standing wears off in this time: from one end to the middle it takes less than 17 hours, so that a day's
/// absence makes a stranger of anyone, and a ban of an hour does not.
const POINT_LASTS: Duration = Duration::from_secs(10 * 60);

/// What one peer does moves its address group by this fraction of what it moves the peer: groups hold many peers.
const GROUP_SHARE: u32 = 4;

/// Most standings kept: about 1 MB.
const MAX_STANDINGS: usize = 8192;

/// The standings of everyone who has one.
#[derive(Debug, Default)]
pub(crate) struct Reputation {
    standings: BTreeMap<Subject, Standing>,
    /// Those that changed since they were last handed out.
    changed: BTreeSet<Subject>,
    last_sweep: Time,
}

/// Points that wear off, kept as the moment when none will be left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Standing {
    good: bool,
    neutral_at: Time,
}

impl Standing {
    /// Milliseconds until it is neutral, negative if it is bad.
    fn balance(self, now: Time) -> i64 {
        let left = millis(self.neutral_at.since(now));
        if self.good { left } else { -left }
    }

    fn of(now: Time, balance: i64) -> Self {
        Self { good: balance > 0, neutral_at: now + Duration::from_millis(balance.unsigned_abs()) }
    }

    /// Whole points, rounded away from 0: what is not gone yet counts.
    fn points(self, now: Time) -> i32 {
        let each = millis(POINT_LASTS);
        let points = self.balance(now).unsigned_abs().div_ceil(each.unsigned_abs());
        let points = i32::try_from(points).unwrap_or(MAX_STANDING).min(MAX_STANDING);
        if self.good { points } else { -points }
    }
}

impl Reputation {
    /// The standing of one subject: a [`Subject::Peer`], or the group that an address is in.
    pub(crate) fn of(&self, now: Time, subject: &Subject) -> i32 {
        self.standings.get(subject).map_or(0, |standing| standing.points(now))
    }

    /// What speaks for a peer at an address: its own standing and its group's.
    pub(crate) fn of_peer_at(&self, now: Time, ip: IpAddr, peer: Option<&PeerId>) -> i32 {
        let own = peer.map_or(0, |peer| self.of(now, &Subject::Peer(*peer)));
        (own + self.of(now, &Subject::group_of_ip(ip))).clamp(-MAX_STANDING, MAX_STANDING)
    }

    /// A peer did something useful.
    pub(crate) fn reward(&mut self, now: Time, ip: IpAddr, peer: PeerId, deed: Deed) {
        let (points, ceiling) = deed.worth();
        self.shift(now, peer.into(), i64::from(points) * millis(POINT_LASTS), ceiling);
        let share = i64::from(points) * millis(POINT_LASTS / GROUP_SHARE);
        self.shift(now, Subject::group_of_ip(ip), share, ceiling);
    }

    /// A peer committed an offence.
    pub(crate) fn punish(&mut self, now: Time, peer: PeerId, offence: Offence) {
        let (cost, floor) = offence.disrepute();
        self.shift(now, peer.into(), -i64::from(cost) * millis(POINT_LASTS), floor);
    }

    /// Someone at that address earned a ban. Lesser offences do not move the group, or one host that stays below a ban could
    /// speak against all its neighbours for ever.
    pub(crate) fn disgrace(&mut self, now: Time, ip: IpAddr) {
        let cost = i64::from(MAX_STANDING) * millis(POINT_LASTS / GROUP_SHARE);
        self.shift(now, Subject::group_of_ip(ip), -cost, MAX_STANDING);
    }

    /// Someone whose standing changed, with the new one; everyone is told of once.
    pub(crate) fn poll_changed(&mut self, now: Time) -> Option<(Subject, i32)> {
        let subject = self.changed.pop_first()?;
        Some((subject, self.of(now, &subject)))
    }

    /// Whether a change was not told yet.
    pub(crate) fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// When [`sweep`](Self::sweep) is due; never while there is nothing to sweep.
    pub(crate) fn next_sweep(&self) -> Option<Time> {
        (!self.standings.is_empty()).then(|| self.last_sweep + POINT_LASTS)
    }

    /// Forgets those that are neutral again; tells all as changed, for they wear off.
    pub(crate) fn sweep(&mut self, now: Time) {
        self.last_sweep = now;
        self.changed = self.standings.keys().copied().collect();
        self.standings.retain(|_, standing| now < standing.neutral_at);
    }

    /// Moves a standing, no further from 0 than `bound` points in that direction.
    fn shift(&mut self, now: Time, subject: Subject, by: i64, bound: i32) {
        let before = self.standings.get(&subject).map_or(0, |standing| standing.balance(now));
        let bound = i64::from(bound) * millis(POINT_LASTS);
        let after = if by > 0 {
            (before + by).min(bound.max(before))
        } else {
            (before + by).max((-bound).min(before))
        };
        if after == before {
            return;
        }
        if !self.standings.contains_key(&subject) && !self.make_room(now, after) {
            return;
        }
        if self.standings.is_empty() {
            self.last_sweep = now;
        }
        self.standings.insert(subject, Standing::of(now, after));
        self.changed.insert(subject);
    }

    /// Room for a newcomer: who is nearest to neutral, on the side that has more entries, makes it if they are nearer than
    /// the newcomer. So neither a crowd of fresh offenders nor one of small helpers pushes out what is worth knowing.
    fn make_room(&mut self, now: Time, newcomer: i64) -> bool {
        if self.standings.len() < MAX_STANDINGS {
            return true;
        }
        let good = self.standings.values().filter(|standing| standing.good).count();
        let side = good > MAX_STANDINGS / 2;
        let on_side = self.standings.iter().filter(|(_, standing)| standing.good == side);
        let Some((subject, standing)) = on_side.min_by_key(|(_, standing)| standing.neutral_at) else {
            return false;
        };
        let (subject, least) = (*subject, standing.balance(now).unsigned_abs());
        let room = (newcomer > 0) != side || newcomer.unsigned_abs() > least;
        if room {
            self.standings.remove(&subject);
            self.changed.insert(subject);
        }
        room
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
