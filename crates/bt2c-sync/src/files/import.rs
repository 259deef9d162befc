//! Reading blocks into a store.
//!
//! A row of stages, each on threads of its own: reading, checking on every core, storing. They are joined by bounded channels,
//! so that memory does not depend on the length of the file.

use std::{
    collections::BTreeSet,
    io::{self, BufRead, Read},
    num::NonZeroUsize,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use bt2c_proto::{Block, BlockHash, Time};

use crate::{
    chain::{BlockRef, CheckedBlock},
    consensus::{Consensus, Invalid, InvalidBlock, Unknown, Verdict, check_block},
    import::import,
    store::{ChainStore, StoreError},
};

/// Longest line in bytes: a block need not be in canonical form here.
const MAX_LINE: u64 = 4 << 20;

/// Lines, and bytes of them, that a thread checks at once.
const PIECE_LINES: usize = 64;
const PIECE_BYTES: usize = 256 << 10;

/// Pieces that are stored at once, at most: 512 blocks. One fsync a batch.
const BATCH_PIECES: usize = 8;

/// Why an import ended, and at which line. Blocks before it are stored.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct ImportError {
    /// The line, counted from 1.
    pub line: u64,
    /// What is wrong with it.
    #[source]
    pub fault: ImportFault,
}

impl ImportError {
    /// Whether it ended because the disk is full.
    pub fn is_disk_full(&self) -> bool {
        matches!(&self.fault, ImportFault::Store(error) if error.is_disk_full())
    }
}

/// What is wrong with a line of an import.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportFault {
    /// The input failed.
    #[error("cannot read the import: {0}")]
    Io(#[source] io::Error),
    /// Longer than any block.
    #[error("longer than any block")]
    TooLong,
    /// Not a block.
    #[error("no block: {0}")]
    Parse(#[source] serde_json::Error),
    /// The block breaks a rule.
    #[error(transparent)]
    Invalid(InvalidBlock),
    /// The block cannot be taken.
    #[error("block {place}: {reason}")]
    Unknown {
        /// The block.
        place: BlockRef,
        /// Why.
        reason: Unknown,
    },
    /// The store failed.
    #[error(transparent)]
    Store(StoreError),
}

/// What an import did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportSummary {
    /// Blocks that were not in the store before.
    pub imported: u64,
    /// Blocks that were.
    pub known: u64,
}

/// Reads blocks, checks each by every rule on `threads` threads, and stores them, telling how many lines are done. Blocks
/// that are stored already are passed over, so that an import that was cut off can be started again.
///
/// # Errors
/// The first line that is no block that follows, with what is wrong. An input that stays silent is waited for even then.
pub fn import_chain(
    store: &dyn ChainStore,
    consensus: &dyn Consensus,
    input: &mut (dyn BufRead + Send),
    now: Time,
    threads: NonZeroUsize,
    progress: impl FnMut(u64),
) -> Result<ImportSummary, ImportError> {
    let batch = &Batch { store, consensus, now };
    // Enough for every thread to find work while a batch is being stored.
    let ahead = BATCH_PIECES + 2 * threads.get();
    let (order, ordered) = sync_channel(ahead);
    let (jobs, work) = sync_channel::<Job>(ahead);
    let work = &parking_lot::Mutex::new(work);
    thread::scope(|scope| {
        scope.spawn(move || read_pieces(input, &order, &jobs));
        for _ in 0..threads.get() {
            scope.spawn(move || {
                loop {
                    let job = work.lock().recv();
                    let Ok((lines, result)) = job else { break };
                    // Nobody wants the result of a piece behind a fault.
                    let _ = result.send(lines.iter().map(|line| batch.check(line)).collect());
                }
            });
        }
        let storing = Storing { batch, summary: ImportSummary { imported: 0, known: 0 }, line: 0 };
        // Consumes `ordered`, without which the reader ends, and then the others.
        storing.run(ordered, progress)
    })
}

