//! Append-only files of blocks.
//!
//! A segment is a row of records: length and CRC-32 of the payload, each `u32` big-endian, then the payload, a block's
//! canonical JSON. Nothing in it changes once the index refers to it; what lies beyond the end that the index knows is a
//! torn tail, to be overwritten.

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

/// What lies at a place in a segment.
#[derive(Debug)]
pub(super) enum Record {
    /// A whole record.
    Whole(Bytes),
    /// The end of the segment, or something that is no record.
    Torn,
}

#[derive(Debug)]
pub(super) struct Segments {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    size: u64,
    open: Mutex<LruCache<u32, Arc<dyn DiskFile>>>,
}

impl Segments {
    pub(super) fn new(disk: Arc<dyn Disk>, dir: &Path, size: u64) -> Self {
        Self { disk, dir: dir.to_owned(), size, open: Mutex::new(LruCache::new(OPEN_FILES)) }
    }

    pub(super) fn path(&self, segment: u32) -> PathBuf {
        self.dir.join(format!("blocks-{segment:06}.seg"))
    }

    /// The numbers of the segments that exist, ascending.
    pub(super) fn list(&self) -> Result<Vec<u32>, StoreError> {
        let files = self.disk.list(&self.dir).map_err(|source| io_error("list", &self.dir, source))?;
        let mut numbers: Vec<u32> = files.iter().filter_map(|path| number(path)).collect();
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
            self.open.lock().pop(&at.segment);
            self.disk.write_atomic(&path, &[], false).map_err(|source| io_error("make", &path, source))?;
        }
        let file = self.file(at.segment)?;
        file.write_at(at.offset, bytes).map_err(|source| io_error("write", &path, source))?;
        file.sync().map_err(|source| io_error("sync", &path, source))
    }

    /// The payload at a location, or `None` if what lies there is not what was written.
    pub(super) fn read(&self, location: Location) -> Result<Option<Bytes>, StoreError> {
        let Ok(len) = usize::try_from(location.len) else { return Ok(None) };
        let mut record = BytesMut::zeroed(RECORD_HEADER + len);
        if !self.fill(location.segment, location.offset, &mut record)? {
            return Ok(None);
        }
        let payload = record.split_off(RECORD_HEADER).freeze();
        Ok((record == header(&payload).as_slice()).then_some(payload))
    }

    /// The record at a place of which nothing is known.
    pub(super) fn record(&self, at: End) -> Result<Record, StoreError> {
        let mut header = [0; RECORD_HEADER];
        if !self.fill(at.segment, at.offset, &mut header)? {
            return Ok(Record::Torn);
        }
        let len = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
        if len == 0 || usize::try_from(len).is_ok_and(|len| len > MAX_BLOCK_BYTES) {
            return Ok(Record::Torn);
        }
        let location = Location { segment: at.segment, offset: at.offset, len };
        Ok(self.read(location)?.map_or(Record::Torn, Record::Whole))
    }

    /// Reads exactly as much as fits `buffer`; says whether the segment has that much.
    fn fill(&self, segment: u32, offset: u64, buffer: &mut [u8]) -> Result<bool, StoreError> {
        match self.file(segment)?.read_at(offset, buffer) {
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
                self.open.lock().pop(&segment);
                self.disk.remove(&path).map_err(|source| io_error("remove", &path, source))?;
            } else if segment == end.segment && self.len(segment)? > end.offset {
                let file = self.file(segment)?;
                file.set_len(end.offset).map_err(|source| io_error("cut", &path, source))?;
            }
        }
        Ok(())
    }

    /// Moves a segment out of the way, to be looked at by a person.
    pub(super) fn set_aside(&self, segment: u32) -> Result<(), StoreError> {
        let path = self.path(segment);
        self.open.lock().pop(&segment);
        self.disk
            .rename(&path, &path.with_added_extension("damaged"))
            .map_err(|source| io_error("set aside", &path, source))
    }

    /// Length of a segment in bytes.
    pub(super) fn len(&self, segment: u32) -> Result<u64, StoreError> {
        self.file(segment)?.len().map_err(|source| io_error("measure", &self.path(segment), source))
    }

    fn file(&self, segment: u32) -> Result<Arc<dyn DiskFile>, StoreError> {
        let mut open = self.open.lock();
        if let Some(file) = open.get(&segment) {
            return Ok(Arc::clone(file));
        }
        let path = self.path(segment);
        let file = self.disk.open(&path).map_err(|source| io_error("open", &path, source))?;
        open.put(segment, Arc::clone(&file));
        Ok(file)
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

fn number(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.strip_prefix("blocks-")?.strip_suffix(".seg")?.parse().ok()
}

pub(super) fn io_error(what: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::Io { what, path: path.to_owned(), source }
}
