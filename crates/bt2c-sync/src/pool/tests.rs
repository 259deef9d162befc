use super::*;
use crate::testing::{GENESIS_TIME, TestConsensus};

const NOW: Time = Time::from_secs(GENESIS_TIME + 100_000);

fn transaction(number: u64, fee: u64) -> Arc<Transaction> {
    Arc::new(TestConsensus::new().transaction(number, NOW.as_secs() - number, fee))
}

fn pool(max_count: usize) -> TransactionPool {
    TransactionPool::new(PoolConfig { max_count, ..PoolConfig::default() })
}

#[test]
fn higher_fees_come_first_and_of_equal_ones_the_earlier() {
    let mut pool = pool(10);
    let sent = [transaction(1, 5), transaction(2, 9), transaction(3, 5)];
    for transaction in &sent {
        pool.insert(NOW, Arc::clone(transaction)).unwrap();
    }
    let picked = pool.select(NOW.as_secs(), 10, usize::MAX);
    assert_eq!(picked, [&sent[1], &sent[0], &sent[2]].map(Arc::clone));
    let len = sent[1].canonical_bytes().len();
    assert_eq!(pool.select(NOW.as_secs(), 10, len + 1).len(), 1);
    assert_eq!(pool.select(NOW.as_secs(), 10, len).len(), 0);
}

#[test]
fn a_full_pool_takes_only_what_pays_more() {
    let mut pool = pool(2);
    pool.insert(NOW, transaction(1, 5)).unwrap();
    pool.insert(NOW, transaction(2, 6)).unwrap();
    assert_eq!(pool.insert(NOW, transaction(3, 5)), Err(PoolError::Full { fee: 5 }));
    pool.insert(NOW, transaction(4, 7)).unwrap();
    assert!(pool.get(&transaction(1, 5).hash).is_none());
    assert_eq!(pool.insert(NOW, transaction(4, 7)), Err(PoolError::Known));
    assert_eq!(pool.admits(NOW, &transaction(5, 6)), Err(PoolError::Full { fee: 6 }), "before it is checked");

    let max_bytes = 2 * transaction(1, 5).canonical_bytes().len();
    let mut pool = TransactionPool::new(PoolConfig { max_bytes, ..PoolConfig::default() });
    for number in 1..=3 {
        pool.insert(NOW, transaction(number, 4 + number)).unwrap();
    }
    assert_eq!((pool.len(), pool.bytes()), (2, max_bytes));
    assert!(pool.get(&transaction(1, 5).hash).is_none());
}

#[test]
fn dates_bound_what_is_taken_and_how_long_it_stays() {
    let mut pool = pool(10);
    let test = TestConsensus::new();
    let dated = |timestamp| Arc::new(test.transaction(timestamp, timestamp, 1));
    let now = NOW.as_secs();
    assert_eq!(pool.insert(NOW, dated(now - 86_401)), Err(PoolError::Stale));
    assert_eq!(pool.insert(NOW, dated(now + 601)), Err(PoolError::TooEarly));
    pool.insert(NOW, dated(now + 600)).unwrap();
    pool.insert(NOW, dated(now - 86_400)).unwrap();
    assert_eq!(pool.select(now, 10, usize::MAX), [dated(now - 86_400)]);
    let expiry = pool.next_expiry().unwrap();
    pool.expire(expiry - Duration::from_millis(1));
    assert_eq!(pool.len(), 2);
    pool.expire(expiry);
    assert_eq!(pool.len(), 1);
}

proptest::proptest! {
    #[test]
    fn limits_hold_and_the_best_paying_stay(fees in proptest::collection::vec(0_u64..20, 1..60)) {
        let mut pool = pool(8);
        for (number, fee) in (0..).zip(&fees) {
            let _ = pool.insert(NOW, transaction(number, *fee));
            proptest::prop_assert!(pool.len() <= 8);
            let bytes: usize = pool.entries.values().map(|entry| entry.transaction.canonical_bytes().len()).sum();
            proptest::prop_assert_eq!(pool.bytes(), bytes);
        }
        let mut expected = fees.clone();
        expected.sort_unstable_by_key(|fee| Reverse(*fee));
        expected.truncate(8);
        let kept: Vec<u64> =
            pool.select(NOW.as_secs(), 100, usize::MAX).iter().map(|transaction| transaction.fee).collect();
        proptest::prop_assert_eq!(kept, expected);
    }
}
