//! What was decided about whom, by which rule, on what evidence: the memory behind "why?".

use std::{borrow::Cow, fmt, num::NonZeroUsize};

use bt2c_proto::{CloseCode, Time};
use bt2c_security::{Ban, Subject};
use lru::LruCache;

/// One decision, or several alike: the same was decided of the same by the same rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What was decided.
    pub kind: DecisionKind,
    /// Whom it is about: an address range, an identity, or both.
    pub about: Vec<Subject>,
    /// The name of the rule: an offence, or a code of `disconnect` or of a failed handshake.
    pub rule: Cow<'static, str>,
    /// What the rule says.
    pub meaning: &'static str,
    /// What showed that the rule applies: the message or the count. Of decisions alike, the latest.
    pub evidence: Cow<'static, str>,
    /// When it was first decided.
    pub first: Time,
    /// When it was last decided.
    pub last: Time,
    /// How often.
    pub times: u64,
    /// When it ends by itself, if it does.
    pub until: Option<Time>,
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DecisionKind {
    /// A connection was not taken, or its hello not accepted.
    Refused,
    /// A connection was ended by us.
    Closed,
    /// An inbound peer made room for another one.
    Evicted,
    /// An offence was charged.
    Charged,
    /// A ban began.
    Banned,
    /// A ban ended.
    Unbanned,
}

impl DecisionKind {
    /// The name in the control API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Closed => "closed",
            Self::Evicted => "evicted",
            Self::Charged => "charged",
            Self::Banned => "banned",
            Self::Unbanned => "unbanned",
        }
    }
}

impl fmt::Display for DecisionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Everything that is known of a subject and was decided about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Whom it is about.
    pub subject: Subject,
    /// Whether the allow-list covers it.
    pub allowed: bool,
    /// Whether a peer that it means is connected.
    pub connected: bool,
    /// The bans in force that keep it, or part of it, out.
    pub bans: Vec<Ban>,
    /// Points of offences that still count; an address is banned at [`bt2c_security::BAN_THRESHOLD`].
    pub points: u32,
    /// Its own standing, −100 to 100: an identity's, or that of the address group.
    pub standing: i32,
    /// Latest first.
    pub decisions: Vec<Decision>,
}

/// The decisions of late, alike ones together. When it is full, those that were repeated longest ago go; but refusals and
/// closings, which anyone can bring about for nothing, do not push out charges and bans.
#[derive(Debug)]
pub(crate) struct DecisionLog {
    connections: LruCache<Key, Entry>,
    penalties: LruCache<Key, Entry>,
}

type Key = (DecisionKind, Cow<'static, str>, Vec<Subject>);

#[derive(Debug)]
struct Entry {
    evidence: Cow<'static, str>,
    meaning: &'static str,
    first: Time,
    last: Time,
    times: u64,
    until: Option<Time>,
}

/// What is to be remembered.
#[derive(Debug)]
pub(crate) struct Decided {
    pub(crate) kind: DecisionKind,
    pub(crate) about: Vec<Subject>,
    pub(crate) rule: Cow<'static, str>,
    pub(crate) meaning: &'static str,
    pub(crate) evidence: Cow<'static, str>,
    pub(crate) until: Option<Time>,
}

impl DecisionLog {
    pub(crate) fn new() -> Self {
        Self { connections: LruCache::new(KEPT), penalties: LruCache::new(KEPT) }
    }

    pub(crate) fn note(&mut self, now: Time, decided: Decided) {
        let Decided { kind, about, rule, meaning, evidence, until } = decided;
        let entries = match kind {
            DecisionKind::Refused | DecisionKind::Closed | DecisionKind::Evicted => &mut self.connections,
            DecisionKind::Charged | DecisionKind::Banned | DecisionKind::Unbanned => &mut self.penalties,
        };
        let entry = entries.get_or_insert_mut((kind, rule, about), || Entry {
            evidence: Cow::Borrowed(""),
            meaning,
            first: now,
            last: now,
            times: 0,
            until: None,
        });
        entry.times += 1;
        (entry.last, entry.evidence, entry.until) = (now, evidence, until);
    }

    /// Every decision about someone whom `wanted` means, or who means `wanted`; latest first.
    pub(crate) fn about(&self, wanted: &[Subject]) -> Vec<Decision> {
        let concerns = |about: &[Subject]| {
            about.iter().any(|one| wanted.iter().any(|other| one.covers(other) || other.covers(one)))
        };
        self.select(concerns)
    }

    /// Every decision that is remembered, latest first.
    pub(crate) fn all(&self) -> Vec<Decision> {
        self.select(|_| true)
    }

    fn select(&self, concerns: impl Fn(&[Subject]) -> bool) -> Vec<Decision> {
        let entries = self.penalties.iter().chain(self.connections.iter());
        let found = entries.filter(|((.., about), _)| concerns(about));
        let mut decisions: Vec<_> = found
            .map(|((kind, rule, about), entry)| Decision {
                kind: *kind,
                about: about.clone(),
                rule: rule.clone(),
                meaning: entry.meaning,
                evidence: entry.evidence.clone(),
                first: entry.first,
                last: entry.last,
                times: entry.times,
                until: entry.until,
            })
            .collect();
        // Each table hands out what was touched last first, so equal times stay in that order.
        decisions.sort_by_key(|decision| std::cmp::Reverse(decision.last));
        decisions
    }
}

/// What a `disconnect` code says of the decision to close.
pub(crate) const fn meaning(code: CloseCode) -> &'static str {
    match code {
        CloseCode::Network => "both sides are of the same network",
        CloseCode::Genesis => "both sides have the same genesis block",
        CloseCode::Version => "both sides speak the same major version",
        CloseCode::SelfConnection => "nobody connects to itself",
        CloseCode::Label => "a label is the certificate's, and nobody else's PeerId",
        CloseCode::Replaced => "two nodes keep one connection",
        CloseCode::Full => "there is a slot for each connection, and few for each address and subnet",
        CloseCode::Banned => "who is banned stays out until the ban ends",
        CloseCode::Rate => "connections and requests come no faster than the limits allow",
        CloseCode::Protocol => {
            "frames, envelopes and messages are well-formed, in order and within their limits"
        }
        CloseCode::Timeout => "hellos, frames, answers and signs of life come in time",
        CloseCode::Slow => "who is sent something reads it",
        CloseCode::Idle => "who says nothing useful for long makes room, if there are others",
        CloseCode::Pruned => "slots go to those who are worth most to the network; feelers end when answered",
        CloseCode::Shutdown => "the node was stopping",
    }
}

