//! The tables of the index that say where each block lies.

use std::collections::BTreeMap;

use bt2c_proto::{BlockHash, Height};
use redb::{
    Key, Range, ReadOnlyTable, ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction,
};

use super::{index::failed, segments::Location};
use crate::{
    chain::{BlockRef, CheckedBlock},
    store::StoreError,
};

pub(super) const ENTRY_LEN: usize = 96;

type EntryBytes = [u8; ENTRY_LEN];
pub(super) type Hash = &'static [u8; 32];
pub(super) type EntryRow = &'static EntryBytes;

pub(super) const HEIGHTS: TableDefinition<'_, Hash, u64> = TableDefinition::new("heights");
pub(super) const MAIN: TableDefinition<'_, u64, EntryRow> = TableDefinition::new("main");
pub(super) const BESIDE: TableDefinition<'_, Hash, EntryRow> = TableDefinition::new("beside");

/// A block's place in the tree and in the segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) place: BlockRef,
    pub(super) location: Location,
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

/// The entries in rows of a table.
pub(super) fn entries<K: Key>(
    rows: Range<'_, K, EntryRow>,
) -> impl Iterator<Item = Result<Entry, StoreError>> {
    rows.map(|row| Ok(Entry::read(row.map_err(failed)?.1.value())))
}

/// The tables that say where a block lies.
pub(super) struct Blocks<H, M, B> {
    heights: H,
    main: M,
    beside: B,
}

pub(super) type ReadBlocks =
    Blocks<ReadOnlyTable<Hash, u64>, ReadOnlyTable<u64, EntryRow>, ReadOnlyTable<Hash, EntryRow>>;
pub(super) type WriteBlocks<'t> =
    Blocks<Table<'t, Hash, u64>, Table<'t, u64, EntryRow>, Table<'t, Hash, EntryRow>>;

impl ReadBlocks {
    pub(super) fn read(transaction: &ReadTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            heights: transaction.open_table(HEIGHTS).map_err(failed)?,
            main: transaction.open_table(MAIN).map_err(failed)?,
            beside: transaction.open_table(BESIDE).map_err(failed)?,
        })
    }
}

impl<H, M, B> Blocks<H, M, B>
where
    H: ReadableTable<Hash, u64>,
    M: ReadableTable<u64, EntryRow>,
    B: ReadableTable<Hash, EntryRow>,
{
    pub(super) fn entry(&self, hash: &BlockHash) -> Result<Option<Entry>, StoreError> {
        let Some(height) = self.heights.get(hash.as_bytes()).map_err(failed)? else { return Ok(None) };
        let main = self.main_at(height.value())?;
        if main.is_some_and(|main| main.place.hash == *hash) {
            return Ok(main);
        }
        Ok(self.beside.get(hash.as_bytes()).map_err(failed)?.map(|entry| Entry::read(entry.value())))
    }

    /// The main chain from a height on.
    fn main_from(&self, height: u64) -> Result<Vec<Entry>, StoreError> {
        entries(self.main.range(height..).map_err(failed)?).collect()
    }

    fn main_at(&self, height: u64) -> Result<Option<Entry>, StoreError> {
        Ok(self.main.get(height).map_err(failed)?.map(|entry| Entry::read(entry.value())))
    }
}

impl<'t> WriteBlocks<'t> {
    pub(super) fn write(transaction: &'t WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            heights: transaction.open_table(HEIGHTS).map_err(failed)?,
            main: transaction.open_table(MAIN).map_err(failed)?,
            beside: transaction.open_table(BESIDE).map_err(failed)?,
        })
    }

    /// Takes blocks, and makes the path to `tip` the main chain.
    pub(super) fn append(
        &mut self,
        batch: &[(&CheckedBlock, Location)],
        tip: BlockHash,
    ) -> Result<BlockRef, StoreError> {
        let mut fresh = BTreeMap::new();
        for (block, location) in batch {
            let (place, location) = (block.place, *location);
            let attaches = place.height == Height::GENESIS || fresh.contains_key(&place.parent);
            if !attaches && self.heights.get(place.parent.as_bytes()).map_err(failed)?.is_none() {
                return Err(StoreError::Missing(place.parent));
            }
            fresh.insert(place.hash, Entry { place, location });
        }
        for (hash, entry) in &fresh {
            self.heights.insert(hash.as_bytes(), entry.place.height.get()).map_err(failed)?;
        }
        let tip = self.switch(tip, &mut fresh)?;
        for (hash, entry) in fresh {
            self.beside.insert(hash.as_bytes(), &entry.write()).map_err(failed)?;
        }
        Ok(tip)
    }

    /// Walks from `tip` down to the main chain, then makes that path the main chain's end. Takes what is on it out of `fresh`.
    fn switch(
        &mut self,
        tip: BlockHash,
        fresh: &mut BTreeMap<BlockHash, Entry>,
    ) -> Result<BlockRef, StoreError> {
        let (mut path, mut at, mut stored) = (Vec::new(), tip, false);
        let shared = loop {
            let (entry, new) = match fresh.remove(&at) {
                Some(entry) => (entry, true),
                None => (self.entry(&at)?.ok_or(StoreError::Missing(at))?, false),
            };
            let height = entry.place.height.get();
            if !new && self.main_at(height)? == Some(entry) {
                break Some(entry.place);
            }
            at = entry.place.parent;
            path.push(entry);
            stored |= !new;
            if height == 0 {
                break None;
            }
        };
        let tip = path.first().map(|entry| entry.place).or(shared).ok_or(StoreError::Missing(tip))?;
        let first = path.last().map_or(tip.height.get() + 1, |entry| entry.place.height.get());
        let old = self.main_from(first)?;
        for entry in &old {
            self.main.remove(entry.place.height.get()).map_err(failed)?;
            self.beside.insert(entry.place.hash.as_bytes(), &entry.write()).map_err(failed)?;
        }
        for entry in path.into_iter().rev() {
            self.main.insert(entry.place.height.get(), &entry.write()).map_err(failed)?;
            if stored || !old.is_empty() {
                self.beside.remove(entry.place.hash.as_bytes()).map_err(failed)?;
            }
        }
        Ok(tip)
    }
}