/// Lines to check, and where the results are awaited.
type Job = (Vec<Vec<u8>>, SyncSender<CheckedLines>);

type CheckedLines = Vec<Result<Line, ImportFault>>;

/// What the storing stage gets, in the order of the lines.
enum Piece {
    /// To be had once it is checked.
    Lines(Receiver<CheckedLines>),
    /// The input failed behind the lines before.
    Fault(ImportFault),
}

/// Reads until the input ends or fails, or nobody wants more.
fn read_pieces(input: &mut (dyn BufRead + Send), order: &SyncSender<Piece>, jobs: &SyncSender<Job>) {
    loop {
        let (lines, fault) = read_lines(input);
        let end = lines.is_empty();
        if !end {
            let (result, checked) = sync_channel(1);
            if order.send(Piece::Lines(checked)).is_err() || jobs.send((lines, result)).is_err() {
                break;
            }
        }
        if let Some(fault) = fault {
            // Nobody wants it if there was a fault before.
            let _ = order.send(Piece::Fault(fault));
            break;
        }
        if end {
            break;
        }
    }
}

/// The next lines, and what is wrong with the one after them.
fn read_lines(input: &mut (dyn BufRead + Send)) -> (Vec<Vec<u8>>, Option<ImportFault>) {
    let (mut lines, mut bytes) = (Vec::new(), 0);
    while bytes < PIECE_BYTES && lines.len() < PIECE_LINES {
        let mut line = Vec::new();
        let len = match input.take(MAX_LINE).read_until(b'\n', &mut line) {
            Ok(len) => len,
            Err(error) => return (lines, Some(ImportFault::Io(error))),
        };
        if len == 0 {
            break;
        }
        if len as u64 == MAX_LINE && line.last() != Some(&b'\n') {
            return (lines, Some(ImportFault::TooLong));
        }
        bytes += len;
        lines.push(line);
    }
    (lines, None)
}

/// The last stage.
struct Storing<'a> {
    batch: &'a Batch<'a>,
    summary: ImportSummary,
    /// Lines that are done.
    line: u64,
}

impl Storing<'_> {
    fn run(
        mut self,
        ordered: Receiver<Piece>,
        mut progress: impl FnMut(u64),
    ) -> Result<ImportSummary, ImportError> {
        let mut next = ordered.recv().ok();
        while let Some(piece) = next.take() {
            let mut lines = self.wait_for(piece)?;
            for _ in 1..BATCH_PIECES {
                match ordered.recv() {
                    Ok(piece @ Piece::Lines(_)) => lines.extend(self.wait_for(piece)?),
                    Ok(fault @ Piece::Fault(_)) => {
                        // What was read before is stored first.
                        next = Some(fault);
                        break;
                    }
                    Err(_) => break,
                }
            }
            let count = lines.len() as u64;
            let stored = self.batch.store(lines, &mut self.summary);
            stored.map_err(|(at, fault)| ImportError { line: self.line + at + 1, fault })?;
            self.line += count;
            progress(self.line);
            next = next.or_else(|| ordered.recv().ok());
        }
        Ok(self.summary)
    }

    fn wait_for(&self, piece: Piece) -> Result<CheckedLines, ImportError> {
        match piece {
            Piece::Lines(checked) => {
                Ok(checked.recv().expect("a thread that takes a piece sends its result"))
            }
            Piece::Fault(fault) => Err(ImportError { line: self.line + 1, fault }),
        }
    }
}

struct Batch<'a> {
    store: &'a dyn ChainStore,
    consensus: &'a dyn Consensus,
    now: Time,
}

/// A line that was checked: empty, a block that is known, or one to store.
enum Line {
    Empty,
    Known,
    New(CheckedBlock),
}

/// Blocks each of which is the child of the one before, and their lines.
#[derive(Default)]
struct Row {
    blocks: Vec<CheckedBlock>,
    numbers: Vec<u64>,
    hashes: BTreeSet<BlockHash>,
}

