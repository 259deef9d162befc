//! The chain that there is when a world begins.

use std::{num::NonZeroUsize, path::Path, sync::Arc};

use anyhow::{Context, Result};
use bt2c_node::genesis::DEVNET_VALIDATORS;
use bt2c_p2p::env::MemoryDisk;
use bt2c_proto::{Block, Genesis, Height};
use bt2c_security::fixtures;
use bt2c_sync::{
    ChainStore, CheckedBlock, DiskStore, DiskStoreConfig, Generate, MemoryStore, ValidatorSchedule,
};
use parking_lot::Mutex;

use super::{EPOCH, HOME};

/// How long a chain is, what is in it, and whether another branch leaves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChainPlan {
    /// Blocks above the genesis block.
    pub blocks: u64,
    /// Transactions in each.
    pub transactions: usize,
    /// Blocks below the tip at which another valid branch leaves, and how many it has; attackers have it.
    pub branch: Option<(u64, u64)>,
}

/// A chain, as nodes have it on their disks and as attackers read it.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    pub(super) disk: MemoryDisk,
    pub(super) store: Arc<dyn ChainStore>,
    pub(super) branch: Arc<dyn ChainStore>,
    pub(super) tip: Block,
}

/// The last chain that was made: runs of one scenario share it. Only signatures would be others.
static LAST: Mutex<Option<(ChainPlan, Genesis, Chain)>> = Mutex::new(None);

impl Chain {
    /// The chain of a plan.
    pub(super) fn of(plan: ChainPlan, genesis: &Genesis) -> Result<Self> {
        let mut last = LAST.lock();
        if let Some((_, _, chain)) = last.as_ref().filter(|(made, of, _)| *made == plan && of == genesis) {
            return Ok(chain.clone());
        }
        let chain = Self::make(plan, genesis)?;
        *last = Some((plan, genesis.clone(), chain.clone()));
        Ok(chain)
    }

    fn make(plan: ChainPlan, genesis: &Genesis) -> Result<Self> {
        let first = Arc::new(MemoryStore::new(&genesis.block()));
        if plan.blocks == 0 {
            return Ok(Self {
                disk: MemoryDisk::new(),
                store: Arc::clone(&first) as Arc<dyn ChainStore>,
                branch: first,
                tip: genesis.block(),
            });
        }
        let schedule = ValidatorSchedule::new(genesis.clone())?;
        let disk = MemoryDisk::new();
        let dir = Path::new(HOME).join("chain");
        let config = DiskStoreConfig::default();
        let store = DiskStore::open(Arc::new(disk.clone()), &dir, &genesis.block(), config)?;
        grow(&store, &schedule, plan.blocks, plan.transactions)?;
        let tip = store.body(&store.tip().hash)?.context("the tip is stored")?;
        if let Some((depth, len)) = plan.branch {
            let fork = Height::new(plan.blocks.saturating_sub(depth));
            for body in store.bodies(Height::new(1)..=fork, usize::MAX)? {
                let block = CheckedBlock::trusted(&serde_json::from_slice(&body)?);
                let hash = block.place.hash;
                first.append(&[block], hash)?;
            }
            // One transaction more, so that these are other blocks in the same slots.
            grow(&*first, &schedule, len, plan.transactions + 1)?;
        }
        Ok(Self { disk, tip: serde_json::from_slice(&tip)?, store: Arc::new(store), branch: first })
    }
}

fn grow(
    store: &dyn ChainStore,
    schedule: &ValidatorSchedule,
    blocks: u64,
    transactions: usize,
) -> Result<()> {
    let identities: Vec<_> = (0..DEVNET_VALIDATORS).map(fixtures::devnet_validator).collect();
    let threads = NonZeroUsize::MIN;
    Generate { identities: &identities, blocks, transactions, now: EPOCH, threads }.run(
        store,
        schedule,
        |_| {},
    )?;
    Ok(())
}
