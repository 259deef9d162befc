//! Which inbound peer makes room for a newcomer when all slots are taken.
//!
//! Whoever can open many connections must not be able to hold every slot for ever, nor to push everyone else out. So
//! those are spared who are hard to imitate: in netgroups that an outsider cannot choose, near by, useful lately, or
//! of a good name, or connected for long. The scheme is that of Bitcoin Core (`SelectNodeToEvict`).

use std::{cmp::Reverse, collections::BTreeMap, hash::Hasher, net::IpAddr, time::Duration};

use bt2c_proto::{Netgroup, Time};
use bt2c_security::Deed;
use siphasher::sip::SipHasher24;

use crate::peer::ConnectionId;

/// What speaks for a peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// Since when it is up.
    pub(super) since: Time,
    /// Its shortest round trip.
    pub(super) rtt: Option<Duration>,
    /// When it was the first with a block.
    pub(super) block: Option<Time>,
    /// When it was the first with a transaction.
    pub(super) transaction: Option<Time>,
}

impl Standing {
    pub(super) fn measured(&mut self, rtt: Duration) {
        self.rtt = Some(self.rtt.map_or(rtt, |shortest| shortest.min(rtt)));
    }

    pub(super) fn credit(&mut self, now: Time, deed: Deed) {
        match deed {
            Deed::Block => self.block = Some(now),
            Deed::Transaction => self.transaction = Some(now),
            Deed::Answer => {}
        }
    }
}

/// An inbound peer that may have to go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) connection: ConnectionId,
    pub(super) ip: IpAddr,
    pub(super) standing: Standing,
    /// What experience says of it, −100 to 100.
    pub(super) reputation: i32,
    /// It has just come: see [`GRACE`].
    pub(super) fresh: bool,
}

/// Who has to go: the youngest in the netgroup with most of those that nothing spares; nothing spares who has a bad
/// reputation. `None` if all are spared, or have just come. The key is this node's secret.
pub(super) fn evictee(candidates: Vec<Candidate>, key: [u64; 2]) -> Option<ConnectionId> {
    let (bad, mut candidates): (Vec<_>, Vec<_>) =
        candidates.into_iter().partition(|one| one.reputation <= BAD);
    if let Some(worst) = youngest_of_largest_group(bad) {
        return Some(worst);
    }
    let keyed = |ip: IpAddr| {
        let mut hasher = SipHasher24::new_with_keys(key[0], key[1]);
        hasher.write(&Netgroup::of(ip).to_bytes());
        hasher.finish()
    };
    spare(&mut candidates, SPARED_BY_GROUP, |one| keyed(one.ip));
    spare(&mut candidates, SPARED_BY_RTT, |one| one.standing.rtt.unwrap_or(Duration::MAX));
    spare(&mut candidates, SPARED_BY_TRANSACTION, |one| Reverse(one.standing.transaction));
    spare(&mut candidates, SPARED_BY_BLOCK, |one| Reverse(one.standing.block));
    let good = candidates.iter().filter(|one| one.reputation > 0).count();
    spare(&mut candidates, good.min(SPARED_BY_REPUTATION), |one| Reverse(one.reputation));
    let half = candidates.len().div_ceil(2);
    spare(&mut candidates, half, |one| one.standing.since);
    youngest_of_largest_group(candidates)
}

fn youngest_of_largest_group(candidates: Vec<Candidate>) -> Option<ConnectionId> {
    let mut groups: BTreeMap<Netgroup, Vec<Candidate>> = BTreeMap::new();
    for one in candidates {
        groups.entry(Netgroup::of(one.ip)).or_default().push(one);
    }
    let age = |one: &Candidate| (one.standing.since, one.connection);
    let youngest = |group: &Vec<Candidate>| group.iter().map(age).max();
    // A crowd from one netgroup has no grace: it would push everybody else out.
    let may_go = |group: &[Candidate], one: &Candidate| !one.fresh || group.len() > CROWD;
    let has_any = |group: &Vec<Candidate>| group.iter().any(|one| may_go(group, one));
    let largest = groups.into_values().filter(has_any).max_by_key(|group| (group.len(), youngest(group)))?;
    largest.iter().filter(|one| may_go(&largest, one)).max_by_key(|one| age(one)).map(|one| one.connection)
}

/// Takes out those who come first.
fn spare<K: Ord>(candidates: &mut Vec<Candidate>, count: usize, key: impl Fn(&Candidate) -> K) {
    candidates.sort_by_key(|one| (key(one), one.connection));
    candidates.drain(..count.min(candidates.len()));
}

/// Nobody goes who has just come: time enough to ask for addresses and be told some, so that a node which all others know
/// as their seed can send a crowd on.
pub(super) const GRACE: Duration = Duration::from_secs(10);

/// As many of one netgroup may be taken for strangers to each other.
const CROWD: usize = 2;

/// From here down a reputation is bad: that of one violation, just committed.
const BAD: i32 = -20;

