//! What each peer sends: how fast, and how much of it was found good.

use std::time::Duration;

/// How fast a peer sends, as far as it was seen.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Throughput {
    bytes_per_s: Option<u64>,
}

/// Shorter times are not told apart from this one: the clock has milliseconds.
const SHORTEST: Duration = Duration::from_millis(1);

impl Throughput {
    /// So many bytes came in so much time. A newer measurement counts as much as all before it: lines change.
    pub(super) fn measure(&mut self, bytes: usize, time: Duration) {
        let millis = u64::try_from(time.max(SHORTEST).as_millis()).unwrap_or(u64::MAX);
        let now = (bytes as u64).saturating_mul(1000) / millis;
        self.bytes_per_s = Some(self.bytes_per_s.map_or(now, |before| before.midpoint(now)));
    }

    /// Nothing came for too long: at most half as fast as thought, and as `bytes` in `time` at least.
    pub(super) fn halve(&mut self, bytes: usize, time: Duration) {
        let least = (bytes as u64) / time.as_secs().max(1);
        self.bytes_per_s = Some(self.bytes_per_s.map_or(least, |before| (before / 2).max(least)));
    }

    /// Bytes that it sends in that time; none if it has sent nothing yet.
    pub(super) fn bytes_in(&self, time: Duration) -> Option<usize> {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let bytes = self.bytes_per_s?.saturating_mul(millis) / 1000;
        Some(usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    /// How long it takes for that many bytes; none if it has sent nothing yet.
    pub(super) fn time_for(&self, bytes: u64) -> Option<Duration> {
        let millis = bytes.saturating_mul(1000) / self.bytes_per_s?.max(1);
        Some(Duration::from_millis(millis))
    }
}

/// What a peer contributed to the chain since it connected: only what was verified and stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Contribution {
    /// Fetched blocks of the peer that were stored.
    pub blocks: u64,
    /// Bytes of their canonical forms.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throughput_follows_the_line() {
        let mut throughput = Throughput::default();
        assert_eq!(throughput.bytes_in(Duration::from_secs(1)), None);
        throughput.measure(1_000_000, Duration::from_secs(2));
        assert_eq!(throughput.bytes_in(Duration::from_secs(1)), Some(500_000));
        throughput.measure(100_000, Duration::from_secs(1));
        assert_eq!(throughput.bytes_in(Duration::from_secs(1)), Some(300_000));
        assert_eq!(throughput.time_for(600_000), Some(Duration::from_secs(2)));
        throughput.halve(32_000, Duration::from_secs(8));
        assert_eq!(throughput.bytes_in(Duration::from_secs(1)), Some(150_000));
        for _ in 0..20 {
            throughput.halve(32_000, Duration::from_secs(8));
        }
        assert_eq!(throughput.bytes_in(Duration::from_secs(8)), Some(32_000), "who is slow is still asked");
        throughput.measure(usize::MAX, Duration::ZERO);
        assert!(throughput.bytes_in(Duration::MAX).is_some(), "nothing overflows");
    }
}
