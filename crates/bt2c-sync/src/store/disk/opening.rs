//! Opening a store: lock, format, index, and mending what a crash left.

use std::{io, path::Path, sync::Arc};

use bt2c_p2p::env::Disk;
use bt2c_proto::{BlockHash, Height};

use super::{
    DiskStoreConfig,
    blocks::Entry,
    index::Index,
    segments::{End, Record, Segments, io_error},
};
use crate::{chain::BlockRef, store::StoreError};

pub(super) fn lock(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn Send + Sync>, StoreError> {
    let path = dir.join("lock");
    disk.lock(&path).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => StoreError::Locked(dir.to_owned()),
        _ => io_error("lock", &path, error),
    })
}

fn index_path(dir: &Path) -> std::path::PathBuf {
    dir.join("index.redb")
}

pub(super) fn open_index_file(
    disk: &dyn Disk,
    dir: &Path,
    config: &DiskStoreConfig,
) -> Result<Index, StoreError> {
    let path = index_path(dir);
    let file = disk.open(&path).map_err(|source| io_error("open", &path, source))?;
    Index::open(file, config.cache_bytes)
}

/// Opens the index; one that cannot be opened is set aside, and an empty one taken in its place.
pub(super) fn open_index(disk: &dyn Disk, dir: &Path, config: &DiskStoreConfig) -> Result<Index, StoreError> {
    let present = disk.list(dir).map_err(|source| io_error("list", dir, source))?;
    if !present.contains(&index_path(dir)) {
        return new_index(disk, dir, config);
    }
    match open_index_file(disk, dir, config) {
        Err(StoreError::Index(error)) if is_damage(&error) => {
            tracing::warn!(dir = %dir.display(), %error, "index damaged: set aside, rebuilding it from the segments");
            new_index(disk, dir, config)
        }
        other => other,
    }
}

/// Whether the file's content is at fault, and not the system that reads it.
fn is_damage(error: &redb::Error) -> bool {
    match error {
        redb::Error::Io(error) => {
            matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
        }
        redb::Error::Corrupted(_) | redb::Error::UpgradeRequired(_) => true,
        _ => false,
    }
}

/// An empty index, with whatever is at its place set aside.
pub(super) fn new_index(disk: &dyn Disk, dir: &Path, config: &DiskStoreConfig) -> Result<Index, StoreError> {
    let path = index_path(dir);
    match disk.rename(&path, &path.with_added_extension("damaged")) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(io_error("set aside", &path, source)),
    }
    open_index_file(disk, dir, config)
}

/// Finds out which segments are pruned, and ends a pruning that was cut off: what is left of a segment appears whole, so
/// the segment is no longer needed.
pub(super) fn find_pruned(segments: &Segments, heal: bool) -> Result<(), StoreError> {
    let remains = segments.list_remains()?;
    let first = (0..).zip(&remains).take_while(|(expected, found)| expected == *found).count();
    segments.set_first(u32::try_from(first).expect("segments are numbered with 32 bits"));
    if heal { segments.remove_pruned() } else { Ok(()) }
}

/// The tip and the end of the segments, if the index and the segments agree with each other.
pub(super) fn attach(index: &Index, segments: &Segments) -> Result<Option<(BlockRef, End)>, StoreError> {
    let (Some(tip), Some(end)) = (index.tip()?, index.end()?) else { return Ok(None) };
    if gap(segments, end)?.is_some() {
        return Ok(None);
    }
    let Some(entry) = index.block(&tip.hash)? else { return Ok(None) };
    match segments.read(entry.location)? {
        Record::Whole(_) => Ok(Some((tip, end))),
        Record::Torn | Record::Pruned => Ok(None),
    }
}