const SPARED_BY_GROUP: usize = 4;
const SPARED_BY_RTT: usize = 8;
const SPARED_BY_TRANSACTION: usize = 4;
const SPARED_BY_BLOCK: usize = 4;
/// Few, for a good name can be bought with work.
const SPARED_BY_REPUTATION: usize = 4;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn at(secs: u64) -> Time {
        Time::from_secs(secs)
    }

    /// Number `n`, up since second `n`, in netgroup `group`.
    fn candidate(n: u64, group: u8) -> Candidate {
        let standing = Standing { since: at(n), ..Standing::default() };
        let [.., high, low] = n.to_be_bytes();
        Candidate {
            connection: ConnectionId(n),
            ip: [8, group, high, low].into(),
            standing,
            reputation: 0,
            fresh: false,
        }
    }

    fn fresh(n: u64, group: u8) -> Candidate {
        Candidate { fresh: true, ..candidate(n, group) }
    }

    /// All who go, one after the other, until everyone is spared.
    fn exodus(mut candidates: Vec<Candidate>) -> Vec<u64> {
        let mut gone = Vec::new();
        while let Some(ConnectionId(next)) = evictee(candidates.clone(), [1, 2]) {
            candidates.retain(|one| one.connection != ConnectionId(next));
            gone.push(next);
        }
        gone
    }

    #[test]
    fn of_few_peers_nobody_goes() {
        for count in 0..=21 {
            let few: Vec<_> = (0..count).map(|n| candidate(n, u8::try_from(n).unwrap())).collect();
            assert_eq!(evictee(few, [1, 2]), None, "{count}");
        }
    }

    #[test]
    fn the_youngest_of_the_largest_group_goes_first() {
        let mut candidates: Vec<_> = (0..60).map(|n| candidate(n, u8::try_from(n).unwrap())).collect();
        candidates.extend((60..80).map(|n| candidate(n, 200)));
        candidates.push(candidate(80, 201));
        let gone = exodus(candidates);
        assert_eq!(gone[0], 79, "{gone:?}");
        assert!(gone[..8].iter().all(|n| (60..80).contains(n)), "{gone:?}");
    }

    #[test]
    fn the_near_the_useful_and_the_old_stay() {
        let mut candidates: Vec<_> = (0..100).map(|n| candidate(n, 7)).collect();
        let spared: BTreeSet<u64> = (84..100).collect();
        for (n, one) in (0..).zip(&mut candidates).skip(84) {
            match n {
                84..92 => one.standing.measured(Duration::from_millis(n)),
                92..96 => one.standing.credit(at(n), Deed::Transaction),
                _ => one.standing.credit(at(n), Deed::Block),
            }
        }
        let gone = exodus(candidates);
        assert!(gone.iter().all(|n| !spared.contains(n)), "{gone:?}");
        assert!(gone.len() > 60 && gone.is_sorted_by(|one, next| one > next), "the youngest first: {gone:?}");
    }

    #[test]
    fn a_flood_from_one_network_does_not_push_others_out() {
        let mut candidates: Vec<_> = (0..40).map(|n| candidate(n, u8::try_from(n).unwrap())).collect();
        for n in 40..1000 {
            candidates.push(candidate(n, 200));
            let gone = evictee(candidates.clone(), [3, 4]).unwrap();
            if n > 45 {
                assert!(gone.0 >= 40, "{gone:?} after {n}");
            }
            candidates.retain(|one| one.connection != gone);
        }
        // The flood holds every place, and is older than those who come after it, one from each network.
        let mut candidates: Vec<_> = (0..100).map(|n| candidate(n, 200)).collect();
        for n in 100..140 {
            candidates.push(candidate(n, u8::try_from(n).unwrap()));
            let gone = evictee(candidates.clone(), [3, 4]).unwrap();
            assert!(gone.0 < 100, "{gone:?} after {n}");
            candidates.retain(|one| one.connection != gone);
        }
    }

    #[test]
    fn who_has_just_come_is_spared_unless_in_a_crowd() {
        let settled: Vec<_> = (0..80).map(|n| candidate(n, u8::try_from(n).unwrap())).collect();
        let mut strangers = settled.clone();
        strangers.extend((80..90).map(|n| fresh(n, u8::try_from(n).unwrap())));
        assert_eq!(evictee(strangers, [1, 2]), Some(ConnectionId(79)), "the youngest that has not just come");
        let all_fresh = (0..80).map(|n| fresh(n, u8::try_from(n).unwrap())).collect();
        assert_eq!(evictee(all_fresh, [1, 2]), None);
        let mut flooded = settled;
        flooded.extend((80..150).map(|n| fresh(n, 200)));
        let gone = exodus(flooded);
        assert!(gone[..30].iter().all(|n| *n >= 80), "the flood makes room for itself: {gone:?}");
    }

    #[test]
    fn a_good_name_stays_and_a_bad_one_goes_first() {
        let mut candidates: Vec<_> = (0..60).map(|n| candidate(n, u8::try_from(n).unwrap())).collect();
        candidates[59].reputation = 30;
        candidates[3].reputation = -20;
        candidates[3].standing.measured(Duration::from_millis(1));
        let gone = exodus(candidates);
        assert_eq!(gone[0], 3, "however near and old: {gone:?}");
        assert!(!gone.contains(&59), "{gone:?}");
        assert_eq!(gone[1], 58, "the youngest of the others: {gone:?}");
    }

    #[test]
    fn the_shortest_round_trip_and_the_latest_deed_count() {
        let mut standing = Standing::default();
        standing.measured(Duration::from_millis(9));
        standing.measured(Duration::from_millis(5));
        standing.measured(Duration::from_millis(7));
        standing.credit(at(1), Deed::Block);
        standing.credit(at(2), Deed::Transaction);
        let expected = Standing {
            since: Time::default(),
            rtt: Some(Duration::from_millis(5)),
            block: Some(at(1)),
            transaction: Some(at(2)),
        };
        assert_eq!(standing, expected);
    }
}
