//! The chain as it is served.

use bt2c_proto::{Block, Height, limits::MAX_BLOCKS, limits::MAX_INTEGER, merkle_root};
use bt2c_security::RsaPublicKey;

use super::{Check, check};
use crate::conformance::{
    lab::{self, Lab},
    report::{Outcome, Stop, ensure},
};

pub(super) const CHECKS: &[Check] = &[
    check!("blocks-genesis", "block 0 is served, without transactions, validator and signature", genesis),
    check!("blocks-range", "ascending without a gap from start_height, each on the one before", range),
    check!("blocks-content", "hashes, Merkle roots and transactions are right", content),
    check!("blocks-middle", "the first block is that of start_height", middle),
    check!("blocks-across-the-tip", "the answer ends where the chain does", across),
    check!("blocks-beyond-the-tip", "an empty list means that there are none", beyond),
    check!("blocks-everything", "at most 1536 blocks in one frame, whatever is asked for", everything),
];

/// Blocks that are looked at.
const SAMPLE: u64 = 100;

async fn genesis(lab: &mut Lab) -> Outcome {
    let (mut connection, _) = lab.visit().await?;
    let blocks = lab::blocks(&mut connection, 0, 0).await?;
    ensure(blocks.len() == 1, || format!("{} blocks", blocks.len()))?;
    let block = &blocks[0];
    ensure(block.height() == Height::GENESIS, || format!("height {}", block.height()))?;
    ensure(block.transactions.is_empty() && block.root_is_right(), || "it has transactions".to_owned())?;
    ensure(block.header.validator.is_none(), || "it has a validator".to_owned())?;
    ensure(block.header.signature().as_bytes().is_empty(), || "it has a signature".to_owned())?;
    let expected = lab.genesis().unwrap_or_else(|| block.hash());
    ensure(block.hash() == expected, || format!("{}, and not {expected}", block.hash()))?;
    Ok(block.hash().to_string())
}

/// Asks for a range and checks that the answer is contiguous from its start and inside it.
async fn contiguous(lab: &mut Lab, start: u64, end: u64) -> Result<Vec<Block>, Stop> {
    let (mut connection, _) = lab.visit().await?;
    let blocks = lab::blocks(&mut connection, start, end).await?;
    for (height, block) in (start..).zip(&blocks) {
        ensure(block.height().get() == height, || format!("block {} in place of {height}", block.height()))?;
        ensure(height <= end, || format!("block {height}, above the end of {end}"))?;
    }
    for pair in blocks.windows(2) {
        ensure(pair[1].header.previous_hash == pair[0].hash(), || {
            format!("block {} does not stand on block {}", pair[1].height(), pair[0].height())
        })?;
        ensure(pair[1].header.timestamp > pair[0].header.timestamp, || {
            format!("block {} is not later than block {}", pair[1].height(), pair[0].height())
        })?;
    }
    Ok(blocks)
}

async fn range(lab: &mut Lab) -> Outcome {
    let blocks = contiguous(lab, 0, SAMPLE - 1).await?;
    ensure(!blocks.is_empty(), || "none, not even the genesis".to_owned())?;
    Ok(format!("{} blocks", blocks.len()))
}

async fn content(lab: &mut Lab) -> Outcome {
    let known = lab.known()?;
    let start = known.hello.block_height.get().saturating_sub(SAMPLE - 1);
    let blocks = contiguous(lab, start, start.saturating_add(SAMPLE - 1)).await?;
    let mut transactions = 0;
    for block in &blocks {
        // The block's own hash was compared when it was read.
        let height = block.height();
        let root = merkle_root(&block.transactions);
        ensure(block.header.merkle_root == root, || format!("block {height}: the root is {root}"))?;
        for transaction in &block.transactions {
            transactions += 1;
            let hash = transaction.hash;
            let is_right = lab.genesis().is_none_or(|genesis| transaction.compute_hash(&genesis) == hash);
            ensure(is_right, || format!("block {height}: transaction {hash} has another hash"))?;
            let key = RsaPublicKey::from_spki_der(transaction.public_key.as_bytes());
            let signed = key.is_ok_and(|key| {
                key.address() == transaction.sender
                    && key.verify(hash.as_bytes(), transaction.signature.as_bytes()).is_ok()
            });
            ensure(signed, || format!("block {height}: transaction {hash} is not its sender's"))?;
        }
    }
    Ok(format!("{} blocks with {transactions} transactions", blocks.len()))
}

async fn middle(lab: &mut Lab) -> Outcome {
    let tip = lab.known()?.hello.block_height.get();
    if tip < 2 {
        return Err(Stop::Skipped(format!("the chain has height {tip}")));
    }
    let start = tip / 2;
    let blocks = contiguous(lab, start, tip).await?;
    ensure(!blocks.is_empty(), || format!("none from {start}, and the tip is at {tip}"))?;
    Ok(format!("{} blocks from {start}", blocks.len()))
}

async fn across(lab: &mut Lab) -> Outcome {
    let tip = lab.known()?.hello.block_height.get();
    let blocks = contiguous(lab, tip, tip.saturating_add(50)).await?;
    ensure(!blocks.is_empty(), || format!("none from {tip}, which it says is its height"))?;
    Ok(format!("{} from the tip of height {tip}", blocks.len()))
}

async fn beyond(lab: &mut Lab) -> Outcome {
    let start = lab.known()?.hello.block_height.get().saturating_add(1_000_000);
    let blocks = contiguous(lab, start, start.saturating_add(10)).await?;
    ensure(blocks.is_empty(), || format!("{} blocks", blocks.len()))?;
    Ok("none".to_owned())
}

async fn everything(lab: &mut Lab) -> Outcome {
    let blocks = contiguous(lab, 0, MAX_INTEGER).await?;
    ensure(blocks.len() <= MAX_BLOCKS && !blocks.is_empty(), || format!("{} blocks", blocks.len()))?;
    Ok(format!("{} blocks", blocks.len()))
}
