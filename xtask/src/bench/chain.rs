//! Long chains to measure with, made once and kept.

use std::{
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use bt2c_node::genesis::devnet_genesis_with;
use bt2c_p2p::env::RealDisk;
use bt2c_proto::{Genesis, Height, Time};
use bt2c_security::{Identity, fixtures};
use bt2c_sync::{
    BlockRef, ChainStore, Checkpoint, Checkpoints, DiskStore, DiskStoreConfig, Generate, ValidatorSchedule,
};
use indicatif::{ProgressBar, ProgressStyle};

/// When every chain begins, in seconds since the Unix epoch: so early that a million slots of a second lie behind us.
const START: u64 = 1_700_000_000;

/// The shortest slot that there is.
const SLOT: Duration = Duration::from_secs(1);

/// A moment at which no block of any chain is too early: 3.2 years after its begin.
pub(super) const NOW: Time = Time::from_secs(START + 100_000_000);

/// What a chain is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Recipe {
    /// Blocks above the genesis block.
    pub(super) blocks: u64,
    /// Transactions in each.
    pub(super) transactions: usize,
}

/// The network of all chains: one validator, so that no slot is empty.
pub(super) fn genesis() -> Result<Genesis> {
    Ok(devnet_genesis_with(START, SLOT, 1)?)
}

/// Its rules, with one checkpoint or none.
pub(super) fn schedule(checkpoint: Option<Checkpoint>) -> Result<Arc<ValidatorSchedule>> {
    let schedule = ValidatorSchedule::new(genesis()?)?;
    Ok(Arc::new(schedule.with_checkpoints(Checkpoints::new(checkpoint)?)))
}

/// Opens or begins the store of a chain.
pub(super) fn open(dir: &Path) -> Result<Arc<DiskStore>> {
    let genesis = genesis()?.block();
    Ok(Arc::new(DiskStore::open(Arc::new(RealDisk), dir, &genesis, DiskStoreConfig::default())?))
}

/// The cores of this machine.
pub(super) fn cores() -> NonZeroUsize {
    thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

impl Recipe {
    /// The directory of the chain, made if it is not there, and its tip. Signing takes half a millisecond a signature on
    /// every core; what was made is kept in the build's directory.
    pub(super) fn make(self, bench: &Path) -> Result<(PathBuf, BlockRef)> {
        let dir = bench.join(format!("chain-{}-{}", self.blocks, self.transactions));
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let store = open(&dir)?;
        let missing = self.blocks.saturating_sub(store.tip().height.get());
        if missing > 0 {
            self.generate(&store, missing)?;
        }
        let tip = store.tip();
        ensure!(tip.height == Height::new(self.blocks), "{} holds {tip}: remove it", dir.display());
        Ok((dir, tip))
    }

    fn generate(self, store: &DiskStore, missing: u64) -> Result<()> {
        let style = ProgressStyle::with_template("making the chain {bar:30} {pos}/{len} blocks, {eta} left")?;
        let bar = ProgressBar::new(missing).with_style(style);
        // The validator and three others send the transactions; only the first proposes.
        let identities: Vec<Identity> = (0..4).map(fixtures::devnet_validator).collect();
        let generate = Generate {
            identities: &identities,
            blocks: missing,
            transactions: self.transactions,
            now: NOW,
            threads: cores(),
        };
        generate.run(store, &*schedule(None)?, |done| bar.set_position(done))?;
        bar.finish_and_clear();
        Ok(())
    }
}
