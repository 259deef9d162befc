//! Published keys for tests, simulations and devnets.
//!
//! Their private halves are in the repository, so an identity made from one protects nothing. The devnet genesis names
//! the four validators; other networks must refuse them, which [`is_published`] decides.

use crate::{der, keys::Identity, keys::RsaPublicKey};

/// Number of devnet validators.
pub const DEVNET_VALIDATORS: usize = 4;

/// Number of further identities.
pub const IDENTITIES: usize = 64;

/// Key of the devnet's validator `i`, counted from 0.
///
/// # Panics
/// `i` is not below [`DEVNET_VALIDATORS`].
pub fn devnet_validator(i: usize) -> Identity {
    assert!(i < DEVNET_VALIDATORS, "there are {DEVNET_VALIDATORS} devnet validators, no number {i}");
    load(VALIDATOR_KEYS, i)
}

/// Identity `i`, counted from 0.
///
/// # Panics
/// `i` is not below [`IDENTITIES`].
pub fn identity(i: usize) -> Identity {
    assert!(i < IDENTITIES, "there are {IDENTITIES} fixture identities, no number {i}");
    load(IDENTITY_KEYS, i)
}

/// Whether this key's private half is one of the published ones.
pub fn is_published(key: &RsaPublicKey) -> bool {
    (0..DEVNET_VALIDATORS)
        .map(devnet_validator)
        .chain((0..IDENTITIES).map(identity))
        .any(|published| published.public_key() == key)
}

fn load(file: &'static [u8], i: usize) -> Identity {
    let pkcs8 = keys(file).nth(i).expect("the committed files hold that many keys");
    Identity::from_pkcs8_der(pkcs8).expect("the committed keys are valid")
}

/// The structures that make up a file, in order.
fn keys(mut file: &'static [u8]) -> impl Iterator<Item = &'static [u8]> {
    std::iter::from_fn(move || {
        let (_, rest) = der::first(der::SEQUENCE, file)?;
        let (key, _) = file.split_at(file.len() - rest.len());
        file = rest;
        Some(key)
    })
}

const VALIDATOR_KEYS: &[u8] = include_bytes!("../fixtures/devnet-validators.der");
const IDENTITY_KEYS: &[u8] = include_bytes!("../fixtures/identities.der");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_key_is_valid_and_its_own() {
        let all: BTreeSet<_> = (0..DEVNET_VALIDATORS)
            .map(devnet_validator)
            .chain((0..IDENTITIES).map(identity))
            .map(|identity| identity.peer_id())
            .collect();
        assert_eq!(all.len(), DEVNET_VALIDATORS + IDENTITIES);
    }

    #[test]
    fn the_files_hold_these_keys_and_nothing_else() {
        for (file, count) in [(VALIDATOR_KEYS, DEVNET_VALIDATORS), (IDENTITY_KEYS, IDENTITIES)] {
            assert_eq!(keys(file).count(), count);
            assert_eq!(keys(file).map(<[u8]>::len).sum::<usize>(), file.len());
        }
    }

    #[test]
    #[should_panic(expected = "no number 64")]
    fn a_number_beyond_the_last_says_so() {
        identity(IDENTITIES);
    }

    #[test]
    fn published_keys_are_known_as_such() {
        assert!(is_published(devnet_validator(3).public_key()));
        assert!(!is_published(Identity::generate().unwrap().public_key()));
    }
}
