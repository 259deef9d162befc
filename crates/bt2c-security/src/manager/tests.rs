use std::num::NonZeroU32;

use super::*;
use crate::{
    certificate::tests::certificate,
    quota::{Admission, PushAdmission, PushKind},
};

const START: Time = Time::from_secs(1_712_352_000);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn manager() -> SecurityManager {
    SecurityManager::new(SecurityConfig::default().build().unwrap())
}

fn allowing(subject: &str) -> SecurityManager {
    SecurityManager::new(SecurityConfig {
        allow: vec![subject.parse().unwrap()],
        ..SecurityConfig::default()
    })
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn peer(i: u8) -> PeerId {
    PeerId::from_bytes([i; 32])
}

fn actions(manager: &mut SecurityManager) -> Vec<SecurityAction> {
    std::iter::from_fn(|| manager.poll_action()).collect()
}

fn subjects(bans: &[Ban]) -> Vec<String> {
    bans.iter().map(|ban| ban.subject.to_string()).collect()
}

#[test]
fn one_grave_offence_bans_the_ip_and_the_peer() {
    let mut manager = manager();
    let ban =
        manager.report(START, ip("192.0.2.1"), Some(peer(1)), Offence::InvalidBlock, "block 7").unwrap();
    assert_eq!(
        (ban.subject, ban.reason.as_str(), ban.evidence.as_str()),
        (ip("192.0.2.1").into(), "invalid_block", "block 7")
    );
    assert_eq!(manager.is_banned(START, ip("::ffff:192.0.2.1")), Some(&ban));
    assert!(manager.is_peer_banned(START, &peer(1)).is_some());
    assert_eq!(manager.admit_attempt(START, ip("192.0.2.1")), Attempt::Banned);
    assert_eq!(manager.admit_attempt(START, ip("192.0.2.2")), Attempt::Admit);
    let done = actions(&mut manager);
    let charged = SecurityAction::Charged {
        offence: Offence::InvalidBlock,
        ip: ip("192.0.2.1"),
        peer: Some(peer(1)),
        evidence: "block 7".into(),
    };
    assert_eq!(done[0], charged);
    assert_eq!(done.iter().filter(|action| matches!(action, SecurityAction::Banned(_))).count(), 2);
    assert_eq!(manager.is_banned(START + HOUR, ip("192.0.2.1")), None);
}

#[test]
fn small_offences_add_up_for_the_peer_wherever_it_is_and_for_the_ip_whoever_it_is() {
    let mut moving = manager();
    for i in 1..5 {
        let from = IpAddr::from([192, 0, 2, i]);
        assert_eq!(moving.report(START, from, Some(peer(1)), Offence::Protocol, ""), None);
    }
    assert_eq!(moving.score(START, &peer(1)), -80);
    assert_eq!(moving.score(START, &peer(2)), 0);
    let ban = moving.report(START, ip("192.0.2.5"), Some(peer(1)), Offence::Protocol, "").unwrap();
    assert_eq!(ban.subject, ip("192.0.2.5").into());
    assert_eq!(moving.points(START, ip("192.0.2.9"), Some(&peer(1))), 0, "settled by the ban");
    assert_eq!(moving.score(START, &peer(1)), -100, "but remembered");

    let mut changing = manager();
    for i in 1..5 {
        assert_eq!(changing.report(START, ip("192.0.2.1"), Some(peer(i)), Offence::Protocol, ""), None);
    }
    assert!(changing.report(START, ip("192.0.2.1"), Some(peer(5)), Offence::Protocol, "").is_some());
}

#[test]
fn offences_far_apart_do_not_add_up_and_a_stall_never_counts() {
    let mut manager = manager();
    for i in 0..1000_u32 {
        let now = START + Duration::from_secs(20 * 60) * i;
        assert_eq!(manager.report(now, ip("192.0.2.1"), Some(peer(1)), Offence::Protocol, ""), None);
        assert_eq!(manager.report(now, ip("192.0.2.1"), Some(peer(1)), Offence::Stall, ""), None);
    }
}

#[test]
fn an_ipv6_offender_is_banned_by_64_and_on_a_repeat_by_48() {
    let mut manager = manager();
    let mut grave = |now, from| {
        let ban = manager.report(now, ip(from), None, Offence::InvalidBlock, "").unwrap();
        (ban.subject.to_string(), ban.until.since(now))
    };
    assert_eq!(grave(START, "2001:db8:7:1::1"), ("2001:db8:7:1::/64".into(), HOUR));
    assert_eq!(
        grave(START, "2001:db8:7:1::2"),
        ("2001:db8:7:1::/64".into(), HOUR),
        "another connection of it"
    );
    assert_eq!(grave(START, "2001:db8:8::1"), ("2001:db8:8::/64".into(), HOUR), "another site");
    assert_eq!(grave(START, "2001:db8:7:2::1"), ("2001:db8:7::/48".into(), HOUR * 2));
    assert_eq!(grave(START + HOUR * 3, "2001:db8:7:9::1"), ("2001:db8:7::/48".into(), HOUR * 4));
    assert!(manager.is_banned(START + HOUR * 3, ip("2001:db8:7:ffff::")).is_some());
    assert!(manager.is_banned(START + HOUR * 3, ip("2001:db8:9::")).is_none());
}

#[test]
fn five_failed_attempts_in_ten_minutes_ban() {
    let mut manager = manager();
    let mut fail = |second| {
        manager.record_failed_attempt(START + SECOND * second, ip("192.0.2.1"), Offence::BadCertificate)
    };
    assert_eq!([0, 100, 200, 300].map(&mut fail), [const { None }; 4]);
    assert_eq!(fail(650), None, "the first one left the window");
    let ban = fail(651).unwrap();
    assert_eq!(ban.reason, "failed_attempts");
    assert_eq!(ban.evidence, "5 failed attempts within 600s, the last one: bad_certificate");
}

#[test]
fn attempts_over_the_limit_are_refused_and_another_hundred_within_the_minute_ban() {
    let mut manager = manager();
    for _ in 0..100 {
        assert_eq!(manager.admit_attempt(START, ip("192.0.2.1")), Attempt::Admit);
    }
    for _ in 0..100 {
        assert_eq!(manager.admit_attempt(START, ip("192.0.2.1")), Attempt::OverLimit);
    }
    assert_eq!(manager.is_banned(START, ip("192.0.2.1")), None);
    assert_eq!(manager.admit_attempt(START, ip("192.0.2.1")), Attempt::OverLimit);
    assert_eq!(manager.is_banned(START, ip("192.0.2.1")).unwrap().reason, "attempt_excess");
    assert_eq!(manager.admit_attempt(START, ip("192.0.2.1")), Attempt::Banned);
}

/// Whoever dials is not told the limit before a hello, so however low it is, redialling at a node's pace is no offence.
#[test]
fn a_node_that_redials_is_not_banned_however_low_the_limit_is() {
    let attempts_per_minute = NonZeroU32::MIN;
    let mut manager =
        SecurityManager::new(SecurityConfig { attempts_per_minute, ..SecurityConfig::default() });
    for second in 0..600 {
        manager.admit_attempt(START + SECOND * second, ip("192.0.2.1"));
    }
    assert_eq!(manager.bans(START + SECOND * 600), []);
}

#[test]
fn requests_of_an_ip_share_one_bucket_whoever_takes_them() {
    let mut manager = manager();
    let mut one = manager.session_quota(START, ip("192.0.2.1"), Some(&peer(1)));
    let mut two = manager.session_quota(START, ip("::ffff:192.0.2.1"), Some(&peer(2)));
    for _ in 0..50 {
        assert_eq!((one.request(START), two.request(START)), (Admission::Serve, Admission::Serve));
    }
    assert!(manager.is_rate_limited(START, ip("192.0.2.1")));
    assert!(!manager.is_rate_limited(START, ip("192.0.2.2")));
    assert_eq!(one.request(START), Admission::Delay(START + Duration::from_millis(600)));
    // Leaving and coming back, or a sweep meanwhile, gives no fresh bucket.
    drop((one, two));
    manager.handle_timeout(START + SECOND);
    let mut again = manager.session_quota(START + SECOND, ip("192.0.2.1"), None);
    assert!(matches!(again.request(START + SECOND), Admission::Delay(_)));
}

#[test]
fn those_on_the_allow_list_are_never_limited_scored_or_banned() {
    let mut manager = allowing("192.0.2.0/24");
    let from = ip("192.0.2.7");
    for _ in 0..1000 {
        assert_eq!(manager.admit_attempt(START, from), Attempt::Admit);
        assert_eq!(manager.record_failed_attempt(START, from, Offence::BadTls), None);
        assert_eq!(manager.report(START, from, Some(peer(1)), Offence::InvalidBlock, ""), None);
        assert!(!manager.is_rate_limited(START, from));
    }
    assert_eq!(manager.ban_ip(START, from, None), None);
    assert_eq!(manager.ban(START, "192.0.2.64/26".parse().unwrap(), None, "", ""), None);
    let mut quota = manager.session_quota(START, from, None);
    assert!((0..1000).all(|_| quota.request(START) == Admission::Serve));
    assert!((0..9000).all(|_| quota.push(START, PushKind::Block, 1) == PushAdmission::Accept));
    // A wider ban is possible, and they are exempt from it.
    assert!(manager.ban(START, "192.0.0.0/16".parse().unwrap(), None, "", "").is_some());
    assert_eq!(manager.is_banned(START, from), None);
    assert!(manager.is_banned(START, ip("192.0.3.7")).is_some());
    assert!(manager.disallow(&"192.0.2.0/24".parse().unwrap()));
    assert!(manager.is_banned(START, from).is_some());
}

#[test]
fn an_allowed_peer_is_exempt_wherever_it_is_and_so_is_its_ip_from_its_offences() {
    let mut manager = allowing(&peer(1).to_string());
    assert_eq!(manager.report(START, ip("192.0.2.1"), Some(peer(1)), Offence::InvalidBlock, ""), None);
    assert_eq!(manager.ban(START, peer(1).into(), None, "", ""), None);
    assert!(manager.report(START, ip("192.0.2.1"), Some(peer(2)), Offence::InvalidBlock, "").is_some());
    manager.disallow(&peer(1).into());
    manager.ban(START, peer(1).into(), None, "", "").unwrap();
    manager.allow(peer(1).into());
    assert_eq!(manager.is_peer_banned(START, &peer(1)), None);
}

#[test]
fn bans_end_by_themselves_or_by_hand() {
    let mut manager = manager();
    let ban = manager.ban_ip(START, ip("2001:db8::1"), Some(HOUR * 5)).unwrap();
    assert_eq!((ban.reason.as_str(), ban.until), ("operator", START + HOUR * 5));
    assert_eq!(manager.ban_ip(START, ip("192.0.2.1"), None).unwrap().until, START + HOUR);
    assert_eq!(subjects(&manager.bans(START)), ["192.0.2.1", "2001:db8::/64"]);
    assert!(manager.unban(START, &ip("2001:db8::2").into()));
    assert!(!manager.unban(START, &ip("2001:db8::2").into()));
    let lifted = SecurityAction::Unbanned { subject: ip("2001:db8::1").into(), by_hand: true };
    assert!(actions(&mut manager).contains(&lifted));
    manager.handle_timeout(START + HOUR);
    let ended = actions(&mut manager);
    assert_eq!(ended[0], SecurityAction::Unbanned { subject: ip("192.0.2.1").into(), by_hand: false });
    assert!(manager.bans(START + HOUR).is_empty());
}

#[test]
fn changes_are_written_in_batches_and_read_back() {
    let mut manager = manager();
    assert_eq!(manager.poll_timeout(), None);
    manager.ban_ip(START, ip("192.0.2.1"), None);
    assert_eq!(manager.poll_timeout(), Some(START), "the first change at once");
    manager.handle_timeout(START);
    assert!(matches!(actions(&mut manager)[..], [SecurityAction::Banned(_), SecurityAction::Persist(_)]));
    for i in 2..100 {
        manager.ban_ip(START + SECOND, IpAddr::from([192, 0, 2, i]), None);
    }
    actions(&mut manager);
    manager.handle_timeout(START + SECOND * 4);
    assert!(actions(&mut manager).is_empty());
    assert_eq!(manager.poll_timeout(), Some(START + SECOND * 5));
    manager.handle_timeout(START + SECOND * 5);
    let written = actions(&mut manager);
    let [SecurityAction::Persist(json)] = &written[..] else { panic!("one write: {written:?}") };
    let mut restarted = SecurityManager::new(SecurityConfig::default());
    restarted.load_bans(START + SECOND * 6, json).unwrap();
    assert_eq!(restarted.bans(START + SECOND * 6), manager.bans(START + SECOND * 6));
    assert!(actions(&mut restarted).is_empty());
}

#[test]
fn a_clean_stop_writes_what_is_not_written_yet_and_only_then() {
    let mut manager = manager();
    manager.flush(START);
    assert!(actions(&mut manager).is_empty());
    manager.ban_ip(START, ip("192.0.2.1"), None);
    manager.flush(START);
    assert!(matches!(actions(&mut manager)[..], [SecurityAction::Banned(_), SecurityAction::Persist(_)]));
    manager.handle_timeout(START);
    assert!(actions(&mut manager).is_empty());
}

#[test]
fn following_the_timeouts_ends_every_ban_and_comes_to_rest() {
    let mut manager = manager();
    for i in 0..50 {
        manager.report(START, IpAddr::from([192, 0, 2, i]), Some(peer(i)), Offence::InvalidBlock, "");
        manager.report(START, IpAddr::from([192, 0, 3, i]), Some(peer(i + 100)), Offence::Protocol, "");
    }
    let (mut now, mut steps, mut unbanned) = (START, 0, 0);
    while let Some(due) = manager.poll_timeout() {
        now = now.max(due);
        manager.handle_timeout(now);
        unbanned +=
            actions(&mut manager).iter().filter(|a| matches!(a, SecurityAction::Unbanned { .. })).count();
        steps += 1;
        assert!(steps < 200, "it does not come to rest");
    }
    assert_eq!(unbanned, 100);
    assert!(now.since(START) < HOUR * 20);
}

#[test]
fn stale_dates_are_refused_of_strangers_only() {
    let manager = manager();
    let expired = certificate(|params| params.not_after = rcgen::date_time_ymd(2024, 1, 2));
    let early = certificate(|params| params.not_before = rcgen::date_time_ymd(2024, 12, 1));
    for der in [&expired, &early] {
        let error = manager.verify_peer_certificate(START, der, false).unwrap_err();
        assert_eq!(error.offence(), None);
        let known = manager.verify_peer_certificate(START, der, true).unwrap();
        assert_eq!(known.check_dates(START), Err(error), "so that the caller can warn");
    }
    assert!(manager.verify_peer_certificate(START, b"junk", true).is_err());
    assert!(manager.verify_peer_certificate(START, &certificate(|_| {}), false).is_ok());
}

#[test]
fn a_full_ban_table_still_knows_every_earlier_offender() {
    let mut manager = SecurityManager::new(SecurityConfig { max_bans: 2, ..SecurityConfig::default() });
    for i in 1..10 {
        manager.report(START, IpAddr::from([192, 0, 2, i]), None, Offence::InvalidBlock, "");
    }
    assert_eq!(subjects(&manager.bans(START)), ["192.0.2.1", "192.0.2.2"]);
}

#[test]
fn an_old_offender_is_banned_again_sooner_and_a_good_one_not_later() {
    let protocol = |manager: &mut SecurityManager, now: Time, who: u8| {
        manager.report(now, ip("192.0.2.1"), Some(peer(who)), Offence::Protocol, "what it sent")
    };
    let mut manager = manager();
    for _ in 0..10 {
        manager.reward(START, ip("192.0.2.1"), peer(2), Deed::Block);
    }
    let until_banned = |manager: &mut SecurityManager, now, who| {
        (1..=5).find(|_| protocol(manager, now, who).is_some()).unwrap()
    };
    assert_eq!(until_banned(&mut manager, START, 1), 5, "a stranger");
    let later = START + 2 * HOUR;
    manager.handle_timeout(later);
    assert_eq!(until_banned(&mut manager, later, 1), 3, "the same again");
    let later = later + 3 * HOUR;
    manager.handle_timeout(later);
    assert_eq!(until_banned(&mut manager, later, 2), 5, "one who had helped: no licence");
    let forgotten = later + 48 * HOUR;
    manager.handle_timeout(forgotten);
    assert_eq!(until_banned(&mut manager, forgotten, 1), 5, "after two days it is a stranger again");
    // Nor is a good name a licence for offences from ever other addresses.
    for _ in 0..10 {
        manager.reward(forgotten, ip("192.0.2.1"), peer(3), Deed::Block);
    }
    let banned_at = (1..=6_u8).find(|host| {
        let at = IpAddr::from([198, 51, 100, *host]);
        manager.report(forgotten, at, Some(peer(3)), Offence::Protocol, "what it sent").is_some()
    });
    assert_eq!(banned_at, Some(5));
}

#[test]
fn lesser_offences_do_not_move_the_standing_of_a_group_and_a_ban_does() {
    let mut manager = manager();
    let (offender, neighbour) = (ip("192.0.2.1"), ip("192.0.200.9"));
    for _ in 0..4 {
        manager.report(START, offender, Some(peer(1)), Offence::Protocol, "what it sent");
    }
    assert_eq!((manager.score(START, &peer(1)), manager.group_score(START, neighbour)), (-80, 0));
    assert!(manager.report(START, offender, Some(peer(1)), Offence::Protocol, "what it sent").is_some());
    assert_eq!(manager.group_score(START, neighbour), -25);
    assert_eq!(manager.standing(START, neighbour, Some(&peer(2))), -25);
}

#[test]
fn standings_are_told_and_written_in_batches_and_outlive_a_restart() {
    let mut first = manager();
    first.reward(START, ip("192.0.2.1"), peer(1), Deed::Block);
    first.reward(START, ip("192.0.2.1"), peer(1), Deed::Answer);
    first.report(START, ip("198.51.100.1"), Some(peer(2)), Offence::Stall, "blocks 1 to 9");
    let told: Vec<_> = actions(&mut first)
        .into_iter()
        .filter_map(|action| match action {
            SecurityAction::Standing(subject, standing) => Some((subject, standing)),
            SecurityAction::PersistReputation(_) => panic!("not yet"),
            _ => None,
        })
        .collect();
    assert!(told.contains(&(peer(1).into(), 12)) && told.contains(&(peer(2).into(), -2)), "{told:?}");
    let due = first.poll_timeout().unwrap();
    assert_eq!(due, START + 60 * SECOND, "changes are gathered for a minute");
    first.handle_timeout(due);
    let written = actions(&mut first).into_iter().find_map(|action| match action {
        SecurityAction::PersistReputation(json) => Some(json),
        _ => None,
    });
    let mut second = manager();
    second.load_reputation(due, &written.expect("written once it is due")).unwrap();
    assert_eq!(second.score(due, &peer(1)), first.score(due, &peer(1)));
    assert_eq!(second.standing(due, ip("192.0.2.77"), Some(&peer(1))), 15, "with its group's");
    assert!(second.bans(due).is_empty() && first.bans(due).is_empty());
}

#[test]
fn newcomers_that_find_the_table_full_are_refused_together_and_nobody_is_banned() {
    let mut manager = manager();
    let number = |n: u32| IpAddr::from((0x0a00_0000 + n).to_be_bytes());
    for n in 0..16_384 {
        assert_eq!(manager.admit_attempt(START, number(n)), Attempt::Admit);
    }
    let strangers = (0..200).map(|n| manager.admit_attempt(START, number(20_000 + n)));
    let refused = strangers.filter(|attempt| *attempt == Attempt::OverLimit).count();
    assert_eq!(refused, 100, "they share the attempts of one");
    assert_eq!((actions(&mut manager), manager.bans(START)), (vec![], vec![]));
    assert_eq!(manager.admit_attempt(START, number(3)), Attempt::Admit, "those who were known still are");
}
