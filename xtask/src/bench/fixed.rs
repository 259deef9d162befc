//! Work that is the same every time: a chain of always the same blocks.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use bt2c_node::genesis::{DEVNET_VALIDATORS, devnet_genesis_with};
use bt2c_proto::{Block, Time};
use bt2c_security::{Identity, fixtures};
use bt2c_sync::{BlockRef, Consensus, ValidatorSchedule, sealed_block};

use crate::simulate;

/// Blocks in the chain: enough that what is done once does not show, few enough for seconds under callgrind.
const BLOCKS: u64 = 256;

/// When the fixed chain begins, in seconds since the Unix epoch: 2026-01-01T00:00:00Z.
const START: u64 = 1_767_225_600;

/// A moment at which no block of it is too early.
pub(super) const NOW: Time = Time::from_secs(START + 30 * 24 * 60 * 60);

/// The rules of the fixed chain.
pub(super) fn schedule() -> Result<ValidatorSchedule> {
    Ok(ValidatorSchedule::new(devnet_genesis_with(START, Duration::from_secs(10), DEVNET_VALIDATORS)?)?)
}

/// Writes the chain into a file, a block a line, genesis block left out.
///
/// Transactions are signed with fixed salts, so that hashes, links and roots are the same in every run. Seals are not:
/// nothing commits to them, and all of them are as long and take as long to check.
pub(super) fn write(path: &Path) -> Result<()> {
    let schedule = schedule()?;
    let validators: Vec<Identity> = (0..DEVNET_VALIDATORS).map(fixtures::devnet_validator).collect();
    let mut parent = BlockRef::from(&schedule.genesis().header);
    let mut lines = Vec::new();
    for slot in 1..=BLOCKS {
        let (proposer, timestamp) = (schedule.proposer(slot), schedule.slot_start(slot));
        let validator = validators.iter().find(|validator| validator.address() == proposer);
        let validator = validator.context("every proposer of a devnet is published")?;
        let from = usize::try_from(slot)? % 16;
        let transaction = simulate::transaction(from, schedule.genesis().hash(), slot, timestamp)?;
        let block = sealed_block(&parent, timestamp, validator, vec![transaction]);
        parent = BlockRef::from(&block.header);
        lines.extend_from_slice(&block.canonical_bytes());
        lines.push(b'\n');
    }
    std::fs::write(path, lines).with_context(|| format!("cannot write {}", path.display()))
}

/// The canonical bytes of the blocks of a file that [`write`] made.
pub(super) fn read(path: &Path) -> Result<Vec<Vec<u8>>> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect())
}

/// The blocks of canonical bytes.
pub(super) fn blocks(lines: &[Vec<u8>]) -> Result<Vec<Block>> {
    lines.iter().map(|line| Ok(serde_json::from_slice(line)?)).collect()
}
