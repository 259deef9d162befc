use std::num::NonZeroU64;

use bt2c_proto::{Blob, Genesis, Height, Network, Validator};
use bt2c_security::{Identity, fixtures};

use super::*;
use crate::produce::{sealed_block, signed_transaction};

const START: u64 = 1_700_000_000;

fn schedule_of(weights: &[u64], block_time: Duration) -> ValidatorSchedule {
    let validators = weights
        .iter()
        .enumerate()
        .map(|(index, weight)| Validator {
            public_key: Blob::try_from(fixtures::devnet_validator(index).public_key().spki_der()).unwrap(),
            weight: NonZeroU64::new(*weight).unwrap(),
        })
        .collect();
    ValidatorSchedule::new(Genesis::new(Network::Devnet, START, block_time, validators).unwrap()).unwrap()
}

fn schedule() -> ValidatorSchedule {
    schedule_of(&[1, 2, 3, 4], Duration::from_secs(10))
}

fn owner(schedule: &ValidatorSchedule, slot: u64) -> Identity {
    let proposer = schedule.proposer(slot);
    (0..4).map(fixtures::devnet_validator).find(|identity| identity.address() == proposer).unwrap()
}

fn genesis_ref(schedule: &ValidatorSchedule) -> BlockRef {
    BlockRef::from(&schedule.genesis().header)
}

fn block(schedule: &ValidatorSchedule, slot: u64, transactions: Vec<Transaction>) -> Block {
    let parent = genesis_ref(schedule);
    sealed_block(&parent, schedule.slot_start(slot), &owner(schedule, slot), transactions)
}

fn transaction(schedule: &ValidatorSchedule, timestamp: u64) -> Transaction {
    let recipient = fixtures::identity(1).address();
    signed_transaction(&fixtures::identity(0), schedule.genesis().hash(), recipient, 5, 1, 7, timestamp)
}

fn body(schedule: &ValidatorSchedule, block: &Block) -> Result<(), Invalid> {
    schedule.check_seal(&block.header)?;
    schedule.check_body(block, block.canonical_bytes().len())
}

#[test]
fn modulo_agrees_with_small_integers_and_the_largest_divisor() {
    let mut integer = [0; 32];
    integer[24..].copy_from_slice(&1_000_003_u64.to_be_bytes());
    assert_eq!(modulo(&integer, 1000), 3);
    assert_eq!(modulo(&[0xff; 32], u64::MAX), 0);
    // 2^256 = (2^64)^4 and 2^64 = 1 modulo 2^64 - 1.
    let mut power = [0; 32];
    power[0] = 1;
    assert_eq!(modulo(&power, u64::MAX), 1 << 56);
}

#[test]
fn slots_come_from_milliseconds_and_begin_at_whole_seconds() {
    let schedule = schedule_of(&[1], Duration::from_millis(1500));
    assert_eq!(schedule.slot_at(START - 1), None);
    assert_eq!([0, 1, 2, 3].map(|second| schedule.slot_at(START + second).unwrap()), [0, 0, 1, 2]);
    for slot in 0..100 {
        let start = schedule.slot_start(slot);
        assert_eq!(schedule.slot_at(start), Some(slot));
        assert!(slot == 0 || schedule.slot_at(start - 1) == Some(slot - 1));
    }
}

#[test]
fn slots_are_shared_out_by_weight() {
    let schedule = schedule();
    let addresses = [0, 1, 2, 3].map(|index| fixtures::devnet_validator(index).address());
    let mut counts = [0_u32; 4];
    for slot in 0..10_000 {
        let proposer = schedule.proposer(slot);
        let index = addresses.iter().position(|address| *address == proposer).unwrap();
        counts[index] += 1;
    }
    for (count, weight) in counts.into_iter().zip([1, 2, 3, 4]) {
        assert!(count.abs_diff(1000 * weight) < 200, "{counts:?}");
    }
}

#[test]
fn the_block_of_the_proposer_is_valid() {
    let schedule = schedule();
    let block = block(&schedule, 3, vec![transaction(&schedule, START + 20)]);
    assert_eq!(body(&schedule, &block), Ok(()));
    let place = BlockRef::from(&block.header);
    let now = Time::from_secs(block.header.timestamp);
    assert_eq!(schedule.check_header(&place, &genesis_ref(&schedule), now), Verdict::Valid);
}

#[test]
fn a_block_of_another_validator_or_slot_is_invalid() {
    let schedule = schedule();
    let slot = (1..).find(|slot| schedule.proposer(*slot) != schedule.proposer(slot + 1)).unwrap();
    let parent = genesis_ref(&schedule);
    let stolen = sealed_block(&parent, schedule.slot_start(slot), &owner(&schedule, slot + 1), Vec::new());
    assert_eq!(body(&schedule, &stolen), Err(Invalid::Proposer));
    let early = sealed_block(&parent, START - 1, &owner(&schedule, 1), Vec::new());
    assert_eq!(body(&schedule, &early), Err(Invalid::Proposer));
}

#[test]
fn a_forged_seal_or_another_body_is_invalid() {
    let schedule = schedule();
    let mut block = block(&schedule, 1, Vec::new());
    let other = fixtures::identity(3).sign(block.hash().as_bytes());
    let content = (*block.header).clone();
    block.header = BlockHeader::new(content, Blob::try_from(other.as_slice()).unwrap());
    assert_eq!(body(&schedule, &block), Err(Invalid::Signature));

    let mut block = self::block(&schedule, 1, Vec::new());
    block.transactions.push(transaction(&schedule, START));
    assert_eq!(body(&schedule, &block), Err(Invalid::Root));
    assert_eq!(schedule.check_body(&block, 1_000_001), Err(Invalid::Size(1_000_001)));
}

