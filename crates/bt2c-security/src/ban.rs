//! Bans: who is kept out, why, until when, and how that outlives a restart.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use bt2c_proto::{PeerId, Time};
use serde::{Deserialize, Serialize};

use crate::subject::Subject;

mod file;

pub use file::BansFileError;

/// A ban: who is kept out, why and until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    /// Who.
    pub subject: Subject,
    /// The name of the offence that led to it, or what an operator wrote; at most [`MAX_REASON`] characters.
    pub reason: String,
    /// What shows that it is deserved; at most [`MAX_EVIDENCE`] characters, none of them a control character.
    pub evidence: String,
    /// When it began.
    pub since: Time,
    /// When it ends.
    pub until: Time,
}

impl Ban {
    /// Whether it is still in force.
    pub fn is_live(&self, now: Time) -> bool {
        now < self.until
    }
}

/// Longest reason kept, in characters.
pub const MAX_REASON: usize = 64;

/// Longest evidence kept, in characters.
pub const MAX_EVIDENCE: usize = 256;

/// How long bans last and how many there may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BanTerms {
    pub(crate) first: Duration,
    pub(crate) longest: Duration,
    pub(crate) capacity: usize,
}

/// Every ban in force, and those that ended recently enough to make the next one longer.
///
/// Invariants: `expiries` names each live ban once; `live` grows beyond the capacity only by loading a file; no subject
/// is both live and past.
#[derive(Debug)]
pub(crate) struct BanTable {
    terms: BanTerms,
    live: BTreeMap<Subject, Live>,
    past: BTreeMap<Subject, Past>,
    expiries: BTreeSet<(Time, Subject)>,
}

#[derive(Debug)]
struct Live {
    ban: Ban,
    strikes: u32,
}

/// What is remembered of a ban that ended.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Past {
    subject: Subject,
    strikes: u32,
    until: Time,
}

impl BanTable {
    pub(crate) const fn new(terms: BanTerms) -> Self {
        Self { terms, live: BTreeMap::new(), past: BTreeMap::new(), expiries: BTreeSet::new() }
    }

    /// Bans for an offence: the first time for the first duration, then each time for twice as long. A live ban stays as
    /// it is, for the connections of one peer often fail together.
    ///
    /// Returns the ban and whether it is new; `None` when the table is full.
    pub(crate) fn punish(
        &mut self,
        now: Time,
        subject: Subject,
        reason: &str,
        evidence: &str,
    ) -> Option<(Ban, bool)> {
        if let Some(live) = self.live.get(&subject).filter(|live| live.ban.is_live(now)) {
            return Some((live.ban.clone(), false));
        }
        let strikes = self.strikes(now, &subject).saturating_add(1);
        let doublings = 2_u32.saturating_pow(strikes - 1);
        let duration = self.terms.first.saturating_mul(doublings).min(self.terms.longest);
        self.insert(now, new_ban(now, subject, duration, reason, evidence), strikes).map(|ban| (ban, true))
    }

    /// Bans for as long as an operator says, in the place of a ban that is live. It does not make later ones longer.
    pub(crate) fn set(
        &mut self,
        now: Time,
        subject: Subject,
        duration: Duration,
        reason: &str,
        evidence: &str,
    ) -> Option<Ban> {
        let strikes = self.strikes(now, &subject);
        self.insert(now, new_ban(now, subject, duration, reason, evidence), strikes)
    }

    /// Lifts a ban and forgets that it was; whether it was live.
    pub(crate) fn remove(&mut self, now: Time, subject: &Subject) -> bool {
        self.past.remove(subject);
        self.take(subject).is_some_and(|live| live.ban.is_live(now))
    }

    /// The ban of an address that lasts longest.
    pub(crate) fn by_ip(&self, now: Time, ip: IpAddr) -> Option<&Ban> {
        if self.live.is_empty() {
            return None;
        }
        let ip = ip.to_canonical();
        let longest_prefix = if ip.is_ipv4() { 32 } else { 128 };
        (0..=longest_prefix)
            .filter_map(|prefix| self.by_subject(now, &Subject::net(ip, prefix)?))
            .max_by_key(|ban| ban.until)
    }

