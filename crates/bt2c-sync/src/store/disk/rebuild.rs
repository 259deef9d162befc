//! Making the index anew from the segments.

use std::path::Path;

use bt2c_p2p::env::Disk;
use bt2c_proto::Block;
use bytes::Bytes;

use super::{
    DiskStoreConfig,
    index::Index,
    new_index,
    segments::{End, Location, RECORD_HEADER, Record, Segments},
};
use crate::{
    chain::{BlockRef, CheckedBlock},
    store::StoreError,
};

/// Blocks that go into the index at once.
const REBUILD_BATCH: usize = 1000;

/// Makes the index anew from the segments, or from the genesis block where there are none.
pub(super) fn rebuild(
    index: Index,
    disk: &dyn Disk,
    dir: &Path,
    segments: &Segments,
    config: &DiskStoreConfig,
    genesis: &CheckedBlock,
) -> Result<Index, StoreError> {
    let fresh = index.tip()?.is_none();
    let index = if fresh {
        index
    } else {
        tracing::warn!(dir = %dir.display(), "index refers to blocks that are not there: rebuilding it");
        drop(index);
        new_index(disk, dir, config)?
    };
    let start = End { segment: 0, offset: 0 };
    let mut rebuild = Rebuild { index: &index, config, best: None, end: start, batch: Vec::new() };
    rebuild.scan(segments)?;
    if rebuild.best.is_none() {
        let (locations, end) = segments.append(start, std::iter::once(&genesis.bytes))?;
        index.append(&[(genesis, locations[0])], genesis.place.hash, end, config.max_reorg_depth)?;
    }
    Ok(index)
}

/// A pass over the segments that fills an empty index. What was stored was verified, and checksums say that it is what was
/// stored; which branch is the main chain is decided as the default rule does.
struct Rebuild<'a> {
    index: &'a Index,
    config: &'a DiskStoreConfig,
    best: Option<BlockRef>,
    end: End,
    batch: Vec<(CheckedBlock, Location)>,
}

impl Rebuild<'_> {
    fn scan(&mut self, segments: &Segments) -> Result<(), StoreError> {
        let present = segments.list()?;
        let mut whole = true;
        for (expected, segment) in (0_u32..).zip(present) {
            if !whole || segment != expected {
                // Nothing can be attached behind a gap, and nothing is thrown away unseen.
                tracing::warn!(segment, "segment lies behind a damaged one: set aside");
                segments.set_aside(segment)?;
                whole = false;
                continue;
            }
            self.end = End { segment, offset: 0 };
            while let Record::Whole(bytes) = segments.record(self.end)? {
                if !self.take(bytes)? {
                    break;
                }
            }
            let rest = segments.len(segment)? - self.end.offset;
            whole = rest == 0;
            if !whole {
                tracing::warn!(
                    segment,
                    offset = self.end.offset,
                    rest,
                    "segment ends in bytes that are no block"
                );
            }
        }
        self.flush()
    }

    fn take(&mut self, bytes: Bytes) -> Result<bool, StoreError> {
        let Ok(block) = serde_json::from_slice::<Block>(&bytes) else { return Ok(false) };
        if !self.attaches(&block)? {
            return Ok(false);
        }
        let len = u32::try_from(bytes.len()).expect("a record's length has 32 bits");
        let location = Location { segment: self.end.segment, offset: self.end.offset, len };
        self.end.offset += (RECORD_HEADER + bytes.len()) as u64;
        let block = CheckedBlock::with_bytes(&block, bytes);
        let rank = |place: &BlockRef| (place.height, std::cmp::Reverse(place.hash));
        if self.best.is_none_or(|best| rank(&block.place) > rank(&best)) {
            self.best = Some(block.place);
        }
        self.batch.push((block, location));
        if self.batch.len() == REBUILD_BATCH {
            self.flush()?;
        }
        Ok(true)
    }

    /// Whether a record's parent came before it. If not, it is left over from a batch that was not completed.
    fn attaches(&self, block: &Block) -> Result<bool, StoreError> {
        let parent = block.header.previous_hash;
        Ok(self.best.is_none()
            || self.batch.iter().rev().any(|(before, _)| before.place.hash == parent)
            || self.index.block(&parent)?.is_some())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        let Some(best) = self.best else { return Ok(()) };
        let batch: Vec<_> = self.batch.iter().map(|(block, location)| (block, *location)).collect();
        self.index.append(&batch, best.hash, self.end, self.config.max_reorg_depth)?;
        self.batch.clear();
        Ok(())
    }
}
