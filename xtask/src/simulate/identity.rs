//! Identities of simulated hosts, and signatures that are the same in every run.
//!
//! Making an RSA key takes a tenth of a second, so simulated hosts get theirs from the published ones: the first have
//! those, and further ones are put together from two primes of different published keys. None of them protects anything.

use std::sync::OnceLock;

use anyhow::{Context, Result};
use bt2c_proto::{Blob, BlockHash, Transaction};
use bt2c_security::{Identity, fixtures};
use bt2c_sync::signed_transaction;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rsa::{
    PrivateKey,
    pkcs8::{DecodePrivateKey, EncodePrivateKey},
    sha2::Sha256,
    traits::{PrivateKeyParts, PublicKeyParts},
};

/// Most identities that there are.
pub const MAX_IDENTITIES: usize = fixtures::IDENTITIES * fixtures::IDENTITIES;

/// Identity `index`, always the same.
///
/// # Errors
/// If there is none of that number: see [`MAX_IDENTITIES`].
pub fn identity(index: usize) -> Result<Identity> {
    match index {
        0..fixtures::IDENTITIES => Ok(fixtures::identity(index)),
        _ => Ok(Identity::from_pkcs8_der(mixed(index)?.to_pkcs8_der()?.as_bytes())?),
    }
}

/// The key whose primes are the first of one published key and the second of another.
fn mixed(index: usize) -> Result<PrivateKey> {
    static PUBLISHED: OnceLock<Vec<PrivateKey>> = OnceLock::new();
    let published = PUBLISHED.get_or_init(|| (0..fixtures::IDENTITIES).map(published).collect());
    let count = published.len();
    let (one, other) = (index % count, (index + index / count) % count);
    let [p, q] = [(one, 0), (other, 1)].map(|(key, prime)| {
        published.get(key).map(|key| key.primes()[prime].as_ref().clone()).filter(|_| index < MAX_IDENTITIES)
    });
    let none = || format!("there are {MAX_IDENTITIES} identities, no number {index}");
    Ok(PrivateKey::from_p_q(p.with_context(none)?, q.with_context(none)?, published[one].e().clone())?)
}

fn published(index: usize) -> PrivateKey {
    let pem = fixtures::identity(index).to_pem();
    PrivateKey::from_pkcs8_pem(&pem).expect("published keys are valid")
}

/// A transfer from one identity to the next, whose signature is the same in every run: a block's hash commits to the
/// signatures in it, and of two branches of one length the one with the lower hash wins.
///
/// # Errors
/// If there is no identity of that number.
pub fn transaction(from: usize, genesis: BlockHash, nonce: u64, timestamp: u64) -> Result<Transaction> {
    let (sender, recipient) = (identity(from)?, identity(from + 1)?.address());
    let mut transaction = signed_transaction(&sender, genesis, recipient, 1, 1, nonce, timestamp);
    let key = PrivateKey::from_pkcs8_pem(&sender.to_pem())?;
    let mut salt = ChaCha8Rng::from_seed(*transaction.hash.as_bytes());
    let signature = key.pss_sign_with_rng::<Sha256, _>(&mut salt, transaction.hash.as_bytes())?;
    transaction.signature = Blob::try_from(signature.as_slice())?;
    Ok(transaction)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn identities_are_valid_distinct_and_always_the_same() {
        let numbers = [0, 1, 63, 64, 65, 127, 128, 1000, MAX_IDENTITIES - 1];
        let peers: BTreeSet<_> = numbers.map(|index| identity(index).unwrap().peer_id()).into();
        assert_eq!(peers.len(), numbers.len());
        assert_eq!(identity(100).unwrap().peer_id(), identity(100).unwrap().peer_id());
        let error = identity(MAX_IDENTITIES).unwrap_err().to_string();
        assert!(error.contains("4096"), "{error}");
    }

    #[test]
    fn a_mixed_key_signs_what_its_public_half_verifies() {
        let identity = identity(200).unwrap();
        identity.public_key().verify(&[7; 32], &identity.sign(&[7; 32])).unwrap();
    }

    #[test]
    fn a_transaction_is_the_same_twice_and_its_signature_holds() {
        let genesis = BlockHash::from_bytes([7; 32]);
        let first = transaction(3, genesis, 1, 1_767_225_600).unwrap();
        assert_eq!(first, transaction(3, genesis, 1, 1_767_225_600).unwrap());
        let key = identity(3).unwrap();
        key.public_key().verify(first.hash.as_bytes(), first.signature.as_bytes()).unwrap();
    }
}
