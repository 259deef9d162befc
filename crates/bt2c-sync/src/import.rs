//! Taking checked blocks into the store, in order: the one check that needs the whole branch, fork choice, and what the
//! step means for transactions that wait.
//!
//! Reads and writes the store, so it belongs on a worker thread; one import runs at a time.

use std::collections::BTreeSet;

use bt2c_proto::{Block, Height, Transaction, TxHash};

use crate::{
    chain::{BlockRef, CheckedBlock, TxKey},
    consensus::{Consensus, Invalid},
    store::{ChainStore, StoreError, branch_of},
};

/// What an import did.
#[derive(Debug, Clone)]
pub struct Imported {
    /// How many blocks of the batch were stored.
    pub stored: usize,
    /// Why the next one was not.
    pub rejected: Option<Invalid>,
    /// The end of the main chain.
    pub tip: BlockRef,
    /// Blocks that are on the main chain now and were not before, ascending.
    pub applied: Vec<Applied>,
    /// If the main chain left its path: from where, and what it left.
    pub reorganisation: Option<Reorganisation>,
}

/// A block that came onto the main chain.
#[derive(Debug, Clone)]
pub struct Applied {
    /// Its place.
    pub place: BlockRef,
    /// Its transactions.
    pub transactions: Vec<TxHash>,
}

/// A change of path.
#[derive(Debug, Clone)]
pub struct Reorganisation {
    /// The tip before.
    pub old_tip: BlockRef,
    /// The last block that both paths share.
    pub fork: BlockRef,
    /// Blocks that are no longer on the main chain, ascending.
    pub reverted: Vec<BlockRef>,
    /// Their transactions, except those that the new path has too.
    pub returned: Vec<Transaction>,
}

/// Stores a row of blocks, each the child of the one before and the first the child of a stored one, up to the first that
/// repeats a transaction of its branch; then makes the better of the row's end and the tip the tip.
///
/// # Errors
/// If the store fails; then nothing was stored.
pub fn import(
    store: &dyn ChainStore,
    consensus: &dyn Consensus,
    batch: &[CheckedBlock],
) -> Result<Imported, StoreError> {
    let old_tip = store.tip();
    let (stored, rejected) = match first_repeat(store, batch)? {
        Some((block, index)) => (block, Some(Invalid::Repeated { index })),
        None => (batch.len(), None),
    };
    let row = &batch[..stored];
    let mut outcome = Imported { stored, rejected, tip: old_tip, applied: Vec::new(), reorganisation: None };
    let Some(end) = row.last() else { return Ok(outcome) };
    if !consensus.better(end.place.tip(), old_tip.tip()) {
        store.append(row, old_tip.hash)?;
        return Ok(outcome);
    }
    if row[0].place.parent == old_tip.hash {
        outcome.applied = row.iter().map(Applied::from).collect();
    } else {
        // Before anything is written, so that a failure leaves the store as it was.
        describe_change(store, &old_tip, row, &mut outcome)?;
    }
    store.append(row, end.place.hash)?;
    outcome.tip = end.place;
    Ok(outcome)
}

impl From<&CheckedBlock> for Applied {
    fn from(block: &CheckedBlock) -> Self {
        let transactions = block.transactions.iter().map(|key| key.hash).collect();
        Self { place: block.place, transactions }
    }
}

/// The first block of the row, and the place in it, of a transaction that its branch has already.
fn first_repeat(
    store: &dyn ChainStore,
    batch: &[CheckedBlock],
) -> Result<Option<(usize, usize)>, StoreError> {
    let Some(first) = batch.first() else { return Ok(None) };
    let (fork, side) =
        branch_of(store, first.place.parent, usize::MAX)?.expect("no branch is longer than that");
    let side: BTreeSet<_> = side.iter().map(|block| block.hash).collect();
    let in_branch = |holders: Vec<BlockRef>| -> Result<bool, StoreError> {
        for holder in holders {
            if side.contains(&holder.hash) {
                return Ok(true);
            }
            let below = holder.height <= fork.height;
            if below && store.main(holder.height)?.is_some_and(|main| main.hash == holder.hash) {
                return Ok(true);
            }
        }
        Ok(false)
    };
    let keys: Vec<TxKey> = batch.iter().flat_map(|block| &block.transactions).copied().collect();
    let mut holders = store.blocks_with_each(&keys)?.into_iter();
    let mut seen = BTreeSet::new();
    for (place, block) in batch.iter().enumerate() {
        for (index, key) in block.transactions.iter().enumerate() {
            let holders = holders.next().unwrap_or_default();
            if !seen.insert(*key) || in_branch(holders)? {
                return Ok(Some((place, index)));
            }
        }
    }
    Ok(None)
}

/// Finds out what will come onto the main chain, of which a part may have been stored beside it before, and what will leave
/// it.
fn describe_change(
    store: &dyn ChainStore,
    old_tip: &BlockRef,
    row: &[CheckedBlock],
    outcome: &mut Imported,
) -> Result<(), StoreError> {
    let (mut fork, side) =
        branch_of(store, row[0].place.parent, usize::MAX)?.expect("no branch is longer than that");
    for place in &side {
        let transactions = read(store, place)?.iter().map(|transaction| transaction.hash).collect();
        outcome.applied.push(Applied { place: *place, transactions });
    }
    for block in row {
        let place = block.place;
        // What is on the main chain already, and handed in again, does not change it.
        if outcome.applied.is_empty() && store.main(place.height)?.is_some_and(|main| main.hash == place.hash)
        {
            fork = place;
        } else {
            outcome.applied.push(Applied::from(block));
        }
    }
    let mut reverted = Vec::new();
    for height in fork.height.get() + 1..=old_tip.height.get() {
        reverted.push(store.main(Height::new(height))?.ok_or(StoreError::Missing(old_tip.hash))?);
    }
    if reverted.is_empty() {
        return Ok(());
    }
    let included: BTreeSet<_> =
        outcome.applied.iter().flat_map(|block| &block.transactions).copied().collect();
    let mut returned = Vec::new();
    for place in &reverted {
        returned.extend(read(store, place)?);
    }
    returned.retain(|transaction| !included.contains(&transaction.hash));
    outcome.reorganisation = Some(Reorganisation { old_tip: *old_tip, fork, reverted, returned });
    Ok(())
}

/// The transactions of a stored block. Those of one whose body is damaged or gone are lost to the pool, which is no reason to
/// stay on a worse branch.
fn read(store: &dyn ChainStore, place: &BlockRef) -> Result<Vec<Transaction>, StoreError> {
    let bytes = match store.body(&place.hash) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Err(StoreError::Missing(place.hash)),
        Err(error @ (StoreError::Damaged { .. } | StoreError::Pruned { .. })) => {
            tracing::warn!(%error, "transactions of a block that changes its branch cannot be read");
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    // Stored bytes are checksummed and were written by us: they parse, or they are not what was stored.
    let block: Block = serde_json::from_slice(&bytes).map_err(|_| StoreError::Missing(place.hash))?;
    Ok(block.transactions)
}

#[cfg(test)]
mod tests;
