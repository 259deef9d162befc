//! Chains as files of JSON lines: one block a line, in canonical form, from low to high.

use std::{
    io::{self, BufRead, Read, Write},
    num::NonZeroUsize,
};

use bt2c_proto::{Block, Height, Time};

use crate::{
    chain::{BlockRef, CheckedBlock},
    consensus::{Consensus, Invalid, InvalidBlock, Unknown, Verdict, check_block},
    import::import,
    parallel,
    store::{ChainStore, StoreError},
};

/// Longest line in bytes: a block need not be in canonical form here.
const MAX_LINE: u64 = 4 << 20;

/// Bytes of lines that are checked at once.
const BATCH_BYTES: usize = 16 << 20;

/// Bytes that are read from the store at once.
const EXPORT_BYTES: usize = 4 << 20;

/// Why an export failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The output failed.
    #[error("cannot write the export: {0}")]
    Io(#[from] io::Error),
}

/// Writes the main chain, genesis block included, telling how many blocks are written. Returns how many there were.
///
/// # Errors
/// If the store or the output fails.
pub fn export_chain(
    store: &dyn ChainStore,
    output: &mut dyn Write,
    mut progress: impl FnMut(u64),
) -> Result<u64, ExportError> {
    let tip = store.tip().height;
    let mut written = 0;
    while written <= tip.get() {
        let bodies = store.bodies(Height::new(written)..=tip, EXPORT_BYTES)?;
        if bodies.is_empty() {
            break;
        }
        for body in &bodies {
            output.write_all(body)?;
            output.write_all(b"\n")?;
        }
        written += bodies.len() as u64;
        progress(written);
    }
    output.flush()?;
    Ok(written)
}

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

/// Reads blocks, checks each by every rule, and stores them, telling how many lines are done. Blocks that are stored
/// already are passed over.
///
/// # Errors
/// The first line that is no block that follows, with what is wrong.
pub fn import_chain(
    store: &dyn ChainStore,
    consensus: &dyn Consensus,
    input: &mut dyn BufRead,
    now: Time,
    threads: NonZeroUsize,
    mut progress: impl FnMut(u64),
) -> Result<ImportSummary, ImportError> {
    let mut summary = ImportSummary { imported: 0, known: 0 };
    let mut line = 0;
    loop {
        let lines =
            read_lines(input).map_err(|(read, fault)| ImportError { line: line + read + 1, fault })?;
        if lines.is_empty() {
            return Ok(summary);
        }
        let batch = Batch { store, consensus, now };
        let checked = parallel::map(threads, &lines, |bytes| batch.check(bytes));
        batch
            .store(checked, &mut summary)
            .map_err(|(at, fault)| ImportError { line: line + at + 1, fault })?;
        line += lines.len() as u64;
        progress(line);
    }
}

/// The next lines, none of them empty; an error says after how many.
fn read_lines(input: &mut dyn BufRead) -> Result<Vec<Vec<u8>>, (u64, ImportFault)> {
    let (mut lines, mut bytes) = (Vec::new(), 0);
    while bytes < BATCH_BYTES {
        let mut line = Vec::new();
        let at = lines.len() as u64;
        let len = input
            .take(MAX_LINE)
            .read_until(b'\n', &mut line)
            .map_err(|error| (at, ImportFault::Io(error)))?;
        if len == 0 {
            break;
        }
        if len as u64 == MAX_LINE && line.last() != Some(&b'\n') {
            return Err((at, ImportFault::TooLong));
        }
        bytes += len;
        lines.push(line);
    }
    Ok(lines)
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
    fn store(
        &self,
        lines: Vec<Result<Line, ImportFault>>,
        summary: &mut ImportSummary,
    ) -> Result<(), (u64, ImportFault)> {
        let mut row: Vec<CheckedBlock> = Vec::new();
        let mut numbers = Vec::new();
        let mut fault = None;
        for (number, line) in (0..).zip(lines) {
            let attached = line.and_then(|line| match line {
                Line::Empty => Ok(None),
                Line::Known => {
                    summary.known += 1;
                    Ok(None)
                }
                Line::New(block) => self.attach(row.last(), &block).map(|()| Some(block)),
            });
            match attached {
                Ok(Some(block)) => {
                    row.push(block);
                    numbers.push(number);
                }
                Ok(None) => {}
                Err(reason) => {
                    fault = Some((number, reason));
                    break;
                }
            }
        }
        let first = numbers.first().copied().unwrap_or(0);
        let imported =
            import(self.store, self.consensus, &row).map_err(|error| (first, ImportFault::Store(error)))?;
        summary.imported += imported.stored as u64;
        if let Some(reason) = imported.rejected {
            let place = row[imported.stored].place;
            return Err((numbers[imported.stored], ImportFault::Invalid(InvalidBlock { place, reason })));
        }
        fault.map_or(Ok(()), Err)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        MemoryStore,
        testing::{GENESIS_TIME, TestConsensus, checked},
    };

    const NOW: Time = Time::from_secs(GENESIS_TIME + 100_000);
    const THREADS: NonZeroUsize = NonZeroUsize::new(3).unwrap();

    fn exported(count: u64) -> (TestConsensus, MemoryStore, Vec<u8>) {
        let test = TestConsensus::new();
        let store = MemoryStore::new(test.genesis_block());
        let row = test.row(&store.tip(), count, 0);
        store.append(&checked(&row), row.last().unwrap().hash()).unwrap();
        let mut file = Vec::new();
        assert_eq!(export_chain(&store, &mut file, |_| ()).unwrap(), count + 1);
        (test, store, file)
    }

    fn imported(
        test: &TestConsensus,
        store: &MemoryStore,
        file: &[u8],
    ) -> Result<ImportSummary, ImportError> {
        import_chain(store, test, &mut &file[..], NOW, THREADS, |_| ())
    }

    #[test]
    fn what_is_exported_can_be_imported_and_imported_again() {
        let (test, store, file) = exported(40);
        let other = MemoryStore::new(test.genesis_block());
        let summary = imported(&test, &other, &file).unwrap();
        assert_eq!(summary, ImportSummary { imported: 40, known: 1 });
        assert_eq!(other.tip(), store.tip());
        let mut again = Vec::new();
        export_chain(&other, &mut again, |_| ()).unwrap();
        assert_eq!(again, file);
        assert_eq!(imported(&test, &other, &file).unwrap(), ImportSummary { imported: 0, known: 41 });
    }

    #[test]
    fn the_first_bad_line_is_named_and_what_is_before_it_is_kept() {
        let (test, _, file) = exported(40);
        let lines: Vec<&str> = std::str::from_utf8(&file).unwrap().lines().collect();
        let cases: [(&str, String); 3] = [
            ("not json", "hello".into()),
            ("another hash", lines[20].replace("\"height\":20", "\"height\":21")),
            ("a gap", lines[21].into()),
        ];
        for (case, bad) in cases {
            let mut broken: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            broken[20] = bad;
            let store = MemoryStore::new(test.genesis_block());
            let error = imported(&test, &store, broken.join("\n").as_bytes()).unwrap_err();
            assert_eq!(error.line, 21, "{case}: {error}");
            assert_eq!(store.tip().height.get(), 19, "{case}");
        }
    }
}
