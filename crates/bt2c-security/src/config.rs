//! The parameters of limits and bans.

use std::{num::NonZeroU32, time::Duration};

use bt2c_proto::{Defences, Limits, limits::FRAME_LIMIT};

use crate::subject::Subject;

/// The parameters of limits and bans; `Default` is what the protocol page says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SecurityConfig {
    /// Requests (`get_*`) a minute, per connection and per IP: a bucket of that many tokens that refills at that rate.
    /// Default 100. Lower makes syncing from this node slow; higher makes being asked expensive.
    pub requests_per_minute: NonZeroU32,
    /// How many requests above the limit one connection may have waiting before it is closed and its IP banned.
    /// Default 100; 0 bans at the first request above the limit, which also hits peers that merely do not know it.
    pub ban_after_excess: u32,
    /// Connection attempts a minute per IP. Default 100. Lower bans what shares an address; higher costs handshakes.
    pub attempts_per_minute: NonZeroU32,
    /// TLS handshakes that strangers may begin a second, in all. Default 100: they may cost a quarter of a core at most. One
    /// takes 0.46 ms with a key of 2048 bits and 1.8 ms with one of 4096, the longest there is, on a core of a small virtual
    /// machine (`examples/handshakes.rs`): 5 % and 18 % of it, and a quarter of one that is five times as slow with the key
    /// that nodes make themselves. Lower keeps honest nodes out when many come at once, higher spends the processor on
    /// strangers.
    pub handshakes_per_second: NonZeroU32,
    /// Such handshakes at once. Default 400: everybody who wants to come back to a node that was away, in one rush.
    pub handshakes_burst: NonZeroU32,
    /// TLS handshakes that strangers of one netgroup (IPv4 /16, IPv6 /32) may begin a second. Default 10. Lower keeps out
    /// neighbours at a large host, higher lets fewer networks use up `handshakes_per_second`.
    pub handshakes_per_group_per_second: NonZeroU32,
    /// Such handshakes at once. Default 50.
    pub handshakes_per_group_burst: NonZeroU32,
    /// Handshakes that one IP may leave unfinished when their time is over, within the window of failed attempts; one more
    /// bans it. Default 20: a slow or broken line is no fault, but nobody's line breaks that often in ten minutes.
    pub unfinished_attempts: NonZeroU32,
    /// Failed attempts (faults of the remote in TLS or hello) per IP within the window that ban it. Default 5.
    pub failed_attempts: NonZeroU32,
    /// The window in which failed attempts count. Default 10 minutes.
    pub failed_window: Duration,
    /// A first ban. Default 1 hour; each repetition doubles it.
    pub ban_duration: Duration,
    /// The longest ban that repetition leads to. Default 24 hours; also how long an ended ban is remembered.
    pub ban_duration_max: Duration,
    /// Most bans at a time. Default 10,000, about 5 MB at worst. When they are reached, further offenders are not banned
    /// (their connections are still closed), for live bans are never given up for newer ones.
    pub max_bans: usize,
    /// Transactions pushed per connection and second. Default 20.
    pub tx_per_second: NonZeroU32,
    /// Transactions pushed at once. Default 1000. Too low drops what arrives after a block interval offline.
    pub tx_burst: NonZeroU32,
    /// Blocks pushed per connection and second. Default 2.
    pub blocks_per_second: NonZeroU32,
    /// Blocks pushed at once. Default 20.
    pub block_burst: NonZeroU32,
    /// Bytes pushed per connection and second. Default 1 MiB.
    pub push_bytes_per_second: NonZeroU32,
    /// Bytes pushed at once. Default 16 MiB; at least one frame (1 MiB), or a full block never passes.
    pub push_bytes_burst: NonZeroU32,
    /// Least time between two pings that are answered. Default 5 s. Above the others' ping interval (30 s) it would let
    /// them think that we are gone.
    pub ping_interval_min: Duration,
    /// Who is never limited or banned. Default nobody.
    pub allow: Vec<Subject>,
    /// All on; a simulation can switch one off.
    pub defences: Defences,
}

impl Default for SecurityConfig {
    fn default() -> Self {
        Self {
            requests_per_minute: count(100),
            ban_after_excess: 100,
            attempts_per_minute: count(100),
            handshakes_per_second: count(100),
            handshakes_burst: count(400),
            handshakes_per_group_per_second: count(10),
            handshakes_per_group_burst: count(50),
            unfinished_attempts: count(20),
            failed_attempts: count(5),
            failed_window: Duration::from_secs(10 * 60),
            ban_duration: Duration::from_secs(60 * 60),
            ban_duration_max: Duration::from_secs(24 * 60 * 60),
            max_bans: 10_000,
            tx_per_second: count(20),
            tx_burst: count(1000),
            blocks_per_second: count(2),
            block_burst: count(20),
            push_bytes_per_second: count(1024 * 1024),
            push_bytes_burst: count(16 * 1024 * 1024),
            ping_interval_min: Duration::from_secs(5),
            allow: Vec::new(),
            defences: Defences::default(),
        }
    }
}

