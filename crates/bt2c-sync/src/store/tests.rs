use std::{collections::BTreeMap, path::Path, sync::Arc};

use bt2c_p2p::env::{Disk, DiskFile, MemoryDisk};
use bt2c_proto::{Block, BlockHash, Height};
use proptest::prelude::*;

use super::*;
mod crashes;
mod damage;
mod full;
mod pruning;
mod readers;

use crate::testing::{GENESIS_TIME, SLOT, TestConsensus, checked, places};

const DIR: &str = "chain";

fn config() -> DiskStoreConfig {
    // Small enough that every test fills several segments.
    DiskStoreConfig {
        segment_bytes: 2500,
        cache_bytes: 1 << 20,
        max_reorg_depth: 5,
        ..DiskStoreConfig::default()
    }
}

fn open(disk: Arc<dyn Disk>) -> Result<DiskStore, StoreError> {
    DiskStore::open(disk, Path::new(DIR), TestConsensus::new().genesis_block(), config())
}

fn heights(range: RangeInclusive<u64>) -> RangeInclusive<Height> {
    Height::new(*range.start())..=Height::new(*range.end())
}

/// What a store must hold: every block ever appended, and one path through them.
#[derive(Clone)]
struct Model {
    blocks: BTreeMap<BlockHash, Block>,
    tip: BlockHash,
}

impl Model {
    fn new() -> Self {
        let genesis = TestConsensus::new().genesis_block().clone();
        let tip = genesis.hash();
        Self { blocks: BTreeMap::from([(tip, genesis)]), tip }
    }

    fn main(&self) -> Vec<&Block> {
        let mut path = vec![&self.blocks[&self.tip]];
        while let Some(parent) = self.blocks.get(&path[path.len() - 1].header.previous_hash) {
            path.push(parent);
        }
        path.reverse();
        path
    }

    fn append(&mut self, blocks: &[Block], tip: BlockHash) {
        self.blocks.extend(blocks.iter().map(|block| (block.hash(), block.clone())));
        self.tip = tip;
    }

    #[track_caller]
    fn assert_is(&self, store: &dyn ChainStore) {
        let main = self.main();
        assert_eq!(store.tip(), BlockRef::from(&main.last().unwrap().header));
        for (height, block) in (0..).zip(&main) {
            let place = store.main(Height::new(height)).unwrap();
            assert_eq!(place, Some(BlockRef::from(&block.header)), "height {height}");
        }
        assert_eq!(store.main(Height::new(main.len() as u64)).unwrap(), None);
        let bodies = store.bodies(heights(0..=u64::MAX >> 12), usize::MAX).unwrap();
        let expected: Vec<Vec<u8>> = main.iter().map(|block| block.canonical_bytes()).collect();
        assert_eq!(bodies, expected);
        for block in self.blocks.values() {
            assert_eq!(store.body(&block.hash()).unwrap().unwrap(), block.canonical_bytes());
        }
    }
}

/// A batch on the `below`-th block below the tip (or on the block it comes to), of `count` blocks; whether it becomes main.
#[derive(Debug, Clone)]
struct Step {
    below: usize,
    count: u64,
    salt: u8,
    switch: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0..4_usize, 1..5_u64, 0..8_u8, any::<bool>());
    prop::collection::vec(
        step.prop_map(|(below, count, salt, switch)| Step { below, count, salt, switch }),
        1..12,
    )
}

/// The batch of a step, and the tip that it leads to.
fn batch(model: &Model, step: &Step) -> (Vec<Block>, BlockHash) {
    let test = TestConsensus::new();
    let main = model.main();
    let base = main[main.len().saturating_sub(step.below + 1)];
    let row = test.row(&BlockRef::from(&base.header), step.count, step.salt);
    let end = row.last().unwrap().hash();
    let tip = if step.switch || step.below == 0 { end } else { model.tip };
    (row, tip)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn stores_hold_what_was_appended_whatever_the_path(steps in steps()) {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        let mut store = open(Arc::clone(&disk)).unwrap();
        let memory = MemoryStore::new(TestConsensus::new().genesis_block());
        let mut model = Model::new();
        for step in &steps {
            let (row, tip) = batch(&model, step);
            store.append(&checked(&row), tip).unwrap();
            memory.append(&checked(&row), tip).unwrap();
            model.append(&row, tip);
            model.assert_is(&memory);
            if step.salt == 0 {
                drop(store);
                store = open(Arc::clone(&disk)).unwrap();
            }
            model.assert_is(&store);
        }
    }
}

fn script() -> Vec<Step> {
    let step = |below, count, salt| Step { below, count, salt, switch: true };
    vec![step(0, 3, 1), step(0, 1, 2), step(2, 4, 3), step(0, 2, 4), step(3, 4, 5), step(0, 5, 6)]
}

