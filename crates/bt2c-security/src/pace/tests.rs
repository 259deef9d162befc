use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::quota::{Admission, PushAdmission, SessionQuota};

const START: Time = Time::from_secs(1_712_352_000);

fn quota_with(config: &SecurityConfig) -> SessionQuota {
    SessionQuota::new(START, config, Arc::new(Bucket::per_minute(START, config.requests_per_minute)))
}

fn sent_in(limit: u64, window: Duration) -> u64 {
    let mut pace = RequestPace::for_blocks(Some(limit));
    let mut sent = 0;
    let mut now = START;
    while now < START + window {
        sent += u64::from(pace.take(now));
        now = now + Duration::from_millis(50);
    }
    sent
}

#[test]
fn three_requesters_stay_inside_a_bucket_that_refills_in_a_minute() {
    for limit in [1_u64, 2, 3, 5, 8, 9, 10, 30, 100, 1000] {
        let allowed_in = |minutes: u64| limit + limit * minutes;
        for minutes in 1..5 {
            let sent = sent_in(limit, Duration::from_secs(60 * minutes));
            assert!(
                3 * sent <= allowed_in(minutes).max(3 * (minutes / 3 + 1)),
                "{limit}: {sent} in {minutes} min"
            );
        }
    }
}

#[test]
fn a_peer_that_serves_a_hundred_is_asked_thirty_times_at_once() {
    let mut pace = RequestPace::for_blocks(None);
    let burst = (0..100).filter(|_| pace.take(START)).count();
    assert_eq!(burst, 32);
    assert!(!pace.take(pace.ready_at() - Duration::from_millis(1)));
    assert!(pace.take(pace.ready_at()));
}

#[test]
fn addresses_are_asked_for_one_at_a_time_and_not_of_who_takes_one_request() {
    let mut pace = RequestPace::for_addresses(None).unwrap();
    assert!(pace.take(START) && !pace.take(START + Duration::from_millis(1799)));
    assert!(pace.take(START + Duration::from_millis(1800)));
    for limit in [0, 1] {
        assert!(RequestPace::for_addresses(Some(limit)).is_none());
    }
}

#[test]
fn what_a_peer_tells_sets_our_pace_and_nonsense_does_not_stop_it() {
    let told = |rate: u64| Limits {
        requests_per_minute: 100,
        frame_size: 1024 * 1024,
        transactions_per_second: Some(rate),
        blocks_per_second: Some(rate),
        push_bytes_per_second: Some(rate),
    };
    let at_once = |told: Option<&Limits>| {
        let pace = PushPace::new(START, told);
        (0..2000).filter(|_| pace.take(START, PushKind::Transaction, 100)).count()
    };
    assert_eq!(at_once(None), 750, "three quarters of the usual burst");
    assert_eq!(at_once(Some(&told(1))), 38, "as many seconds of a lower rate");
    assert_eq!(at_once(Some(&told((1 << 53) - 1))), 750);
    assert_eq!(at_once(Some(&told(0))), 38, "nobody takes none");
    let pace = PushPace::new(START, Some(&told(0)));
    assert!(pace.take(START, PushKind::Block, 1_000_000), "a whole block always goes out in the end");
}

