//! Chains as files of JSON lines: one block a line, in canonical form, from low to high.

mod export;
mod import;

pub use export::{ExportError, ExportSummary, export_chain};
pub use import::{ImportError, ImportFault, ImportSummary, import_chain};

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use bt2c_proto::{Height, Time};

    use super::*;
    use crate::{
        BlockRef, ChainStore, MemoryStore,
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
        let summary = export_chain(&store, &mut file, |_| ()).unwrap();
        assert_eq!(summary, ExportSummary { first: Height::GENESIS, blocks: count + 1 });
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

    #[test]
    fn blocks_may_come_twice_and_branches_one_after_the_other() {
        let (test, store, file) = exported(1200);
        let row = test.row(&store.main(Height::new(1100)).unwrap().unwrap(), 150, 5);
        let branch: Vec<u8> =
            row.iter().flat_map(|block| [&block.canonical_bytes()[..], b"\n"].concat()).collect();
        let twice = [&file[..], &file, b"\n", &branch, &branch[..branch.len() / 2]].concat();
        // The last line is cut off.
        let end = twice.iter().rposition(|byte| *byte == b'\n').unwrap();
        let other = MemoryStore::new(test.genesis_block());
        let summary = imported(&test, &other, &twice[..end]).unwrap();
        assert_eq!(summary.imported, 1350);
        assert_eq!(other.tip(), BlockRef::from(&row[149].header));
    }

    #[test]
    fn an_import_into_a_store_that_fails_names_the_line_and_goes_on_from_there() {
        use bt2c_p2p::env::{DiskFault, MemoryDisk};
        let (test, _, file) = exported(3000);
        let disk = MemoryDisk::new();
        let open = || {
            let disk = std::sync::Arc::new(disk.clone());
            crate::DiskStore::open(disk, "chain".as_ref(), test.genesis_block(), Default::default()).unwrap()
        };
        let store = open();
        let error = import_chain(&store, &test, &mut &file[..], NOW, THREADS, |done| {
            if done > 1000 {
                disk.set_fault(Some(DiskFault::Full));
            }
        })
        .unwrap_err();
        let height = store.tip().height.get();
        assert!(error.is_disk_full(), "{error}");
        assert!((1000..3000).contains(&height), "{height}");
        assert_eq!(error.line, height + 2);
        disk.set_fault(None);
        let summary = import_chain(&store, &test, &mut &file[..], NOW, THREADS, |_| ()).unwrap();
        assert_eq!(summary, ImportSummary { imported: 3000 - height, known: height + 1 });
    }
}