/// Runs the script until the disk fails; the model before the failed step, and after it had it worked.
fn run(disk: &MemoryDisk, model: &mut Model) -> Option<Model> {
    let Ok(store) = open(Arc::new(disk.clone())) else { return Some(model.clone()) };
    let done = model.blocks.len();
    let mut made = 1;
    for step in script() {
        // Steps that are done are skipped, so that a run goes on where the one before was cut off.
        made += usize::try_from(step.count).unwrap();
        if made <= done {
            continue;
        }
        let (row, tip) = batch(model, &step);
        let mut after = model.clone();
        after.append(&row, tip);
        if store.append(&checked(&row), tip).is_err() {
            return Some(after);
        }
        *model = after;
        model.assert_is(&store);
    }
    None
}

#[test]
fn a_crash_at_any_write_or_sync_loses_nothing_that_was_acknowledged() {
    let mut operation = 0;
    loop {
        let disk = MemoryDisk::new();
        let mut model = Model::new();
        disk.fail_from(Some(operation));
        let interrupted = run(&disk, &mut model);
        if !disk.has_failed() {
            assert!(interrupted.is_none());
            break;
        }
        for seed in 0..2 {
            let disk = disk.after_power_loss(seed);
            let store =
                open(Arc::new(disk.clone())).unwrap_or_else(|error| panic!("{operation}/{seed}: {error}"));
            // The step that was cut off happened entirely, or not at all.
            let mut model = model.clone();
            if let Some(after) = &interrupted
                && store.tip().hash == after.tip
            {
                model = after.clone();
            }
            model.assert_is(&store);
            drop(store);
            assert!(run(&disk, &mut model).is_none(), "the rest of the script");
        }
        operation += 1;
    }
    assert!(operation > 50, "only {operation} operations were tried");
}

#[test]
fn a_store_goes_on_after_a_full_disk() {
    for operation in 0..40 {
        let disk = MemoryDisk::new();
        let store = open(Arc::new(disk.clone())).unwrap();
        let mut model = Model::new();
        let first = TestConsensus::new().row(&store.tip(), 3, 1);
        store.append(&checked(&first), first[2].hash()).unwrap();
        model.append(&first, first[2].hash());
        let second = TestConsensus::new().row(&store.tip(), 3, 2);
        disk.fail_from(Some(operation));
        let failed = store.append(&checked(&second), second[2].hash()).is_err();
        disk.fail_from(None);
        if failed {
            let again = store.append(&checked(&second), second[2].hash());
            assert!(again.is_ok(), "{operation}: {again:?}");
        }
        model.append(&second, second[2].hash());
        model.assert_is(&store);
    }
}

#[test]
fn transactions_are_found_in_every_branch_until_no_block_may_repeat_them() {
    let test = TestConsensus::new();
    let store = open(Arc::new(MemoryDisk::new())).unwrap();
    let genesis = store.tip();
    let transaction = test.transaction(1, GENESIS_TIME, 1);
    let key = TxKey::from(&transaction);
    let main = test.block(&genesis, 1, 0, vec![transaction.clone()]);
    let side = test.block(&genesis, 2, 1, vec![transaction]);
    store.append(&checked(&[main.clone(), side.clone()]), main.hash()).unwrap();
    let mut found = store.blocks_with(&key).unwrap();
    found.sort_by_key(|place| place.timestamp);
    assert_eq!(found, places(&[main.clone(), side]));

    // A day later by the block at the reorganisation depth, it is forgotten, and not before.
    let day = 86_400 / SLOT;
    let mut parent = BlockRef::from(&main.header);
    for (index, slot) in (day..day + 8).enumerate() {
        let block = test.block(&parent, slot, 0, Vec::new());
        parent = BlockRef::from(&block.header);
        store.append(&checked(&[block]), parent.hash).unwrap();
        assert_eq!(store.blocks_with(&key).unwrap().is_empty(), index > 5, "{index}");
    }
}

#[test]
fn bodies_stop_at_the_byte_limit_but_hold_at_least_one() {
    let store = open(Arc::new(MemoryDisk::new())).unwrap();
    let row = TestConsensus::new().row(&store.tip(), 5, 0);
    store.append(&checked(&row), row[4].hash()).unwrap();
    let len = row[0].canonical_bytes().len();
    let count = |range, limit| store.bodies(heights(range), limit).unwrap().len();
    assert_eq!(count(1..=5, 2 * len + 1), 2);
    assert_eq!(count(1..=5, 1), 1);
    assert_eq!(count(4..=9, usize::MAX), 2);
    assert_eq!(count(6..=9, usize::MAX), 0);
}

#[test]
fn a_batch_that_does_not_attach_changes_nothing() {
    let test = TestConsensus::new();
    let disk = open(Arc::new(MemoryDisk::new())).unwrap();
    let memory = MemoryStore::new(test.genesis_block());
    let row = test.row(&disk.tip(), 3, 0);
    for store in [&disk as &dyn ChainStore, &memory] {
        let missing = store.append(&checked(&row[1..]), row[2].hash()).unwrap_err();
        assert!(matches!(missing, StoreError::Missing(hash) if hash == row[0].hash()));
        let missing = store.append(&checked(&row[..1]), row[2].hash()).unwrap_err();
        assert!(matches!(missing, StoreError::Missing(hash) if hash == row[2].hash()));
        Model::new().assert_is(store);
    }
}