/// Decisions of each kind that are remembered: about 1 MB.
const KEPT: NonZeroUsize = NonZeroUsize::new(2048).expect("2048 is not 0");

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Time {
        Time::from_secs(secs)
    }

    fn subject(text: &str) -> Subject {
        text.parse().unwrap()
    }

    fn refused(about: &str, evidence: &str) -> Decided {
        Decided {
            kind: DecisionKind::Refused,
            about: vec![subject(about)],
            rule: "full".into(),
            meaning: meaning(CloseCode::Full),
            evidence: evidence.to_owned().into(),
            until: None,
        }
    }

    #[test]
    fn decisions_alike_are_one_with_the_latest_evidence() {
        let mut log = DecisionLog::new();
        log.note(at(1), refused("192.0.2.1", "first"));
        log.note(at(5), refused("192.0.2.1", "second"));
        log.note(at(6), refused("192.0.2.2", "other"));
        let found = log.about(&[subject("192.0.2.1")]);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].times, found[0].first, found[0].last), (2, at(1), at(5)));
        assert_eq!(found[0].evidence, "second");
    }

    #[test]
    fn a_network_is_told_of_its_addresses_and_an_address_of_its_networks_latest_first() {
        let mut log = DecisionLog::new();
        log.note(at(1), refused("192.0.2.0/24", "net"));
        log.note(at(2), refused("192.0.2.7", "one"));
        log.note(at(3), refused("192.0.3.7", "elsewhere"));
        let evidence = |wanted: &str| -> Vec<_> {
            log.about(&[subject(wanted)]).into_iter().map(|found| found.evidence).collect()
        };
        assert_eq!(evidence("192.0.2.7"), ["one", "net"]);
        assert_eq!(evidence("192.0.0.0/16"), ["elsewhere", "one", "net"]);
        assert_eq!(evidence("192.0.2.8"), ["net"]);
        assert_eq!(log.all().len(), 3);
    }

    #[test]
    fn a_flood_of_strangers_takes_no_more_than_the_room_there_is() {
        let mut log = DecisionLog::new();
        log.note(at(0), Decided { kind: DecisionKind::Charged, ..refused("192.0.2.1", "an offence") });
        for n in 0..10_000_u32 {
            log.note(at(n.into()), refused(&std::net::Ipv4Addr::from(n).to_string(), "flood"));
        }
        assert_eq!(log.all().len(), KEPT.get() + 1);
        assert_eq!(log.about(&[subject("192.0.2.1")])[0].kind, DecisionKind::Charged, "and no charge");
        for n in 0..10_000_u32 {
            let about = std::net::Ipv4Addr::from(n).to_string();
            log.note(at(n.into()), Decided { kind: DecisionKind::Charged, ..refused(&about, "an offence") });
        }
        assert_eq!(log.all().len(), 2 * KEPT.get());
    }
}
