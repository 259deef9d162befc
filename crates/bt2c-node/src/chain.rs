//! Work on the stored chain of a node that does not run: check, export, import, generate.

mod verify;

use std::{
    io::{BufRead, Write},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use anyhow::{Context, Result, bail};
use bt2c_p2p::env::{Clock, Disk, RealClock, RealDisk};
use bt2c_proto::Genesis;
use bt2c_security::{Identity, fixtures};
use bt2c_sync::{
    BlockRef, ChainStore, Checkpoints, DiskStore, DiskStoreConfig, ExportSummary, Generate, ImportSummary,
    Pruned, ValidatorSchedule, export_chain, import_chain,
};

use crate::{
    config::NodeConfig,
    genesis::{self, DEVNET_VALIDATORS},
    home::{CHAIN_DIR, HomeLock},
    node::store_config,
};

/// A stored chain, held for itself: no node can start on it meanwhile.
pub(crate) struct Workbench {
    store: DiskStore,
    /// Without the checkpoints, so that a check of the chain is a whole one.
    schedule: ValidatorSchedule,
    checkpoints: Checkpoints,
    dir: PathBuf,
    _home: HomeLock,
}

impl Workbench {
    /// Opens the chain of a data directory, which must have one.
    pub(crate) fn open(home: &Path, config: &NodeConfig, genesis: Genesis) -> Result<Self> {
        if !home.join(CHAIN_DIR).is_dir() {
            bail!("{} holds no chain: name the node's directory with --data-dir", home.display());
        }
        Self::open_or_create(home, config, genesis)
    }

    /// Opens the chain of a data directory to look at it: nothing is mended, and old blocks are not pruned.
    pub(crate) fn open_as_is(home: &Path, config: &NodeConfig, genesis: Genesis) -> Result<Self> {
        if !home.join(CHAIN_DIR).is_dir() {
            bail!("{} holds no chain: name the node's directory with --data-dir", home.display());
        }
        let mut store = store_config(config);
        store.heal = false;
        Self::with(home, store, config.checkpoints()?, genesis)
    }

    /// Opens the chain of a data directory, or begins one.
    pub(crate) fn open_or_create(home: &Path, config: &NodeConfig, genesis: Genesis) -> Result<Self> {
        Self::with(home, store_config(config), config.checkpoints()?, genesis)
    }

    fn with(
        home: &Path,
        config: DiskStoreConfig,
        checkpoints: Checkpoints,
        genesis: Genesis,
    ) -> Result<Self> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let lock = HomeLock::wait_blocking(&*disk, home)?;
        genesis::remember(&*disk, home, &genesis)?;
        let dir = home.join(CHAIN_DIR);
        let store = DiskStore::open(disk, &dir, &genesis.block(), config)?;
        Ok(Self { store, schedule: ValidatorSchedule::new(genesis)?, checkpoints, dir, _home: lock })
    }

    pub(crate) fn store(&self) -> &dyn ChainStore {
        &self.store
    }

    pub(crate) const fn genesis(&self) -> &Genesis {
        self.schedule.parameters()
    }

    /// Bytes that the chain takes on disk.
    pub(crate) fn size(&self) -> Result<u64> {
        let mut sum = 0;
        for entry in
            std::fs::read_dir(&self.dir).with_context(|| format!("cannot list {}", self.dir.display()))?
        {
            sum += entry?.metadata()?.len();
        }
        Ok(sum)
    }

    /// Removes the oldest blocks until the others take at most this many bytes, as far as a reorganisation allows.
    pub(crate) fn prune(&self, keep: u64) -> Result<Pruned> {
        Ok(self.store.prune(keep)?)
    }

    /// Writes the main chain from the first block that is kept on; tells how many blocks are written.
    pub(crate) fn export(&self, out: &mut dyn Write, progress: impl FnMut(u64)) -> Result<ExportSummary> {
        Ok(export_chain(&self.store, out, progress)?)
    }

    /// Checks and stores blocks, with the configured checkpoints; tells how many lines are done.
    pub(crate) fn import(
        &self,
        input: &mut (dyn BufRead + Send),
        progress: impl FnMut(u64),
    ) -> Result<ImportSummary> {
        self.checkpoints.check_store(&self.store)?;
        let schedule =
            ValidatorSchedule::new(self.genesis().clone())?.with_checkpoints(self.checkpoints.clone());
        let now = RealClock::new().now();
        Ok(import_chain(&self.store, &schedule, input, now, threads(), progress)?)
    }

    /// Appends blocks in the next slots of the published keys; tells how many are stored.
    pub(crate) fn generate(
        &self,
        blocks: u64,
        transactions: usize,
        progress: impl FnMut(u64),
    ) -> Result<BlockRef> {
        let identities: Vec<Identity> = (0..DEVNET_VALIDATORS).map(fixtures::devnet_validator).collect();
        let is_ours = |address| identities.iter().any(|identity| identity.address() == address);
        if !self.genesis().validators().iter().any(|validator| is_ours(validator.address())) {
            bail!(
                "blocks are generated with the devnet's published keys, and none of them is a validator of this {}",
                self.genesis().network()
            );
        }
        let now = RealClock::new().now();
        // Looking for the slots of so many blocks would take long, only to find that there are not as many.
        let slot = |timestamp| self.schedule.slot_at(timestamp).unwrap_or(0);
        let slots = slot(now.as_secs()).saturating_sub(slot(self.store.tip().timestamp));
        if blocks > slots {
            bail!("{blocks} blocks do not fit: only {slots} slots lie between the tip and now");
        }
        let generate = Generate { identities: &identities, blocks, transactions, now, threads: threads() };
        Ok(generate.run(&self.store, &self.schedule, progress)?)
    }
}

/// Threads to check and sign on.
fn threads() -> NonZeroUsize {
    thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Maps on all processors, keeping the order.
fn parallel<T: Sync, R: Send>(items: &[T], map: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let share = items.len().div_ceil(threads().get()).max(1);
    thread::scope(|scope| {
        let shares =
            items.chunks(share).map(|share| scope.spawn(|| share.iter().map(&map).collect::<Vec<_>>()));
        let running: Vec<_> = shares.collect();
        running.into_iter().flat_map(|worker| worker.join().expect("a worker does not panic")).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parallel_work_keeps_its_order() {
        let items: Vec<u32> = (0..1000).collect();
        assert_eq!(parallel(&items, |item| item * 2), items.iter().map(|item| item * 2).collect::<Vec<_>>());
        assert!(parallel(&[] as &[u32], |item| *item).is_empty());
    }
}
