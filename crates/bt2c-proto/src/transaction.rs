//! Transactions: hash, Merkle leaf, canonical form.

use serde::{Deserialize, Serialize};

use crate::{
    address::Address,
    bounded::{Blob, Text},
    hash::{BlockHash, Hasher, TxHash},
    limits::MAX_PAYLOAD,
    numbers::integer,
};

/// A transfer between two addresses, signed by the sender's key.
///
/// `hash`, `public_key` and `signature` are claims until [`Transaction::hash_is_right`] and a signature check say
/// otherwise: the hash depends on the network's genesis, which the wire layer does not know. Serialising gives the
/// canonical form: these fields in this order, no white space, an empty payload omitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// Who pays; the address of `public_key`.
    pub sender: Address,
    /// Who is paid.
    pub recipient: Address,
    /// Amount in sa2shi (10⁻⁸ BT2C).
    #[serde(deserialize_with = "integer")]
    pub amount: u64,
    /// Fee in sa2shi.
    #[serde(deserialize_with = "integer")]
    pub fee: u64,
    /// Chosen by the sender to tell otherwise equal transactions apart.
    #[serde(deserialize_with = "integer")]
    pub nonce: u64,
    /// Seconds since the Unix epoch.
    #[serde(deserialize_with = "integer")]
    pub timestamp: u64,
    /// Free text; empty, absent and null are the same value.
    #[serde(default, skip_serializing_if = "is_empty", deserialize_with = "payload")]
    pub payload: Text<MAX_PAYLOAD>,
    /// DER SubjectPublicKeyInfo of the sender's RSA key.
    pub public_key: Blob,
    /// RSA-PSS signature over the 32 raw bytes of `hash`.
    pub signature: Blob,
    /// See [`Transaction::compute_hash`].
    pub hash: TxHash,
}

fn is_empty(payload: &Text<MAX_PAYLOAD>) -> bool {
    payload.as_str().is_empty()
}

fn payload<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Text<MAX_PAYLOAD>, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

impl Transaction {
    /// The hash these fields have on the network of this genesis; key and signature are not part of it.
    pub fn compute_hash(&self, genesis: &BlockHash) -> TxHash {
        let mut hasher = Hasher::tagged("bt2c/tx/1");
        hasher
            .raw(genesis.as_bytes())
            .lp(self.sender.as_str().as_bytes())
            .lp(self.recipient.as_str().as_bytes())
            .u64(self.amount)
            .u64(self.fee)
            .u64(self.nonce)
            .u64(self.timestamp)
            .lp(self.payload.as_str().as_bytes());
        TxHash::from_bytes(hasher.finish())
    }

    /// Whether the claimed hash is the one its fields have on the network of this genesis.
    pub fn hash_is_right(&self, genesis: &BlockHash) -> bool {
        self.hash == self.compute_hash(genesis)
    }

    /// The canonical form.
    pub fn canonical_bytes(&self) -> Vec<u8> {
        crate::block::to_json(self)
    }

    /// This transaction's leaf in its block's Merkle tree; it commits to key and signature too.
    pub(crate) fn merkle_leaf(&self) -> [u8; 32] {
        let mut hasher = Hasher::default();
        hasher
            .raw(&[0x00])
            .raw(self.hash.as_bytes())
            .lp(self.public_key.as_bytes())
            .lp(self.signature.as_bytes());
        hasher.finish()
    }
}
