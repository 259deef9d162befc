//! What is kept about an IP and a peer between their connections: buckets, failures and scores.
//!
//! Everything here wears off, and both tables are bounded. Newcomers that find them full are not forgotten offenders but
//! strangers: they share one set of buckets, and their scores are not kept.

use std::{
    collections::{BTreeMap, VecDeque},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use bt2c_proto::{IpUnit, PeerId, Time};

use crate::{
    bucket::Bucket,
    config::{MAX_FAILED_ATTEMPTS, SecurityConfig},
    quota::SHARED_PATIENCE,
};

#[derive(Debug)]
pub(crate) struct Ledger {
    ips: BTreeMap<IpUnit, IpRecord>,
    /// For newcomers while `ips` is full.
    strangers: Option<IpRecord>,
    peers: BTreeMap<PeerId, PeerRecord>,
    last_sweep: Time,
}

#[derive(Debug)]
struct IpRecord {
    requests: Arc<Bucket>,
    attempts: Bucket,
    /// Attempts that are refused, up to which they are no offence.
    tolerated_attempts: Bucket,
    /// No attempt is let through before.
    held_off_until: Time,
    failures: VecDeque<Time>,
    score: Score,
    last_used: Time,
}

#[derive(Debug, Default)]
struct PeerRecord {
    score: Score,
    /// Before the first of the offences that the score counts.
    standing: i32,
}

impl Ledger {
    pub(crate) const fn new() -> Self {
        Self {
            ips: BTreeMap::new(),
            strangers: None,
            peers: BTreeMap::new(),
            last_sweep: Time::from_millis(0),
        }
    }

    /// The bucket of requests that an IP's connections share.
    pub(crate) fn requests(&mut self, now: Time, ip: IpUnit, config: &SecurityConfig) -> &Arc<Bucket> {
        &self.record(now, ip, config).0.requests
    }

    /// Counts a connection attempt.
    pub(crate) fn attempt(&mut self, now: Time, ip: IpUnit, config: &SecurityConfig) -> AttemptCount {
        match self.record(now, ip, config) {
            (record, _) if record.held_off_until <= now && record.attempts.take(now) => AttemptCount::Within,
            (record, true) if !record.tolerated_attempts.take(now) => AttemptCount::Flood,
            _ => AttemptCount::Over,
        }
    }

    /// Lets none of an IP's attempts through for a while: it earned a ban for which there is no room.
    pub(crate) fn hold_off(&mut self, now: Time, ip: IpUnit, config: &SecurityConfig) {
        if let (record, true) = self.record(now, ip, config) {
            record.held_off_until = now + HELD_OFF;
        }
    }

    /// Counts a failed attempt; whether it is one too many.
    pub(crate) fn failure(&mut self, now: Time, ip: IpUnit, config: &SecurityConfig) -> bool {
        let (record, known) = self.record(now, ip, config);
        if !known {
            return false;
        }
        let limit = config.failed_attempts.get().min(MAX_FAILED_ATTEMPTS);
        record.forget_failures(now, config);
        record.failures.push_back(now);
        let reached = u32::try_from(record.failures.len()).is_ok_and(|count| count >= limit);
        if reached {
            record.failures.clear();
        }
        reached
    }

    /// Charges an IP; its score afterwards.
    pub(crate) fn charge_ip(&mut self, now: Time, ip: IpUnit, points: u32, config: &SecurityConfig) -> u32 {
        match self.record(now, ip, config) {
            (record, true) => record.score.charge(now, points),
            (_, false) => points,
        }
    }

    /// Charges a peer of that standing. Its score afterwards, and the standing that it had when its score was last 0: what
    /// lowered it since is what the score is made of.
    pub(crate) fn charge_peer(&mut self, now: Time, peer: PeerId, points: u32, standing: i32) -> (u32, i32) {
        if !self.peers.contains_key(&peer) && self.peers.len() >= MAX_PEERS {
            self.sweep_peers(now);
            if self.peers.len() >= MAX_PEERS {
                return (points, standing); // ids are free; the IP's score still holds
            }
        }
        let record = self.peers.entry(peer).or_default();
        if record.score.points(now) == 0 {
            record.standing = standing;
        }
        (record.score.charge(now, points), record.standing)
    }

    /// Clears the scores that led to a ban.
    pub(crate) fn settle(&mut self, ip: IpUnit, peer: Option<&PeerId>) {
        if let Some(record) = self.ips.get_mut(&ip) {
            record.score = Score::default();
        }
        if let Some(peer) = peer {
            self.peers.remove(peer);
        }
    }

    /// A peer's points.
    pub(crate) fn peer_points(&self, now: Time, peer: &PeerId) -> u32 {
        self.peers.get(peer).map_or(0, |record| record.score.points(now))
    }

    /// An IP's points.
    pub(crate) fn ip_points(&self, now: Time, ip: IpUnit) -> u32 {
        self.ips.get(&ip).map_or(0, |record| record.score.points(now))
    }

    /// When [`sweep`](Self::sweep) is due; never while there is nothing to sweep.
    pub(crate) fn next_sweep(&self) -> Option<Time> {
        let empty = self.ips.is_empty() && self.peers.is_empty();
        (!empty).then(|| self.last_sweep + SWEEP_INTERVAL)
    }

    /// Forgets whom nothing is left to remember of.
    pub(crate) fn sweep(&mut self, now: Time, config: &SecurityConfig) {
        self.last_sweep = now;
        self.ips.retain(|_, record| {
            if Arc::strong_count(&record.requests) > 1 {
                record.last_used = now;
            }
            record.forget_failures(now, config);
            !record.is_idle(now)
        });
        if self.ips.len() < MAX_IPS {
            self.strangers = None;
        }
        self.sweep_peers(now);
    }

    fn sweep_peers(&mut self, now: Time) {
        self.peers.retain(|_, record| record.score.points(now) > 0);
    }

    /// The record of an IP, and whether it is its own.
    fn record(&mut self, now: Time, ip: IpUnit, config: &SecurityConfig) -> (&mut IpRecord, bool) {
        let full = self.ips.len() >= MAX_IPS && !self.ips.contains_key(&ip);
        // A sweep looks at every record, so newcomers can cause no more than one a second.
        if full && now.since(self.last_sweep) >= Duration::from_secs(1) {
            self.sweep(now, config);
        }
        if self.ips.is_empty() && self.peers.is_empty() {
            self.last_sweep = now;
        }
        if self.ips.len() < MAX_IPS || self.ips.contains_key(&ip) {
            let record = self.ips.entry(ip).or_insert_with(|| IpRecord::new(now, config));
            record.last_used = now;
            (record, true)
        } else {
            (self.strangers.get_or_insert_with(|| IpRecord::new(now, config)), false)
        }
    }
}

/// How a connection attempt counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttemptCount {
    /// Within the limit.
    Within,
    /// Over the limit of this IP, or over the one that newcomers share while the table is full: refused.
    Over,
    /// As many over its own limit as are tolerated in a minute: refused, and an offence.
    Flood,
}

