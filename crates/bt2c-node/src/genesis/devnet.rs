//! The devnet's built-in genesis: four validators whose private keys are published with the source, so that anyone can
//! propose on their own devnet.

use std::{num::NonZeroU64, time::Duration};

use bt2c_proto::{Blob, Genesis, Network, Validator};
use bt2c_security::fixtures;

pub use fixtures::DEVNET_VALIDATORS;

/// The built-in genesis time, 2026-01-01T00:00:00Z: far enough back for long generated chains, and fixed, so that all
/// devnets of this kind are one network.
pub const DEVNET_GENESIS_TIME: u64 = 1_767_225_600;

/// The built-in block time: short enough to watch, long enough for a slow laptop.
pub const DEVNET_BLOCK_TIME: Duration = Duration::from_secs(2);

/// The built-in genesis, of `run --network devnet` and `chain generate`.
pub fn devnet_genesis() -> Genesis {
    devnet_genesis_with(DEVNET_GENESIS_TIME, DEVNET_BLOCK_TIME, DEVNET_VALIDATORS)
        .expect("the built-in parameters are within the limits")
}

/// A devnet genesis of its own time and block time, with the first `validators` (1 to 4) of the published keys.
///
/// # Errors
/// If the time, the block time or the number is outside a genesis' limits.
pub fn devnet_genesis_with(
    timestamp: u64,
    block_time: Duration,
    validators: usize,
) -> Result<Genesis, bt2c_proto::GenesisError> {
    let validators = (0..validators.min(DEVNET_VALIDATORS)).map(fixtures::devnet_validator).map(|identity| {
        let public_key =
            Blob::try_from(identity.public_key().spki_der()).expect("an RSA-2048 key fits a blob");
        Validator { public_key, weight: NonZeroU64::MIN }
    });
    Genesis::new(Network::Devnet, timestamp, block_time, validators.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_genesis_is_fixed() {
        // A change here splits every devnet: the hash is part of the built-in network.
        let genesis = devnet_genesis();
        assert_eq!(genesis.validators().len(), DEVNET_VALIDATORS);
        assert_eq!(genesis.hash(), devnet_genesis().hash());
        assert_ne!(genesis.hash(), devnet_genesis_with(0, DEVNET_BLOCK_TIME, 4).unwrap().hash());
    }

    #[test]
    fn a_devnet_needs_a_validator_and_a_second() {
        assert!(devnet_genesis_with(0, DEVNET_BLOCK_TIME, 0).is_err());
        assert!(devnet_genesis_with(0, Duration::from_millis(500), 4).is_err());
    }
}