impl SecurityConfig {
    /// What a hello tells others of these limits.
    pub fn told_limits(&self) -> Limits {
        Limits {
            requests_per_minute: self.requests_per_minute.get().into(),
            frame_size: FRAME_LIMIT as u64,
            transactions_per_second: Some(self.tx_per_second.get().into()),
            blocks_per_second: Some(self.blocks_per_second.get().into()),
            push_bytes_per_second: Some(self.push_bytes_per_second.get().into()),
        }
    }

    /// Checks the fields against each other.
    ///
    /// # Errors
    /// The first contradiction, with what to change.
    pub fn build(self) -> Result<Self, SecurityConfigError> {
        let burst = self.push_bytes_burst.get();
        if usize::try_from(burst).is_ok_and(|burst| burst < FRAME_LIMIT) {
            return Err(SecurityConfigError::PushBytesBurst(burst));
        }
        if self.ban_duration.is_zero() {
            return Err(SecurityConfigError::NoBanDuration);
        }
        if self.ban_duration > self.ban_duration_max {
            return Err(SecurityConfigError::BanDurations {
                first: self.ban_duration,
                longest: self.ban_duration_max,
            });
        }
        if self.failed_attempts.get() > MAX_FAILED_ATTEMPTS {
            return Err(SecurityConfigError::FailedAttempts(self.failed_attempts.get()));
        }
        if self.ping_interval_min > MAX_PING_INTERVAL {
            return Err(SecurityConfigError::PingInterval(self.ping_interval_min));
        }
        Ok(self)
    }
}

/// Parameters that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecurityConfigError {
    /// A full block would never pass.
    #[error("push_bytes_burst of {0} is less than one frame: set it to at least {FRAME_LIMIT}")]
    PushBytesBurst(u32),
    /// Bans would end as they begin.
    #[error("ban_duration is zero: set it above zero")]
    NoBanDuration,
    /// The first ban is longer than the longest.
    #[error("ban_duration {first:?} is above ban_duration_max {longest:?}: raise the latter")]
    BanDurations {
        /// `ban_duration`.
        first: Duration,
        /// `ban_duration_max`.
        longest: Duration,
    },
    /// Their times would take too much memory.
    #[error("failed_attempts of {0} is above {MAX_FAILED_ATTEMPTS}: their times are kept for each IP")]
    FailedAttempts(u32),
    /// Peers that ping every 30 s would think that we are gone.
    #[error("ping_interval_min of {0:?} is above {MAX_PING_INTERVAL:?}, the others' ping interval")]
    PingInterval(Duration),
}

/// Most failed attempts that are kept for one IP.
pub(crate) const MAX_FAILED_ATTEMPTS: u32 = 64;

/// The seed's ping interval.
const MAX_PING_INTERVAL: Duration = Duration::from_secs(30);

const fn count(value: u32) -> NonZeroU32 {
    NonZeroU32::new(value).expect("the defaults are above zero")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_consistent() {
        assert_eq!(SecurityConfig::default().build(), Ok(SecurityConfig::default()));
    }

    #[test]
    fn each_contradiction_is_refused() {
        let broken = |change: fn(&mut SecurityConfig)| {
            let mut config = SecurityConfig::default();
            change(&mut config);
            config.build().expect_err("a contradiction")
        };
        assert_eq!(
            broken(|config| config.push_bytes_burst = count(1_048_575)),
            SecurityConfigError::PushBytesBurst(1_048_575)
        );
        assert_eq!(broken(|config| config.ban_duration = Duration::ZERO), SecurityConfigError::NoBanDuration);
        assert!(matches!(
            broken(|config| config.ban_duration_max = Duration::from_secs(1)),
            SecurityConfigError::BanDurations { .. }
        ));
        assert_eq!(
            broken(|config| config.failed_attempts = count(65)),
            SecurityConfigError::FailedAttempts(65)
        );
        let minute = Duration::from_secs(60);
        assert_eq!(
            broken(|config| config.ping_interval_min = Duration::from_secs(60)),
            SecurityConfigError::PingInterval(minute)
        );
    }
}