impl IpRecord {
    fn new(now: Time, config: &SecurityConfig) -> Self {
        Self {
            requests: Arc::new(Bucket::per_minute(now, config.requests_per_minute)),
            attempts: Bucket::per_minute(now, config.attempts_per_minute),
            tolerated_attempts: Bucket::per_minute(now, TOLERATED_ATTEMPTS),
            held_off_until: Time::default(),
            failures: VecDeque::new(),
            score: Score::default(),
            last_used: now,
        }
    }

    fn forget_failures(&mut self, now: Time, config: &SecurityConfig) {
        while self.failures.front().is_some_and(|failed| now.since(*failed) >= config.failed_window) {
            self.failures.pop_front();
        }
    }

    fn is_idle(&self, now: Time) -> bool {
        now.since(self.last_used) >= REFILLED_AFTER
            && self.held_off_until <= now
            && self.failures.is_empty()
            && self.score.points(now) == 0
    }
}

/// Points that wear off at one a minute, kept as the moment when none will be left.
#[derive(Debug, Clone, Copy, Default)]
struct Score {
    clean_at: Time,
}

impl Score {
    fn points(self, now: Time) -> u32 {
        let left = self.clean_at.since(now).as_millis().div_ceil(POINT_LASTS.as_millis());
        u32::try_from(left).unwrap_or(u32::MAX)
    }

    fn charge(&mut self, now: Time, points: u32) -> u32 {
        self.clean_at = self.clean_at.max(now) + POINT_LASTS * points;
        self.points(now)
    }
}

/// A point wears off in this time: a single violation is forgotten in twenty minutes, five in a row are not.
const POINT_LASTS: Duration = Duration::from_secs(60);

/// Attempts over the limit that are only refused, a minute. Nobody is told the limit before a hello, so a low one must not
/// make offenders of those who could not know it: a node redials an address once a second at most.
const TOLERATED_ATTEMPTS: NonZeroU32 = NonZeroU32::new(100).expect("100 is not 0");

/// How long an IP is kept out that cannot be banned: an offender for each place in the table comes back once in this time.
const HELD_OFF: Duration = Duration::from_secs(60);

/// Most IPs kept: under 4 MB.
const MAX_IPS: usize = 16_384;

/// Most scores of peers kept.
const MAX_PEERS: usize = 4096;

const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// Buckets of a minute that were drawn on as far ahead as connections may are full again after this.
const REFILLED_AFTER: Duration = Duration::from_secs(60 + SHARED_PATIENCE.as_secs());

#[cfg(test)]
mod tests;
