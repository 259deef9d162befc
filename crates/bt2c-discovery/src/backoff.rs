//! When to try again after a failure: exponential, with jitter, capped.

use std::time::Duration;

use bt2c_proto::Time;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// How often something failed in a row, and when it may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Retry {
    pub(crate) failures: u32,
    pub(crate) at: Time,
}

impl Retry {
    /// Counts a failure and waits the longer for it.
    pub(crate) fn fail(&mut self, now: Time, backoff: Backoff, rng: &mut ChaCha8Rng) {
        self.failures = self.failures.saturating_add(1);
        self.at = now + backoff.delay(self.failures, rng);
    }

    /// Forgets failures; the next attempt is still not at once, for whoever just went away is rarely back at once.
    pub(crate) fn reset(&mut self, now: Time, backoff: Backoff, rng: &mut ChaCha8Rng) {
        *self = Self { failures: 0, at: now + backoff.delay(1, rng) };
    }
}

/// The bounds of the waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    pub(crate) base: Duration,
    pub(crate) max: Duration,
}

impl Backoff {
    /// The wait after that many failures: `base` doubled for each after the first, capped at `max`, then reduced by up
    /// to half at random, so that those who failed together do not come back together.
    fn delay(self, failures: u32, rng: &mut ChaCha8Rng) -> Duration {
        let factor = 1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let full =
            u64::try_from(self.base.saturating_mul(factor).min(self.max).as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(full - rng.random_range(0..=full / 2))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    const BACKOFF: Backoff = Backoff { base: Duration::from_secs(2), max: Duration::from_secs(300) };

    #[test]
    fn waits_double_stay_under_the_cap_and_differ() {
        let mut rng = ChaCha8Rng::from_seed([1; 32]);
        let mut retry = Retry::default();
        for doublings in 0..40 {
            retry.fail(Time::default(), BACKOFF, &mut rng);
            let full = Duration::from_secs(2u64 << doublings).min(BACKOFF.max);
            let wait = retry.at.since(Time::default());
            assert!(wait >= full / 2 && wait <= full, "{wait:?} after {} failures", retry.failures);
        }
        let waits: Vec<_> = (0..8).map(|_| BACKOFF.delay(9, &mut rng)).collect();
        assert!(waits.iter().any(|wait| wait != &waits[0]));
    }

    #[test]
    fn extreme_bounds_and_counts_do_not_overflow() {
        let mut rng = ChaCha8Rng::from_seed([2; 32]);
        let widest = Backoff { base: Duration::MAX, max: Duration::MAX };
        let mut retry = Retry { failures: u32::MAX, at: Time::default() };
        retry.fail(Time::from_millis(u64::MAX), widest, &mut rng);
        assert_eq!(retry, Retry { failures: u32::MAX, at: Time::from_millis(u64::MAX) });
    }
}
