//! The genesis: what makes two networks two.

use std::{num::NonZeroU64, time::Duration};

use crate::{
    address::Address,
    block::{Block, BlockHeader, HeaderContent},
    bounded::Blob,
    hash::{BlockHash, Hasher},
    ids::Network,
    merkle::merkle_root,
    numbers::Height,
};

/// One of the network's block proposers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validator {
    /// DER SubjectPublicKeyInfo of its RSA key.
    pub public_key: Blob,
    /// Its share of the slots, relative to the sum of all weights.
    pub weight: NonZeroU64,
}

impl Validator {
    /// The address of its key.
    pub fn address(&self) -> Address {
        Address::from_spki_der(self.public_key.as_bytes())
    }
}

/// The parameters that the genesis block commits to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Genesis {
    network: Network,
    timestamp: u64,
    block_time: Duration,
    validators: Vec<Validator>,
}

/// Why parameters make no genesis.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GenesisError {
    /// No validator, or more than a 16-bit count holds.
    #[error("a genesis needs 1 to 65535 validators, not {0}")]
    ValidatorCount(usize),
    /// The weights do not add up within 64 bits.
    #[error("the sum of the validators' weights is above 2^64-1")]
    Weights,
    /// Timestamps have whole seconds, so slots cannot be shorter.
    #[error("block time {0:?} is outside 1 s to 1 day, or not in whole milliseconds")]
    BlockTime(Duration),
    /// The genesis time is not a wire integer.
    #[error("genesis time {0} is above 2^53-1")]
    Timestamp(u64),
    /// One key would have two shares.
    #[error("validator {0} is listed twice")]
    Duplicate(Address),
}

impl Genesis {
    /// Parameters of a network: its name, genesis time in seconds since the Unix epoch, block time and proposers.
    ///
    /// # Errors
    /// Any of [`GenesisError`].
    pub fn new(
        network: Network,
        timestamp: u64,
        block_time: Duration,
        validators: Vec<Validator>,
    ) -> Result<Self, GenesisError> {
        if validators.is_empty() || validators.len() > usize::from(u16::MAX) {
            return Err(GenesisError::ValidatorCount(validators.len()));
        }
        let sum = validators.iter().try_fold(0_u64, |sum, validator| sum.checked_add(validator.weight.get()));
        sum.ok_or(GenesisError::Weights)?;
        let whole_millis = block_time.subsec_nanos().is_multiple_of(1_000_000);
        if !whole_millis || !(Duration::from_secs(1)..=Duration::from_secs(86_400)).contains(&block_time) {
            return Err(GenesisError::BlockTime(block_time));
        }
        if timestamp > crate::limits::MAX_INTEGER {
            return Err(GenesisError::Timestamp(timestamp));
        }
        let mut addresses: Vec<_> = validators.iter().map(Validator::address).collect();
        addresses.sort_unstable();
        if let Some(pair) = addresses.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(GenesisError::Duplicate(pair[0]));
        }
        Ok(Self { network, timestamp, block_time, validators })
    }

    /// The network's name.
    pub const fn network(&self) -> Network {
        self.network
    }

    /// Seconds since the Unix epoch.
    pub const fn timestamp(&self) -> u64 {
        self.timestamp
    }

    /// Length of a slot.
    pub const fn block_time(&self) -> Duration {
        self.block_time
    }

    /// The proposers, in order.
    pub fn validators(&self) -> &[Validator] {
        &self.validators
    }

    /// Hash of the genesis block: the identity of the network.
    pub fn hash(&self) -> BlockHash {
        self.block().hash()
    }

    /// The genesis block, served like any other.
    pub fn block(&self) -> Block {
        let content = HeaderContent {
            height: Height::GENESIS,
            timestamp: self.timestamp,
            previous_hash: self.parameters_hash(),
            merkle_root: merkle_root(&[]),
            validator: None,
        };
        Block { header: BlockHeader::new(content, Blob::default()), transactions: Vec::new() }
    }

    /// `H("bt2c/genesis/1" ‖ lp(network) ‖ block time in ms ‖ u16be count ‖ …validators)`.
    fn parameters_hash(&self) -> BlockHash {
        let count =
            u16::try_from(self.validators.len()).expect("the count was checked when the genesis was made");
        let block_time_ms = self.block_time.as_secs() * 1000 + u64::from(self.block_time.subsec_millis());
        let mut hasher = Hasher::tagged("bt2c/genesis/1");
        hasher.lp(self.network.name().as_bytes()).u64(block_time_ms).raw(&count.to_be_bytes());
        for validator in &self.validators {
            hasher
                .lp(validator.address().as_str().as_bytes())
                .lp(validator.public_key.as_bytes())
                .u64(validator.weight.get());
        }
        BlockHash::from_bytes(hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    fn validator(key: u32, weight: u64) -> Validator {
        let public_key = Blob::try_from(key.to_be_bytes().as_slice()).unwrap();
        Validator { public_key, weight: NonZeroU64::new(weight).unwrap() }
    }

    fn genesis(millis: u64, timestamp: u64, validators: Vec<Validator>) -> Result<Genesis, GenesisError> {
        Genesis::new(Network::Devnet, timestamp, Duration::from_millis(millis), validators)
    }

    #[test]
    fn parameters_outside_the_protocol_page_are_refused() {
        let one = || vec![validator(1, 1)];
        let crowd = |count: u32| (0..count).map(|key| validator(key, 1)).collect::<Vec<_>>();
        for (millis, timestamp, validators) in
            [(1000, 0, one()), (86_400_000, crate::limits::MAX_INTEGER, one()), (1500, 1, crowd(65_535))]
        {
            assert!(genesis(millis, timestamp, validators).is_ok(), "{millis} {timestamp}");
        }
        for millis in [0, 999, 86_400_001] {
            assert!(matches!(genesis(millis, 0, one()), Err(GenesisError::BlockTime(_))), "{millis}");
        }
        let uneven = Genesis::new(Network::Devnet, 0, Duration::from_micros(1_000_500), one());
        assert!(matches!(uneven, Err(GenesisError::BlockTime(_))));
        let late = genesis(1000, crate::limits::MAX_INTEGER + 1, one());
        assert!(matches!(late, Err(GenesisError::Timestamp(_))));
        for count in [0, 65_536] {
            assert!(
                matches!(genesis(1000, 0, crowd(count)), Err(GenesisError::ValidatorCount(_))),
                "{count}"
            );
        }
    }

    #[test]
    fn no_validator_counts_twice_and_weights_add_up() {
        let twice = vec![validator(1, 1), validator(2, 1), validator(1, 5)];
        assert!(matches!(genesis(1000, 0, twice), Err(GenesisError::Duplicate(_))));
        let heavy = |last| genesis(1000, 0, vec![validator(1, u64::MAX - 1), validator(2, last)]);
        assert!(heavy(1).is_ok());
        assert!(matches!(heavy(2), Err(GenesisError::Weights)));
    }
}
