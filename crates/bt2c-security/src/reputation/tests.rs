use proptest::prelude::*;

use super::*;

const START: Time = Time::from_secs(1_000_000);

fn peer(n: u8) -> PeerId {
    PeerId::from_bytes([n; 32])
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("tests write addresses")
}

fn later(points: u32) -> Time {
    START + POINT_LASTS * points
}

#[test]
fn deeds_lift_as_far_as_they_cost() {
    for (deed, ceiling) in [(Deed::Transaction, 20), (Deed::Answer, 50), (Deed::Block, 100)] {
        let mut reputation = Reputation::default();
        for _ in 0..1000 {
            reputation.reward(START, ip("8.8.8.8"), peer(1), deed);
        }
        assert_eq!(reputation.of(START, &peer(1).into()), ceiling, "{deed:?}");
    }
}

#[test]
fn a_cheap_deed_takes_nothing_from_who_is_above_its_ceiling() {
    let mut reputation = Reputation::default();
    for _ in 0..4 {
        reputation.reward(START, ip("8.8.8.8"), peer(1), Deed::Block);
    }
    reputation.reward(START, ip("8.8.8.8"), peer(1), Deed::Transaction);
    assert_eq!(reputation.of(START, &peer(1).into()), 40);
}

#[test]
fn a_standing_wears_off_from_both_sides() {
    let mut reputation = Reputation::default();
    reputation.reward(START, ip("8.8.8.8"), peer(1), Deed::Block);
    reputation.punish(START, peer(2), Offence::Protocol);
    let both = |reputation: &Reputation, now| {
        (reputation.of(now, &peer(1).into()), reputation.of(now, &peer(2).into()))
    };
    assert_eq!(both(&reputation, START), (10, -20));
    assert_eq!(both(&reputation, later(4)), (6, -16));
    assert_eq!(both(&reputation, later(10)), (0, -10));
    assert_eq!(both(&reputation, later(20)), (0, 0));
    reputation.sweep(later(20));
    assert_eq!(reputation.next_sweep(), None, "there is nothing left");
}

#[test]
fn who_is_at_the_bottom_recovers_with_time_and_work() {
    let mut reputation = Reputation::default();
    for _ in 0..50 {
        reputation.punish(START, peer(1), Offence::InvalidBlock);
    }
    assert_eq!(reputation.of(START, &peer(1).into()), -100, "and no deeper");
    reputation.reward(START, ip("8.8.8.8"), peer(1), Deed::Block);
    assert_eq!(reputation.of(START, &peer(1).into()), -90);
    assert_eq!(reputation.of(later(90), &peer(1).into()), 0);
}

#[test]
fn a_group_is_moved_by_a_quarter_and_counts_with_the_peer() {
    let mut reputation = Reputation::default();
    reputation.punish(START, peer(1), Offence::Protocol);
    assert_eq!(
        reputation.of_peer_at(START, ip("8.8.1.1"), None),
        0,
        "small offences are nobody's but their own"
    );
    reputation.disgrace(START, ip("8.8.8.8"));
    reputation.disgrace(START, ip("8.8.8.8"));
    reputation.reward(START, ip("8.8.4.4"), peer(3), Deed::Block);
    let seen = |at: &str, id: Option<u8>| reputation.of_peer_at(START, ip(at), id.map(peer).as_ref());
    // Two bans of a quarter of the whole each, and a quarter of what a block is worth.
    assert_eq!(seen("8.8.8.8", Some(1)), -68);
    assert_eq!(seen("8.8.1.1", Some(2)), -48, "a neighbour");
    assert_eq!(seen("8.8.1.1", None), -48);
    assert_eq!(seen("::ffff:8.8.1.1", None), -48, "however it is written");
    assert_eq!(seen("8.9.1.1", Some(2)), 0);
    assert_eq!(seen("9.9.9.9", Some(1)), -20, "an identity takes its own along");
}

#[test]
fn a_slow_line_costs_little_and_can_never_ban() {
    let mut reputation = Reputation::default();
    reputation.punish(START, peer(1), Offence::Stall);
    assert_eq!(reputation.of(START, &peer(1).into()), -2);
    for _ in 0..100 {
        reputation.punish(START, peer(1), Offence::Stall);
    }
    assert_eq!(reputation.of(START, &peer(1).into()), -10, "and makes no bad name, however often");
    reputation.punish(START, peer(1), Offence::Protocol);
    reputation.punish(START, peer(1), Offence::Stall);
    assert_eq!(reputation.of(START, &peer(1).into()), -30, "nor does it lift one that is worse");
    assert_eq!(Offence::Stall.points(), 0);
}

