//! Reading the stored chain again, to see whether it is what it was.

use bt2c_p2p::Tip;
use bt2c_proto::{Block, BlockHash, Height, PeerId};

use crate::{
    chain::BlockRef,
    consensus::Consensus,
    store::{ChainStore, StoreError},
};

/// A pass over the stored main chain that checks bytes, hashes, links, heights and Merkle roots, in steps. Where old bodies
/// are pruned it begins with the first that is kept.
#[derive(Debug)]
pub struct ChainCheck {
    last: Option<BlockRef>,
    tip: BlockRef,
}

/// What is wrong with a stored chain, and where first.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChainFault {
    /// The store failed, or a block's bytes are not those that were stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no block where there should be one.
    #[error("block {0} is missing")]
    Missing(Height),
    /// The bytes are no block, or its hash is not that of its header.
    #[error("block {height}: {reason}")]
    Malformed {
        /// Where.
        height: Height,
        /// What the parser says.
        reason: Box<str>,
    },
    /// The first block is another network's.
    #[error("genesis block is {0}, another network's")]
    Genesis(BlockHash),
    /// A block is not the child of the one before.
    #[error("block {0} does not follow the one before")]
    Link(Height),
    /// A block's transactions are not those that it commits to.
    #[error("block {0}: merkle root does not match the transactions")]
    Root(Height),
}

impl ChainCheck {
    /// A pass over the chain as it is now; blocks that come later are not looked at.
    pub fn new(store: &dyn ChainStore) -> Self {
        Self { last: None, tip: store.tip() }
    }

    /// The block that the pass ends with. Another one of the same height takes its place if the chain is reorganised
    /// meanwhile.
    pub fn tip(&self) -> BlockRef {
        self.last.filter(|last| last.height == self.tip.height).unwrap_or(self.tip)
    }

    /// How many blocks were checked, pruned ones included.
    pub fn checked(&self) -> u64 {
        self.last.map_or(0, |last| last.height.get() + 1)
    }

    /// Checks up to `count` more blocks, and not more than a megabyte of them; says whether that was all.
    ///
    /// # Errors
    /// The first fault.
    pub fn step(
        &mut self,
        store: &dyn ChainStore,
        consensus: &dyn Consensus,
        count: u64,
    ) -> Result<bool, ChainFault> {
        self.pass_over_pruned(store)?;
        let end = self.tip.height.get().min(self.checked() + count.max(1) - 1);
        if self.checked() <= end {
            let height = Height::new(self.checked());
            let bodies = store.bodies(height..=Height::new(end), 1 << 20)?;
            if bodies.is_empty() && !self.pass_over_pruned(store)? {
                return Err(ChainFault::Missing(height));
            }
            for bytes in &bodies {
                match self.check(consensus, bytes) {
                    // The chain changed between two reads.
                    Err(ChainFault::Link(_)) if self.step_back(store)? => break,
                    result => result?,
                }
            }
        }
        Ok(self.checked() > self.tip.height.get() && !self.step_back(store)?)
    }

    /// Goes back to a block that is still on the main chain, if the last one no longer is; says whether.
    fn step_back(&mut self, store: &dyn ChainStore) -> Result<bool, ChainFault> {
        let mut back = false;
        while let Some(last) = self.last.filter(|last| last.height > Height::GENESIS)
            && store.main(last.height)?.is_some_and(|main| main.hash != last.hash)
        {
            self.last = Some(store.block(&last.parent)?.ok_or(StoreError::Missing(last.parent))?);
            back = true;
        }
        Ok(back)
    }

    /// Goes on with the first block that is kept, if it lies ahead: the store may prune meanwhile. Says whether it does.
    fn pass_over_pruned(&mut self, store: &dyn ChainStore) -> Result<bool, ChainFault> {
        let first = store.first_body();
        // The genesis block is always there.
        if self.checked() == 0 || self.checked() >= first.get() {
            return Ok(false);
        }
        let before = Height::new(first.get() - 1).min(self.tip.height);
        self.last = Some(store.main(before)?.ok_or(ChainFault::Missing(before))?);
        Ok(true)
    }

    fn check(&mut self, consensus: &dyn Consensus, bytes: &[u8]) -> Result<(), ChainFault> {
        let height = Height::new(self.checked());
        let block: Block = serde_json::from_slice(bytes)
            .map_err(|error| ChainFault::Malformed { height, reason: error.to_string().into() })?;
        let place = BlockRef::from(&block.header);
        match &self.last {
            None if place.hash != consensus.genesis().hash() => return Err(ChainFault::Genesis(place.hash)),
            Some(last) if !last.is_parent_of(&place) => return Err(ChainFault::Link(height)),
            _ => {}
        }
        if !block.root_is_right() {
            return Err(ChainFault::Root(height));
        }
        self.last = Some(place);
        Ok(())
    }
}

