//! How long jobs are modelled to take where time is virtual: the figures of the machine that the design was measured on.

use std::time::Duration;

use crate::core::Unchecked;

/// A durable commit.
const COMMIT: Duration = Duration::from_millis(4);

/// Storing one block, apart from the commit.
const STORE: Duration = Duration::from_micros(12);

/// Reading an answer's worth of blocks.
pub(crate) const SERVE: Duration = Duration::from_millis(1);

/// Checking a transaction or a header: an RSA-2048 signature (27 µs), and hashing about a kilobyte.
pub(crate) const TRANSACTION: Duration = Duration::from_micros(47);

/// Checking blocks.
pub(crate) fn check(blocks: &[Unchecked]) -> Duration {
    let signatures: usize =
        blocks.iter().map(|one| usize::from(!one.sealed) + one.block.transactions.len()).sum();
    headers(signatures)
}

/// Checking headers.
pub(crate) fn headers(signatures: usize) -> Duration {
    TRANSACTION * u32::try_from(signatures).unwrap_or(u32::MAX)
}

/// Storing a batch.
pub(crate) fn import(blocks: usize) -> Duration {
    COMMIT + STORE * u32::try_from(blocks).unwrap_or(u32::MAX)
}
