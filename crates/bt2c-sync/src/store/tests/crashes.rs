//! A long import with two reorganisations, cut off at every write and every sync.

use std::{
    num::NonZeroUsize,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use super::*;
use crate::import;

/// Blocks in the rows in which they are imported.
struct Script {
    rows: Vec<Vec<CheckedBlock>>,
    /// Blocks that end beside the main chain.
    beside: Vec<BlockHash>,
    /// The transactions: one of every fifth block.
    transactions: Vec<TxKey>,
}

const ROW: usize = 40;

/// 500 blocks: 200, then a branch that leaves 20 below the tip and wins by 20, 150 on it, a branch that leaves ten below and
/// wins by 30, 70 on that.
fn script() -> Script {
    let test = TestConsensus::new();
    let mut script = Script { rows: Vec::new(), beside: Vec::new(), transactions: Vec::new() };
    let mut at = vec![test.genesis_ref()];
    for (salt, (from, count)) in (1..).zip([(0, 200), (180, 40), (220, 150), (360, 40), (400, 70)]) {
        script.beside.extend(at.drain(from + 1..).map(|place| place.hash));
        let mut part = Vec::new();
        for _ in 0..count {
            let parent = at[at.len() - 1];
            let number = parent.height.get() + 1;
            let transactions = if number.is_multiple_of(5) {
                vec![test.transaction(number * 10 + u64::from(salt), GENESIS_TIME, 1)]
            } else {
                Vec::new()
            };
            script.transactions.extend(transactions.iter().map(TxKey::from));
            let block = test.block(&parent, number, salt, transactions);
            at.push(BlockRef::from(&block.header));
            part.push(block);
        }
        script.rows.extend(part.chunks(ROW).map(checked));
    }
    assert_eq!((script.rows.iter().map(Vec::len).sum::<usize>(), script.beside.len()), (500, 30));
    script
}

/// All that a store holds.
#[derive(Debug, PartialEq)]
struct State {
    tip: BlockRef,
    /// Every seventh place of the main chain.
    places: Vec<Option<BlockRef>>,
    first_body: Height,
    /// The main chain from there on.
    main: Vec<Bytes>,
    /// The blocks that end beside it, as far as they are there.
    beside: Vec<Option<Bytes>>,
    holders: Vec<Vec<BlockRef>>,
}

impl State {
    fn of(store: &DiskStore, script: &Script) -> Self {
        let (tip, first_body) = (store.tip(), store.first_body());
        let place = |height| store.main(Height::new(height)).unwrap();
        let places = (0..=tip.height.get() + 7).step_by(7).map(place).collect();
        let main = store.bodies(first_body..=tip.height.next(), usize::MAX).unwrap();
        assert_eq!(main.len() as u64, tip.height.get() + 1 - first_body.get());
        let body = |hash| match store.body(hash) {
            Ok(body) => body,
            Err(StoreError::Pruned { .. }) => None,
            Err(error) => panic!("{error}"),
        };
        let holders = |key| {
            let mut blocks = store.blocks_with(key).unwrap();
            blocks.sort_unstable_by_key(|place| place.hash);
            blocks
        };
        let beside = script.beside.iter().map(body).collect();
        let holders = script.transactions.iter().map(holders).collect();
        Self { tip, places, first_body, main, beside, holders }
    }

    /// The same, but for what is pruned: when that happens does not matter to the chain.
    #[track_caller]
    fn assert_holds(&self, expected: &Self) {
        assert_eq!((self.tip, &self.places), (expected.tip, &expected.places));
        assert!(self.holders == expected.holders, "transactions are found elsewhere");
        let bodies = self.main.iter().rev().zip(expected.main.iter().rev());
        assert!(bodies.clone().all(|(body, expected)| body == expected), "bodies are others");
        for (body, expected) in self.beside.iter().zip(&expected.beside) {
            assert!(body.is_none() || expected.is_none() || body == expected);
        }
        assert!(self.first_body.get() <= self.tip.height.get().saturating_sub(CONFIG.max_reorg_depth));
    }
}

const CONFIG: DiskStoreConfig = DiskStoreConfig {
    segment_bytes: 20_000,
    cache_bytes: 1 << 20,
    max_reorg_depth: 20,
    prune_bytes: None,
    heal: true,
};

#[derive(Debug, Clone, Copy)]
enum Crash {
    Kill,
    PowerLoss,
}

struct Trial {
    script: Script,
    config: DiskStoreConfig,
    /// After each row, with the genesis block alone first.
    states: Vec<State>,
}

impl Trial {
    /// Imports everything once, uninterrupted.
    fn new(config: DiskStoreConfig) -> Self {
        let script = script();
        let store = Self::open_with(&config, &MemoryDisk::new()).unwrap();
        let mut states = vec![State::of(&store, &script)];
        let mut reorganisations = 0;
        for row in &script.rows {
            let imported = import(&store, &TestConsensus::new(), row).unwrap();
            assert_eq!((imported.stored, imported.rejected), (row.len(), None));
            reorganisations += usize::from(imported.reorganisation.is_some());
            states.push(State::of(&store, &script));
        }
        assert_eq!((store.tip().height.get(), reorganisations), (470, 2));
        Self { script, config, states }
    }

    fn open_with(config: &DiskStoreConfig, disk: &MemoryDisk) -> Result<DiskStore, StoreError> {
        let genesis = TestConsensus::new().genesis_block().clone();
        DiskStore::open(Arc::new(disk.clone()), Path::new(DIR), &genesis, config.clone())
    }

    /// Imports until the disk fails; says how many rows were acknowledged.
    fn run(&self, disk: &MemoryDisk) -> usize {
        let Ok(store) = Self::open_with(&self.config, disk) else { return 0 };
        let rows = self.script.rows.iter();
        rows.take_while(|row| import(&store, &TestConsensus::new(), row).is_ok()).count()
    }

    /// Opens what a crash left after so many acknowledged rows, and goes on to the end.
    fn go_on(&self, disk: &MemoryDisk, done: usize, when: &str) {
        let store = Self::open_with(&self.config, disk).unwrap_or_else(|error| panic!("{when}: {error}"));
        // The row that was cut off happened entirely, or not at all.
        let after = self.states.get(done + 1).filter(|state| state.tip == store.tip());
        State::of(&store, &self.script).assert_holds(after.unwrap_or(&self.states[done]));
        // Whoever was not told that a row is stored hands it in again.
        for row in &self.script.rows[done..] {
            let imported = import(&store, &TestConsensus::new(), row);
            imported.unwrap_or_else(|error| panic!("{when}: {error}"));
        }
        let end = State::of(&store, &self.script);
        assert!(end == self.states[self.states.len() - 1], "{when}: the end is another");
    }

    /// A crash at this operation, as each of these kinds leaves it; says whether the import came that far.
    fn crash_at(&self, operation: u64, kinds: &[Crash]) -> bool {
        let disk = MemoryDisk::new();
        disk.fail_from(Some(operation));
        let done = self.run(&disk);
        if !disk.has_failed() {
            return false;
        }
        for kind in kinds {
            match kind {
                Crash::Kill => self.go_on(&disk.after_kill(), done, &format!("killed at {operation}")),
                // It has another outcome each time: each operation has its own.
                Crash::PowerLoss => {
                    let lost = disk.after_power_loss(operation);
                    self.go_on(&lost, done, &format!("power lost at {operation}"));
                }
            }
        }
        true
    }

    /// Every operation, on every core.
    fn crash_everywhere(&self, kinds: fn(u64) -> &'static [Crash]) -> u64 {
        let (next, tried) = (AtomicU64::new(0), AtomicU64::new(0));
        let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let operation = next.fetch_add(1, Ordering::Relaxed);
                        if !self.crash_at(operation, kinds(operation)) {
                            break;
                        }
                        tried.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        tried.into_inner()
    }
}

#[test]
fn a_crash_at_any_point_of_a_long_import_ends_at_the_same_chain() {
    let tried = Trial::new(CONFIG).crash_everywhere(|_| &[Crash::Kill, Crash::PowerLoss]);
    println!("{tried} writes and syncs");
    assert!(tried > 150, "only {tried} operations were tried");
}

#[test]
fn a_crash_at_any_point_of_an_import_that_prunes_ends_at_the_same_chain() {
    let trial = Trial::new(DiskStoreConfig { prune_bytes: Some(60_000), ..CONFIG });
    assert!(trial.states[trial.states.len() - 1].first_body.get() > 200);
    let tried = trial.crash_everywhere(|operation| {
        if operation.is_multiple_of(2) { &[Crash::Kill] } else { &[Crash::PowerLoss] }
    });
    println!("{tried} writes and syncs");
    assert!(tried > 150, "only {tried} operations were tried");
}

/// A store of 30 blocks that was closed; their row.
fn closed() -> (MemoryDisk, Vec<Block>) {
    let disk = MemoryDisk::new();
    let store = open(Arc::new(disk.clone())).unwrap();
    let row = TestConsensus::new().row(&store.tip(), 30, 1);
    store.append(&checked(&row), row[29].hash()).unwrap();
    (disk, row)
}

/// The last segment and its length.
fn last_segment(disk: &MemoryDisk) -> (Arc<dyn DiskFile>, u64) {
    let path =
        disk.list(Path::new(DIR)).unwrap().into_iter().rfind(|path| path.extension().unwrap() == "seg");
    let file = disk.open(&path.unwrap()).unwrap();
    let len = file.len().unwrap();
    (file, len)
}

/// Opens, and says up to which height the row is there; then hands in the rest.
#[track_caller]
fn healed(disk: MemoryDisk, row: &[Block]) -> usize {
    let store = open(Arc::new(disk)).unwrap();
    let tip = store.tip();
    let height = usize::try_from(tip.height.get()).unwrap();
    assert!(height == 0 || tip.hash == row[height - 1].hash());
    assert_eq!(store.bodies(heights(0..=1000), usize::MAX).unwrap().len(), height + 1);
    store.append(&checked(&row[height..]), row[row.len() - 1].hash()).unwrap();
    assert_eq!(store.bodies(heights(0..=1000), usize::MAX).unwrap().len(), row.len() + 1);
    height
}

#[test]
fn a_tail_cut_at_any_byte_loses_nothing_and_a_segment_only_what_was_cut() {
    let (disk, row) = closed();
    let (_, len) = last_segment(&disk);
    for cut in 0..len {
        // What was acknowledged is cut: nothing but damage does that, and what lies before is kept.
        let disk = disk.after_kill();
        let (segment, _) = last_segment(&disk);
        segment.set_len(cut).unwrap();
        let height = healed(disk, &row);
        assert!((20..30).contains(&height), "{height} left of 30, cut at {cut} of {len}");
    }
    let next = checked(&TestConsensus::new().row(&BlockRef::from(&row[29].header), 1, 1));
    let mut record = u32::try_from(next[0].bytes.len()).unwrap().to_be_bytes().to_vec();
    record.extend(crc32fast::hash(&next[0].bytes).to_be_bytes());
    record.extend(&next[0].bytes);
    for cut in 0..=record.len() {
        // What was not acknowledged is cut.
        let disk = disk.after_kill();
        let (segment, _) = last_segment(&disk);
        segment.write_at(len, &record[..cut]).unwrap();
        assert_eq!(healed(disk, &row), 30, "{cut} bytes of the next");
    }
}

#[test]
fn an_index_cut_at_any_byte_is_made_anew_and_loses_nothing() {
    let (disk, row) = closed();
    let path = Path::new(DIR).join("index.redb");
    let len = disk.read(&path).unwrap().len() as u64;
    let edges = (0..=64).flat_map(|back| [back, len - back]);
    let between = (0..len).step_by(usize::try_from(len / 100).unwrap() + 7);
    for cut in edges.chain(between) {
        let disk = disk.after_kill();
        disk.open(&path).unwrap().set_len(cut).unwrap();
        assert_eq!(healed(disk, &row), 30, "cut at {cut} of {len}");
    }
}

#[test]
fn an_index_that_refers_to_what_is_not_there_is_made_anew() {
    // A segment in the middle is gone, which nobody sees who looks at its end or the tip alone.
    let (disk, row) = closed();
    disk.remove(&Path::new(DIR).join("blocks-000001.seg")).unwrap();
    let height = healed(disk, &row);
    assert!((1..29).contains(&height), "{height} left of 30");
    // The tip is damaged, while nothing is missing.
    let (disk, row) = closed();
    let (segment, len) = last_segment(&disk);
    flip(&*segment, len - 1);
    assert_eq!(healed(disk, &row), 29);
}

#[test]
fn leftovers_of_a_failed_batch_do_not_hide_later_blocks_from_a_new_index() {
    let test = TestConsensus::new();
    let index = Path::new(DIR).join("index.redb");
    for operation in 0.. {
        let disk = MemoryDisk::new();
        let store = open(Arc::new(disk.clone())).unwrap();
        let first = test.row(&store.tip(), 3, 1);
        store.append(&checked(&first), first[2].hash()).unwrap();
        // A batch over several segments fails; smaller ones follow, and do not cover all that it wrote.
        let large = test.row(&store.tip(), 30, 2);
        disk.fail_from(Some(operation));
        let failed = store.append(&checked(&large), large[29].hash()).is_err();
        disk.fail_from(None);
        if !failed {
            assert!(operation > 10, "only {operation} operations were tried");
            break;
        }
        let small = test.row(&store.tip(), 30, 3);
        for block in checked(&small) {
            store.append(std::slice::from_ref(&block), block.place.hash).unwrap();
        }
        let tip = store.tip();
        drop(store);
        disk.remove(&index).unwrap();
        let store = open(Arc::new(disk)).unwrap();
        assert_eq!(store.tip(), tip, "{operation}");
    }
}
