//! Our own pace as a sender, so that we never trip the limits of others.
//!
//! What a peer's hello says that it takes decides, or the protocol's limits if it says nothing.

use std::{num::NonZeroU32, time::Duration};

use bt2c_proto::{Limits, Time, limits::FRAME_LIMIT};

use crate::{
    bucket::Bucket,
    config::SecurityConfig,
    quota::{PushKind, Rate},
};

/// Requests a minute that a peer takes which does not say: the seed's limit.
const USUAL_REQUESTS: u64 = 100;

/// Our own pace as a requester: a bucket, kept as the moment at which it will be full again (the generic cell rate
/// algorithm). Unlike those that we hold others to, it says when the next request may go out.
///
/// What a peer takes is shared by three nodes behind one address, and within a node by its two requesters: who asks for
/// blocks and who asks for addresses. The two together keep to a limit that bans at the first request above it.
#[derive(Debug)]
pub struct RequestPace {
    interval: Duration,
    burst: Duration,
    full_at: Time,
}

impl RequestPace {
    /// For asking a peer for blocks that takes that many requests a minute: a third of them, less one.
    pub fn for_blocks(requests_per_minute: Option<u64>) -> Self {
        let limit = requests_per_minute.unwrap_or(USUAL_REQUESTS);
        // Faster than a request in ten milliseconds is no pace, and slower than one in three minutes no sync.
        let share = (limit / 3).saturating_sub(1).clamp(1, 6000);
        let interval = match limit {
            0..=8 => third_of(limit),
            _ => Duration::from_millis(60_000 / share),
        };
        let burst = interval * u32::try_from(share - 1).expect("a share is at most 6000");
        Self { interval, burst, full_at: Time::default() }
    }

    /// For asking it for addresses: another third, and never two at once. `None`: a peer that takes but one request a
    /// minute is asked for blocks.
    pub fn for_addresses(requests_per_minute: Option<u64>) -> Option<Self> {
        let limit = requests_per_minute.unwrap_or(USUAL_REQUESTS);
        let pace = Self { interval: third_of(limit), burst: Duration::ZERO, full_at: Time::default() };
        (limit > 1).then_some(pace)
    }

    /// From when on a request may go out.
    pub fn ready_at(&self) -> Time {
        self.full_at - self.burst
    }

    /// Whether half of what may go out at once may do so now.
    pub fn is_rested(&self, now: Time) -> bool {
        self.full_at - self.burst / 2 <= now
    }

    /// Takes a token; says whether there was one.
    pub fn take(&mut self, now: Time) -> bool {
        let ready = self.ready_at() <= now;
        if ready {
            self.full_at = self.full_at.max(now) + self.interval;
        }
        ready
    }
}

/// The time between two requests of which a third of the limit goes out, rounded up.
fn third_of(requests_per_minute: u64) -> Duration {
    Duration::from_millis(180_000_u64.div_ceil(requests_per_minute.max(1)))
}

/// Our own pace when we push to a peer: what it says that it takes, or the protocol's limits if it does not.
///
/// A sender keeps a quarter of the burst in reserve, for messages bunch up on the way.
#[derive(Debug)]
pub struct PushPace {
    transactions: Bucket,
    blocks: Bucket,
    bytes: Bucket,
}

impl PushPace {
    /// The pace for a peer with these limits.
    pub fn new(now: Time, told: Option<&Limits>) -> Self {
        let usual = SecurityConfig::default();
        let pace = |told: Option<u64>, usual: Rate, least: u32| {
            let per_second = told.map_or(usual.per_second, at_least_one);
            // A peer may take more a second than usual; of the burst that it takes nothing is said.
            let seconds = usual.burst.get() / usual.per_second.get();
            let burst = per_second.get().saturating_mul(seconds).min(usual.burst.get());
            let burst = (burst - burst / 4).max(least).max(1);
            Rate::new(at_least_one(burst.into()), per_second).bucket(now)
        };
        let least_bytes = u32::try_from(FRAME_LIMIT).expect("a frame is below 4 GiB");
        Self {
            transactions: pace(told.and_then(|told| told.transactions_per_second), usual.transactions(), 1),
            blocks: pace(told.and_then(|told| told.blocks_per_second), usual.blocks(), 1),
            bytes: pace(told.and_then(|told| told.push_bytes_per_second), usual.push_bytes(), least_bytes),
        }
    }

    /// Whether an object of that many bytes may be pushed now; if so, it is counted.
    pub fn take(&self, now: Time, kind: PushKind, bytes: usize) -> bool {
        let count = match kind {
            PushKind::Block => &self.blocks,
            PushKind::Transaction => &self.transactions,
        };
        count.take(now) && self.bytes.take_n(now, u32::try_from(bytes).unwrap_or(u32::MAX))
    }
}

fn at_least_one(number: u64) -> NonZeroU32 {
    NonZeroU32::new(u32::try_from(number).unwrap_or(u32::MAX)).unwrap_or(NonZeroU32::MIN)
}

#[cfg(test)]
mod tests;