impl Row {
    fn push(&mut self, number: u64, block: CheckedBlock) {
        self.numbers.push(number);
        self.hashes.insert(block.place.hash);
        self.blocks.push(block);
    }
}

impl Batch<'_> {
    fn check(&self, bytes: &[u8]) -> Result<Line, ImportFault> {
        if bytes.trim_ascii().is_empty() {
            return Ok(Line::Empty);
        }
        let block: Block = serde_json::from_slice(bytes).map_err(ImportFault::Parse)?;
        if self.store.block(&block.hash()).map_err(ImportFault::Store)?.is_some() {
            return Ok(Line::Known);
        }
        check_block(self.consensus, &block, false).map(Line::New).map_err(ImportFault::Invalid)
    }

    /// Stores the blocks up to the first fault; an error says at which line it is.
    fn store(&self, lines: CheckedLines, summary: &mut ImportSummary) -> Result<(), (u64, ImportFault)> {
        let mut row = Row::default();
        let mut fault = None;
        for (number, line) in (0..).zip(lines) {
            match line.and_then(|line| self.known_or_new(line, &row)) {
                Ok(Line::Empty) => {}
                Ok(Line::Known) => summary.known += 1,
                Ok(Line::New(block)) => {
                    if row.blocks.last().is_some_and(|last| last.place.hash != block.place.parent) {
                        // Another branch begins.
                        self.flush(&mut row, summary)?;
                    }
                    if let Err(reason) = self.attach(row.blocks.last(), &block) {
                        fault = Some((number, reason));
                        break;
                    }
                    row.push(number, block);
                }
                Err(reason) => {
                    fault = Some((number, reason));
                    break;
                }
            }
        }
        self.flush(&mut row, summary)?;
        fault.map_or(Ok(()), Err)
    }

    /// What was new when it was checked may have come twice.
    fn known_or_new(&self, line: Line, row: &Row) -> Result<Line, ImportFault> {
        match &line {
            Line::New(block) if row.hashes.contains(&block.place.hash) => Ok(Line::Known),
            Line::New(block) => {
                let stored = self.store.block(&block.place.hash).map_err(ImportFault::Store)?;
                Ok(if stored.is_some() { Line::Known } else { line })
            }
            _ => Ok(line),
        }
    }

    /// Stores a row, and begins another.
    fn flush(&self, row: &mut Row, summary: &mut ImportSummary) -> Result<(), (u64, ImportFault)> {
        let Row { blocks, numbers, .. } = std::mem::take(row);
        let first = numbers.first().copied().unwrap_or(0);
        let imported = import(self.store, self.consensus, &blocks)
            .map_err(|error| (first, ImportFault::Store(error)))?;
        summary.imported += imported.stored as u64;
        match imported.rejected {
            Some(reason) => {
                let place = blocks[imported.stored].place;
                Err((numbers[imported.stored], ImportFault::Invalid(InvalidBlock { place, reason })))
            }
            None => Ok(()),
        }
    }

    /// Whether a block follows the one before it in the row, or for the first one, a stored one.
    fn attach(&self, before: Option<&CheckedBlock>, block: &CheckedBlock) -> Result<(), ImportFault> {
        let place = block.place;
        let parent = match before {
            Some(before) => Some(before.place),
            None => self.store.block(&place.parent).map_err(ImportFault::Store)?,
        };
        let verdict = match parent {
            Some(parent) => self.consensus.check_header(&place, &parent, self.now),
            None => Verdict::Unknown(Unknown::Parent),
        };
        match verdict {
            Verdict::Valid => Ok(()),
            Verdict::Invalid(Invalid::Link) | Verdict::Unknown(Unknown::Parent) => {
                Err(ImportFault::Unknown { place, reason: Unknown::Parent })
            }
            Verdict::Invalid(reason) => Err(ImportFault::Invalid(InvalidBlock { place, reason })),
            Verdict::Unknown(reason) => Err(ImportFault::Unknown { place, reason }),
        }
    }
}