/// The same, for a look that changes nothing: what is not there is named.
pub(super) fn attach_as_is(
    index: &Index,
    segments: &Segments,
) -> Result<Option<(BlockRef, End)>, StoreError> {
    let (Some(tip), Some(end)) = (index.tip()?, index.end()?) else { return Ok(None) };
    if index.block(&tip.hash)?.is_none() {
        return Ok(None);
    }
    let Some(missing) = gap(segments, end)? else { return Ok(Some((tip, end))) };
    let reaches = |entry: &Entry| {
        let location = entry.location;
        (location.segment, location.end()) > (missing.segment, missing.offset)
    };
    let first = first_height(index, tip, reaches)?;
    let entry = index.main(first..=first, |_| true)?.pop();
    Err(entry.map_or_else(|| torn(segments, missing), |entry| damaged(segments, &entry)))
}

/// Where the segments end before `end`, if they do.
fn gap(segments: &Segments, end: End) -> Result<Option<End>, StoreError> {
    let present = segments.list()?;
    for segment in segments.first()..=end.segment {
        if present.binary_search(&segment).is_err() {
            return Ok(Some(End { segment, offset: 0 }));
        }
    }
    let offset = segments.len(end.segment)?;
    Ok((offset < end.offset).then_some(End { segment: end.segment, offset }))
}

/// The lowest height of the main chain from which on every entry passes a test that no entry below passes; one above the
/// tip if none does.
fn first_height(index: &Index, tip: BlockRef, test: impl Fn(&Entry) -> bool) -> Result<Height, StoreError> {
    let (mut low, mut high) = (0, tip.height.get() + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        let height = Height::new(middle);
        let entry = index.main(height..=height, |_| true)?.pop().ok_or(StoreError::Missing(tip.hash))?;
        if test(&entry) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Ok(Height::new(low))
}

/// The first block of the main chain, apart from the genesis block, that has a body. Each block lies behind its parent.
pub(super) fn first_body(index: &Index, segments: &Segments, tip: BlockRef) -> Result<Height, StoreError> {
    let first = segments.first();
    first_height(index, tip, |entry| entry.location.segment >= first)
}

/// The error that names a block whose bytes are not those that were stored.
pub(super) fn damaged(segments: &Segments, entry: &Entry) -> StoreError {
    StoreError::Damaged {
        height: entry.place.height,
        hash: entry.place.hash,
        path: segments.path(entry.location.segment),
        offset: entry.location.offset,
    }
}

/// The error that names a place where a block should begin, and none does.
pub(super) fn torn(segments: &Segments, at: End) -> StoreError {
    StoreError::Torn { path: segments.path(at.segment), offset: at.offset }
}

/// What the store must know of the genesis block, which is never pruned.
#[derive(Debug)]
pub(super) struct Genesis {
    pub(super) hash: BlockHash,
    pub(super) bytes: bytes::Bytes,
}

/// What was found in a directory.
pub(super) struct Opened {
    pub(super) index: Index,
    pub(super) tip: BlockRef,
    pub(super) end: End,
    pub(super) first_body: Height,
    pub(super) segments: Segments,
    pub(super) genesis: Genesis,
}

/// Opens index and segments, and mends them if that is wanted.
pub(super) fn open_and_heal(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    genesis: &crate::CheckedBlock,
    config: &DiskStoreConfig,
) -> Result<Opened, StoreError> {
    let segments = Segments::new(Arc::clone(disk), dir, config.segment_bytes);
    find_pruned(&segments, config.heal)?;
    let index = open_index(&**disk, dir, config)?;
    let attached = if config.heal { attach(&index, &segments)? } else { attach_as_is(&index, &segments)? };
    let (index, (tip, end)) = match attached {
        Some(attached) => (index, attached),
        None => {
            let index = super::rebuild::rebuild(index, &**disk, dir, &segments, config, genesis)?;
            let attached = attach(&index, &segments)?.ok_or(StoreError::Missing(genesis.place.hash))?;
            (index, attached)
        }
    };
    if config.heal {
        segments.truncate(end)?;
    }
    let first_body = first_body(&index, &segments, tip)?;
    let genesis = Genesis { hash: genesis.place.hash, bytes: genesis.bytes.clone() };
    Ok(Opened { index, tip, end, first_body, segments, genesis })
}
