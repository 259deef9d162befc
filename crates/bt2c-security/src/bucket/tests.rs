use std::sync::Arc;

use proptest::prelude::*;

use super::*;

const START: Time = Time::from_secs(1_712_352_000);
const MINUTE: Duration = Duration::from_secs(60);

fn tokens(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).unwrap()
}

#[test]
fn a_full_bucket_gives_its_burst_and_then_its_rate() {
    let bucket = Bucket::per_minute(START, tokens(100));
    assert_eq!((0..1000).filter(|_| bucket.take(START)).count(), 100);
    assert!(!bucket.take(START + Duration::from_millis(599)));
    assert!(bucket.take(START + Duration::from_millis(600)));
    let later = START + MINUTE * 5;
    assert_eq!((0..1000).filter(|_| bucket.take(later)).count(), 100);
}

#[test]
fn several_tokens_are_taken_together_or_not_at_all() {
    let bucket = Bucket::new(START, tokens(10), tokens(1), Duration::from_secs(1));
    assert!(bucket.take_n(START, 0));
    assert!(!bucket.take_n(START, 11), "more than the burst");
    assert!(bucket.take_n(START, 7));
    assert!(!bucket.take_n(START, 4));
    assert!(bucket.take_n(START, 3));
}

#[test]
fn reservations_queue_up_and_end_where_patience_does() {
    let bucket = Bucket::new(START, tokens(1), tokens(1), Duration::from_secs(1));
    let patience = Duration::from_secs(3);
    let given: Vec<_> = (0..6).map(|_| bucket.reserve(START, patience)).collect();
    let second = |s| Some(START + Duration::from_secs(s));
    assert_eq!(given, [second(0), second(1), second(2), second(3), None, None]);
    assert!(!bucket.take(START + Duration::from_millis(3999)), "reserved tokens are gone");
    assert!(bucket.take(START + Duration::from_secs(4)), "what was refused took nothing");
}

#[test]
fn buckets_on_one_thread_do_not_share_their_time() {
    let (early, late) =
        (Bucket::per_minute(START, tokens(1)), Bucket::per_minute(START + MINUTE * 9, tokens(1)));
    assert!(late.take(START + MINUTE * 9));
    assert!(early.take(START));
    assert!(!early.take(START));
}

#[test]
fn threads_share_a_bucket_and_get_no_token_twice() {
    let bucket = Arc::new(Bucket::per_minute(START, tokens(100)));
    let taken: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| (0..100).filter(|_| bucket.reserve(START, Duration::ZERO).is_some()).count())
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(taken, 100);
}

#[test]
fn no_time_and_no_size_overflows() {
    for now in [Time::from_millis(0), START, Time::from_millis(u64::MAX)] {
        let widest = Bucket::new(now, NonZeroU32::MAX, NonZeroU32::MIN, Duration::from_secs(1));
        assert!(widest.take_n(now, u32::MAX));
        assert_eq!(widest.reserve(now, Duration::ZERO), None);
        assert!(!widest.take(Time::from_millis(0)));
        let fastest = Bucket::new(now, NonZeroU32::MAX, NonZeroU32::MAX, Duration::from_secs(1));
        assert!(fastest.take_n(now, u32::MAX));
        fastest.take(Time::from_millis(u64::MAX));
    }
}

proptest! {
    /// Whatever is asked and whenever: no window sees more than the burst and what it gained meanwhile, and what is
    /// refused could not have been given.
    #[test]
    fn it_gives_exactly_what_a_naive_bucket_gives(
        burst in 1_u32..50,
        per_minute in 1_u32..600,
        steps in proptest::collection::vec((0_u64..3000, any::<bool>()), 1..300),
    ) {
        let bucket = Bucket::new(START, tokens(burst), tokens(per_minute), MINUTE);
        let mut naive = Naive::new(burst, bucket.interval());
        let (mut now, mut granted) = (START, Vec::new());
        for (wait, reserve) in steps {
            now = now + Duration::from_millis(wait);
            if reserve {
                let given = bucket.reserve(now, MINUTE);
                prop_assert_eq!(given, naive.reserve(now, MINUTE));
                granted.extend(given);
            } else {
                let given = bucket.take(now);
                prop_assert_eq!(given, naive.reserve(now, Duration::ZERO).is_some());
                granted.extend(given.then_some(now));
            }
        }
        for (i, first) in granted.iter().enumerate() {
            for (count, last) in granted[i..].iter().enumerate().map(|(n, last)| (n as u128 + 1, last)) {
                let gained = last.since(*first).as_nanos() / bucket.interval().as_nanos() + 1;
                prop_assert!(count <= u128::from(burst) + gained);
            }
        }
    }
}

/// A bucket by the book: a level in nanoseconds' worth of refill, which may go below zero for reservations.
struct Naive {
    level: i128,
    capacity: i128,
    token: i128,
    at: Time,
}

impl Naive {
    fn new(burst: u32, interval: Duration) -> Self {
        let token = i128::try_from(interval.as_nanos()).unwrap();
        let capacity = token * i128::from(burst);
        Self { level: capacity, capacity, token, at: START }
    }

    fn reserve(&mut self, now: Time, patience: Duration) -> Option<Time> {
        let gained = i128::try_from(now.since(self.at).as_nanos()).unwrap();
        self.level = (self.level + gained).min(self.capacity);
        self.at = now;
        let missing = u64::try_from((self.token - self.level).max(0)).unwrap();
        (Duration::from_nanos(missing) <= patience).then(|| {
            self.level -= self.token;
            now + Duration::from_millis(missing.div_ceil(1_000_000))
        })
    }
}
