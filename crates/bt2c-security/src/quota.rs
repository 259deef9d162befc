//! What one connection may send: its own buckets, and its IP's bucket of requests.
//!
//! A quota lives in the session's task, so that admitting a message costs no trip to the manager.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use bt2c_proto::{Defence, Time};

use crate::{bucket::Bucket, config::SecurityConfig};

/// The limits of one connection; see [`SecurityManager::session_quota`](crate::SecurityManager::session_quota).
#[derive(Debug)]
pub struct SessionQuota(Option<Box<Buckets>>);

#[derive(Debug)]
struct Buckets {
    requests: Bucket,
    shared_requests: Arc<Bucket>,
    /// How far ahead of its bucket the connection may ask before it is in excess.
    patience: Duration,
    limits_pushes: bool,
    transactions: Tiers,
    blocks: Tiers,
    bytes: Tiers,
    pings: Bucket,
}

impl SessionQuota {
    /// No limits, for those on the allow-list.
    pub(crate) const fn unlimited() -> Self {
        Self(None)
    }

    pub(crate) fn new(now: Time, config: &SecurityConfig, shared_requests: Arc<Bucket>) -> Self {
        let requests = Bucket::per_minute(now, config.requests_per_minute);
        // The request that is the `ban_after_excess`-th ahead of the bucket is the excess, so one fewer is waited for.
        let usual = SecurityConfig::default();
        let patience = requests.interval().saturating_mul(config.ban_after_excess.saturating_sub(1));
        Self(Some(Box::new(Buckets {
            requests,
            shared_requests,
            patience,
            limits_pushes: config.defences.has(Defence::PushLimits),
            transactions: Tiers::new(now, config.transactions(), usual.transactions()),
            blocks: Tiers::new(now, config.blocks(), usual.blocks()),
            bytes: Tiers::new(now, config.push_bytes(), usual.push_bytes()),
            pings: Bucket::new(now, NonZeroU32::MIN, NonZeroU32::MIN, config.ping_interval_min),
        })))
    }

    /// Admits a request.
    ///
    /// Over the limit of the connection or of its IP the request is admitted for later, once: it holds its place, and is
    /// to be answered at the time given without asking again. So at most `ban_after_excess` requests ever wait, and a
    /// peer that waits for each answer before it asks again is only slowed down.
    pub fn request(&mut self, now: Time) -> Admission {
        let Some(limits) = &self.0 else { return Admission::Serve };
        let Some(own) = limits.requests.reserve(now, limits.patience) else { return Admission::Excess };
        let shared = limits.shared_requests.reserve(now, SHARED_PATIENCE).unwrap_or(now + SHARED_PATIENCE);
        match own.max(shared) {
            when if when <= now => Admission::Serve,
            when => Admission::Delay(when),
        }
    }

    /// Admits an object that was pushed, announced or fetched, `bytes` long on the wire.
    pub fn push(&mut self, now: Time, kind: PushKind, bytes: usize) -> PushAdmission {
        let Some(limits) = self.0.as_ref().filter(|limits| limits.limits_pushes) else {
            return PushAdmission::Accept;
        };
        let count = match kind {
            PushKind::Block => &limits.blocks,
            PushKind::Transaction => &limits.transactions,
        };
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        count.admit(now, 1).max(limits.bytes.admit(now, bytes))
    }

    /// Whether a ping is to be answered; if not, it is dropped and counted.
    pub fn ping(&mut self, now: Time) -> bool {
        self.0.as_ref().is_none_or(|limits| limits.pings.take(now))
    }
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Answer it now.
    Serve,
    /// Answer it at this time, without asking again; a peer that knows `throttled` is told.
    Delay(Time),
    /// Do not answer: close the connection and report [`Offence::RequestExcess`](crate::Offence::RequestExcess).
    Excess,
}

/// What was pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushKind {
    /// A block.
    Block,
    /// A transaction.
    Transaction,
}

/// What becomes of a push, from mild to severe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PushAdmission {
    /// Handle it.
    Accept,
    /// Over the limit: drop it unread and count it.
    Drop,
    /// Over [`FLOOD_FACTOR`] times the limit: drop it and report [`Offence::PushFlood`](crate::Offence::PushFlood).
    Flood,
}

/// Pushes over the limit are only dropped; from this multiple of it on they are an offence.
pub const FLOOD_FACTOR: u32 = 4;

/// The limit up to which pushes are accepted, and the one above which they are a flood.
#[derive(Debug)]
struct Tiers {
    accepted: Bucket,
    tolerated: Bucket,
}

/// Tokens a second, and at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) burst: NonZeroU32,
    pub(crate) per_second: NonZeroU32,
}

impl Rate {
    pub(crate) const fn new(burst: NonZeroU32, per_second: NonZeroU32) -> Self {
        Self { burst, per_second }
    }

    pub(crate) fn bucket(self, now: Time) -> Bucket {
        Bucket::new(now, self.burst, self.per_second, Duration::from_secs(1))
    }
}

impl Tiers {
    /// Only what is far above the protocol's own limits is a flood, however low ours are: a sender may not know them.
    fn new(now: Time, own: Rate, usual: Rate) -> Self {
        let factor = NonZeroU32::new(FLOOD_FACTOR).expect("it is four");
        let tolerated = Rate {
            burst: own.burst.max(usual.burst).saturating_mul(factor),
            per_second: own.per_second.max(usual.per_second).saturating_mul(factor),
        };
        Self { accepted: own.bucket(now), tolerated: tolerated.bucket(now) }
    }

    fn admit(&self, now: Time, tokens: u32) -> PushAdmission {
        // Dropped pushes count towards a flood as well, so the wider bucket is asked first.
        if !self.tolerated.take_n(now, tokens) {
            PushAdmission::Flood
        } else if self.accepted.take_n(now, tokens) {
            PushAdmission::Accept
        } else {
            PushAdmission::Drop
        }
    }
}

impl SecurityConfig {
    pub(crate) const fn transactions(&self) -> Rate {
        Rate::new(self.tx_burst, self.tx_per_second)
    }

    pub(crate) const fn blocks(&self) -> Rate {
        Rate::new(self.block_burst, self.blocks_per_second)
    }

    pub(crate) const fn push_bytes(&self) -> Rate {
        Rate::new(self.push_bytes_burst, self.push_bytes_per_second)
    }
}

/// How far ahead an IP's connections may ask together: three of them, the most an IP may have inbound, each a minute
/// ahead. Beyond it they wait this long and take nothing more from the bucket, lest they run up a debt that outlives
/// them.
pub(crate) const SHARED_PATIENCE: Duration = Duration::from_secs(180);

#[cfg(test)]
mod tests;