proptest! {
    /// The same for what they ask: blocks and addresses together, at every chance, of a peer that bans at the first request
    /// above its limit and of one that does not; the messages bunch up by some seconds on the way.
    #[test]
    fn an_honest_pace_of_requests_is_no_excess_at_any_setting(
        requests_per_minute in prop_oneof![1_u32..30, 1_u32..100_000],
        ban_after_excess in prop_oneof![Just(0_u32), 0_u32..300],
        asks in proptest::collection::vec((0_u64..5000, 0_u64..4000, any::<bool>()), 1..600),
    ) {
        let requests_per_minute = NonZeroU32::new(requests_per_minute).expect("from one on");
        let config = SecurityConfig { requests_per_minute, ban_after_excess, ..SecurityConfig::default() };
        let mut quota = quota_with(&config);
        let told = Some(config.told_limits().requests_per_minute);
        let mut blocks = RequestPace::for_blocks(told);
        let mut addresses = RequestPace::for_addresses(told);
        let (mut now, mut arrived) = (START, START);
        for (wait, delay, is_block) in asks {
            // Every other chance comes at once, so that bursts occur.
            now = now + Duration::from_millis(if wait % 2 == 0 { 0 } else { wait });
            let may = if is_block { blocks.take(now) } else { addresses.as_mut().is_some_and(|pace| pace.take(now)) };
            if may {
                arrived = arrived.max(now + Duration::from_millis(delay));
                prop_assert!(quota.request(arrived) != Admission::Excess, "{requests_per_minute} a minute");
            }
        }
    }

    /// Two honest nodes with any two settings never offend each other by what they push, however their messages bunch up
    /// on the way: neither one that was told the limits, nor one that was not.
    #[test]
    fn an_honest_pace_is_no_flood_at_any_setting(
        (tx_per_second, tx_burst) in rates(200_000, 200_000),
        (blocks_per_second, block_burst) in rates(1000, 1000),
        (push_bytes_per_second, push_bytes_burst) in rates(u32::MAX, u32::MAX),
        tells in any::<bool>(),
        pushes in proptest::collection::vec((0_u64..2000, 0_u64..20_000, any::<bool>(), 1_usize..1_000_000), 1..400),
    ) {
        let config = SecurityConfig {
            tx_per_second, tx_burst, blocks_per_second, block_burst, push_bytes_per_second, push_bytes_burst,
            ..SecurityConfig::default()
        };
        let mut quota = quota_with(&config);
        let told = config.told_limits();
        let pace = PushPace::new(START, Some(&told).filter(|_| tells));
        let (mut now, mut arrived) = (START, START);
        for (wait, delay, is_block, size) in pushes {
            now = now + Duration::from_millis(wait);
            let (kind, size) = if is_block { (PushKind::Block, size) } else { (PushKind::Transaction, size / 16) };
            let mut tries = 0..50;
            while !pace.take(now, kind, size) && tries.next().is_some() {
                now = now + Duration::from_millis(100);
            }
            if tries.is_empty() {
                continue;
            }
            // In order, each as late as it likes.
            arrived = arrived.max(now + Duration::from_millis(delay));
            prop_assert!(quota.push(arrived, kind, size) < PushAdmission::Flood, "{config:?}");
        }
    }

    /// What is sent at our pace to a node with the usual limits is not even dropped, if it does not bunch up.
    #[test]
    fn an_honest_pace_is_not_dropped_by_who_has_the_usual_limits(
        tells in any::<bool>(),
        pushes in proptest::collection::vec((0_u64..500, 0_u64..200, 1_usize..60_000), 1..300),
    ) {
        let config = SecurityConfig::default();
        let mut quota = quota_with(&config);
        let told = config.told_limits();
        let pace = PushPace::new(START, Some(&told).filter(|_| tells));
        let (mut now, mut arrived) = (START, START);
        for (wait, delay, size) in pushes {
            now = now + Duration::from_millis(if wait % 2 == 0 { 0 } else { wait });
            while !pace.take(now, PushKind::Transaction, size) {
                now = now + Duration::from_millis(100);
            }
            arrived = arrived.max(now + Duration::from_millis(delay));
            prop_assert_eq!(quota.push(arrived, PushKind::Transaction, size), PushAdmission::Accept);
        }
    }
}

prop_compose! {
    /// Tokens a second and at once, from one on.
    fn rates(per_second: u32, burst: u32)(
        per_second in prop_oneof![1_u32..50, 1..=per_second],
        burst in prop_oneof![1_u32..50, 1..=burst],
    ) -> (NonZeroU32, NonZeroU32) {
        let counted = |number| NonZeroU32::new(number).expect("drawn from one on");
        (counted(per_second), counted(burst))
    }
}
