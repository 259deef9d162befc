//! The index over the segments: one redb file, one transaction a batch.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `heights` | hash | height, of every block |
//! | `main` | height | entry of the main chain's block: its place in the tree and in the segments; the last one is the tip |
//! | `beside` | hash | entry of a block that is not on the main chain |
//! | `transactions` | date, hash, hash of the block that holds it | – |
//! | `end` | `segment`, `offset` | where the next record goes |
//!
//! `transactions` does not depend on which path is the main chain, so a reorganisation leaves it alone; its keys lie in
//! the order of dates, so forgetting the old ones is cutting off a prefix. `heights` is what grows with the chain in no
//! order, where each batch touches pages all over: its rows are as short as they can be.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bt2c_p2p::env::DiskFile;
use bt2c_proto::{BlockHash, Height, TxHash};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use super::{
    backend::Backend,
    blocks::{self, BESIDE, Entry, HEIGHTS, MAIN, ReadBlocks, WriteBlocks},
    segments::{End, Location},
};
use crate::{
    chain::{BlockRef, CheckedBlock, TxKey},
    schedule::TRANSACTION_LIFETIME,
    store::StoreError,
};

const TX_KEY_LEN: usize = 72;

type TxKeyBytes = [u8; TX_KEY_LEN];

const TRANSACTIONS: TableDefinition<'_, &TxKeyBytes, ()> = TableDefinition::new("transactions");
const END: TableDefinition<'_, &str, u64> = TableDefinition::new("end");

#[derive(Debug)]
pub(super) struct Index {
    database: Database,
}

impl From<redb::Error> for StoreError {
    fn from(error: redb::Error) -> Self {
        Self::Index(Box::new(error))
    }
}

/// Any of redb's errors as ours.
pub(super) fn failed(error: impl Into<redb::Error>) -> StoreError {
    StoreError::from(error.into())
}

impl Index {
    pub(super) fn open(file: Arc<dyn DiskFile>, cache_bytes: usize) -> Result<Self, StoreError> {
        let database = Database::builder()
            .set_cache_size(cache_bytes)
            .create_with_backend(Backend(file))
            .map_err(failed)?;
        let index = Self { database };
        let transaction = index.begin()?;
        transaction.open_table(HEIGHTS).map_err(failed)?;
        transaction.open_table(MAIN).map_err(failed)?;
        transaction.open_table(BESIDE).map_err(failed)?;
        transaction.open_table(TRANSACTIONS).map_err(failed)?;
        transaction.open_table(END).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        Ok(index)
    }

    fn begin(&self) -> Result<WriteTransaction, StoreError> {
        let mut transaction = self.database.begin_write().map_err(failed)?;
        // Opening after a crash is then a matter of milliseconds, however long the chain.
        transaction.set_quick_repair(true);
        Ok(transaction)
    }

    pub(super) fn tip(&self) -> Result<Option<BlockRef>, StoreError> {
        let transaction = self.database.begin_read().map_err(failed)?;
        let table = transaction.open_table(MAIN).map_err(failed)?;
        let last = table.last().map_err(failed)?;
        Ok(last.map(|(_, entry)| Entry::read(entry.value()).place))
    }

    pub(super) fn end(&self) -> Result<Option<End>, StoreError> {
        let transaction = self.database.begin_read().map_err(failed)?;
        let table = transaction.open_table(END).map_err(failed)?;
        let value = |key| table.get(key).map(|value| value.map(|value| value.value())).map_err(failed);
        let (segment, offset) = (value("segment")?, value("offset")?);
        Ok(segment
            .zip(offset)
            .and_then(|(segment, offset)| u32::try_from(segment).ok().map(|segment| End { segment, offset })))
    }

    pub(super) fn block(&self, hash: &BlockHash) -> Result<Option<Entry>, StoreError> {
        let transaction = self.database.begin_read().map_err(failed)?;
        ReadBlocks::read(&transaction)?.entry(hash)
    }

    /// The main-chain entries of a range of heights, up to the first that `take` refuses.
    pub(super) fn main(
        &self,
        range: std::ops::RangeInclusive<Height>,
        mut take: impl FnMut(&Entry) -> bool,
    ) -> Result<Vec<Entry>, StoreError> {
        let transaction = self.database.begin_read().map_err(failed)?;
        let table = transaction.open_table(MAIN).map_err(failed)?;
        let mut entries = Vec::new();
        for entry in blocks::entries(table.range(range.start().get()..=range.end().get()).map_err(failed)?) {
            let entry = entry?;
            if !take(&entry) {
                break;
            }
            entries.push(entry);
        }
        Ok(entries)
    }

