//! Clocks of simulated hosts: virtual time, ahead or behind, faster or slower.

use std::time::Duration;

use bt2c_p2p::env::{BoxFuture, Clock};
use bt2c_proto::Time;
use tokio::time::Instant;

/// A clock that may be wrong, on the runtime's paused time.
#[derive(Debug, Clone, Copy)]
pub struct SimClock {
    started: Instant,
    epoch: Time,
    ppm: i32,
}

const MILLION: u128 = 1_000_000;

impl SimClock {
    /// A clock that shows `epoch` at `started`, plus `skew_ms` milliseconds, and gains `drift_ppm` microseconds a second
    /// from then on. Both may be negative.
    pub fn new(started: Instant, epoch: Time, skew_ms: i64, drift_ppm: i32) -> Self {
        let skew = Duration::from_millis(skew_ms.unsigned_abs());
        let epoch = if skew_ms < 0 { epoch - skew } else { epoch + skew };
        Self { started, epoch, ppm: drift_ppm.clamp(-500_000, 500_000) }
    }

    /// A clock that shows `epoch` now, and is right.
    #[expect(clippy::disallowed_methods, reason = "this is virtual time")]
    pub fn starting_at(epoch: Time) -> Self {
        Self::new(Instant::now(), epoch, 0, 0)
    }

    /// Nanoseconds of this clock in a million of virtual time.
    fn pace(&self) -> u128 {
        u128::try_from(1_000_000 + i64::from(self.ppm)).expect("at least half of a million")
    }
}

fn scaled(duration: Duration, factor: u128, by: u128) -> Duration {
    let nanos = (duration.as_nanos() * factor).div_ceil(by);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

impl Clock for SimClock {
    fn now(&self) -> Time {
        let elapsed = self.started.elapsed();
        self.epoch + if self.ppm == 0 { elapsed } else { scaled(elapsed, self.pace(), MILLION) }
    }

    fn sleep_until(&self, at: Time) -> BoxFuture<'static, ()> {
        let shown = at.since(self.epoch);
        let elapsed = if self.ppm == 0 { shown } else { scaled(shown, MILLION, self.pace()) };
        Box::pin(tokio::time::sleep_until(self.started + elapsed))
    }
}

impl rustls::time_provider::TimeProvider for SimClock {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        let since_epoch = Duration::from_millis(self.now().as_millis());
        Some(rustls::pki_types::UnixTime::since_unix_epoch(since_epoch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    #[expect(clippy::disallowed_methods, reason = "virtual time")]
    async fn a_fast_clock_gains_and_wakes_when_it_shows_the_time() {
        let (start, epoch) = (Instant::now(), Time::from_secs(1_000));
        let fast = SimClock::new(start, epoch, 2_000, 1_000);
        let slow = SimClock::new(start, epoch, -2_000, -1_000);
        tokio::time::sleep(Duration::from_secs(1_000)).await;
        assert_eq!(fast.now(), Time::from_secs(2_003));
        assert_eq!(slow.now(), Time::from_secs(1_997));
        for clock in [fast, slow] {
            let at = clock.now() + Duration::from_millis(1_234_567);
            clock.sleep_until(at).await;
            assert!(clock.now() >= at && clock.now().since(at) <= Duration::from_millis(2));
        }
    }
}
