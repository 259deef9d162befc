//! Blocks: header, hash, canonical form.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeStruct};

use crate::{
    address::Address,
    bounded::{self, Blob, Object},
    hash::{BlockHash, Hasher, MerkleRoot},
    limits::MAX_TRANSACTIONS,
    merkle::merkle_root,
    numbers::{Height, integer},
    transaction::Transaction,
};

/// What a block's hash covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderContent {
    /// Distance from the genesis block.
    pub height: Height,
    /// Seconds since the Unix epoch.
    pub timestamp: u64,
    /// Hash of the parent; in a genesis block, the hash of the network's parameters.
    pub previous_hash: BlockHash,
    /// See [`merkle_root`].
    pub merkle_root: MerkleRoot,
    /// Address of the proposer; none in a genesis block, where its text is empty.
    pub validator: Option<Address>,
}

impl HeaderContent {
    /// `H("bt2c/block/1" ‖ height ‖ timestamp ‖ previous_hash ‖ merkle_root ‖ lp(validator))`.
    pub fn hash(&self) -> BlockHash {
        let validator = self.validator.as_ref().map_or("", Address::as_str);
        let mut hasher = Hasher::tagged("bt2c/block/1");
        hasher
            .u64(self.height.get())
            .u64(self.timestamp)
            .raw(self.previous_hash.as_bytes())
            .raw(self.merkle_root.as_bytes())
            .lp(validator.as_bytes());
        BlockHash::from_bytes(hasher.finish())
    }
}

/// A block without its transactions. Its hash is always the hash of its content: reading one that claims another
/// fails, so that nothing is ever looked up or remembered under a hash that its sender made up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockHeader {
    content: HeaderContent,
    hash: BlockHash,
    signature: Blob,
}

impl BlockHeader {
    /// A header with its proposer's RSA-PSS signature over the 32 raw bytes of [`HeaderContent::hash`].
    pub fn new(content: HeaderContent, signature: Blob) -> Self {
        Self { hash: content.hash(), content, signature }
    }

    /// The block's hash.
    pub const fn hash(&self) -> BlockHash {
        self.hash
    }

    /// The proposer's signature; empty in a genesis block. Not checked by reading.
    pub const fn signature(&self) -> &Blob {
        &self.signature
    }
}

impl std::ops::Deref for BlockHeader {
    type Target = HeaderContent;

    fn deref(&self) -> &HeaderContent {
        &self.content
    }
}

/// A block: header and transactions. Serialising gives the canonical form.
///
/// Whether the transactions are those the header commits to is for [`Block::root_is_right`] to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The part that the hash covers, with hash and signature.
    pub header: BlockHeader,
    /// The transactions, in the order the Merkle root commits to.
    pub transactions: Vec<Transaction>,
}

impl Block {
    /// The block's hash.
    pub const fn hash(&self) -> BlockHash {
        self.header.hash
    }

    /// The block's height.
    pub const fn height(&self) -> Height {
        self.header.content.height
    }

    /// Whether the header commits to these transactions.
    pub fn root_is_right(&self) -> bool {
        self.header.merkle_root == merkle_root(&self.transactions)
    }

    /// The canonical form: fields in the order of the protocol page, no white space, minimal escapes.
    pub fn canonical_bytes(&self) -> Vec<u8> {
        to_json(self)
    }
}

pub(crate) fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("chain objects have text keys and no failing parts")
}

impl Serialize for Block {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_fields(&self.header, Some(&self.transactions), serializer)
    }
}

/// The block's canonical form without its transactions.
impl Serialize for BlockHeader {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_fields(self, None, serializer)
    }
}

/// The one order of a block's fields.
fn serialize_fields<S: Serializer>(
    header: &BlockHeader,
    transactions: Option<&[Transaction]>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut fields = serializer.serialize_struct("Block", 7 + usize::from(transactions.is_some()))?;
    fields.serialize_field("height", &header.height)?;
    fields.serialize_field("timestamp", &header.timestamp)?;
    fields.serialize_field("previous_hash", &header.previous_hash)?;
    fields.serialize_field("merkle_root", &header.merkle_root)?;
    fields.serialize_field("validator", header.validator.as_ref().map_or("", Address::as_str))?;
    if let Some(transactions) = transactions {
        fields.serialize_field("transactions", transactions)?;
    }
    fields.serialize_field("hash", &header.hash)?;
    fields.serialize_field("signature", &header.signature)?;
    fields.end()
}

/// The header's fields as they stand in a block's JSON, whatever its transactions are.
#[derive(Deserialize)]
struct WireHeader {
    height: Height,
    #[serde(deserialize_with = "integer")]
    timestamp: u64,
    previous_hash: BlockHash,
    merkle_root: MerkleRoot,
    #[serde(deserialize_with = "validator")]
    validator: Option<Address>,
    hash: BlockHash,
    signature: Blob,
}

/// All fields of a block's JSON.
#[derive(Deserialize)]
struct WireBlock {
    height: Height,
    #[serde(deserialize_with = "integer")]
    timestamp: u64,
    previous_hash: BlockHash,
    merkle_root: MerkleRoot,
    #[serde(deserialize_with = "validator")]
    validator: Option<Address>,
    #[serde(deserialize_with = "transactions")]
    transactions: Vec<Transaction>,
    hash: BlockHash,
    signature: Blob,
}

fn transactions<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Transaction>, D::Error> {
    bounded::filtered::<MAX_TRANSACTIONS, Object<Transaction>, Transaction, D>(
        deserializer,
        |Object(transaction)| Some(transaction),
    )
}

fn validator<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Address>, D::Error> {
    struct OrEmpty(Option<Address>);

    impl std::str::FromStr for OrEmpty {
        type Err = crate::address::AddressError;

        fn from_str(text: &str) -> Result<Self, Self::Err> {
            if text.is_empty() { Ok(Self(None)) } else { text.parse().map(Some).map(Self) }
        }
    }

    crate::serde_text::deserialize::<D, OrEmpty>(deserializer).map(|OrEmpty(address)| address)
}

fn checked_header<E: de::Error>(
    content: HeaderContent,
    claimed: BlockHash,
    signature: Blob,
) -> Result<BlockHeader, E> {
    let header = BlockHeader::new(content, signature);
    if header.hash != claimed {
        return Err(E::custom(format_args!(
            "block claims hash {claimed} but its header has {}",
            header.hash
        )));
    }
    Ok(header)
}

/// Reads the header out of a whole block, skipping its transactions.
impl<'de> Deserialize<'de> for BlockHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let WireHeader { height, timestamp, previous_hash, merkle_root, validator, hash, signature } =
            bounded::object(deserializer)?;
        let content = HeaderContent { height, timestamp, previous_hash, merkle_root, validator };
        checked_header(content, hash, signature)
    }
}

impl<'de> Deserialize<'de> for Block {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let WireBlock {
            height,
            timestamp,
            previous_hash,
            merkle_root,
            validator,
            transactions,
            hash,
            signature,
        } = bounded::object(deserializer)?;
        let content = HeaderContent { height, timestamp, previous_hash, merkle_root, validator };
        Ok(Self { header: checked_header(content, hash, signature)?, transactions })
    }
}
