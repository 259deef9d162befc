//! Making long valid chains, for tests and trials.

use std::{collections::BTreeMap, num::NonZeroUsize};

use bt2c_proto::{
    Address, Block, BlockHeader, HeaderContent, Time, Transaction,
    limits::{MAX_BLOCK_BYTES, MAX_TRANSACTIONS},
    merkle_root,
};
use bt2c_security::Identity;

use crate::{
    chain::{BlockRef, CheckedBlock},
    consensus::{Consensus, Verdict},
    import::import,
    parallel,
    produce::{seal_of, signed_transaction},
    schedule::ValidatorSchedule,
    store::{ChainStore, StoreError},
};

/// Signatures made between two commits.
const BATCH_SIGNATURES: usize = 2048;

/// What to append to a chain.
#[derive(Debug)]
pub struct Generate<'a> {
    /// Proposers whose keys are at hand; slots of others stay empty. They send the transactions, too.
    pub identities: &'a [Identity],
    /// How many blocks.
    pub blocks: u64,
    /// Transactions in each.
    pub transactions: usize,
    /// The time: no block is dated after it.
    pub now: Time,
    /// Threads to sign on.
    pub threads: NonZeroUsize,
}

/// Why a chain was not made. What was told as progress is stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// Nobody to sign.
    #[error("no identity to propose with")]
    NoIdentity,
    /// Too many transactions.
    #[error("{0} transactions do not fit a block")]
    Transactions(usize),
    /// The chain would reach into the future.
    #[error(
        "only {possible} slots of these proposers lie between the tip and now, {wanted} are wanted: use a genesis with an earlier time or a shorter block time"
    )]
    Slots {
        /// How many blocks are wanted.
        wanted: u64,
        /// How many there can be.
        possible: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store's chain and the rules contradict each other.
    #[error("block {place} does not hold: {verdict:?}")]
    Rejected {
        /// The block.
        place: BlockRef,
        /// What the rules say.
        verdict: Verdict,
    },
}

