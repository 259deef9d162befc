//! How long an answer may keep us waiting before what it owes is asked of somebody else.

use std::time::Duration;

use bt2c_proto::Time;

/// A wait that adapts: doubled when an answer is late, for the slow line may be our own; a little shorter with every batch
/// of blocks that is stored. (Bitcoin Core does the same with the same numbers: 2 s, doubled up to 64 s, times 0.85 for each
/// block.)
#[derive(Debug)]
pub(super) struct Stall {
    least: Duration,
    most: Duration,
    wait: Duration,
    doubled: Option<Time>,
}

impl Stall {
    pub(super) const fn new(least: Duration, most: Duration) -> Self {
        Self { least, most, wait: least, doubled: None }
    }

    /// How long to wait, now.
    pub(super) const fn wait(&self) -> Duration {
        self.wait
    }

    /// An answer was late. Several that are late at once say no more than one.
    pub(super) fn lengthen(&mut self, now: Time) {
        if self.doubled.is_none_or(|at| now.since(at) >= self.wait) {
            self.wait = self.wait.saturating_mul(2).min(self.most);
            self.doubled = Some(now);
        }
    }

    /// Blocks came and were stored.
    pub(super) fn shorten(&mut self) {
        // In whole milliseconds, as time is.
        let millis = u64::try_from(self.wait.as_millis()).unwrap_or(u64::MAX / 17);
        self.wait = Duration::from_millis(millis * 17 / 20).max(self.least);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_once_for_what_is_late_at_once_and_wears_off() {
        let secs = Duration::from_secs;
        let mut stall = Stall::new(secs(2), secs(64));
        let mut now = Time::from_secs(1000);
        for _ in 0..7 {
            stall.lengthen(now);
        }
        assert_eq!(stall.wait(), secs(4));
        now = now + secs(4);
        stall.lengthen(now);
        assert_eq!(stall.wait(), secs(8));
        for _ in 0..20 {
            now = now + secs(100);
            stall.lengthen(now);
        }
        assert_eq!(stall.wait(), secs(64));
        stall.shorten();
        assert_eq!(stall.wait(), Duration::from_millis(54_400));
        for _ in 0..50 {
            stall.shorten();
        }
        assert_eq!(stall.wait(), secs(2));
    }
}
