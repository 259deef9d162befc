//! The default rule: slots of fixed length, each with one proposer, drawn by hash and weight.

use std::time::Duration;

use bt2c_p2p::Tip;
use bt2c_proto::{
    Address, Block, BlockHash, BlockHeader, Genesis, Hasher, Time, Transaction, limits::MAX_BLOCK_BYTES,
};
use bt2c_security::{KeyError, RsaPublicKey};

use crate::{
    chain::BlockRef,
    checkpoint::Checkpoints,
    consensus::{Consensus, Invalid, InvalidTransaction, Unknown, Verdict},
};

/// How long a transaction may stay outside a block, from its date on.
pub const TRANSACTION_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// The default consensus: the proposer of slot `s` is where `H("bt2c/slot/1" ‖ genesis_hash ‖ s)`, read as a big-endian
/// integer modulo the sum of weights, falls in the validators' cumulated weights. The longer branch wins, ties by the
/// lower tip hash.
#[derive(Debug)]
pub struct ValidatorSchedule {
    genesis: Genesis,
    block: Block,
    proposers: Vec<Proposer>,
    checkpoints: Checkpoints,
}

#[derive(Debug)]
struct Proposer {
    address: Address,
    key: RsaPublicKey,
    /// Sum of the weights up to this one, inclusive.
    cumulated: u64,
}

/// Why a genesis makes no schedule.
#[derive(Debug, thiserror::Error)]
#[error("validator {index} ({address}): {source}")]
pub struct ScheduleError {
    /// Its place in the genesis.
    pub index: usize,
    /// The address of its key.
    pub address: Address,
    /// What is wrong with its key.
    #[source]
    pub source: KeyError,
}

impl ValidatorSchedule {
    /// The schedule of a network.
    ///
    /// # Errors
    /// If a validator's key breaks the key rule.
    pub fn new(genesis: Genesis) -> Result<Self, ScheduleError> {
        let mut cumulated = 0_u64;
        let mut proposers = Vec::with_capacity(genesis.validators().len());
        for (index, validator) in genesis.validators().iter().enumerate() {
            let address = validator.address();
            let key = RsaPublicKey::from_spki_der(validator.public_key.as_bytes())
                .map_err(|source| ScheduleError { index, address, source })?;
            cumulated =
                cumulated.checked_add(validator.weight.get()).expect("a genesis' weights add up in 64 bits");
            proposers.push(Proposer { address, key, cumulated });
        }
        Ok(Self { block: genesis.block(), genesis, proposers, checkpoints: Checkpoints::default() })
    }

    /// The same schedule with blocks that are known to be of the right chain.
    #[must_use]
    pub fn with_checkpoints(self, checkpoints: Checkpoints) -> Self {
        Self { checkpoints, ..self }
    }

    /// The blocks that are known to be of the right chain.
    pub const fn checkpoints(&self) -> &Checkpoints {
        &self.checkpoints
    }

    /// The network's parameters.
    pub const fn parameters(&self) -> &Genesis {
        &self.genesis
    }

    /// The slot of a moment (seconds), or `None` before the genesis.
    pub fn slot_at(&self, timestamp: u64) -> Option<u64> {
        let elapsed = timestamp.checked_sub(self.genesis.timestamp())?;
        Some(elapsed.saturating_mul(1000) / self.slot_millis())
    }

    /// The first whole second of a slot. A slot is at least one second long, so it has one.
    pub fn slot_start(&self, slot: u64) -> u64 {
        let elapsed = slot.saturating_mul(self.slot_millis()).div_ceil(1000);
        self.genesis.timestamp().saturating_add(elapsed)
    }

    /// Who may propose the block of a slot.
    pub fn proposer(&self, slot: u64) -> Address {
        self.proposer_of(slot).address
    }

    fn proposer_of(&self, slot: u64) -> &Proposer {
        let mut hasher = Hasher::tagged("bt2c/slot/1");
        hasher.raw(self.genesis_hash().as_bytes()).u64(slot);
        let sum = self.proposers.last().expect("a genesis has a validator").cumulated;
        let share = modulo(&hasher.finish(), sum);
        &self.proposers[self.proposers.partition_point(|proposer| proposer.cumulated <= share)]
    }

    /// Date and hash of a transaction.
    fn check_content(
        &self,
        transaction: &Transaction,
        block_timestamp: Option<u64>,
    ) -> Result<(), InvalidTransaction> {
        if let Some(block_timestamp) = block_timestamp {
            match block_timestamp.checked_sub(transaction.timestamp) {
                None => return Err(InvalidTransaction::Late),
                Some(age) if age > TRANSACTION_LIFETIME.as_secs() => return Err(InvalidTransaction::Stale),
                Some(_) => {}
            }
        }
        if !transaction.hash_is_right(&self.genesis_hash()) {
            return Err(InvalidTransaction::Hash);
        }
        Ok(())
    }

