//! Damage is found, and named by block, file and place.

use std::path::PathBuf;

use super::*;
use crate::{ChainCheck, ChainFault};

/// A record: where it lies, and whose it is.
struct Placed {
    path: PathBuf,
    bytes: std::ops::Range<u64>,
    place: BlockRef,
    main: bool,
}

/// A store with a main chain over several segments and two branches beside it, closed; and every record of it.
fn laid_out() -> (MemoryDisk, Vec<Placed>) {
    let disk = MemoryDisk::new();
    let store = open(Arc::new(disk.clone())).unwrap();
    let mut model = Model::new();
    for step in script() {
        let (row, tip) = batch(&model, &step);
        store.append(&checked(&row), tip).unwrap();
        model.append(&row, tip);
    }
    let main: Vec<_> = model.main().iter().map(|block| block.hash()).collect();
    let mut records = Vec::new();
    for block in model.blocks.values() {
        let place = BlockRef::from(&block.header);
        let (path, offset) = store.locate(&place.hash).unwrap().unwrap();
        let len = 8 + block.canonical_bytes().len() as u64;
        records.push(Placed { path, bytes: offset..offset + len, place, main: main.contains(&place.hash) });
    }
    assert!(records.iter().any(|record| !record.main));
    (disk, records)
}

/// Opens without mending, and looks at everything that is stored; the first fault.
fn examine(disk: &MemoryDisk) -> Result<(), StoreError> {
    let test = TestConsensus::new();
    let config = DiskStoreConfig { heal: false, ..config() };
    let store = DiskStore::open(Arc::new(disk.clone()), Path::new(DIR), test.genesis_block(), config)?;
    let mut check = ChainCheck::new(&store);
    loop {
        match check.step(&store, &test, 3) {
            Ok(false) => {}
            Ok(true) => break,
            Err(ChainFault::Store(error)) => return Err(error),
            Err(fault) => panic!("{fault}"),
        }
    }
    store.check_branches().map(drop)
}

/// Breaks these bits of a byte, and says which record it is in.
fn break_byte(disk: &MemoryDisk, records: &[Placed], at: usize, bits: u8) -> usize {
    let mut at = at as u64 % records.iter().map(|record| record.bytes.end - record.bytes.start).sum::<u64>();
    for (index, record) in records.iter().enumerate() {
        let len = record.bytes.end - record.bytes.start;
        if at < len {
            let file = disk.open(&record.path).unwrap();
            let mut byte = [0];
            file.read_at(record.bytes.start + at, &mut byte).unwrap();
            file.write_at(record.bytes.start + at, &[byte[0] ^ bits]).unwrap();
            return index;
        }
        at -= len;
    }
    unreachable!("it is below the sum of all")
}