    pub(crate) fn by_peer(&self, now: Time, peer: &PeerId) -> Option<&Ban> {
        self.by_subject(now, &Subject::Peer(*peer))
    }

    /// Whether exactly this subject is banned.
    pub(crate) fn is_live(&self, now: Time, subject: &Subject) -> bool {
        self.by_subject(now, subject).is_some()
    }

    /// How often the subject, or part of it, was punished lately.
    ///
    /// Looks at every entry, which only a new ban does.
    pub(crate) fn strikes(&self, now: Time, subject: &Subject) -> u32 {
        let live = self.live.values().map(|live| (&live.ban.subject, live.strikes));
        let past = self.past.values().filter(|past| self.remembers(now, past));
        live.chain(past.map(|past| (&past.subject, past.strikes)))
            .filter(|(known, _)| subject.covers(known))
            .map(|(_, strikes)| strikes)
            .max()
            .unwrap_or(0)
    }

    pub(crate) fn live(&self, now: Time) -> impl Iterator<Item = &Ban> {
        self.live.values().map(|live| &live.ban).filter(move |ban| ban.is_live(now))
    }

    /// Ends what has expired, and forgets what ended long ago.
    pub(crate) fn expire(&mut self, now: Time) -> Vec<Subject> {
        let mut ended = Vec::new();
        while let Some((until, subject)) = self.expiries.first().copied()
            && until <= now
        {
            self.retire(&subject);
            ended.push(subject);
        }
        let longest = self.terms.longest;
        self.past.retain(|_, past| now < past.until + longest);
        ended
    }

    pub(crate) fn next_expiry(&self) -> Option<Time> {
        self.expiries.first().map(|(until, _)| *until)
    }

    fn by_subject(&self, now: Time, subject: &Subject) -> Option<&Ban> {
        self.live.get(subject).map(|live| &live.ban).filter(|ban| ban.is_live(now))
    }

    fn insert(&mut self, now: Time, ban: Ban, strikes: u32) -> Option<Ban> {
        if !self.live.contains_key(&ban.subject) && self.live.len() >= self.terms.capacity {
            // Only what has expired makes room.
            if self.next_expiry().is_none_or(|until| now < until) {
                return None;
            }
            self.expire(now);
        }
        self.put(ban.clone(), strikes);
        Some(ban)
    }

    fn put(&mut self, ban: Ban, strikes: u32) {
        self.take(&ban.subject);
        self.past.remove(&ban.subject);
        self.expiries.insert((ban.until, ban.subject));
        self.live.insert(ban.subject, Live { ban, strikes });
    }

    fn take(&mut self, subject: &Subject) -> Option<Live> {
        let live = self.live.remove(subject)?;
        self.expiries.remove(&(live.ban.until, *subject));
        Some(live)
    }

    fn retire(&mut self, subject: &Subject) {
        if let Some(Live { ban, strikes }) = self.take(subject) {
            self.remember(Past { subject: *subject, strikes, until: ban.until });
        }
    }

    fn remember(&mut self, past: Past) {
        if past.strikes == 0 {
            return;
        }
        self.past.insert(past.subject, past);
        if self.past.len() > self.terms.capacity
            && let Some(oldest) = self.past.values().min_by_key(|past| past.until).map(|past| past.subject)
        {
            self.past.remove(&oldest);
        }
    }

    fn remembers(&self, now: Time, past: &Past) -> bool {
        now < past.until + self.terms.longest
    }
}

fn new_ban(now: Time, subject: Subject, duration: Duration, reason: &str, evidence: &str) -> Ban {
    Ban {
        subject,
        reason: clip(reason, MAX_REASON),
        evidence: clip(evidence, MAX_EVIDENCE),
        since: now,
        until: now + duration,
    }
}

/// The beginning of a text, without what could take over a terminal: evidence quotes peers.
pub(crate) fn clip(text: &str, characters: usize) -> String {
    text.chars()
        .take(characters)
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect()
}

#[cfg(test)]
mod tests;