#[test]
fn a_lost_index_is_rebuilt_from_the_segments() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let mut model = Model::new();
    let store = open(Arc::clone(&disk)).unwrap();
    for step in script() {
        let (row, tip) = batch(&model, &step);
        store.append(&checked(&row), tip).unwrap();
        model.append(&row, tip);
    }
    drop(store);
    let index = Path::new(DIR).join("index.redb");
    disk.remove(&index).unwrap();
    model.assert_is(&open(Arc::clone(&disk)).unwrap());
    disk.write_atomic(&index, b"not a database", false).unwrap();
    model.assert_is(&open(Arc::clone(&disk)).unwrap());
    assert!(disk.read(&index.with_added_extension("damaged")).is_ok(), "the damaged one is kept");
}

#[test]
fn leftovers_of_a_batch_that_was_not_completed_are_cut_off() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let store = open(Arc::clone(&disk)).unwrap();
    let row = TestConsensus::new().row(&store.tip(), 9, 0);
    let mut model = Model::new();
    store.append(&checked(&row[..1]), row[0].hash()).unwrap();
    model.append(&row[..1], row[0].hash());
    drop(store);
    // A whole record whose parent was not written any more, half a record, and a segment that nothing refers to.
    let first = disk.open(&Path::new(DIR).join("blocks-000000.seg")).unwrap();
    let end = first.len().unwrap();
    let payload = row[5].canonical_bytes();
    let mut record = u32::try_from(payload.len()).unwrap().to_be_bytes().to_vec();
    record.extend(crc32fast::hash(&payload).to_be_bytes());
    record.extend(&payload);
    record.extend(b"\0\0\x01\0half");
    let next = Path::new(DIR).join("blocks-000001.seg");
    for lose_index in [false, true] {
        first.write_at(end, &record).unwrap();
        disk.write_atomic(&next, &record, false).unwrap();
        if lose_index {
            disk.remove(&Path::new(DIR).join("index.redb")).unwrap();
        }
        model.assert_is(&open(Arc::clone(&disk)).unwrap());
        assert_eq!(first.len().unwrap(), end);
        assert!(disk.read(&next).is_err(), "the segment is gone or set aside");
    }
}

#[test]
fn a_damaged_block_is_named_and_the_chain_before_it_kept() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let store = open(Arc::clone(&disk)).unwrap();
    let row = TestConsensus::new().row(&store.tip(), 20, 0);
    store.append(&checked(&row), row[19].hash()).unwrap();
    let segment = disk.open(&Path::new(DIR).join("blocks-000001.seg")).unwrap();
    flip(&*segment, 100);
    let error = store.bodies(heights(0..=20), usize::MAX).unwrap_err();
    let StoreError::Damaged { height, offset, .. } = error else { panic!("{error}") };
    assert_eq!(offset, 0);
    assert!(error_free_below(&store, height));
    drop(store);
    // The index alone does not show it, so the store opens; without the index, what lies before the damage is left.
    let store = open(Arc::clone(&disk)).unwrap();
    assert_eq!(store.tip().height.get(), 20);
    drop(store);
    disk.remove(&Path::new(DIR).join("index.redb")).unwrap();
    let store = open(Arc::clone(&disk)).unwrap();
    assert_eq!(store.tip().height.get() + 1, height.get());
}

fn flip(file: &dyn DiskFile, offset: u64) {
    let mut byte = [0];
    file.read_at(offset, &mut byte).unwrap();
    file.write_at(offset, &[byte[0] ^ 1]).unwrap();
}

fn error_free_below(store: &DiskStore, height: Height) -> bool {
    store.bodies(heights(0..=height.get() - 1), usize::MAX).is_ok()
}

#[test]
fn other_networks_newer_formats_and_second_openers_are_refused_by_name() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let store = open(Arc::clone(&disk)).unwrap();
    assert!(matches!(open(Arc::clone(&disk)), Err(StoreError::Locked(_))));
    drop(store);
    let other = TestConsensus::of_network(1);
    let result = DiskStore::open(Arc::clone(&disk), Path::new(DIR), other.genesis_block(), config());
    assert!(matches!(result, Err(StoreError::OtherGenesis { .. })));
    let format = Path::new(DIR).join("format.json");
    let text = String::from_utf8(disk.read(&format).unwrap()).unwrap();
    disk.write_atomic(&format, text.replace("\"format\":1", "\"format\":3").as_bytes(), false).unwrap();
    let error = open(Arc::clone(&disk)).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 3, supported: 2, .. }), "{error}");
    disk.write_atomic(&format, b"{", false).unwrap();
    assert!(matches!(open(disk), Err(StoreError::Format { .. })));
}
