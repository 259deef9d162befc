//! Chain addresses: who owns a coin, who may propose a block.

use std::{fmt, str::FromStr};

use ripemd::Ripemd160;
use sha2::{Digest, Sha256};

const PREFIX: &str = "bt2c_";

/// Base58 of 20 bytes has at most 28 digits.
const CAPACITY: usize = PREFIX.len() + 28;

/// `bt2c_` followed by base58(RIPEMD-160(SHA-256(SubjectPublicKeyInfo))).
///
/// Kept in its text form, which is what the hashes cover; each key has exactly one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    text: [u8; CAPACITY],
    len: u8,
}

impl Address {
    /// The address of a DER-encoded SubjectPublicKeyInfo.
    pub fn from_spki_der(spki: &[u8]) -> Self {
        let key_hash = Ripemd160::digest(Sha256::digest(spki));
        Self::from_text(&format!("{PREFIX}{}", bs58::encode(key_hash.as_slice()).into_string()))
    }

    /// The text form.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text[..self.len.into()]).expect("an address is made of ASCII only")
    }

    fn from_text(valid: &str) -> Self {
        let mut text = [0; CAPACITY];
        text[..valid.len()].copy_from_slice(valid.as_bytes());
        Self { text, len: u8::try_from(valid.len()).expect("an address has at most 33 characters") }
    }
}

/// A text that is no [`Address`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no address: expected bt2c_ and the base58 form of 20 bytes")]
pub struct AddressError;

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let digits = text.strip_prefix(PREFIX).filter(|_| text.len() <= CAPACITY).ok_or(AddressError)?;
        let mut key_hash = [0; 20];
        match bs58::decode(digits).onto(&mut key_hash) {
            Ok(20) => Ok(Self::from_text(text)),
            _ => Err(AddressError),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

crate::serde_text::impl_serde_text!(Address);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        for key in 0..200_u8 {
            let address = Address::from_spki_der(&[key]);
            assert_eq!(address.to_string().parse::<Address>(), Ok(address));
        }
    }

    #[test]
    fn other_lengths_alphabets_and_prefixes_are_refused() {
        let good = Address::from_spki_der(b"key").to_string();
        let other_prefix = good.replace("bt2c_", "bt1c_");
        for text in
            ["", "bt2c_", &good[..good.len() - 2], &format!("{good}1"), &format!("{good}0"), &other_prefix]
        {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
