//! Append-only files of blocks.
//!
//! A segment is a row of records: length and CRC-32 of the payload, each `u32` big-endian, then the payload, a block's
//! canonical JSON. Nothing in it changes once the index refers to it; what lies beyond the end that the index knows is a
//! torn tail, to be overwritten. The oldest segments may be pruned: their numbers are below [`Segments::first`].

use std::{
    io,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
};

use bt2c_p2p::env::{Disk, DiskFile};
use bt2c_proto::limits::MAX_BLOCK_BYTES;
use bytes::{Bytes, BytesMut};
use lru::LruCache;
use parking_lot::Mutex;

use crate::store::StoreError;

/// Length and checksum before each payload.
pub(super) const RECORD_HEADER: usize = 8;

/// Segments kept open: a reader that follows the chain needs one or two, and descriptors are for connections.
const OPEN_FILES: NonZeroUsize = NonZeroUsize::new(16).expect("16 is not 0");

/// How the names of segments end, and of what is left of pruned ones.
const SEGMENT: &str = "seg";
const REMAINS: &str = "pruned";

/// What writing to a pruned segment fails with: it is never the last one.
const PRUNED: io::ErrorKind = io::ErrorKind::NotFound;

/// Where a record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) segment: u32,
    /// Of the record's header.
    pub(super) offset: u64,
    /// Of the payload.
    pub(super) len: u32,
}

/// Where the next record goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    pub(super) segment: u32,
    pub(super) offset: u64,
}

impl Location {
    /// Where the record ends.
    pub(super) const fn end(&self) -> u64 {
        self.offset + RECORD_HEADER as u64 + self.len as u64
    }

    fn is_followed_by(&self, next: &Self) -> bool {
        next.segment == self.segment && next.offset == self.end()
    }
}

/// What lies at a place in a segment.
#[derive(Debug)]
pub(super) enum Record {
    /// A whole record.
    Whole(Bytes),
    /// The end of the segment, or something that is no record, or not the one that was written.
    Torn,
    /// The segment is pruned.
    Pruned,
}

#[derive(Debug)]
pub(super) struct Segments {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    size: u64,
    files: Mutex<Files>,
}

#[derive(Debug)]
struct Files {
    open: LruCache<u32, Arc<dyn DiskFile>>,
    /// Segments below are pruned: opening one would make it anew.
    first: u32,
}

impl Segments {
    pub(super) fn new(disk: Arc<dyn Disk>, dir: &Path, size: u64) -> Self {
        let files = Files { open: LruCache::new(OPEN_FILES), first: 0 };
        Self { disk, dir: dir.to_owned(), size, files: Mutex::new(files) }
    }

    /// The first segment that is not pruned.
    pub(super) fn first(&self) -> u32 {
        self.files.lock().first
    }

    /// From now on, segments below `first` are pruned; the others are not.
    pub(super) fn set_first(&self, first: u32) {
        self.files.lock().first = first;
    }

    pub(super) fn path(&self, segment: u32) -> PathBuf {
        self.dir.join(format!("blocks-{segment:06}.{SEGMENT}"))
    }

    /// What is left of a segment when it is pruned.
    pub(super) fn remains_path(&self, segment: u32) -> PathBuf {
        self.dir.join(format!("blocks-{segment:06}.{REMAINS}"))
    }

    /// The numbers of the segments that exist and are not pruned, ascending.
    pub(super) fn list(&self) -> Result<Vec<u32>, StoreError> {
        let first = self.first();
        let mut numbers = self.numbers(SEGMENT)?;
        numbers.retain(|segment| *segment >= first);
        Ok(numbers)
    }

    /// The numbers of the segments of which something is left, ascending.
    pub(super) fn list_remains(&self) -> Result<Vec<u32>, StoreError> {
        self.numbers(REMAINS)
    }

