//! Chain objects: addresses, hashes with their layouts, Merkle roots, canonical form, base64, slots.

use std::{num::NonZeroU64, time::Duration};

use bt2c_proto::{
    Address, Blob, Block, BlockHash, BlockHeader, Genesis, Hasher, Network, PeerId, Transaction, Validator,
    merkle_root,
};
use serde::Deserialize;

use crate::{hex, load};

/// Labelled pieces of what a hash covers, in hex.
type Layout = Vec<(String, String)>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Chain {
    keys: Vec<Key>,
    genesis: GenesisVector,
    transactions: Vec<TransactionVector>,
    merkle: Vec<Merkle>,
    blocks: Vec<BlockVector>,
    slots: Vec<Slot>,
    slot_times: Vec<SlotTime>,
    base64: Vec<Base64>,
    not_base64: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    name: String,
    public_key: Blob,
    peer_id: PeerId,
    address: Address,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GenesisVector {
    #[serde(rename = "name")]
    _name: String,
    network: Network,
    timestamp: u64,
    block_time_ms: u64,
    validators: Vec<ValidatorVector>,
    layout: Layout,
    parameters_hash: BlockHash,
    hash: BlockHash,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ValidatorVector {
    public_key: Blob,
    weight: NonZeroU64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TransactionVector {
    name: String,
    canonical: String,
    layout: Layout,
    hash: String,
    leaf_layout: Layout,
    leaf: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Merkle {
    name: String,
    leaves: Vec<String>,
    root: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BlockVector {
    name: String,
    canonical: String,
    layout: Layout,
    hash: BlockHash,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Slot {
    name: String,
    slot: u64,
    layout: Layout,
    hash: String,
    remainder: u64,
    proposer: Address,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SlotTime {
    block_time_ms: u64,
    genesis_timestamp: u64,
    timestamp: u64,
    slot: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Base64 {
    bytes: String,
    text: String,
}

fn chain() -> Chain {
    load(include_str!("../../vectors/chain.json"))
}

/// The genesis of the vectors.
pub(crate) fn genesis() -> Genesis {
    let vector = chain().genesis;
    let validators = vector
        .validators
        .into_iter()
        .map(|ValidatorVector { public_key, weight }| Validator { public_key, weight })
        .collect();
    let block_time = Duration::from_millis(vector.block_time_ms);
    Genesis::new(vector.network, vector.timestamp, block_time, validators).expect("its parameters are sound")
}

/// The expected hash of a block of the vectors.
pub(crate) fn block_hash(name: &str) -> BlockHash {
    chain().blocks.into_iter().find(|block| block.name == name).expect("there is a block of that name").hash
}

fn hash_of(layout: &Layout) -> [u8; 32] {
    let mut hasher = Hasher::default();
    for (_, piece) in layout {
        hasher.raw(&hex(piece));
    }
    hasher.finish()
}

fn transactions() -> Vec<Transaction> {
    chain().transactions.iter().map(|vector| load(&vector.canonical)).collect()
}

#[test]
fn keys_have_their_peer_ids_and_addresses() {
    for Key { name, public_key, peer_id, address } in chain().keys {
        assert_eq!(PeerId::from_spki_der(public_key.as_bytes()), peer_id, "{name}");
        assert_eq!(Address::from_spki_der(public_key.as_bytes()), address, "{name}");
    }
}

#[test]
fn the_genesis_commits_to_its_parameters() {
    let (genesis, vector) = (genesis(), chain().genesis);
    assert_eq!(hash_of(&vector.layout), *vector.parameters_hash.as_bytes());
    assert_eq!(genesis.block().header.previous_hash, vector.parameters_hash);
    assert_eq!(genesis.hash(), vector.hash);
    let block = chain().blocks.into_iter().find(|block| block.name == "block-genesis").unwrap();
    assert_eq!(genesis.block().canonical_bytes(), block.canonical.as_bytes());
}

#[test]
fn transactions_have_their_hashes_leaves_and_canonical_form() {
    let genesis = genesis().hash();
    for TransactionVector { name, canonical, layout, hash, leaf_layout, leaf } in chain().transactions {
        let transaction: Transaction = load(&canonical);
        assert_eq!(transaction.canonical_bytes(), canonical.as_bytes(), "{name}");
        assert_eq!(hash_of(&layout), *transaction.compute_hash(&genesis).as_bytes(), "{name}");
        assert_eq!(transaction.hash.to_string(), hash, "{name}");
        assert!(transaction.hash_is_right(&genesis), "{name}");
        assert_eq!(Address::from_spki_der(transaction.public_key.as_bytes()), transaction.sender, "{name}");
        assert_eq!(hex(&leaf), hash_of(&leaf_layout), "{name}");
        assert_eq!(merkle_root(&[transaction]).to_string(), leaf, "{name}: one leaf is its own root");
    }
}

#[test]
fn merkle_roots_of_none_to_five_leaves() {
    let transactions = transactions();
    let vectors = chain().merkle;
    assert_eq!(vectors.len(), 6);
    for Merkle { name, leaves, root } in vectors {
        let transactions = &transactions[..leaves.len()];
        for (transaction, leaf) in transactions.iter().zip(&leaves) {
            assert_eq!(merkle_root(std::slice::from_ref(transaction)).to_string(), *leaf, "{name}");
        }
        assert_eq!(merkle_root(transactions).to_string(), root, "{name}");
    }
}

#[test]
fn blocks_have_their_hashes_roots_and_canonical_form() {
    for BlockVector { name, canonical, layout, hash } in chain().blocks {
        let block: Block = load(&canonical);
        assert_eq!(block.canonical_bytes(), canonical.as_bytes(), "{name}");
        assert_eq!(block.hash(), hash, "{name}");
        assert_eq!(hash_of(&layout), *hash.as_bytes(), "{name}");
        assert!(block.root_is_right(), "{name}");
        assert_eq!(load::<BlockHeader>(&canonical), block.header, "{name}");
    }
}

#[test]
fn slots_have_their_proposers() {
    let genesis = genesis();
    let total: u64 = genesis.validators().iter().map(|validator| validator.weight.get()).sum();
    for Slot { name, slot, layout, hash, remainder, proposer } in chain().slots {
        let digest = Hasher::tagged("bt2c/slot/1").raw(genesis.hash().as_bytes()).u64(slot).finish();
        assert_eq!(hash_of(&layout), digest, "{name}");
        assert_eq!(hex(&hash), digest, "{name}");
        let of_total = digest.iter().fold(0, |rest, byte| (rest * 256 + u64::from(*byte)) % total);
        assert_eq!(of_total, remainder, "{name}");
        let mut before = 0;
        let owner = genesis.validators().iter().find(|validator| {
            before += validator.weight.get();
            remainder < before
        });
        assert_eq!(owner.unwrap().address(), proposer, "{name}");
    }
    for SlotTime { block_time_ms, genesis_timestamp, timestamp, slot } in chain().slot_times {
        assert_eq!((timestamp - genesis_timestamp) * 1000 / block_time_ms, slot);
    }
}

#[test]
fn base64_has_one_spelling() {
    for Base64 { bytes, text } in chain().base64 {
        assert_eq!(text.parse::<Blob>().unwrap().as_bytes(), hex(&bytes));
        assert_eq!(Blob::try_from(hex(&bytes).as_slice()).unwrap().to_string(), text);
    }
    for text in chain().not_base64 {
        assert!(text.parse::<Blob>().is_err(), "{text}");
    }
}
