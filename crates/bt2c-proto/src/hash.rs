//! SHA3-256 over the binary layouts of chain objects, and the hash newtypes.

use sha3::{Digest, Sha3_256};

use crate::hex::impl_hex32;

/// Hash of a block's header fields; identifies the block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockHash([u8; 32]);

impl_hex32!(BlockHash);

/// Hash of a transaction's signed fields; identifies the transaction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxHash([u8; 32]);

impl_hex32!(TxHash);

/// Root of the Merkle tree over a block's transactions, public keys and signatures.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MerkleRoot([u8; 32]);

impl_hex32!(MerkleRoot);

/// SHA3-256 fed with the building blocks of PROTOCOL layouts: tags, raw hashes, big-endian integers and
/// length-prefixed bytes.
#[derive(Clone, Default)]
pub struct Hasher(Sha3_256);

impl Hasher {
    /// A hasher that starts with an ASCII tag, so that objects of different kinds never share a hash.
    pub fn tagged(tag: &str) -> Self {
        let mut hasher = Self::default();
        hasher.raw(tag.as_bytes());
        hasher
    }

    /// Appends bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(bytes);
        self
    }

    /// Appends an integer as eight big-endian bytes.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// Appends `lp(bytes)`: a `u16` big-endian length, then the bytes.
    ///
    /// # Panics
    /// If there are more than 65,535 bytes; every field that is hashed so is limited below that where it is made.
    pub fn lp(&mut self, bytes: &[u8]) -> &mut Self {
        let len = u16::try_from(bytes.len()).expect("length-prefixed fields are limited to 65,535 bytes");
        self.raw(&len.to_be_bytes()).raw(bytes)
    }

    /// The 32 bytes of the hash.
    pub fn finish(&self) -> [u8; 32] {
        self.0.clone().finalize().into()
    }
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hasher")
    }
}