#[test]
fn each_rule_of_transactions_is_checked() {
    let schedule = schedule();
    let good = transaction(&schedule, START);
    let check = |transaction: &Transaction| schedule.check_transaction(transaction, Some(START + 86_400));
    assert_eq!(check(&good), Ok(()));
    let late = schedule.check_transaction(&good, Some(START - 1));
    assert_eq!(late, Err(InvalidTransaction::Late));
    let stale = schedule.check_transaction(&good, Some(START + 86_401));
    assert_eq!(stale, Err(InvalidTransaction::Stale));
    assert_eq!(check(&Transaction { amount: 6, ..good.clone() }), Err(InvalidTransaction::Hash));
    let weak = Blob::try_from(&b"no key"[..]).unwrap();
    assert_eq!(check(&Transaction { public_key: weak, ..good.clone() }), Err(InvalidTransaction::Key));
    let other = Blob::try_from(fixtures::identity(2).public_key().spki_der()).unwrap();
    assert_eq!(check(&Transaction { public_key: other, ..good.clone() }), Err(InvalidTransaction::Sender));
    let signature = Blob::try_from(&[0; 256][..]).unwrap();
    assert_eq!(check(&Transaction { signature, ..good }), Err(InvalidTransaction::Signature));
}

#[test]
fn a_header_must_follow_its_parent_in_time() {
    let schedule = schedule();
    let parent = genesis_ref(&schedule);
    let block = BlockRef::from(&block(&schedule, 5, Vec::new()).header);
    let due = Time::from_secs(block.timestamp);
    let check = |block: BlockRef, parent: BlockRef, now| schedule.check_header(&block, &parent, now);
    let other = BlockRef { hash: block.hash, ..parent };
    assert_eq!(check(block, other, due), Verdict::Invalid(Invalid::Link));
    let high = BlockRef { height: Height::new(2), ..block };
    assert_eq!(check(high, parent, due), Verdict::Invalid(Invalid::Height));
    let same_slot = BlockRef { timestamp: block.timestamp + 9, ..parent };
    assert_eq!(check(block, same_slot, due), Verdict::Invalid(Invalid::Slot));
    let tolerance = Duration::from_secs(2);
    assert_eq!(check(block, parent, due - tolerance), Verdict::Valid);
    let too_early = due - tolerance - Duration::from_millis(1);
    assert_eq!(check(block, parent, too_early), Verdict::Unknown(Unknown::TooEarly));
}

#[test]
fn longer_wins_and_of_equal_ones_the_lower_hash() {
    let schedule = schedule();
    let tip = |height, byte| Tip { height: Height::new(height), hash: BlockHash::from_bytes([byte; 32]) };
    assert!(schedule.better(tip(2, 9), tip(1, 1)));
    assert!(schedule.better(tip(2, 1), tip(2, 2)));
    assert!(!schedule.better(tip(2, 2), tip(2, 2)));
}

/// A block whose one transaction is signed by somebody else.
fn false_block(schedule: &ValidatorSchedule) -> Block {
    let slot = 3;
    let mut transaction = transaction(schedule, schedule.slot_start(slot));
    let signature = fixtures::identity(5).sign(transaction.hash.as_bytes());
    transaction.signature = Blob::try_from(signature.as_slice()).unwrap();
    block(schedule, slot, vec![transaction])
}

fn with_checkpoint(height: u64, hash: BlockHash) -> ValidatorSchedule {
    let checkpoint = crate::Checkpoint { height: Height::new(height), hash };
    schedule().with_checkpoints(Checkpoints::new([checkpoint]).unwrap())
}

#[test]
fn up_to_a_checkpoint_transaction_signatures_alone_are_not_checked() {
    let block = false_block(&schedule());
    let false_signature = Invalid::Transaction { index: 0, reason: InvalidTransaction::Signature };
    assert_eq!(body(&schedule(), &block), Err(false_signature));
    for (height, checked) in [(0, Err(false_signature)), (1, Ok(())), (2, Ok(()))] {
        let hash = if height == 1 { block.hash() } else { schedule().genesis().hash() };
        assert_eq!(body(&with_checkpoint(height, hash), &block), checked, "{height}");
    }
    let schedule = with_checkpoint(9, block.hash());
    let transaction = &block.transactions[0];
    assert_eq!(schedule.check_transaction(transaction, None), Err(InvalidTransaction::Signature));
    let mut unsealed = block.clone();
    let other = fixtures::identity(5).sign(block.hash().as_bytes());
    unsealed.header = BlockHeader::new((*block.header).clone(), Blob::try_from(other.as_slice()).unwrap());
    assert_eq!(body(&schedule, &unsealed), Err(Invalid::Signature));
    let mut changed = block.clone();
    changed.transactions[0].amount += 1;
    changed.header = self::block(&schedule, 3, changed.transactions.clone()).header;
    let wrong_hash = Invalid::Transaction { index: 0, reason: InvalidTransaction::Hash };
    assert_eq!(body(&schedule, &changed), Err(wrong_hash));
}

#[test]
fn another_block_at_the_height_of_a_checkpoint_is_invalid() {
    let block = false_block(&schedule());
    let schedule = with_checkpoint(1, BlockHash::from_bytes([7; 32]));
    assert_eq!(body(&schedule, &block), Err(Invalid::Checkpoint));
    assert_eq!(schedule.check_seal(&block.header), Err(Invalid::Checkpoint));
}
