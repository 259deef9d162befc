//! Making blocks and transactions.

use bt2c_proto::{
    Address, Blob, Block, BlockHash, BlockHeader, HeaderContent, Transaction, TxHash, merkle_root,
};
use bt2c_security::{Identity, RsaPublicKey};

use crate::chain::BlockRef;

/// A block on `parent`, dated `timestamp` (seconds) and sealed by `validator`. Whether it is that one's slot is for the
/// consensus to say.
pub fn sealed_block(
    parent: &BlockRef,
    timestamp: u64,
    validator: &Identity,
    transactions: Vec<Transaction>,
) -> Block {
    let content = HeaderContent {
        height: parent.height.next(),
        timestamp,
        previous_hash: parent.hash,
        merkle_root: merkle_root(&transactions),
        validator: Some(validator.address()),
    };
    let signature = seal_of(&content, validator);
    Block { header: BlockHeader::new(content, signature), transactions }
}

/// A proposer's signature of a header.
pub(crate) fn seal_of(content: &HeaderContent, validator: &Identity) -> Blob {
    blob(&validator.sign(content.hash().as_bytes()))
}

/// A transfer on the network of this genesis, signed by its sender, without payload. `timestamp` is in seconds; `nonce`
/// tells apart transfers that are otherwise the same.
pub fn signed_transaction(
    sender: &Identity,
    genesis: BlockHash,
    recipient: Address,
    amount: u64,
    fee: u64,
    nonce: u64,
    timestamp: u64,
) -> Transaction {
    let mut transaction = Transaction {
        sender: sender.address(),
        recipient,
        amount,
        fee,
        nonce,
        timestamp,
        payload: bt2c_proto::Text::cut(""),
        public_key: public_key_blob(sender.public_key()),
        signature: Blob::default(),
        hash: TxHash::from_bytes([0; 32]),
    };
    transaction.hash = transaction.compute_hash(&genesis);
    transaction.signature = blob(&sender.sign(transaction.hash.as_bytes()));
    transaction
}

/// A key as it stands in transactions and in a genesis.
pub fn public_key_blob(key: &RsaPublicKey) -> Blob {
    blob(key.spki_der())
}

fn blob(bytes: &[u8]) -> Blob {
    Blob::try_from(bytes).expect("keys and signatures of at most 4096 bits fit")
}
