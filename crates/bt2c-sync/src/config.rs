//! How the synchroniser paces and bounds itself.

use std::time::Duration;

use bt2c_proto::{Defences, limits::FRAME_LIMIT};

use crate::pool::PoolConfig;

/// Bytes of blocks in one message of a stream: small enough to be checked while the next is on its way, and to come within two
/// seconds over a line of 256 kbit/s.
pub(crate) const PART_BYTES: usize = 64 * 1024;

/// Settings of a [`BlockchainSynchronizer`](crate::BlockchainSynchronizer).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SyncConfig {
    /// Branches that leave the main chain more blocks than this below its tip are not followed; default 100. Lower
    /// settles blocks sooner, higher heals longer splits.
    pub max_reorg_depth: u64,
    /// Blocks that may be fetched ahead of the one to be stored next; default 16,384: what 64 MiB hold of blocks of four
    /// kilobytes. Fewer leave fast peers idle, for each serves a limited number of requests a minute.
    pub window_blocks: u64,
    /// Bytes of such blocks; default 64 MiB.
    pub window_bytes: usize,
    /// How long nothing may come of an answer before what it owes is asked of others; default 2 s. It is doubled each time
    /// up to `request_timeout_max`, and wears off as blocks are stored. Too short asks twice over slow links, too long lets
    /// one slow peer hold up the rest.
    pub request_timeout: Duration,
    /// The longest that `request_timeout` becomes; default 64 s.
    pub request_timeout_max: Duration,
    /// How long nothing may come of an answer before the connection is closed; default 60 s.
    pub close_timeout: Duration,
    /// What we take a peer to serve that does not say: requests a minute; default 100, the seed's. We use a third.
    pub requests_per_minute: u64,
    /// Blocks whose parent is missing that are kept; default 64.
    pub max_orphans: usize,
    /// Bytes of such blocks; default 16 MiB.
    pub max_orphan_bytes: usize,
    /// Blocks that were pushed to us and are being checked; default 64.
    pub max_pushed_blocks: usize,
    /// Bytes of such blocks; default 16 MiB.
    pub max_pushed_bytes: usize,
    /// Transactions that are being checked; default 2000.
    pub max_pushed_transactions: usize,
    /// Most blocks stored at once; default 1024. One fsync a batch: more is faster, and more to hold in memory.
    pub batch_blocks: usize,
    /// Bytes of such blocks; default 16 MiB.
    pub batch_bytes: usize,
    /// How long to wait before a failed store is tried again; default 5 s.
    pub store_retry: Duration,
    /// How often progress is told while blocks are fetched; default 1 s.
    pub progress_interval: Duration,
    /// Limits of the transaction pool.
    pub pool: PoolConfig,
    /// All on; a simulation can switch one off.
    pub defences: Defences,
}

impl Default for SyncConfig {
    fn default() -> Self {
        Self {
            max_reorg_depth: 100,
            window_blocks: 16_384,
            window_bytes: 64 << 20,
            request_timeout: Duration::from_secs(2),
            request_timeout_max: Duration::from_secs(64),
            close_timeout: Duration::from_secs(60),
            requests_per_minute: 100,
            max_orphans: 64,
            max_orphan_bytes: 16 << 20,
            max_pushed_blocks: 64,
            max_pushed_bytes: 16 << 20,
            max_pushed_transactions: 2000,
            batch_blocks: 1024,
            batch_bytes: 16 << 20,
            store_retry: Duration::from_secs(5),
            progress_interval: Duration::from_secs(1),
            pool: PoolConfig::default(),
            defences: Defences::default(),
        }
    }
}

impl SyncConfig {
    /// Checks the fields against each other.
    ///
    /// # Errors
    /// The first contradiction found.
    pub fn validate(&self) -> Result<(), SyncConfigError> {
        if self.max_reorg_depth == 0 {
            return Err(SyncConfigError::ReorgDepth);
        }
        if self.window_blocks < 2 || self.window_bytes < 2 * FRAME_LIMIT {
            return Err(SyncConfigError::Window { blocks: self.window_blocks, bytes: self.window_bytes });
        }
        if self.batch_blocks == 0 || self.batch_bytes == 0 {
            return Err(SyncConfigError::Batch);
        }
        if self.request_timeout.is_zero() || self.request_timeout_max < self.request_timeout {
            let (least, most) = (self.request_timeout, self.request_timeout_max);
            return Err(SyncConfigError::RequestTimeouts { least, most });
        }
        if self.close_timeout <= self.request_timeout {
            let (request, close) = (self.request_timeout, self.close_timeout);
            return Err(SyncConfigError::Timeouts { request, close });
        }
        Ok(())
    }
}

/// A [`SyncConfig`] that contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SyncConfigError {
    /// Two blocks of one height could never be settled.
    #[error("max_reorg_depth is 0")]
    ReorgDepth,
    /// Two answers do not fit.
    #[error("a window of {blocks} blocks and {bytes} bytes does not hold two answers")]
    Window {
        /// Blocks.
        blocks: u64,
        /// Bytes.
        bytes: usize,
    },
    /// Nothing would ever be stored.
    #[error("batch_blocks or batch_bytes is 0")]
    Batch,
    /// The wait for an answer has no end, or ends before it begins.
    #[error("request_timeout {least:?} is 0 or above request_timeout_max {most:?}")]
    RequestTimeouts {
        /// The request time-out.
        least: Duration,
        /// The longest it becomes.
        most: Duration,
    },
    /// A peer would be closed before its range is asked of others.
    #[error("close_timeout {close:?} is not above request_timeout {request:?}")]
    Timeouts {
        /// The request time-out.
        request: Duration,
        /// The close time-out.
        close: Duration,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_are_named() {
        assert_eq!(SyncConfig::default().validate(), Ok(()));
        let timeouts = SyncConfig { close_timeout: Duration::from_secs(1), ..SyncConfig::default() };
        assert!(timeouts.validate().unwrap_err().to_string().contains("close_timeout 1s"));
        let window = SyncConfig { window_blocks: 1, ..SyncConfig::default() };
        assert!(matches!(window.validate(), Err(SyncConfigError::Window { blocks: 1, .. })));
    }
}
