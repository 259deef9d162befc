use super::*;
use crate::{
    MemoryStore,
    testing::{GENESIS_TIME, TestConsensus, checked, places},
};

fn store(test: &TestConsensus) -> MemoryStore {
    MemoryStore::new(test.genesis_block())
}

#[test]
fn a_row_on_the_tip_becomes_the_chain() {
    let test = TestConsensus::new();
    let store = store(&test);
    let row = test.row(&store.tip(), 3, 0);
    let imported = import(&store, &test, &checked(&row)).unwrap();
    assert_eq!((imported.stored, imported.rejected, imported.tip), (3, None, store.tip()));
    assert_eq!(imported.applied.iter().map(|block| block.place).collect::<Vec<_>>(), places(&row));
    assert!(imported.reorganisation.is_none());
}

#[test]
fn a_repeated_transaction_is_rejected_wherever_the_first_one_is() {
    let test = TestConsensus::new();
    let repeated = test.transaction(1, GENESIS_TIME, 1);
    let genesis = test.genesis_ref();
    let first = test.block(&genesis, 1, 0, vec![repeated.clone()]);
    let empty = test.block(&BlockRef::from(&first.header), 2, 0, Vec::new());
    let again = test.block(
        &BlockRef::from(&empty.header),
        3,
        0,
        vec![test.transaction(2, GENESIS_TIME, 1), repeated.clone()],
    );
    let expected = Some(Invalid::Repeated { index: 1 });

    // In the same row, in a stored block of the main chain, in a stored block beside it, in the same block.
    let one = store(&test);
    let imported = import(&one, &test, &checked(&[first.clone(), empty.clone(), again.clone()])).unwrap();
    assert_eq!((imported.stored, imported.rejected), (2, expected));
    let imported = import(&one, &test, &checked(std::slice::from_ref(&again))).unwrap();
    assert_eq!((imported.stored, imported.rejected), (0, expected));

    let beside = store(&test);
    import(&beside, &test, &checked(&test.row(&genesis, 5, 9))).unwrap();
    import(&beside, &test, &checked(&[first.clone(), empty])).unwrap();
    let imported = import(&beside, &test, &checked(&[again])).unwrap();
    assert_eq!((imported.stored, imported.rejected), (0, expected));

    let twice = test.block(&genesis, 1, 3, vec![repeated.clone(), repeated.clone()]);
    let imported = import(&store(&test), &test, &checked(&[twice])).unwrap();
    assert_eq!((imported.stored, imported.rejected), (0, expected));

    // In another branch it is no repetition.
    let other = test.block(&genesis, 2, 4, vec![repeated]);
    let imported = import(&one, &test, &checked(&[other])).unwrap();
    assert_eq!((imported.stored, imported.rejected), (1, None));
}

#[test]
fn a_better_branch_takes_over_and_gives_transactions_back() {
    let test = TestConsensus::new();
    let store = store(&test);
    let genesis = test.genesis_ref();
    let (kept, lost) = (test.transaction(1, GENESIS_TIME, 1), test.transaction(2, GENESIS_TIME, 1));
    let old = test.block(&genesis, 1, 0, vec![kept.clone(), lost.clone()]);
    import(&store, &test, &checked(std::slice::from_ref(&old))).unwrap();
    let new = [test.block(&genesis, 2, 1, vec![kept])];
    let side = test.block(&BlockRef::from(&new[0].header), 3, 1, Vec::new());

    let stored = import(&store, &test, &checked(&new)).unwrap();
    if stored.reorganisation.is_none() {
        assert!(stored.applied.is_empty());
    }
    let taken = import(&store, &test, &checked(std::slice::from_ref(&side))).unwrap();
    assert_eq!(store.tip(), BlockRef::from(&side.header));
    let change = stored.reorganisation.or(taken.reorganisation).expect("the chain changed its path");
    assert_eq!((change.fork, change.old_tip), (genesis, BlockRef::from(&old.header)));
    assert_eq!(change.reverted, places(&[old]));
    assert_eq!(change.returned, [lost]);
    let applied: Vec<_> = stored.applied.iter().chain(&taken.applied).map(|block| block.place).collect();
    assert_eq!(applied, places(&[new[0].clone(), side]));
}

#[test]
fn a_row_may_begin_with_blocks_that_are_stored_already() {
    let test = TestConsensus::new();
    let store = store(&test);
    let row = test.row(&store.tip(), 5, 0);
    import(&store, &test, &checked(&row[..2])).unwrap();
    let imported = import(&store, &test, &checked(&row)).unwrap();
    assert_eq!((imported.stored, imported.rejected), (5, None));
    assert_eq!(imported.applied.iter().map(|block| block.place).collect::<Vec<_>>(), places(&row[2..]));
    assert!(imported.reorganisation.is_none());
}