    /// Whether each of these blocks is there.
    pub(super) fn known<'a>(
        &self,
        hashes: impl Iterator<Item = &'a BlockHash>,
    ) -> Result<Vec<bool>, StoreError> {
        let transaction = self.database.begin_read().map_err(failed)?;
        let table = transaction.open_table(HEIGHTS).map_err(failed)?;
        hashes.map(|hash| Ok(table.get(hash.as_bytes()).map_err(failed)?.is_some())).collect()
    }

    /// Every block that is not on the main chain, in the order of the segments.
    pub(super) fn beside_main(&self) -> Result<Vec<Entry>, StoreError> {
        let transaction = self.database.begin_read().map_err(failed)?;
        let table = transaction.open_table(BESIDE).map_err(failed)?;
        let mut beside = blocks::entries(table.iter().map_err(failed)?).collect::<Result<Vec<_>, _>>()?;
        beside.sort_unstable_by_key(|entry| (entry.location.segment, entry.location.offset));
        Ok(beside)
    }

    /// The transactions of these blocks that are not forgotten yet.
    pub(super) fn transactions_of(
        &self,
        blocks: &BTreeSet<BlockHash>,
    ) -> Result<BTreeMap<BlockHash, Vec<TxKey>>, StoreError> {
        let transaction = self.database.begin_read().map_err(failed)?;
        let table = transaction.open_table(TRANSACTIONS).map_err(failed)?;
        let mut found: BTreeMap<BlockHash, Vec<TxKey>> = BTreeMap::new();
        for row in table.iter().map_err(failed)? {
            let (key, _) = row.map_err(failed)?;
            let block = BlockHash::from_bytes(block_of(key.value()));
            if blocks.contains(&block) {
                found.entry(block).or_default().push(transaction_of(key.value()));
            }
        }
        Ok(found)
    }

    /// For each of these transactions, the blocks that hold it.
    pub(super) fn blocks_with(&self, keys: &[TxKey]) -> Result<Vec<Vec<BlockRef>>, StoreError> {
        let transaction = self.database.begin_read().map_err(failed)?;
        let transactions = transaction.open_table(TRANSACTIONS).map_err(failed)?;
        let blocks = ReadBlocks::read(&transaction)?;
        let latest =
            transactions.last().map_err(failed)?.map(|(key, _)| transaction_of(key.value()).timestamp);
        let of_one = |key: &TxKey| {
            let (first, last) = (tx_key(key, &[0; 32]), tx_key(key, &[0xff; 32]));
            let mut found = Vec::new();
            // Most of what is asked for while a chain is synced is later than all that is here.
            if latest.is_none_or(|latest| key.timestamp > latest) {
                return Ok(found);
            }
            for row in transactions.range::<&TxKeyBytes>(&first..=&last).map_err(failed)? {
                let row = row.map_err(failed)?;
                let hash = BlockHash::from_bytes(block_of(row.0.value()));
                found.extend(blocks.entry(&hash)?.map(|entry| entry.place));
            }
            Ok(found)
        };
        keys.iter().map(of_one).collect()
    }

    /// Adds blocks that lie at these locations, moves the main chain to `tip`, forgets transactions that no block above
    /// `reorg_depth` below the tip may repeat: all or nothing.
    pub(super) fn append(
        &self,
        batch: &[(&CheckedBlock, Location)],
        tip: BlockHash,
        end: End,
        reorg_depth: u64,
    ) -> Result<BlockRef, StoreError> {
        let transaction = self.begin()?;
        let tip = WriteBlocks::write(&transaction)?.append(batch, tip)?;
        remember(&transaction, batch)?;
        forget(&transaction, tip.height.saturating_sub(reorg_depth))?;
        {
            let mut table = transaction.open_table(END).map_err(failed)?;
            table.insert("segment", u64::from(end.segment)).map_err(failed)?;
            table.insert("offset", end.offset).map_err(failed)?;
        }
        transaction.commit().map_err(failed)?;
        Ok(tip)
    }
}

/// Takes the transactions of blocks.
fn remember(transaction: &WriteTransaction, batch: &[(&CheckedBlock, Location)]) -> Result<(), StoreError> {
    let mut transactions = transaction.open_table(TRANSACTIONS).map_err(failed)?;
    for (block, _) in batch {
        for key in &block.transactions {
            transactions.insert(&tx_key(key, block.place.hash.as_bytes()), ()).map_err(failed)?;
        }
    }
    Ok(())
}

/// Forgets transactions that are too old for any block above `lowest`: those are dated later than the block there.
fn forget(transaction: &WriteTransaction, lowest: Height) -> Result<(), StoreError> {
    let main = transaction.open_table(MAIN).map_err(failed)?;
    let Some(entry) = main.get(lowest.get()).map_err(failed)? else { return Ok(()) };
    let before = Entry::read(entry.value()).place.timestamp.saturating_sub(TRANSACTION_LIFETIME.as_secs());
    let mut bound = [0; TX_KEY_LEN];
    bound[..8].copy_from_slice(&before.to_be_bytes());
    let mut transactions = transaction.open_table(TRANSACTIONS).map_err(failed)?;
    transactions.retain_in::<&TxKeyBytes, _>(..&bound, |_, ()| false).map_err(failed)
}

fn tx_key(key: &TxKey, block: &[u8; 32]) -> TxKeyBytes {
    let mut bytes = [0; TX_KEY_LEN];
    bytes[..8].copy_from_slice(&key.timestamp.to_be_bytes());
    bytes[8..40].copy_from_slice(key.hash.as_bytes());
    bytes[40..].copy_from_slice(block);
    bytes
}

fn block_of(key: &TxKeyBytes) -> [u8; 32] {
    key[40..].try_into().expect("the last 32 of 72 bytes")
}

fn transaction_of(key: &TxKeyBytes) -> TxKey {
    let timestamp = u64::from_be_bytes(key[..8].try_into().expect("8 bytes"));
    TxKey { timestamp, hash: TxHash::from_bytes(key[8..40].try_into().expect("32 bytes")) }
}