#[test]
fn it_outlives_a_restart_and_keeps_wearing_off() {
    let mut reputation = Reputation::default();
    reputation.reward(START, ip("8.8.8.8"), peer(1), Deed::Block);
    reputation.punish(START, peer(2), Offence::InvalidBlock);
    reputation.disgrace(START, ip("2001:db8:5::1"));
    let json = reputation.encode(START);
    let mut again = Reputation::default();
    again.decode(later(3), &json).unwrap();
    assert_eq!(again.of(later(3), &peer(1).into()), 7);
    assert_eq!(again.of(later(3), &peer(2).into()), -97);
    assert_eq!(again.of(later(3), &"2001:db8::/32".parse().unwrap()), -22);
    assert_eq!(again.encode(later(3)), reputation.encode(later(3)));
    let news = std::iter::from_fn(|| again.poll_changed(later(3))).count();
    assert_eq!(news, 3, "all of it is news to who has just started");
}

#[test]
fn a_file_of_a_wrong_clock_gives_no_endless_standing() {
    let mut reputation = Reputation::default();
    reputation.reward(later(1_000_000), ip("8.8.8.8"), peer(1), Deed::Block);
    let json = reputation.encode(START);
    let mut again = Reputation::default();
    again.decode(START, &json).unwrap();
    assert_eq!(again.of(START, &peer(1).into()), MAX_STANDING);
    assert_eq!(again.of(later(100), &peer(1).into()), 0);
}

#[test]
fn a_file_that_cannot_be_read_changes_nothing() {
    let mut reputation = Reputation::default();
    reputation.reward(START, ip("8.8.8.8"), peer(1), Deed::Block);
    let damaged = reputation.decode(START, b"{\"version\":1,\"standings\":[{}]}").unwrap_err();
    assert!(matches!(damaged, ReputationFileError::Damaged(_)), "{damaged}");
    let later = reputation.decode(START, b"{\"version\":2}").unwrap_err();
    assert!(matches!(later, ReputationFileError::Version(2)), "{later}");
    assert_eq!(reputation.of(START, &peer(1).into()), 10);
}

#[test]
fn a_crowd_of_fresh_offenders_does_not_push_out_who_is_known() {
    let mut reputation = Reputation::default();
    let numbered = |n: u32| {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        PeerId::from_bytes(bytes)
    };
    reputation.reward(START, ip("8.8.8.8"), peer(200), Deed::Block);
    reputation.punish(START, peer(201), Offence::InvalidBlock);
    for n in 0..12_000 {
        reputation.punish(START, numbered(n), Offence::Protocol);
    }
    assert_eq!(reputation.standings.len(), MAX_STANDINGS);
    let told = std::iter::from_fn(|| reputation.poll_changed(START));
    let mut known = std::collections::BTreeMap::new();
    for (subject, standing) in told {
        known.insert(subject, standing);
    }
    let alive = known.values().filter(|standing| **standing != 0).count();
    assert_eq!(alive, MAX_STANDINGS, "who was pushed out is told as neutral again");
    assert_eq!(reputation.of(START, &peer(200).into()), 10);
    assert_eq!(reputation.of(START, &peer(201).into()), -100);
    reputation.punish(START, numbered(20_000), Offence::Stall);
    assert_eq!(reputation.of(START, &numbered(20_000).into()), 0, "who did less pushes nobody out");
    reputation.reward(START, ip("8.8.8.8"), peer(202), Deed::Block);
    assert_eq!(reputation.of(START, &peer(202).into()), 10, "who helps finds room");
    assert_eq!(reputation.standings.len(), MAX_STANDINGS);
}

proptest! {
    /// Whatever happens, in whatever order: standings are bounded, and all of them wear off.
    #[test]
    fn standings_are_bounded_and_end(
        steps in proptest::collection::vec((0_u8..6, 0_u8..4, 0_u64..100_000), 1..200),
    ) {
        let mut reputation = Reputation::default();
        let mut now = START;
        for (what, who, pause) in steps {
            now = now + Duration::from_secs(pause);
            let at = ip("8.8.8.8");
            match what {
                0 => reputation.reward(now, at, peer(who), Deed::Block),
                1 => reputation.reward(now, at, peer(who), Deed::Answer),
                2 => reputation.reward(now, at, peer(who), Deed::Transaction),
                3 => reputation.punish(now, peer(who), Offence::InvalidBlock),
                4 => reputation.disgrace(now, at),
                _ => reputation.sweep(now),
            }
            for who in 0..4 {
                prop_assert!(reputation.of_peer_at(now, at, Some(&peer(who))).abs() <= MAX_STANDING);
            }
        }
        let end = now + POINT_LASTS * MAX_STANDING.unsigned_abs();
        for who in 0..4 {
            prop_assert_eq!(reputation.of_peer_at(end, ip("8.8.8.8"), Some(&peer(who))), 0);
        }
        reputation.sweep(end);
        prop_assert_eq!(reputation.next_sweep(), None, "there is nothing left");
    }
}
