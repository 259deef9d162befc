//! Old bodies are removed, and nothing else is lost.

use super::*;
use crate::{ChainCheck, export_chain, import};

/// A store with a row of 60 blocks, a transaction in each, and a branch that left it at 10.
fn filled(disk: &MemoryDisk) -> (DiskStore, Vec<Block>, Vec<Block>) {
    let test = TestConsensus::new();
    let store = open(Arc::new(disk.clone())).unwrap();
    let mut row: Vec<Block> = Vec::new();
    let mut parent = store.tip();
    for number in 1..=60 {
        let block = test.block(&parent, number, 0, vec![test.transaction(number, GENESIS_TIME, 1)]);
        parent = BlockRef::from(&block.header);
        row.push(block);
    }
    let side = test.row(&BlockRef::from(&row[9].header), 3, 7);
    store.append(&checked(&row[..14]), row[13].hash()).unwrap();
    store.append(&checked(&side), row[13].hash()).unwrap();
    store.append(&checked(&row[14..]), row[59].hash()).unwrap();
    (store, row, side)
}

fn files(disk: &MemoryDisk, extension: &str) -> Vec<std::path::PathBuf> {
    let mut files = disk.list(Path::new(DIR)).unwrap();
    files.retain(|path| path.extension().is_some_and(|found| found == extension));
    files
}

/// A pruned store holds every place and transaction, and the bodies from `first` on.
#[track_caller]
fn assert_pruned(store: &DiskStore, row: &[Block], first: Height) {
    assert_eq!(store.first_body(), first);
    assert_eq!(store.tip(), BlockRef::from(&row[59].header));
    let genesis = TestConsensus::new().genesis_block().canonical_bytes();
    assert_eq!(store.bodies(heights(0..=100), usize::MAX).unwrap(), std::slice::from_ref(&genesis));
    assert_eq!(store.body(&TestConsensus::new().genesis_ref().hash).unwrap().unwrap(), genesis);
    for block in row {
        let (place, key) = (BlockRef::from(&block.header), TxKey::from(&block.transactions[0]));
        assert_eq!(store.main(place.height).unwrap(), Some(place));
        assert_eq!(store.block(&place.hash).unwrap(), Some(place));
        assert_eq!(store.blocks_with(&key).unwrap(), [place]);
        let range = place.height..=place.height;
        if place.height >= first {
            assert_eq!(store.body(&place.hash).unwrap().unwrap(), block.canonical_bytes());
            assert_eq!(store.bodies(range, 0).unwrap(), [block.canonical_bytes()]);
        } else {
            assert!(store.bodies(range, 0).unwrap().is_empty());
            let error = store.body(&place.hash).unwrap_err();
            let StoreError::Pruned { height, hash, first: kept } = error else { panic!("{error}") };
            assert_eq!((height, hash, kept), (place.height, place.hash, first));
        }
    }
    let kept = 60 - first.get() + 1;
    assert_eq!(store.bodies(first..=Height::new(100), usize::MAX).unwrap().len() as u64, kept);
}

#[test]
fn old_bodies_go_and_everything_else_stays_also_without_an_index() {
    let disk = MemoryDisk::new();
    let (store, row, side) = filled(&disk);
    let before = store.body_bytes().unwrap();
    assert_eq!(store.prune(before).unwrap(), Pruned::default());
    let pruned = store.prune(20_000).unwrap();
    assert!(store.body_bytes().unwrap() <= 20_000 && pruned.segments > 1);
    assert_eq!(store.body_bytes().unwrap() + pruned.bytes, before);
    assert_eq!(files(&disk, "pruned").len(), pruned.segments as usize);
    let first = store.first_body();
    assert!(first.get() > 13 && first.get() < 55, "{first}");
    assert_pruned(&store, &row, first);
    assert!(matches!(store.body(&side[0].hash()), Err(StoreError::Pruned { .. })));
    drop(store);
    let store = open(Arc::new(disk.clone())).unwrap();
    assert_pruned(&store, &row, first);
    drop(store);
    disk.remove(&Path::new(DIR).join("index.redb")).unwrap();
    let store = open(Arc::new(disk.clone())).unwrap();
    assert_pruned(&store, &row, first);
    assert!(files(&disk, "damaged").is_empty());
    // It goes on, and prunes on.
    let test = TestConsensus::new();
    let more = test.row(&store.tip(), 40, 0);
    store.append(&checked(&more), more[39].hash()).unwrap();
    store.prune(0).unwrap();
    assert!(store.first_body() > first);
}

