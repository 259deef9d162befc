//! The index over the segments: one redb file, one transaction a batch.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `blocks` | hash | entry: place in the tree and in the segments |
//! | `main` | height | entry of the main chain's block; the last one is the tip |
//! | `transactions` | date, hash, hash of the block that holds it | – |
//! | `end` | `segment`, `offset` | where the next record goes |
//!
//! `transactions` does not depend on which path is the main chain, so a reorganisation leaves it alone; its keys lie in
//! the order of dates, so forgetting the old ones is cutting off a prefix.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bt2c_p2p::env::DiskFile;
use bt2c_proto::{BlockHash, Height, TxHash};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use super::{
    backend::Backend,
    segments::{End, Location},
};
use crate::{
    chain::{BlockRef, CheckedBlock, TxKey},
    schedule::TRANSACTION_LIFETIME,
    store::StoreError,
};

pub(super) const ENTRY_LEN: usize = 96;
const TX_KEY_LEN: usize = 72;

type EntryBytes = [u8; ENTRY_LEN];
type TxKeyBytes = [u8; TX_KEY_LEN];

const BLOCKS: TableDefinition<'_, &[u8; 32], &EntryBytes> = TableDefinition::new("blocks");
const MAIN: TableDefinition<'_, u64, &EntryBytes> = TableDefinition::new("main");
const TRANSACTIONS: TableDefinition<'_, &TxKeyBytes, ()> = TableDefinition::new("transactions");
const END: TableDefinition<'_, &str, u64> = TableDefinition::new("end");