    const fn genesis_hash(&self) -> BlockHash {
        self.block.hash()
    }

    fn slot_millis(&self) -> u64 {
        millis(self.genesis.block_time())
    }

    /// How far a block may be dated ahead of our clock.
    fn tolerance(&self) -> Duration {
        (self.genesis.block_time() / 10).max(Duration::from_secs(2))
    }
}

/// Whether the sender is the key's address, whatever the key is.
fn check_sender(transaction: &Transaction) -> Result<(), InvalidTransaction> {
    let address = Address::from_spki_der(transaction.public_key.as_bytes());
    if address == transaction.sender { Ok(()) } else { Err(InvalidTransaction::Sender) }
}

/// Whether the key keeps the key rule, is the sender's, and has signed.
fn check_signature(transaction: &Transaction) -> Result<(), InvalidTransaction> {
    let key = RsaPublicKey::from_spki_der(transaction.public_key.as_bytes())
        .map_err(|_| InvalidTransaction::Key)?;
    check_sender(transaction)?;
    key.verify(transaction.hash.as_bytes(), transaction.signature.as_bytes())
        .map_err(|_| InvalidTransaction::Signature)
}

/// A 256-bit big-endian integer modulo `divisor`, byte by byte: the remainder is below 2^64, so a step fits 128 bits.
fn modulo(integer: &[u8; 32], divisor: u64) -> u64 {
    let remainder = integer
        .iter()
        .fold(0_u128, |remainder, &byte| (remainder << 8 | u128::from(byte)) % u128::from(divisor));
    u64::try_from(remainder).expect("a remainder is below its 64-bit divisor")
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Consensus for ValidatorSchedule {
    fn genesis(&self) -> &Block {
        &self.block
    }

    fn check_seal(&self, header: &BlockHeader) -> Result<(), Invalid> {
        if self.checkpoints.contradict(header.height, header.hash()) {
            return Err(Invalid::Checkpoint);
        }
        let slot = self.slot_at(header.timestamp).ok_or(Invalid::Proposer)?;
        let proposer = self.proposer_of(slot);
        if header.validator != Some(proposer.address) {
            return Err(Invalid::Proposer);
        }
        let message = header.hash();
        proposer.key.verify(message.as_bytes(), header.signature().as_bytes()).map_err(|_| Invalid::Signature)
    }

    fn check_body(&self, block: &Block, size: usize) -> Result<(), Invalid> {
        if size > MAX_BLOCK_BYTES {
            return Err(Invalid::Size(size));
        }
        if !block.root_is_right() {
            return Err(Invalid::Root);
        }
        let check_key = if self.checkpoints.cover(block.height()) { check_sender } else { check_signature };
        for (index, transaction) in block.transactions.iter().enumerate() {
            self.check_content(transaction, Some(block.header.timestamp))
                .and_then(|()| check_key(transaction))
                .map_err(|reason| Invalid::Transaction { index, reason })?;
        }
        Ok(())
    }

    fn check_transaction(
        &self,
        transaction: &Transaction,
        block_timestamp: Option<u64>,
    ) -> Result<(), InvalidTransaction> {
        self.check_content(transaction, block_timestamp)?;
        check_signature(transaction)
    }

    fn check_header(&self, block: &BlockRef, parent: &BlockRef, now: Time) -> Verdict {
        if block.parent != parent.hash {
            return Verdict::Invalid(Invalid::Link);
        }
        if !parent.is_parent_of(block) {
            return Verdict::Invalid(Invalid::Height);
        }
        if self.slot_at(block.timestamp) <= self.slot_at(parent.timestamp) {
            return Verdict::Invalid(Invalid::Slot);
        }
        if now < self.earliest(block.timestamp) {
            return Verdict::Unknown(Unknown::TooEarly);
        }
        Verdict::Valid
    }

    fn better(&self, a: Tip, b: Tip) -> bool {
        (a.height, std::cmp::Reverse(a.hash)) > (b.height, std::cmp::Reverse(b.hash))
    }

    fn slot(&self, timestamp: u64) -> u64 {
        self.slot_at(timestamp).unwrap_or(0)
    }

    fn earliest(&self, timestamp: u64) -> Time {
        Time::from_secs(timestamp) - self.tolerance()
    }
}

#[cfg(test)]
mod tests;
