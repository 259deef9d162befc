//! Token buckets on the time that is passed in.
//!
//! governor keeps a bucket as one atomic number (GCRA), which lets the connections of one IP share theirs without a lock.
//! It reads its clock itself; ours answers with the `now` of the call in progress on this thread.

use std::{cell::Cell, num::NonZeroU32, time::Duration};

use bt2c_proto::Time;
use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};

/// A bucket of tokens, full at first, that refills evenly.
///
/// In any span of time `s` it gives out at most its burst plus `s` times its rate.
#[derive(Debug)]
pub(crate) struct Bucket {
    limiter: RateLimiter<NotKeyed, InMemoryState, CallTime, NoOpMiddleware<Duration>>,
    interval: Duration,
}

impl Bucket {
    /// A full bucket of `burst` tokens that gains `refill` of them every `per`.
    pub(crate) fn new(now: Time, burst: NonZeroU32, refill: NonZeroU32, per: Duration) -> Self {
        let interval = (per / refill.get()).max(Duration::from_nanos(1));
        let quota = Quota::with_period(interval).expect("an interval above zero").allow_burst(burst);
        at(instant(now), || Self { limiter: RateLimiter::direct_with_clock(quota, CallTime), interval })
    }

    /// A full bucket that holds a minute's tokens.
    pub(crate) fn per_minute(now: Time, tokens: NonZeroU32) -> Self {
        Self::new(now, tokens, tokens, Duration::from_secs(60))
    }

    /// The time in which it gains one token.
    pub(crate) const fn interval(&self) -> Duration {
        self.interval
    }

    /// Takes a token if there is one.
    pub(crate) fn take(&self, now: Time) -> bool {
        at(instant(now), || self.limiter.check().is_ok())
    }

    /// Takes that many tokens if they are all there; more than the burst never are.
    pub(crate) fn take_n(&self, now: Time, tokens: u32) -> bool {
        let Some(tokens) = NonZeroU32::new(tokens) else { return true };
        matches!(at(instant(now), || self.limiter.check_n(tokens)), Ok(Ok(())))
    }

    /// Takes a token that is there or will be within `patience`, and says when; `None` takes nothing.
    ///
    /// The next token is reserved by asking for it as of the moment at which it will be there, so reservations queue up.
    pub(crate) fn reserve(&self, now: Time, patience: Duration) -> Option<Time> {
        let start = instant(now);
        let mut when = start;
        // Another thread may take the reserved token first; the loop ends because each turn moves `when` forward.
        while when - start <= patience && when <= LAST_INSTANT {
            match at(when, || self.limiter.check()) {
                Ok(()) => return Some(now + round_up(when - start)),
                Err(denied) => when = denied.earliest_possible(),
            }
        }
        None
    }
}

/// A moment as governor counts it.
fn instant(now: Time) -> Duration {
    Duration::from_millis(now.as_millis()).min(LAST_INSTANT)
}

/// The whole milliseconds in which a wait is over.
fn round_up(wait: Duration) -> Duration {
    Duration::from_millis(u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
}

/// Runs one governor call at a moment.
fn at<T>(now: Duration, call: impl FnOnce() -> T) -> T {
    NOW.set(now);
    call()
}

thread_local! {
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// The clock of every bucket: the `now` of the call in progress.
#[derive(Debug, Clone, Copy)]
struct CallTime;

impl Clock for CallTime {
    type Instant = Duration;

    fn now(&self) -> Duration {
        NOW.get()
    }
}

/// Time stands still from here on (the year 2262): governor counts nanoseconds in 64 bits and would overflow.
const LAST_INSTANT: Duration = Duration::from_nanos(u64::MAX / 2);

#[cfg(test)]
mod tests;