impl Generate<'_> {
    /// Appends blocks to the main chain, in the next slots that belong to these proposers, and tells how many are stored
    /// after each batch. Everything but the signatures, which are randomised, is the same every time.
    ///
    /// # Errors
    /// Any of [`GenerateError`].
    pub fn run(
        &self,
        store: &dyn ChainStore,
        schedule: &ValidatorSchedule,
        mut progress: impl FnMut(u64),
    ) -> Result<BlockRef, GenerateError> {
        if self.transactions > MAX_TRANSACTIONS {
            return Err(GenerateError::Transactions(self.transactions));
        }
        let slots = self.slots(store.tip(), schedule)?;
        let mut done = 0;
        for batch in slots.chunks((BATCH_SIGNATURES / (self.transactions + 1)).max(1)) {
            let blocks = self.blocks_on(&store.tip(), schedule, batch)?;
            self.store(store, schedule, &blocks)?;
            done += blocks.len() as u64;
            progress(done);
        }
        Ok(store.tip())
    }

    /// The slots to fill, each with its proposer.
    fn slots<'a>(
        &'a self,
        tip: BlockRef,
        schedule: &ValidatorSchedule,
    ) -> Result<Vec<(u64, &'a Identity)>, GenerateError> {
        let owners: BTreeMap<Address, &Identity> =
            self.identities.iter().map(|identity| (identity.address(), identity)).collect();
        if owners.is_empty() {
            return Err(GenerateError::NoIdentity);
        }
        let mut slots = Vec::new();
        let last = schedule.slot_at(self.now.as_secs());
        for slot in schedule.slot(tip.timestamp) + 1.. {
            if slots.len() as u64 == self.blocks {
                break;
            }
            if last.is_none_or(|last| slot > last) || schedule.slot_start(slot) > self.now.as_secs() {
                return Err(GenerateError::Slots { wanted: self.blocks, possible: slots.len() as u64 });
            }
            if let Some(owner) = owners.get(&schedule.proposer(slot)) {
                slots.push((slot, *owner));
            }
        }
        Ok(slots)
    }

    /// The blocks of these slots. A block's hash does not cover its signature, so the chain is laid out first, and then
    /// everything is signed at once.
    fn blocks_on(
        &self,
        tip: &BlockRef,
        schedule: &ValidatorSchedule,
        slots: &[(u64, &Identity)],
    ) -> Result<Vec<CheckedBlock>, GenerateError> {
        let numbered: Vec<(u64, u64)> =
            (tip.height.get() + 1..).zip(slots).map(|(height, (slot, _))| (height, *slot)).collect();
        let bodies = parallel::map(self.threads, &numbered, |(height, slot)| {
            self.transactions_of(*height, schedule.slot_start(*slot), schedule)
        });
        let mut parent = *tip;
        let mut laid_out = Vec::with_capacity(slots.len());
        for ((slot, proposer), transactions) in slots.iter().zip(bodies) {
            let content = HeaderContent {
                height: parent.height.next(),
                timestamp: schedule.slot_start(*slot),
                previous_hash: parent.hash,
                merkle_root: merkle_root(&transactions),
                validator: Some(proposer.address()),
            };
            parent = BlockRef {
                hash: content.hash(),
                parent: content.previous_hash,
                height: content.height,
                timestamp: content.timestamp,
            };
            laid_out.push((content, *proposer, transactions));
        }
        let blocks = parallel::map(self.threads, &laid_out, |(content, proposer, transactions)| {
            let header = BlockHeader::new(content.clone(), seal_of(content, proposer));
            CheckedBlock::trusted(&Block { header, transactions: transactions.clone() })
        });
        if blocks.iter().any(|block| block.bytes.len() > MAX_BLOCK_BYTES) {
            return Err(GenerateError::Transactions(self.transactions));
        }
        Ok(blocks)
    }

    /// Transfers among the identities. The nonce holds height and place, so that no two are the same.
    fn transactions_of(&self, height: u64, timestamp: u64, schedule: &ValidatorSchedule) -> Vec<Transaction> {
        let genesis = schedule.genesis().hash();
        let turn = usize::try_from(height).unwrap_or(0);
        (0..self.transactions)
            .map(|index| {
                let sender = &self.identities[(turn + index) % self.identities.len()];
                let recipient = &self.identities[(turn + index + 1) % self.identities.len()];
                let nonce = height * MAX_TRANSACTIONS as u64 + index as u64;
                signed_transaction(
                    sender,
                    genesis,
                    recipient.address(),
                    1 + index as u64,
                    1,
                    nonce,
                    timestamp,
                )
            })
            .collect()
    }

    fn store(
        &self,
        store: &dyn ChainStore,
        schedule: &ValidatorSchedule,
        blocks: &[CheckedBlock],
    ) -> Result<(), GenerateError> {
        let mut parent = store.tip();
        for block in blocks {
            let verdict = schedule.check_header(&block.place, &parent, self.now);
            if verdict != Verdict::Valid {
                return Err(GenerateError::Rejected { place: block.place, verdict });
            }
            parent = block.place;
        }
        let imported = import(store, schedule, blocks)?;
        match imported.rejected {
            Some(reason) => {
                let place = blocks[imported.stored].place;
                Err(GenerateError::Rejected { place, verdict: Verdict::Invalid(reason) })
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use bt2c_proto::{Genesis, Network, Validator};
    use bt2c_security::fixtures;

    use super::*;
    use crate::{ChainCheck, MemoryStore, check_block, produce::public_key_blob};

    const START: u64 = 1_700_000_000;

    fn schedule(validators: usize) -> ValidatorSchedule {
        let validators = (0..validators)
            .map(|index| Validator {
                public_key: public_key_blob(fixtures::devnet_validator(index).public_key()),
                weight: NonZeroU64::MIN,
            })
            .collect();
        let block_time = std::time::Duration::from_secs(2);
        ValidatorSchedule::new(Genesis::new(Network::Devnet, START, block_time, validators).unwrap()).unwrap()
    }

    fn generate(identities: &[Identity], blocks: u64, transactions: usize) -> Generate<'_> {
        let threads = NonZeroUsize::new(2).unwrap();
        Generate { identities, blocks, transactions, now: Time::from_secs(START + 10_000), threads }
    }

    #[test]
    fn every_generated_block_is_valid_and_a_second_run_goes_on() {
        let schedule = schedule(4);
        let identities: Vec<_> = (0..4).map(fixtures::devnet_validator).collect();
        let store = MemoryStore::new(schedule.genesis());
        let mut told = Vec::new();
        generate(&identities, 12, 2).run(&store, &schedule, |done| told.push(done)).unwrap();
        let tip = generate(&identities, 3, 1).run(&store, &schedule, |_| ()).unwrap();
        assert_eq!((tip.height.get(), told.last()), (15, Some(&12)));
        for height in 1..=15 {
            let height = bt2c_proto::Height::new(height);
            let bytes = store.bodies(height..=height, 0).unwrap().pop().unwrap();
            let block: Block = serde_json::from_slice(&bytes).unwrap();
            assert!(check_block(&schedule, &block, false).is_ok(), "{height}");
        }
        let mut check = ChainCheck::new(&store);
        assert!(check.step(&store, &schedule, 100).unwrap());
    }

    #[test]
    fn slots_of_other_proposers_stay_empty_and_the_future_is_not_entered() {
        let schedule = schedule(4);
        let identities = [fixtures::devnet_validator(2)];
        let store = MemoryStore::new(schedule.genesis());
        let tip = generate(&identities, 10, 0).run(&store, &schedule, |_| ()).unwrap();
        assert!(schedule.slot(tip.timestamp) > 10);
        let error = generate(&identities, 10_000, 0).run(&store, &schedule, |_| ()).unwrap_err();
        assert!(matches!(error, GenerateError::Slots { possible: 1000..1500, .. }), "{error}");
    }
}
