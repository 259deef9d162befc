//! Making the index anew from the segments.

use std::path::Path;

use bt2c_p2p::env::Disk;
use bt2c_proto::Block;
use bytes::Bytes;

use super::{
    DiskStoreConfig,
    index::Index,
    opening::{new_index, torn},
    remains,
    segments::{End, Location, Record, Segments, io_error},
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
    let index = if index.tip()?.is_none() {
        index
    } else {
        tracing::warn!(dir = %dir.display(), "index refers to blocks that are not there: rebuilding it");
        drop(index);
        new_index(disk, dir, config)?
    };
    let start = End { segment: 0, offset: 0 };
    let mut rebuild = Rebuild { index: &index, config, best: None, end: start, batch: Vec::new(), bodies: 0 };
    rebuild.scan(disk, segments)?;
    if rebuild.bodies > 0 {
        return Ok(index);
    }
    let found_places = rebuild.best.is_some();
    if segments.first() > 0 {
        // Places without a single body, or not even those: no reorganisation could be followed from here.
        tracing::warn!(dir = %dir.display(), "no block is left but pruned ones: the chain is synced again");
        set_aside_remains(segments, 0)?;
        segments.set_first(0);
    }
    let index = if found_places {
        drop(index);
        new_index(disk, dir, config)?
    } else {
        index
    };
    let (locations, end) = segments.append(start, std::iter::once(&genesis.bytes))?;
    index.append(&[(genesis, locations[0])], genesis.place.hash, end, config.max_reorg_depth)?;
    Ok(index)
}

/// Moves what is left of pruned segments from this one on out of the way.
fn set_aside_remains(segments: &Segments, from: u32) -> Result<(), StoreError> {
    for segment in segments.list_remains()?.into_iter().filter(|segment| *segment >= from) {
        segments.set_aside(&segments.remains_path(segment))?;
    }
    Ok(())
}

/// A pass over the segments that fills an empty index. What was stored was verified, and checksums say that it is what was
/// stored; which branch is the main chain is decided as the default rule does.
struct Rebuild<'a> {
    index: &'a Index,
    config: &'a DiskStoreConfig,
    best: Option<BlockRef>,
    end: End,
    batch: Vec<(CheckedBlock, Location)>,
    /// Blocks found with their bodies.
    bodies: u64,
}

impl Rebuild<'_> {
    fn scan(&mut self, disk: &dyn Disk, segments: &Segments) -> Result<(), StoreError> {
        let mut whole = self.take_pruned(disk, segments)?;
        for (expected, segment) in (segments.first()..).zip(segments.list()?) {
            if !whole || segment != expected {
                if !self.config.heal {
                    return Err(torn(segments, self.end));
                }
                // Nothing can be attached behind a gap, and nothing is thrown away unseen.
                tracing::warn!(segment, "segment lies behind a damaged one: set aside");
                segments.set_aside(&segments.path(segment))?;
                whole = false;
                continue;
            }
            self.end = End { segment, offset: 0 };
            while let Record::Whole(bytes) = segments.record(self.end)? {
                if !self.take(bytes, segments.first() > 0)? {
                    break;
                }
            }
            let rest = segments.len(segment)? - self.end.offset;
            whole = rest == 0;
            if !whole {
                if !self.config.heal {
                    return Err(torn(segments, self.end));
                }
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

    /// Takes what is left of pruned segments; says whether all of it is whole.
    fn take_pruned(&mut self, disk: &dyn Disk, segments: &Segments) -> Result<bool, StoreError> {
        for segment in 0..segments.first() {
            let path = segments.remains_path(segment);
            let bytes = disk.read(&path).map_err(|source| io_error("read", &path, source))?;
            let Some(blocks) = remains::read(&bytes) else {
                if !self.config.heal {
                    return Err(StoreError::Torn { path, offset: 0 });
                }
                tracing::warn!(segment, "what is left of a pruned segment is damaged: set aside");
                set_aside_remains(segments, segment)?;
                return Ok(false);
            };
            for block in &blocks {
                self.end = End { segment, offset: block.0.location.end() };
                self.push(remains::without_body(block), block.0.location)?;
            }
        }
        Ok(true)
    }

    /// Takes a record; says whether it belongs to the chain. Where there are pruned segments (`pruned`), records that do
    /// not attach are passed over: their branch left the chain in one of those.
    fn take(&mut self, bytes: Bytes, pruned: bool) -> Result<bool, StoreError> {
        let Ok(block) = serde_json::from_slice::<Block>(&bytes) else { return Ok(false) };
        let attaches = self.attaches(&block)?;
        if !attaches && !pruned {
            return Ok(false);
        }
        let len = u32::try_from(bytes.len()).expect("a record's length has 32 bits");
        let location = Location { segment: self.end.segment, offset: self.end.offset, len };
        self.end.offset = location.end();
        if attaches {
            self.bodies += 1;
            self.push(CheckedBlock::with_bytes(&block, bytes), location)?;
        }
        Ok(true)
    }

    fn push(&mut self, block: CheckedBlock, location: Location) -> Result<(), StoreError> {
        let rank = |place: &BlockRef| (place.height, std::cmp::Reverse(place.hash));
        if self.best.is_none_or(|best| rank(&block.place) > rank(&best)) {
            self.best = Some(block.place);
        }
        self.batch.push((block, location));
        if self.batch.len() == REBUILD_BATCH { self.flush() } else { Ok(()) }
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
