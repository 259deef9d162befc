//! Our own pace as a requester.

use std::time::Duration;

use bt2c_proto::Time;

/// A token bucket, kept as the moment at which it will be full again (the generic cell rate algorithm).
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    burst: Duration,
    full_at: Time,
}

impl Pace {
    /// A third of what the other side serves in a minute, so that three honest nodes behind one address stay inside its
    /// limit; one request of it is left to discovery.
    pub(super) fn for_limit(requests_per_minute: u64) -> Self {
        // Faster than a request in ten milliseconds is no pace, and slower than one in three minutes no sync.
        let share = (requests_per_minute / 3).saturating_sub(1).clamp(1, 6000);
        let interval = match requests_per_minute {
            0..=8 => Duration::from_millis(180_000 / requests_per_minute.max(1)),
            _ => Duration::from_millis(60_000 / share),
        };
        let burst = interval * u32::try_from(share - 1).expect("a share is at most 6000");
        Self { interval, burst, full_at: Time::default() }
    }

    /// From when on a request may go out.
    pub(super) fn ready_at(&self) -> Time {
        self.full_at - self.burst
    }

    /// Takes a token; says whether there was one.
    pub(super) fn take(&mut self, now: Time) -> bool {
        let ready = self.ready_at() <= now;
        if ready {
            self.full_at = self.full_at.max(now) + self.interval;
        }
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent_in(limit: u64, window: Duration) -> u64 {
        let mut pace = Pace::for_limit(limit);
        let start = Time::from_secs(1000);
        let mut sent = 0;
        let mut now = start;
        while now < start + window {
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
        let mut pace = Pace::for_limit(100);
        let now = Time::from_secs(1);
        let burst = (0..100).filter(|_| pace.take(now)).count();
        assert_eq!(burst, 32);
        assert!(!pace.take(pace.ready_at() - Duration::from_millis(1)));
        assert!(pace.take(pace.ready_at()));
    }
}
