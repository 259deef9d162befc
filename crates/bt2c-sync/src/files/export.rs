//! Writing the main chain.

use std::io::{self, Write};

use bt2c_proto::Height;

use crate::store::{ChainStore, StoreError};

/// Bytes that are read from the store at once.
const EXPORT_BYTES: usize = 4 << 20;

/// Why an export failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The output failed.
    #[error("cannot write the export: {0}")]
    Io(#[from] io::Error),
}

/// What was exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportSummary {
    /// The first block's height: 0 unless older ones are pruned. Then a store can only import the file if it has the block
    /// before.
    pub first: Height,
    /// How many blocks.
    pub blocks: u64,
}

/// Writes the main chain, genesis block included, telling how many blocks are written; where old blocks are pruned, from the
/// first that is kept.
///
/// # Errors
/// If the store or the output fails.
pub fn export_chain(
    store: &dyn ChainStore,
    output: &mut dyn Write,
    mut progress: impl FnMut(u64),
) -> Result<ExportSummary, ExportError> {
    let (first, tip) = (store.first_body(), store.tip());
    let mut written = 0;
    while first.get() + written <= tip.height.get() {
        let bodies = store.bodies(Height::new(first.get() + written)..=tip.height, EXPORT_BYTES)?;
        if bodies.is_empty() {
            return Err(StoreError::Missing(tip.hash).into());
        }
        for body in &bodies {
            output.write_all(body)?;
            output.write_all(b"\n")?;
        }
        written += bodies.len() as u64;
        progress(written);
    }
    output.flush()?;
    Ok(ExportSummary { first, blocks: written })
}
