//! Checking a stored chain to the tip, signatures and all, from the genesis block or the first one that is kept.

use std::collections::BTreeSet;

use anyhow::{Context, Result, anyhow, bail};
use bt2c_proto::{Block, Height, TxHash};
use bt2c_sync::{
    BlockRef, ChainStore, CheckedBlock, Consensus, TRANSACTION_LIFETIME, TxKey, Verdict, check_block,
};
use bytes::Bytes;

use super::{Workbench, parallel};

/// Bytes of blocks that are checked at once.
const STEP_BYTES: usize = 8 << 20;

/// What a whole chain holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Verified {
    pub(crate) tip: BlockRef,
    /// The first block that was checked; those below are pruned.
    pub(crate) first: Height,
    pub(crate) transactions: u64,
    /// Blocks beside the main chain, of which the bytes were checked.
    pub(crate) beside: u64,
}

/// A pass over a chain, block by block.
struct Pass<'a> {
    schedule: &'a dyn Consensus,
    last: BlockRef,
    transactions: u64,
    /// Transactions that a later block could still repeat.
    recent: BTreeSet<TxKey>,
}

impl Workbench {
    /// Checks every block that is kept: bytes, hash, link, slot, proposer, signatures, root, and that no transaction stands
    /// twice; of blocks beside the main chain, which were checked when they were stored, the bytes.
    pub(crate) fn verify(&self, mut progress: impl FnMut(u64)) -> Result<Verified> {
        let tip = self.store.tip();
        let first = self.store.first_body();
        let last = self.check_genesis()?;
        let last = match first.get().checked_sub(1) {
            Some(below) if below > 0 => {
                self.store.main(Height::new(below))?.with_context(|| format!("block {below} is missing"))?
            }
            _ => last,
        };
        let mut pass = Pass { schedule: &self.schedule, last, transactions: 0, recent: BTreeSet::new() };
        while pass.last.height < tip.height {
            let next = pass.last.height.next();
            let bodies = self.store.bodies(next..=tip.height, STEP_BYTES)?;
            if bodies.is_empty() {
                bail!("block {next} is missing");
            }
            for checked in parallel(&bodies, |body| check(&self.schedule, body)) {
                let height = pass.last.height.next();
                checked.and_then(|block| pass.follow(&block)).map_err(|error| self.blame(height, error))?;
            }
            progress(pass.last.height.get());
        }
        if pass.last.hash != tip.hash {
            bail!("the chain ends with {}, but its tip is {}", pass.last.hash, tip.hash);
        }
        let beside = self.store.check_branches()?;
        Ok(Verified { tip, first, transactions: pass.transactions, beside })
    }

    fn check_genesis(&self) -> Result<BlockRef> {
        let genesis = self.store.main(Height::GENESIS)?.context("block 0 is missing")?;
        let expected = self.genesis().hash();
        if genesis.hash != expected {
            bail!("block 0 is {}, not the genesis {expected}", genesis.hash);
        }
        let body = self.store.body(&genesis.hash)?.context("block 0 is missing")?;
        if body != self.genesis().block().canonical_bytes() {
            return Err(self.blame(Height::GENESIS, anyhow!("stored bytes are not the genesis block's")));
        }
        Ok(genesis)
    }

    /// Says of what is wrong with the main chain's block at a height where it lies.
    fn blame(&self, height: Height, error: anyhow::Error) -> anyhow::Error {
        let place = self.store.main(height).ok().flatten();
        let found = place.and_then(|place| Some((place.hash, self.store.locate(&place.hash).ok()??)));
        match found {
            Some((hash, (path, offset))) => {
                error.context(format!("block {height} {hash} in {} at byte {offset}", path.display()))
            }
            None => error.context(format!("block {height}")),
        }
    }
}

/// Everything that can be seen of a block alone, the form of its bytes included.
fn check(schedule: &dyn Consensus, body: &Bytes) -> Result<CheckedBlock> {
    let block: Block = serde_json::from_slice(body).context("stored bytes are no block")?;
    let checked = check_block(schedule, &block, false).map_err(|error| error.reason)?;
    if checked.bytes != *body {
        bail!("it is not stored in canonical form");
    }
    Ok(checked)
}

impl Pass<'_> {
    /// Everything that needs the blocks before.
    fn follow(&mut self, block: &CheckedBlock) -> Result<()> {
        let place = block.place;
        let in_time = self.schedule.earliest(place.timestamp);
        if let Verdict::Invalid(reason) = self.schedule.check_header(&place, &self.last, in_time) {
            bail!(reason);
        }
        for key in &block.transactions {
            if !self.recent.insert(*key) {
                bail!("transaction {} stands twice in the chain", key.hash);
            }
        }
        // Keys lie in the order of their dates: those that no later block may have are the first.
        let oldest = place.timestamp.saturating_sub(TRANSACTION_LIFETIME.as_secs());
        self.recent = self.recent.split_off(&TxKey { timestamp: oldest, hash: TxHash::from_bytes([0; 32]) });
        self.transactions += u64::try_from(block.transactions.len()).unwrap_or(u64::MAX);
        self.last = place;
        Ok(())
    }
}
