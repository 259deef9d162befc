//! A consensus without RSA and blocks that follow it: what tests of everything but signatures are made of.

use bt2c_p2p::Tip;
use bt2c_proto::{
    Address, Blob, Block, BlockHash, BlockHeader, HeaderContent, Height, Time, Transaction, TxHash,
    limits::MAX_BLOCK_BYTES, merkle_root,
};

use crate::{
    chain::BlockRef,
    consensus::{Consensus, Invalid, InvalidTransaction, Unknown, Verdict},
    schedule::TRANSACTION_LIFETIME,
};

/// Seconds of a slot.
pub(crate) const SLOT: u64 = 10;

/// When the genesis block is dated.
pub(crate) const GENESIS_TIME: u64 = 1_700_000_000;

/// The default rule with stand-ins for signatures: the first bytes of the hash that is signed.
#[derive(Debug)]
pub(crate) struct TestConsensus {
    genesis: Block,
}

impl TestConsensus {
    pub(crate) fn new() -> Self {
        Self::of_network(0)
    }

    pub(crate) fn of_network(number: u8) -> Self {
        let content = HeaderContent {
            height: Height::GENESIS,
            timestamp: GENESIS_TIME,
            previous_hash: BlockHash::from_bytes([number; 32]),
            merkle_root: merkle_root(&[]),
            validator: None,
        };
        Self {
            genesis: Block { header: BlockHeader::new(content, Blob::default()), transactions: Vec::new() },
        }
    }

    pub(crate) const fn genesis_block(&self) -> &Block {
        &self.genesis
    }

    pub(crate) fn genesis_ref(&self) -> BlockRef {
        BlockRef::from(&self.genesis.header)
    }

    /// A block in a slot. `salt` tells apart blocks that are otherwise the same.
    pub(crate) fn block(
        &self,
        parent: &BlockRef,
        slot: u64,
        salt: u8,
        transactions: Vec<Transaction>,
    ) -> Block {
        let content = HeaderContent {
            height: parent.height.next(),
            timestamp: GENESIS_TIME + slot * SLOT,
            previous_hash: parent.hash,
            merkle_root: merkle_root(&transactions),
            validator: Some(Address::from_spki_der(&[salt])),
        };
        let signature = seal(content.hash().as_bytes());
        Block { header: BlockHeader::new(content, signature), transactions }
    }

    /// A row of empty blocks, one a slot.
    pub(crate) fn row(&self, parent: &BlockRef, count: u64, salt: u8) -> Vec<Block> {
        let first = self.slot(parent.timestamp) + 1;
        let mut parent = *parent;
        (first..first + count)
            .map(|slot| {
                let block = self.block(&parent, slot, salt, Vec::new());
                parent = BlockRef::from(&block.header);
                block
            })
            .collect()
    }

    pub(crate) fn transaction(&self, number: u64, timestamp: u64, fee: u64) -> Transaction {
        let public_key = number.to_be_bytes();
        let mut transaction = Transaction {
            sender: Address::from_spki_der(&public_key),
            recipient: Address::from_spki_der(b"recipient"),
            amount: 1,
            fee,
            nonce: number,
            timestamp,
            payload: "".parse().unwrap(),
            public_key: Blob::try_from(&public_key[..]).unwrap(),
            signature: Blob::default(),
            hash: TxHash::from_bytes([0; 32]),
        };
        transaction.hash = transaction.compute_hash(&self.genesis.hash());
        transaction.signature = seal(transaction.hash.as_bytes());
        transaction
    }
}

fn seal(hash: &[u8; 32]) -> Blob {
    Blob::try_from(&hash[..8]).unwrap()
}

impl Consensus for TestConsensus {
    fn genesis(&self) -> &Block {
        &self.genesis
    }

    fn check_seal(&self, header: &BlockHeader) -> Result<(), Invalid> {
        if header.signature() == &seal(header.hash().as_bytes()) { Ok(()) } else { Err(Invalid::Signature) }
    }

    fn check_body(&self, block: &Block, size: usize) -> Result<(), Invalid> {
        if size > MAX_BLOCK_BYTES {
            return Err(Invalid::Size(size));
        }
        if !block.root_is_right() {
            return Err(Invalid::Root);
        }
        for (index, transaction) in block.transactions.iter().enumerate() {
            self.check_transaction(transaction, Some(block.header.timestamp))
                .map_err(|reason| Invalid::Transaction { index, reason })?;
        }
        Ok(())
    }

    fn check_transaction(
        &self,
        transaction: &Transaction,
        block_timestamp: Option<u64>,
    ) -> Result<(), InvalidTransaction> {
        match block_timestamp.map(|date| date.checked_sub(transaction.timestamp)) {
            Some(None) => return Err(InvalidTransaction::Late),
            Some(Some(age)) if age > TRANSACTION_LIFETIME.as_secs() => return Err(InvalidTransaction::Stale),
            _ => {}
        }
        if !transaction.hash_is_right(&self.genesis.hash()) {
            return Err(InvalidTransaction::Hash);
        }
        if transaction.signature == seal(transaction.hash.as_bytes()) {
            Ok(())
        } else {
            Err(InvalidTransaction::Signature)
        }
    }

    fn check_header(&self, block: &BlockRef, parent: &BlockRef, now: Time) -> Verdict {
        if block.parent != parent.hash {
            Verdict::Invalid(Invalid::Link)
        } else if !parent.is_parent_of(block) {
            Verdict::Invalid(Invalid::Height)
        } else if self.slot(block.timestamp) <= self.slot(parent.timestamp) {
            Verdict::Invalid(Invalid::Slot)
        } else if now < self.earliest(block.timestamp) {
            Verdict::Unknown(Unknown::TooEarly)
        } else {
            Verdict::Valid
        }
    }

    fn better(&self, a: Tip, b: Tip) -> bool {
        (a.height, std::cmp::Reverse(a.hash)) > (b.height, std::cmp::Reverse(b.hash))
    }

    fn slot(&self, timestamp: u64) -> u64 {
        timestamp.saturating_sub(GENESIS_TIME) / SLOT
    }

    fn earliest(&self, timestamp: u64) -> Time {
        Time::from_secs(timestamp.saturating_sub(2))
    }
}

/// Blocks as they are handed to the store.
pub(crate) fn checked(blocks: &[Block]) -> Vec<crate::CheckedBlock> {
    blocks.iter().map(crate::CheckedBlock::trusted).collect()
}

/// The places of blocks.
pub(crate) fn places(blocks: &[Block]) -> Vec<BlockRef> {
    blocks.iter().map(|block| BlockRef::from(&block.header)).collect()
}