#[test]
fn what_a_reorganisation_could_need_stays_whatever_is_asked() {
    let test = TestConsensus::new();
    let (store, row, _) = filled(&MemoryDisk::new());
    store.prune(0).unwrap();
    let depth = config().max_reorg_depth;
    assert!(store.first_body().get() > 40 && store.first_body().get() <= 60 - depth);
    let fork = BlockRef::from(&row[usize::try_from(59 - depth).unwrap()].header);
    let branch = test.row(&fork, depth + 1, 9);
    let imported = import(&store, &test, &checked(&branch)).unwrap();
    let change = imported.reorganisation.unwrap();
    assert_eq!(
        (change.fork, change.reverted.len() as u64, change.returned.len() as u64),
        (fork, depth, depth)
    );
}

#[test]
fn an_older_format_is_kept_until_something_is_pruned() {
    let disk = MemoryDisk::new();
    let (store, ..) = filled(&disk);
    let format = || String::from_utf8(disk.read(&Path::new(DIR).join("format.json")).unwrap()).unwrap();
    assert!(format().contains("\"format\":1"), "{}", format());
    store.prune(0).unwrap();
    assert!(format().contains("\"format\":2"), "{}", format());
}

#[test]
fn a_crash_at_any_point_of_a_pruning_heals_and_loses_nothing_else() {
    let whole = MemoryDisk::new();
    let (store, row, _) = filled(&whole);
    store.prune(20_000).unwrap();
    let end = store.first_body();
    for operation in 0.. {
        let disk = MemoryDisk::new();
        let (store, ..) = filled(&disk);
        disk.fail_from(Some(operation));
        let failed = store.prune(20_000).is_err();
        if !failed {
            assert!(operation > 4, "only {operation} operations were tried");
            break;
        }
        for disk in [disk.after_kill(), disk.after_power_loss(operation)] {
            let store = open(Arc::new(disk.clone())).unwrap();
            let first = store.first_body();
            assert!(first <= end);
            if first > Height::GENESIS {
                assert_pruned(&store, &row, first);
            }
            store.prune(20_000).unwrap();
            assert_pruned(&store, &row, end);
            let (bodies, remains) = (files(&disk, "seg"), files(&disk, "pruned"));
            let numbers: Vec<_> =
                remains.iter().chain(&bodies).map(|path| path.file_stem().unwrap()).collect();
            assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        }
    }
}

#[test]
fn a_failed_pruning_does_not_fail_the_blocks_that_brought_it_about() {
    let disk = MemoryDisk::new();
    let config = DiskStoreConfig { prune_bytes: Some(6000), ..config() };
    let genesis = TestConsensus::new().genesis_block().clone();
    let open = || DiskStore::open(Arc::new(disk.clone()), Path::new(DIR), &genesis, config.clone()).unwrap();
    let store = open();
    let row = TestConsensus::new().row(&store.tip(), 40, 0);
    // Something that cannot be removed stands in the way.
    disk.write_atomic(&Path::new(DIR).join("blocks-000000.pruned.tmp"), b"x", false).unwrap();
    for block in checked(&row) {
        store.append(std::slice::from_ref(&block), block.place.hash).unwrap();
    }
    assert!(store.body_bytes().unwrap() <= 6000 + 2500, "{}", store.body_bytes().unwrap());
    let first = store.first_body();
    assert!(first.get() > 10);
    drop(store);
    assert!(open().first_body() >= first);
}

#[test]
fn checks_and_exports_begin_where_blocks_are_kept() {
    let test = TestConsensus::new();
    let (store, row, _) = filled(&MemoryDisk::new());
    store.prune(20_000).unwrap();
    let first = store.first_body();
    let mut check = ChainCheck::new(&store);
    while !check.step(&store, &test, 7).unwrap() {}
    assert_eq!(check.checked(), 61);
    let mut file = Vec::new();
    let summary = export_chain(&store, &mut file, |_| ()).unwrap();
    assert_eq!((summary.first, summary.blocks), (first, 61 - first.get()));
    let below = usize::try_from(first.get()).unwrap() - 1;
    assert!(file.starts_with(&row[below].canonical_bytes()));
    // A pruning in the middle of a check is passed over.
    let (store, ..) = filled(&MemoryDisk::new());
    let mut check = ChainCheck::new(&store);
    assert!(!check.step(&store, &test, 5).unwrap());
    store.prune(20_000).unwrap();
    assert!(check.step(&store, &test, 100).unwrap());
}

#[test]
fn when_index_and_remains_are_lost_the_chain_is_synced_again_and_nothing_is_thrown_away() {
    let disk = MemoryDisk::new();
    let (store, ..) = filled(&disk);
    let pruned = store.prune(20_000).unwrap().segments as usize;
    drop(store);
    let all = files(&disk, "seg").len() + pruned;
    disk.remove(&Path::new(DIR).join("index.redb")).unwrap();
    flip(&*disk.open(&Path::new(DIR).join("blocks-000000.pruned")).unwrap(), 100);
    let store = open(Arc::new(disk.clone())).unwrap();
    Model::new().assert_is(&store);
    assert_eq!(files(&disk, "damaged").len(), all);
}