#[track_caller]
fn assert_named(error: &StoreError, record: &Placed) {
    let StoreError::Damaged { height, hash, path, offset } = error else { panic!("{error}") };
    assert_eq!((*height, *hash), (record.place.height, record.place.hash));
    assert_eq!((path, *offset), (&record.path, record.bytes.start));
    let text = error.to_string();
    for part in [height.to_string(), hash.to_string(), path.display().to_string(), offset.to_string()] {
        assert!(text.contains(&part), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_broken_bytes_are_named_by_the_first_block_that_has_one(
        at in prop::collection::vec((any::<usize>(), 1..=255_u8), 1..4),
    ) {
        let (disk, records) = laid_out();
        prop_assert!(examine(&disk).is_ok());
        let mut broken: Vec<usize> =
            at.iter().map(|(at, bits)| break_byte(&disk, &records, *at, *bits)).collect();
        // Two changes of one byte may undo each other.
        broken.retain(|index| {
            let record = &records[*index];
            let bytes = disk.read(&record.path).unwrap();
            let at = |byte| usize::try_from(byte).unwrap();
            let (header, payload) = bytes[at(record.bytes.start)..at(record.bytes.end)].split_at(8);
            header[..4] != u32::try_from(payload.len()).unwrap().to_be_bytes()
                || header[4..] != crc32fast::hash(payload).to_be_bytes()
        });
        // The main chain by height, then what is beside it by place.
        let first = broken.iter().map(|index| &records[*index]).min_by_key(|record| {
            let by_height = record.main.then_some(record.place.height);
            (!record.main, by_height, record.path.clone(), record.bytes.start)
        });
        match (examine(&disk), first) {
            (Err(error), Some(first)) => assert_named(&error, first),
            (Ok(()), None) => {}
            (found, first) => panic!("{found:?}, but {:?} is broken", first.map(|record| record.place)),
        }
        // Looking has changed nothing.
        if let Some(first) = first {
            assert_named(&examine(&disk).unwrap_err(), first);
        }
    }
}

#[test]
fn a_missing_and_a_short_segment_are_named_by_the_first_block_in_them() {
    let (disk, records) = laid_out();
    let segment = |number: u32| Path::new(DIR).join(format!("blocks-{number:06}.seg"));
    let last = records.iter().map(|record| &record.path).max().unwrap();
    let first_in = |path: &Path| {
        records
            .iter()
            .filter(|record| record.main && record.path == path)
            .min_by_key(|record| record.place.height)
    };
    let gone = disk.after_kill();
    gone.remove(&segment(1)).unwrap();
    assert_named(&examine(&gone).unwrap_err(), first_in(&segment(1)).unwrap());
    assert!(gone.read(&segment(1)).is_err(), "looking has not made it");
    let short = disk.after_kill();
    let record = records.iter().filter(|record| record.main && record.path == *last);
    let record = record.max_by_key(|record| record.bytes.start).unwrap();
    short.open(last).unwrap().set_len(record.bytes.start + 3).unwrap();
    assert_named(&examine(&short).unwrap_err(), record);
}

#[test]
fn an_index_that_knows_no_heights_as_older_ones_did_is_made_anew_for_a_look_too() {
    let (disk, _) = laid_out();
    let index = Path::new(DIR).join("index.redb");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), disk.read(&index).unwrap()).unwrap();
    let database = redb::Database::open(file.path()).unwrap();
    let transaction = database.begin_write().unwrap();
    let heights = redb::TableDefinition::<&[u8; 32], u64>::new("heights");
    assert!(transaction.delete_table(heights).unwrap());
    transaction.commit().unwrap();
    drop(database);
    disk.write_atomic(&index, &std::fs::read(file.path()).unwrap(), false).unwrap();
    for heal in [false, true] {
        let (disk, test) = (disk.after_kill(), TestConsensus::new());
        let config = DiskStoreConfig { heal, ..config() };
        let store = DiskStore::open(Arc::new(disk), Path::new(DIR), test.genesis_block(), config).unwrap();
        let tip = store.tip();
        assert_eq!(store.block(&tip.hash).unwrap(), Some(tip));
    }
}

#[test]
fn without_an_index_the_place_is_named() {
    let (disk, records) = laid_out();
    disk.remove(&Path::new(DIR).join("index.redb")).unwrap();
    assert!(examine(&disk.after_kill()).is_ok());
    let record = records.iter().find(|record| record.bytes.start > 0).unwrap();
    flip(&*disk.open(&record.path).unwrap(), record.bytes.end - 1);
    let before: Vec<_> = disk.list(Path::new(DIR)).unwrap();
    let error = examine(&disk).unwrap_err();
    let StoreError::Torn { path, offset } = &error else { panic!("{error}") };
    assert_eq!((path, *offset), (&record.path, record.bytes.start));
    let mut after = disk.list(Path::new(DIR)).unwrap();
    after.retain(|path| path.extension().unwrap() != "redb");
    assert_eq!(after, before, "nothing is set aside, and the lock was there");
}

#[test]
fn a_block_is_stored_in_canonical_form_however_it_comes() {
    let test = TestConsensus::new();
    let source = MemoryStore::new(test.genesis_block());
    let transaction = test.transaction(1, GENESIS_TIME, 1);
    let block = test.block(&source.tip(), 1, 0, vec![transaction]);
    let canonical = block.canonical_bytes();
    let mut value: serde_json::Value = serde_json::from_slice(&canonical).unwrap();
    for part in ["/transactions/0", ""] {
        value.pointer_mut(part).unwrap()["unknown"] = serde_json::json!({ "deep": [1, 2] });
    }
    let line = format!("  {}  \r\n", value.to_string().replace(':', " : ").replace(" : /", ":/"));
    assert_ne!(line.trim().as_bytes(), canonical);
    let store = open(Arc::new(MemoryDisk::new())).unwrap();
    let threads = std::num::NonZeroUsize::MIN;
    let now = bt2c_proto::Time::from_secs(GENESIS_TIME + 1000);
    crate::import_chain(&store, &test, &mut line.as_bytes(), now, threads, |_| ()).unwrap();
    assert_eq!(store.body(&block.hash()).unwrap().unwrap(), canonical);
    let mut exported = Vec::new();
    crate::export_chain(&store, &mut exported, |_| ()).unwrap();
    let genesis = test.genesis_block().canonical_bytes();
    assert_eq!(exported, [&genesis[..], b"\n", &canonical, b"\n"].concat());
}