    fn numbers(&self, extension: &str) -> Result<Vec<u32>, StoreError> {
        let files = self.disk.list(&self.dir).map_err(|source| io_error("list", &self.dir, source))?;
        let mut numbers: Vec<u32> = files.iter().filter_map(|path| number(path, extension)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Writes payloads one after the other and syncs; says where each lies, and where the next goes.
    pub(super) fn append<'a>(
        &self,
        mut end: End,
        payloads: impl Iterator<Item = &'a Bytes> + Clone,
    ) -> Result<(Vec<Location>, End), StoreError> {
        let mut locations = Vec::new();
        let room = payloads.clone().map(|payload| RECORD_HEADER + payload.len()).sum();
        let mut buffer = BytesMut::with_capacity(room);
        let mut start = end;
        for payload in payloads {
            let len = payload_len(payload);
            let record = (RECORD_HEADER + payload.len()) as u64;
            if end.offset > 0 && end.offset + record > self.size {
                self.write(start, &buffer)?;
                buffer.clear();
                self.close(end)?;
                end = End { segment: end.segment + 1, offset: 0 };
                start = end;
            }
            locations.push(Location { segment: end.segment, offset: end.offset, len });
            buffer.extend_from_slice(&header(payload));
            buffer.extend_from_slice(payload);
            end.offset += record;
        }
        self.write(start, &buffer)?;
        Ok((locations, end))
    }

    fn write(&self, at: End, bytes: &[u8]) -> Result<(), StoreError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let path = self.path(at.segment);
        if at.offset == 0 {
            // Nothing in this segment is referred to yet. Made so that its directory entry survives a crash too.
            self.files.lock().open.pop(&at.segment);
            self.disk.write_atomic(&path, &[], false).map_err(|source| io_error("make", &path, source))?;
        }
        let file = self.file(at.segment)?.ok_or_else(|| io_error("write", &path, PRUNED.into()))?;
        file.write_at(at.offset, bytes).map_err(|source| io_error("write", &path, source))?;
        file.sync().map_err(|source| io_error("sync", &path, source))
    }

    /// Ends a segment that another will follow. Leftovers of a batch that failed, which a shorter one then did not cover,
    /// would pass for damage in the middle of the chain if the index had to be made anew.
    fn close(&self, end: End) -> Result<(), StoreError> {
        let Some(file) = self.file(end.segment)? else { return Ok(()) };
        let cut = || {
            if file.len()? <= end.offset {
                return Ok(());
            }
            file.set_len(end.offset)?;
            file.sync()
        };
        cut().map_err(|source| io_error("cut", &self.path(end.segment), source))
    }

    /// What lies at a location: the payload, if it is what was written.
    pub(super) fn read(&self, location: Location) -> Result<Record, StoreError> {
        Ok(self.read_row(&[location])?.pop().expect("one for each location"))
    }

    /// What lies at several locations. Records that lie one after the other are read at once.
    pub(super) fn read_all(&self, locations: &[Location]) -> Result<Vec<Record>, StoreError> {
        let mut records = Vec::with_capacity(locations.len());
        for row in locations.chunk_by(Location::is_followed_by) {
            records.extend(self.read_row(row)?);
        }
        Ok(records)
    }

    /// Reads records that lie one after the other.
    fn read_row(&self, row: &[Location]) -> Result<Vec<Record>, StoreError> {
        let (Some(first), Some(last)) = (row.first(), row.last()) else { return Ok(Vec::new()) };
        let Some(file) = self.file(first.segment)? else {
            return Ok(row.iter().map(|_| Record::Pruned).collect());
        };
        let Ok(len) = usize::try_from(last.end() - first.offset) else {
            return Ok(row.iter().map(|_| Record::Torn).collect());
        };
        let mut bytes = BytesMut::zeroed(len);
        if !self.fill(&*file, first.segment, first.offset, &mut bytes)? {
            // The segment ends before: what comes before its end may be whole all the same.
            return match row {
                [_] => Ok(vec![Record::Torn]),
                _ => row.iter().map(|location| self.read(*location)).collect(),
            };
        }
        let mut bytes = bytes.freeze();
        let record = |location: &Location| {
            let len = usize::try_from(location.len).expect("all of them together fit");
            let mut record = bytes.split_to(RECORD_HEADER + len);
            let payload = record.split_off(RECORD_HEADER);
            if record == header(&payload).as_slice() { Record::Whole(payload) } else { Record::Torn }
        };
        Ok(row.iter().map(record).collect())
    }

