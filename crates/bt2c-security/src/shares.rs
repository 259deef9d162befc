//! A bucket for each of many, in bounded memory.

use std::{collections::BTreeMap, time::Duration};

use bt2c_proto::Time;

use crate::bucket::Bucket;

/// A table of buckets. Newcomers that find it full share one bucket.
#[derive(Debug)]
pub(crate) struct Shares<K> {
    most: usize,
    own: BTreeMap<K, Own>,
    strangers: Option<Bucket>,
    last_sweep: Time,
}

#[derive(Debug)]
struct Own {
    bucket: Bucket,
    last_used: Time,
}

/// What became of a try to take a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share {
    /// There was one.
    Within,
    /// The key's own bucket had none.
    Over,
    /// The bucket that newcomers share had none.
    OverWithStrangers,
}

impl<K: Ord> Shares<K> {
    /// A table of at most that many.
    pub(crate) const fn new(most: usize) -> Self {
        Self { most, own: BTreeMap::new(), strangers: None, last_sweep: Time::from_millis(0) }
    }

    /// Takes a token from the bucket of a key; `make` makes one that is full. A bucket unused for as long as `refilled`
    /// is full again, and forgotten when there is a reason to look.
    pub(crate) fn take(&mut self, now: Time, key: K, refilled: Duration, make: impl Fn() -> Bucket) -> Share {
        let is_full = self.own.len() >= self.most && !self.own.contains_key(&key);
        // A sweep looks at every bucket, so newcomers can cause no more than one a second.
        let interval = if is_full { SWEEP_WHEN_FULL } else { SWEEP };
        if now.since(self.last_sweep) >= interval {
            self.last_sweep = now;
            self.own.retain(|_, own| now.since(own.last_used) < refilled);
        }
        if self.own.len() >= self.most && !self.own.contains_key(&key) {
            let has = self.strangers.get_or_insert_with(&make).take(now);
            return if has { Share::Within } else { Share::OverWithStrangers };
        }
        let own = self.own.entry(key).or_insert_with(|| Own { bucket: make(), last_used: now });
        own.last_used = now;
        if own.bucket.take(now) { Share::Within } else { Share::Over }
    }
}

const SWEEP: Duration = Duration::from_secs(60);
const SWEEP_WHEN_FULL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    const NOW: Time = Time::from_secs(1_712_352_000);
    const REFILLED: Duration = Duration::from_secs(2);

    fn take(shares: &mut Shares<u32>, now: Time, key: u32) -> Share {
        let two = NonZeroU32::new(2).unwrap();
        shares.take(now, key, REFILLED, || Bucket::new(now, two, two, REFILLED))
    }

    #[test]
    fn each_has_a_bucket_of_its_own() {
        let mut shares = Shares::new(10);
        let outcomes: Vec<_> = (0..3).map(|_| take(&mut shares, NOW, 1)).collect();
        assert_eq!(outcomes, [Share::Within, Share::Within, Share::Over]);
        assert_eq!(take(&mut shares, NOW, 2), Share::Within);
    }

    #[test]
    fn newcomers_to_a_full_table_share_one_bucket_and_those_in_it_keep_theirs() {
        let mut shares = Shares::new(10);
        (0..10).for_each(|key| assert_eq!(take(&mut shares, NOW, key), Share::Within));
        let outcomes: Vec<_> = (10..13).map(|key| take(&mut shares, NOW, key)).collect();
        assert_eq!(outcomes, [Share::Within, Share::Within, Share::OverWithStrangers]);
        assert_eq!(take(&mut shares, NOW, 9), Share::Within);
        assert_eq!(shares.own.len(), 10);
    }

    #[test]
    fn who_has_nothing_to_be_remembered_for_makes_room_and_others_do_not() {
        let mut shares = Shares::new(10);
        (0..10).for_each(|key| assert_eq!(take(&mut shares, NOW, key), Share::Within));
        let soon = NOW + REFILLED / 2;
        assert_eq!(take(&mut shares, soon, 0), Share::Within);
        assert_eq!(take(&mut shares, NOW + REFILLED, 10), Share::Within);
        assert_eq!(shares.own.keys().copied().collect::<Vec<_>>(), [0, 10]);
    }
}