/// A block's place in the tree and in the segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) place: BlockRef,
    pub(super) location: Location,
}

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
fn failed(error: impl Into<redb::Error>) -> StoreError {
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
        transaction.open_table(BLOCKS).map_err(failed)?;
        transaction.open_table(MAIN).map_err(failed)?;
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
        let table = transaction.open_table(BLOCKS).map_err(failed)?;
        let found = table.get(hash.as_bytes()).map_err(failed)?;
        Ok(found.map(|entry| Entry::read(entry.value())))
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
        for row in table.range(range.start().get()..=range.end().get()).map_err(failed)? {
            let entry = Entry::read(row.map_err(failed)?.1.value());
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
        let table = transaction.open_table(BLOCKS).map_err(failed)?;
        hashes.map(|hash| Ok(table.get(hash.as_bytes()).map_err(failed)?.is_some())).collect()
    }

    /// Every block that is not on the main chain, in the order of the segments.
    pub(super) fn beside_main(&self) -> Result<Vec<Entry>, StoreError> {
        let transaction = self.database.begin_read().map_err(failed)?;
        let blocks = transaction.open_table(BLOCKS).map_err(failed)?;
        let main = transaction.open_table(MAIN).map_err(failed)?;
        let mut beside = Vec::new();
        for row in blocks.iter().map_err(failed)? {
            let entry = Entry::read(row.map_err(failed)?.1.value());
            let here = main.get(entry.place.height.get()).map_err(failed)?;
            if here.is_none_or(|here| Entry::read(here.value()) != entry) {
                beside.push(entry);
            }
        }
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
        let blocks = transaction.open_table(BLOCKS).map_err(failed)?;
        let of_one = |key: &TxKey| {
            let (first, last) = (tx_key(key, &[0; 32]), tx_key(key, &[0xff; 32]));
            let mut found = Vec::new();
            for row in transactions.range::<&TxKeyBytes>(&first..=&last).map_err(failed)? {
                let row = row.map_err(failed)?;
                let hash = block_of(row.0.value());
                if let Some(entry) = blocks.get(&hash).map_err(failed)? {
                    found.push(Entry::read(entry.value()).place);
                }
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
        insert(&transaction, batch)?;
        let tip = set_tip(&transaction, tip)?;
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

fn insert(transaction: &WriteTransaction, batch: &[(&CheckedBlock, Location)]) -> Result<(), StoreError> {
    let mut blocks = transaction.open_table(BLOCKS).map_err(failed)?;
    let mut transactions = transaction.open_table(TRANSACTIONS).map_err(failed)?;
    let mut before = None;
    for (block, location) in batch {
        let place = block.place;
        let is_child = before.replace(place.hash) == Some(place.parent);
        if !is_child
            && place.height > Height::GENESIS
            && blocks.get(place.parent.as_bytes()).map_err(failed)?.is_none()
        {
            return Err(StoreError::Missing(place.parent));
        }
        let entry = Entry { place, location: *location };
        blocks.insert(place.hash.as_bytes(), &entry.write()).map_err(failed)?;
        for key in &block.transactions {
            transactions.insert(&tx_key(key, place.hash.as_bytes()), ()).map_err(failed)?;
        }
    }
    Ok(())
}

/// Walks from `tip` down to the main chain, then makes that path the main chain's end.
fn set_tip(transaction: &WriteTransaction, tip: BlockHash) -> Result<BlockRef, StoreError> {
    let blocks = transaction.open_table(BLOCKS).map_err(failed)?;
    let mut main = transaction.open_table(MAIN).map_err(failed)?;
    let mut path = Vec::new();
    let mut at = tip;
    loop {
        let entry = blocks.get(at.as_bytes()).map_err(failed)?.ok_or(StoreError::Missing(at))?;
        let entry = Entry::read(entry.value());
        let height = entry.place.height.get();
        let here = main.get(height).map_err(failed)?;
        if here.is_some_and(|here| Entry::read(here.value()).place.hash == at) {
            break;
        }
        at = entry.place.parent;
        path.push(entry);
        if height == 0 {
            break;
        }
    }
    let new_tip = match path.first() {
        Some(entry) => entry.place,
        None => {
            Entry::read(blocks.get(tip.as_bytes()).map_err(failed)?.ok_or(StoreError::Missing(tip))?.value())
                .place
        }
    };
    while main.last().map_err(failed)?.is_some_and(|(height, _)| height.value() > new_tip.height.get()) {
        main.pop_last().map_err(failed)?;
    }
    for entry in path.into_iter().rev() {
        main.insert(entry.place.height.get(), &entry.write()).map_err(failed)?;
    }
    Ok(new_tip)
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

impl Entry {
    pub(super) fn write(&self) -> EntryBytes {
        let mut bytes = [0; ENTRY_LEN];
        bytes[..32].copy_from_slice(self.place.hash.as_bytes());
        bytes[32..64].copy_from_slice(self.place.parent.as_bytes());
        bytes[64..72].copy_from_slice(&self.place.height.get().to_be_bytes());
        bytes[72..80].copy_from_slice(&self.place.timestamp.to_be_bytes());
        bytes[80..84].copy_from_slice(&self.location.segment.to_be_bytes());
        bytes[84..92].copy_from_slice(&self.location.offset.to_be_bytes());
        bytes[92..].copy_from_slice(&self.location.len.to_be_bytes());
        bytes
    }

    pub(super) fn read(bytes: &EntryBytes) -> Self {
        fn part<const N: usize>(bytes: &EntryBytes, at: usize) -> [u8; N] {
            bytes[at..at + N].try_into().expect("the parts lie inside the entry")
        }
        Self {
            place: BlockRef {
                hash: BlockHash::from_bytes(part(bytes, 0)),
                parent: BlockHash::from_bytes(part(bytes, 32)),
                height: Height::new(u64::from_be_bytes(part(bytes, 64))),
                timestamp: u64::from_be_bytes(part(bytes, 72)),
            },
            location: Location {
                segment: u32::from_be_bytes(part(bytes, 80)),
                offset: u64::from_be_bytes(part(bytes, 84)),
                len: u32::from_be_bytes(part(bytes, 92)),
            },
        }
    }
}