/// How the stored chain stands, by itself and beside the peers'.
#[derive(Debug, Clone)]
pub struct Consistency {
    /// The tip that the check ended with: everything up to it is whole.
    pub tip: Tip,
    /// Peers whose tip is on our main chain.
    pub agreeing: Vec<PeerId>,
    /// Peers whose tip is above ours or unknown: they may be ahead, on the same chain or on another.
    pub ahead: Vec<PeerId>,
    /// Peers whose tip is at a height at which we have another block.
    pub differing: Vec<PeerId>,
}

impl Consistency {
    /// Compares a checked chain with what peers say that their tips are.
    ///
    /// # Errors
    /// If the store fails.
    pub fn compare(
        store: &dyn ChainStore,
        tip: Tip,
        claims: &[(PeerId, Height, Option<BlockHash>)],
    ) -> Result<Self, StoreError> {
        let mut consistency = Self { tip, agreeing: Vec::new(), ahead: Vec::new(), differing: Vec::new() };
        for &(peer, height, hash) in claims {
            let group = match (store.main(height)?, hash) {
                (Some(ours), Some(theirs)) if ours.hash == theirs => &mut consistency.agreeing,
                (Some(_), Some(_)) => &mut consistency.differing,
                _ => &mut consistency.ahead,
            };
            group.push(peer);
        }
        Ok(consistency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        MemoryStore,
        testing::{GENESIS_TIME, TestConsensus, checked},
    };

    #[test]
    fn the_first_block_whose_body_is_not_its_own_is_named() {
        let test = TestConsensus::new();
        let store = MemoryStore::new(test.genesis_block());
        let mut row = test.row(&store.tip(), 10, 0);
        row[6].transactions.push(test.transaction(1, GENESIS_TIME, 1));
        store.append(&checked(&row), row[9].hash()).unwrap();
        let mut check = ChainCheck::new(&store);
        assert!(!check.step(&store, &test, 5).unwrap());
        assert_eq!(check.checked(), 5);
        let fault = check.step(&store, &test, 100).unwrap_err();
        assert!(matches!(fault, ChainFault::Root(height) if height.get() == 7), "{fault}");
    }

    #[test]
    fn a_chain_that_is_reorganised_meanwhile_is_checked_where_it_ends_up() {
        let test = TestConsensus::new();
        let store = MemoryStore::new(test.genesis_block());
        let row = test.row(&store.tip(), 10, 0);
        store.append(&checked(&row), row[9].hash()).unwrap();
        for checked_before in [3, 7, 10] {
            let mut check = ChainCheck::new(&store);
            while check.checked() <= checked_before {
                check.step(&store, &test, 1).unwrap();
            }
            let salt = u8::try_from(checked_before).unwrap();
            let fork = store.main(Height::new(4)).unwrap().unwrap();
            let branch = test.row(&fork, 6 + u64::from(salt), salt);
            store.append(&checked(&branch), branch.last().unwrap().hash()).unwrap();
            while !check.step(&store, &test, 2).unwrap() {}
            assert_eq!(check.tip(), store.main(Height::new(check.checked() - 1)).unwrap().unwrap());
        }
    }

    #[test]
    fn the_chain_of_another_network_is_known_by_its_first_block() {
        let other = TestConsensus::of_network(1);
        let store = MemoryStore::new(other.genesis_block());
        let fault = ChainCheck::new(&store).step(&store, &TestConsensus::new(), 1).unwrap_err();
        assert!(matches!(fault, ChainFault::Genesis(_)), "{fault}");
    }

    #[test]
    fn peers_are_sorted_by_what_they_say() {
        let test = TestConsensus::new();
        let store = MemoryStore::new(test.genesis_block());
        let row = test.row(&store.tip(), 3, 0);
        store.append(&checked(&row), row[2].hash()).unwrap();
        let peer = |number| PeerId::from_bytes([number; 32]);
        let other = BlockHash::from_bytes([9; 32]);
        let claims = [
            (peer(1), Height::new(2), Some(row[1].hash())),
            (peer(2), Height::new(2), Some(other)),
            (peer(3), Height::new(9), Some(other)),
        ];
        let consistency = Consistency::compare(&store, store.tip().tip(), &claims).unwrap();
        assert_eq!(consistency.agreeing, [peer(1)]);
        assert_eq!(consistency.differing, [peer(2)]);
        assert_eq!(consistency.ahead, [peer(3)]);
    }
}
