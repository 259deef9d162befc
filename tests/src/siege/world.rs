//! The network under siege: a main network of one validator, and a chain on it of which the end is kept back.
//!
//! It is a main network because there, and only there, the limits on groups of addresses hold for loopback too.

use std::{
    fs,
    num::{NonZeroU64, NonZeroUsize},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use bt2c_node::genesis::GenesisFile;
use bt2c_proto::{Block, BlockHash, Genesis, Height, Network, Time, Transaction, Validator};
use bt2c_security::Identity;
use bt2c_sync::{
    BlockRef, ChainStore, Consensus, Generate, MemoryStore, ValidatorSchedule, public_key_blob, sealed_block,
    signed_transaction,
};
use bytes::Bytes;

/// Blocks that the node has when the siege begins: with [`TRANSACTIONS`] in each more than one frame of answer.
pub(super) const SERVED: u64 = 40;

/// Transactions in each block.
const TRANSACTIONS: usize = 24;

/// Far enough back that every block's slot is past.
const AGE: Duration = Duration::from_secs(600);

/// A network and its chain.
pub(super) struct World {
    /// The hash of its genesis block.
    pub(super) genesis: BlockHash,
    /// The genesis file.
    pub(super) genesis_file: PathBuf,
    /// The blocks that the node has, a JSON object a line.
    pub(super) chain_file: PathBuf,
    /// The end of what the node has.
    pub(super) tip: BlockRef,
    /// The blocks that follow, in canonical form.
    pub(super) kept_back: Vec<Bytes>,
    /// A frame full of the node's own blocks.
    pub(super) served: Vec<Bytes>,
    validator: Identity,
    /// Somebody who has no say on this network.
    stranger: Identity,
}

impl World {
    /// Makes a network whose chain goes on for `kept_back` blocks behind what the node has; files go into `dir`.
    pub(super) fn make(dir: &Path, now: Time, kept_back: u64) -> Result<Self> {
        let (validator, stranger) = (Identity::generate()?, Identity::generate()?);
        let public_key = public_key_blob(validator.public_key());
        let validators = vec![Validator { public_key, weight: NonZeroU64::MIN }];
        let start = now.as_secs().saturating_sub(AGE.as_secs());
        let genesis = Genesis::new(Network::Mainnet, start, Duration::from_secs(1), validators)?;
        let (genesis_file, chain_file) = (dir.join("genesis.json"), dir.join("chain.jsonl"));
        fs::write(&genesis_file, GenesisFile::from(&genesis).to_text())?;
        let schedule = ValidatorSchedule::new(genesis)?;
        let store = MemoryStore::new(schedule.genesis());
        let generate = Generate {
            identities: std::slice::from_ref(&validator),
            blocks: SERVED + kept_back,
            transactions: TRANSACTIONS,
            now,
            threads: NonZeroUsize::new(2).context("two is not 0")?,
        };
        generate.run(&store, &schedule, |_| ())?;
        let (served, kept_back) =
            (blocks(&store, 1, SERVED)?, blocks(&store, SERVED + 1, SERVED + kept_back)?);
        fs::write(&chain_file, served.join(&b'\n'))?;
        let last = served.last().context("there are blocks")?;
        let tip = BlockRef::from(&serde_json::from_slice::<Block>(last)?.header);
        let genesis = schedule.genesis().hash();
        Ok(Self { genesis, genesis_file, chain_file, tip, kept_back, served, validator, stranger })
    }

    /// A block on the node's tip that is in order but for its proposer; another one each time.
    pub(super) fn false_block(&self, turn: u64) -> Block {
        let transactions = vec![self.transaction(turn)];
        sealed_block(&self.tip, self.tip.timestamp + 1, &self.stranger, transactions)
    }

    /// A block of the validator's whose parent nobody has; another one each time. Whoever passes it on is not to blame.
    pub(super) fn orphan(&self, turn: u64) -> Block {
        let mut hash = [0x42; 32];
        hash[..8].copy_from_slice(&turn.to_be_bytes());
        let height = Height::new(self.tip.height.get() + 7);
        let parent = BlockRef { hash: BlockHash::from_bytes(hash), height, ..self.tip };
        let timestamp = self.tip.timestamp + 1 + turn % 60;
        sealed_block(&parent, timestamp, &self.validator, vec![self.transaction(turn)])
    }

    /// A transaction with a signature for another amount; another one each time.
    pub(super) fn false_transaction(&self, turn: u64) -> Transaction {
        let mut transaction = self.transaction(turn);
        transaction.amount += 1;
        transaction.hash = transaction.compute_hash(&self.genesis);
        transaction
    }

    fn transaction(&self, nonce: u64) -> Transaction {
        let to = self.stranger.address();
        signed_transaction(&self.stranger, self.genesis, to, 1, 1, nonce, self.tip.timestamp)
    }
}

fn blocks(store: &MemoryStore, first: u64, last: u64) -> Result<Vec<Bytes>> {
    let heights = (first..=last).map(Height::new);
    heights.map(|height| store.bodies(height..=height, 0)?.pop().context("the chain is that long")).collect()
}
