//! How many addresses are taken from one peer: a token bucket for each.

use std::{collections::BTreeMap, time::Duration};

use bt2c_proto::{PeerId, Time};

/// A token bucket for each peer that sent addresses, kept past its connection so that coming back fills none.
///
/// Never holds more than [`MAX_BUCKETS`]; beyond, the one used longest ago makes room.
#[derive(Debug)]
pub(crate) struct Intake {
    spacing: Duration,
    burst: u32,
    buckets: BTreeMap<PeerId, Bucket>,
}

/// A bucket filled with time: each address costs `spacing` of it.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    saved: Duration,
    at: Time,
}

impl Intake {
    pub(crate) const fn new(spacing: Duration, burst: u32) -> Self {
        Self { spacing, burst, buckets: BTreeMap::new() }
    }

    /// How many addresses the peer may give us now.
    pub(crate) fn available(&self, now: Time, peer: &PeerId) -> usize {
        let saved = self.saved(now, peer).as_millis();
        usize::try_from(saved / self.spacing.as_millis().max(1)).unwrap_or(usize::MAX)
    }

    /// Takes up to that many and says how many it were.
    pub(crate) fn take(&mut self, now: Time, peer: PeerId, wanted: usize) -> usize {
        let taken = wanted.min(self.available(now, &peer));
        let cost = self.spacing.saturating_mul(u32::try_from(taken).unwrap_or(u32::MAX));
        let saved = self.saved(now, &peer).saturating_sub(cost);
        if self.buckets.len() >= MAX_BUCKETS && !self.buckets.contains_key(&peer) {
            let idle = self.buckets.iter().min_by_key(|(_, bucket)| bucket.at).map(|(peer, _)| *peer);
            idle.and_then(|peer| self.buckets.remove(&peer));
        }
        self.buckets.insert(peer, Bucket { saved, at: now });
        taken
    }

    fn saved(&self, now: Time, peer: &PeerId) -> Duration {
        let full = self.spacing.saturating_mul(self.burst);
        let saved = |bucket: &Bucket| bucket.saved.saturating_add(now.since(bucket.at)).min(full);
        self.buckets.get(peer).map_or(full, saved)
    }
}

/// Most peers remembered. Identities are free, but only peers that we dialled and asked get a bucket.
const MAX_BUCKETS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u64) -> PeerId {
        PeerId::from_spki_der(&n.to_be_bytes())
    }

    #[test]
    fn after_the_burst_one_address_is_taken_in_ten_seconds() {
        let mut intake = Intake::new(Duration::from_secs(10), 1000);
        let at = Time::from_secs;
        assert_eq!(intake.take(at(0), peer(1), 700), 700);
        assert_eq!(intake.take(at(0), peer(1), 700), 300);
        assert_eq!(intake.take(at(9), peer(1), 1), 0);
        assert_eq!(intake.take(at(10), peer(1), 5), 1);
        assert_eq!(intake.take(at(40), peer(1), 5), 3);
        assert_eq!(intake.take(at(40), peer(2), 5), 5, "another peer has its own bucket");
        assert_eq!(intake.available(Time::from_millis(u64::MAX), &peer(1)), 1000);
    }

    #[test]
    fn the_number_of_buckets_is_bounded() {
        let mut intake = Intake::new(Duration::from_secs(10), 1000);
        for n in 0..=1024 {
            intake.take(Time::from_secs(n), peer(n), 1000);
        }
        assert_eq!(intake.buckets.len(), MAX_BUCKETS);
        assert!(intake.available(Time::from_secs(1024), &peer(0)) == 1000, "the idlest was forgotten");
        assert!(intake.available(Time::from_secs(1024), &peer(1024)) == 0);
    }
}
