use proptest::prelude::*;

use super::*;

const START: Time = Time::from_secs(1_712_352_000);

fn quota_with(config: &SecurityConfig) -> SessionQuota {
    SessionQuota::new(START, config, Arc::new(Bucket::per_minute(START, config.requests_per_minute)))
}

fn quota() -> SessionQuota {
    quota_with(&SecurityConfig::default())
}

fn after(millis: u64) -> Time {
    START + Duration::from_millis(millis)
}

#[test]
fn a_hundred_requests_are_served_the_next_delayed_and_another_hundred_is_excess() {
    let mut quota = quota();
    for _ in 0..100 {
        assert_eq!(quota.request(START), Admission::Serve);
    }
    for waiting in 1..100 {
        assert_eq!(quota.request(START), Admission::Delay(after(waiting * 600)));
    }
    assert_eq!(quota.request(START), Admission::Excess);
    assert_eq!(quota.request(after(600)), Admission::Delay(after(60_000)), "the bucket gained one meanwhile");
}

#[test]
fn with_no_excess_allowed_the_first_request_over_the_limit_is_one() {
    for ban_after_excess in [0, 1] {
        let mut quota = quota_with(&SecurityConfig { ban_after_excess, ..SecurityConfig::default() });
        assert!((0..100).all(|_| quota.request(START) == Admission::Serve));
        assert_eq!(quota.request(START), Admission::Excess);
        assert_eq!(quota.request(after(600)), Admission::Serve);
    }
}

#[test]
fn who_waits_for_each_answer_is_slowed_down_and_never_in_excess() {
    let (mut quota, mut now) = (quota(), START);
    for _ in 0..10_000 {
        match quota.request(now) {
            Admission::Serve => {}
            Admission::Delay(when) => now = when,
            Admission::Excess => panic!("banned at {now}"),
        }
    }
    assert_eq!(now.since(START), Duration::from_millis(600) * 9900);
}

#[test]
fn connections_of_one_ip_are_delayed_together_and_never_in_excess() {
    let config = SecurityConfig::default();
    let shared = Arc::new(Bucket::per_minute(START, config.requests_per_minute));
    let mut quotas: Vec<_> =
        (0..10).map(|_| SessionQuota::new(START, &config, Arc::clone(&shared))).collect();
    let mut delays = Vec::new();
    for _ in 0..100 {
        for quota in &mut quotas {
            match quota.request(START) {
                Admission::Serve => {}
                Admission::Delay(when) => delays.push(when),
                Admission::Excess => panic!("none of them alone is over its limit"),
            }
        }
    }
    assert_eq!(delays.len(), 900);
    assert_eq!(delays[0], after(600));
    assert_eq!(delays[299], START + SHARED_PATIENCE);
    assert!(delays[300..].iter().all(|when| *when == START + SHARED_PATIENCE), "the debt is bounded");
}

#[test]
fn pushes_over_the_limit_are_dropped_and_a_flood_only_above_four_times() {
    let mut quota = quota();
    for sent in 0..5000 {
        let expected = match sent {
            0..1000 => PushAdmission::Accept,
            1000..4000 => PushAdmission::Drop,
            _ => PushAdmission::Flood,
        };
        assert_eq!(quota.push(START, PushKind::Transaction, 1000), expected, "{sent}");
    }
    assert_eq!(quota.push(START, PushKind::Block, 1000), PushAdmission::Accept, "counted apart");
    assert_eq!(quota.push(after(1000), PushKind::Transaction, 1000), PushAdmission::Accept);
}

#[test]
fn pushes_are_limited_by_their_bytes_too() {
    let mut quota = quota();
    let block = 1024 * 1024;
    let admissions: Vec<_> = (0..70).map(|_| quota.push(START, PushKind::Block, block)).collect();
    assert!(admissions[..16].iter().all(|admission| *admission == PushAdmission::Accept));
    assert!(admissions[16..64].iter().all(|admission| *admission == PushAdmission::Drop));
    assert!(admissions[64..].iter().all(|admission| *admission == PushAdmission::Flood));
    assert_eq!(quota.push(after(600_000), PushKind::Block, usize::MAX), PushAdmission::Flood);
}

#[test]
fn one_ping_in_five_seconds_is_answered() {
    let mut quota = quota();
    assert!(quota.ping(START));
    assert!(!quota.ping(after(4999)));
    assert!(quota.ping(after(5000)));
    assert!(!quota.ping(after(5000)));
}

#[test]
fn those_on_the_allow_list_are_not_limited() {
    let mut quota = SessionQuota::unlimited();
    for _ in 0..10_000 {
        assert_eq!(quota.request(START), Admission::Serve);
        assert_eq!(quota.push(START, PushKind::Block, usize::MAX), PushAdmission::Accept);
        assert!(quota.ping(START));
    }
}

proptest! {
    /// At any setting, however requests arrive: answers never come faster than the bucket, at most `ban_after_excess`
    /// ever wait, and only a peer that is that far ahead is in excess.
    #[test]
    fn answers_keep_the_limit_and_waiting_is_bounded(
        per_minute in 1_u32..300,
        ban_after_excess in 0_u32..300,
        waits in proptest::collection::vec(0_u64..1500, 1..400),
    ) {
        let per_minute = NonZeroU32::new(per_minute).unwrap();
        let config =
            SecurityConfig { requests_per_minute: per_minute, ban_after_excess, ..SecurityConfig::default() };
        let shared = Arc::new(Bucket::per_minute(START, NonZeroU32::MAX));
        let mut quota = SessionQuota::new(START, &config, shared);
        let interval = Duration::from_secs(60) / per_minute.get();
        let (mut now, mut answers) = (START, Vec::<Time>::new());
        for wait in waits {
            now = now + Duration::from_millis(wait);
            let waiting = answers.iter().filter(|when| **when > now).count();
            match quota.request(now) {
                Admission::Serve => answers.push(now),
                Admission::Delay(when) => {
                    prop_assert!(when > now);
                    answers.push(when);
                    prop_assert!(waiting < usize::try_from(ban_after_excess).unwrap());
                }
                Admission::Excess => {
                    // A millisecond of rounding may hide one that is about to be answered.
                    prop_assert!(waiting + 2 >= usize::try_from(ban_after_excess).unwrap());
                }
            }
        }
        answers.sort_unstable();
        for (i, first) in answers.iter().enumerate() {
            for (count, last) in answers[i..].iter().enumerate() {
                let gained = last.since(*first).as_nanos() / interval.as_nanos() + 1;
                prop_assert!((count as u128) < u128::from(per_minute.get()) + gained);
            }
        }
    }
}

#[test]
fn low_limits_of_ours_drop_what_is_above_them_and_punish_no_more_than_usual() {
    let low = SecurityConfig {
        tx_per_second: NonZeroU32::MIN,
        tx_burst: NonZeroU32::MIN,
        ..SecurityConfig::default()
    };
    let mut quota = quota_with(&low);
    let admitted: Vec<_> = (0..5000).map(|_| quota.push(START, PushKind::Transaction, 100)).collect();
    assert_eq!(admitted.iter().filter(|one| **one == PushAdmission::Accept).count(), 1);
    assert_eq!(admitted.iter().filter(|one| **one == PushAdmission::Drop).count(), 3999);
    assert_eq!(admitted[4000], PushAdmission::Flood, "four times the usual burst");
}
