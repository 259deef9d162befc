//! Checking a stored chain from the genesis block to the tip, signatures and all.

use std::collections::BTreeSet;

use anyhow::{Context, Result, anyhow, bail};
use bt2c_proto::{Block, Height, TxHash};
use bt2c_sync::{BlockRef, CheckedBlock, Consensus, TRANSACTION_LIFETIME, TxKey, Verdict, check_block};
use bytes::Bytes;

use super::{Workbench, parallel};

/// Bytes of blocks that are checked at once.
const STEP_BYTES: usize = 8 << 20;

/// What a whole chain holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Verified {
    pub(crate) tip: BlockRef,
    pub(crate) transactions: u64,
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
    /// Checks every block: bytes, hash, link, slot, proposer, signatures, root, and that no transaction stands twice.
    pub(crate) fn verify(&self, mut progress: impl FnMut(u64)) -> Result<Verified> {
        let tip = self.store().tip();
        let genesis = self.store().main(Height::GENESIS)?.context("block 0 is missing")?;
        let expected = self.genesis().hash();
        if genesis.hash != expected {
            bail!("block 0 is {}, not the genesis {expected}", genesis.hash);
        }
        let mut pass =
            Pass { schedule: &self.schedule, last: genesis, transactions: 0, recent: BTreeSet::new() };
        while pass.last.height < tip.height {
            let next = pass.last.height.next();
            let bodies = self.store().bodies(next..=tip.height, STEP_BYTES)?;
            if bodies.is_empty() {
                bail!("block {next} is missing");
            }
            for checked in parallel(&bodies, |body| check(&self.schedule, body)) {
                pass.follow(&checked?)?;
            }
            progress(pass.last.height.get());
        }
        if pass.last.hash != tip.hash {
            bail!("the chain ends with {}, but its tip is {}", pass.last.hash, tip.hash);
        }
        Ok(Verified { tip, transactions: pass.transactions })
    }
}

/// Everything that can be seen of a block alone, the form of its bytes included.
fn check(schedule: &dyn Consensus, body: &Bytes) -> Result<CheckedBlock> {
    let block: Block = serde_json::from_slice(body).context("stored bytes are no block")?;
    let height = block.height();
    let checked = check_block(schedule, &block, false).map_err(|error| anyhow!("block {height}: {error}"))?;
    if checked.bytes != *body {
        bail!("block {height} is not stored in canonical form");
    }
    Ok(checked)
}

impl Pass<'_> {
    /// Everything that needs the blocks before.
    fn follow(&mut self, block: &CheckedBlock) -> Result<()> {
        let place = block.place;
        let in_time = self.schedule.earliest(place.timestamp);
        if let Verdict::Invalid(reason) = self.schedule.check_header(&place, &self.last, in_time) {
            bail!("block {}: {reason}", place.height);
        }
        for key in &block.transactions {
            if !self.recent.insert(*key) {
                bail!("block {}: transaction {} stands twice in the chain", place.height, key.hash);
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