    /// The record at a place of which nothing is known.
    pub(super) fn record(&self, at: End) -> Result<Record, StoreError> {
        let Some(file) = self.file(at.segment)? else { return Ok(Record::Pruned) };
        let mut header = [0; RECORD_HEADER];
        if !self.fill(&*file, at.segment, at.offset, &mut header)? {
            return Ok(Record::Torn);
        }
        let len = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
        if len == 0 || usize::try_from(len).is_ok_and(|len| len > MAX_BLOCK_BYTES) {
            return Ok(Record::Torn);
        }
        self.read(Location { segment: at.segment, offset: at.offset, len })
    }

    /// Reads exactly as much as fits `buffer`; says whether the segment has that much.
    fn fill(
        &self,
        file: &dyn DiskFile,
        segment: u32,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<bool, StoreError> {
        match file.read_at(offset, buffer) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(source) => Err(io_error("read", &self.path(segment), source)),
        }
    }

    /// Cuts off everything beyond `end`: what was written but never referred to.
    pub(super) fn truncate(&self, end: End) -> Result<(), StoreError> {
        for segment in self.list()? {
            let path = self.path(segment);
            if segment > end.segment {
                self.remove(&path)?;
            } else if segment == end.segment {
                self.close(end)?;
            }
        }
        Ok(())
    }

    /// Removes pruned segments of which the file is still there.
    pub(super) fn remove_pruned(&self) -> Result<(), StoreError> {
        let first = self.first();
        for segment in self.numbers(SEGMENT)?.into_iter().take_while(|segment| *segment < first) {
            self.remove(&self.path(segment))?;
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<(), StoreError> {
        if let Some(segment) = number(path, SEGMENT) {
            self.files.lock().open.pop(&segment);
        }
        self.disk.remove(path).map_err(|source| io_error("remove", path, source))
    }

    /// Moves a segment out of the way, to be looked at by a person.
    pub(super) fn set_aside(&self, path: &Path) -> Result<(), StoreError> {
        if let Some(segment) = number(path, SEGMENT) {
            self.files.lock().open.pop(&segment);
        }
        self.disk
            .rename(path, &path.with_added_extension("damaged"))
            .map_err(|source| io_error("set aside", path, source))
    }

    /// Length of a segment in bytes; 0 if it is pruned.
    pub(super) fn len(&self, segment: u32) -> Result<u64, StoreError> {
        let Some(file) = self.file(segment)? else { return Ok(0) };
        file.len().map_err(|source| io_error("measure", &self.path(segment), source))
    }

    /// The file of a segment, unless it is pruned.
    fn file(&self, segment: u32) -> Result<Option<Arc<dyn DiskFile>>, StoreError> {
        let mut files = self.files.lock();
        if segment < files.first {
            return Ok(None);
        }
        if let Some(file) = files.open.get(&segment) {
            return Ok(Some(Arc::clone(file)));
        }
        let path = self.path(segment);
        let file = self.disk.open(&path).map_err(|source| io_error("open", &path, source))?;
        files.open.put(segment, Arc::clone(&file));
        Ok(Some(file))
    }
}

/// Length and checksum, as they stand before the payload.
fn header(payload: &[u8]) -> [u8; RECORD_HEADER] {
    let mut header = [0; RECORD_HEADER];
    header[..4].copy_from_slice(&payload_len(payload).to_be_bytes());
    header[4..].copy_from_slice(&crc32fast::hash(payload).to_be_bytes());
    header
}

fn payload_len(payload: &[u8]) -> u32 {
    u32::try_from(payload.len()).expect("a block is far below 4 GiB")
}

fn number(path: &Path, extension: &str) -> Option<u32> {
    let name = path.file_name()?.to_str()?.strip_prefix("blocks-")?;
    name.strip_suffix(extension)?.strip_suffix('.')?.parse().ok()
}

pub(super) fn io_error(what: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::Io { what, path: path.to_owned(), source }
}
