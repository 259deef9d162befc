//! Blocks that an operator knows to be of the right chain.

use std::{collections::BTreeMap, fmt, str::FromStr};

use bt2c_proto::{BlockHash, Height};

use crate::store::{ChainStore, StoreError};

/// A block that is known to be of the right chain: no other one of its height is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its height.
    pub height: Height,
    /// Its hash.
    pub hash: BlockHash,
}

/// Spelled `HEIGHT:HASH`.
impl FromStr for Checkpoint {
    type Err = CheckpointFormError;

    fn from_str(text: &str) -> Result<Self, CheckpointFormError> {
        let (height, hash) = text.split_once(':').ok_or(CheckpointFormError)?;
        let height = height.parse().map(Height::new).map_err(|_| CheckpointFormError)?;
        Ok(Self { height, hash: hash.parse().map_err(|_| CheckpointFormError)? })
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.height, self.hash)
    }
}

/// A text that is no [`Checkpoint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected HEIGHT:HASH, a block's height and the 64 hex digits of its hash")]
pub struct CheckpointFormError;

/// The checkpoints of a chain, at most one of each height.
///
/// At and below the highest one, transaction signatures are not checked: whoever made the checkpoint has done so. Block
/// signatures are, like all else; so whoever would have a node store false transactions needs the keys of validators, and
/// his branch ends at the checkpoint, where only the right block is taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checkpoints(BTreeMap<Height, BlockHash>);

/// Why checkpoints cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// Two blocks of one height.
    #[error("checkpoints: two hashes at height {0}: only one can be right")]
    Twice(Height),
    /// The stored chain is another one.
    #[error(
        "checkpoint {checkpoint} contradicts the stored chain, which has {stored} at that height: correct the checkpoint, \
         or if it is right, use another data directory and sync again"
    )]
    Contradicted {
        /// The checkpoint.
        checkpoint: Checkpoint,
        /// The stored block's hash.
        stored: BlockHash,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Checkpoints {
    /// These checkpoints. The same one may be named twice.
    ///
    /// # Errors
    /// [`CheckpointError::Twice`].
    pub fn new(checkpoints: impl IntoIterator<Item = Checkpoint>) -> Result<Self, CheckpointError> {
        let mut known = BTreeMap::new();
        for Checkpoint { height, hash } in checkpoints {
            if known.insert(height, hash).is_some_and(|other| other != hash) {
                return Err(CheckpointError::Twice(height));
            }
        }
        Ok(Self(known))
    }

    /// Whether transaction signatures at this height need not be checked.
    pub fn cover(&self, height: Height) -> bool {
        self.0.last_key_value().is_some_and(|(highest, _)| height <= *highest)
    }

    /// Whether another block is known to be the one of this height.
    pub fn contradict(&self, height: Height, hash: BlockHash) -> bool {
        self.0.get(&height).is_some_and(|known| *known != hash)
    }

    /// Checks that a stored chain is the one of the checkpoints, as far as it reaches.
    ///
    /// # Errors
    /// [`CheckpointError::Contradicted`] for the lowest checkpoint that is not on the main chain.
    pub fn check_store(&self, store: &dyn ChainStore) -> Result<(), CheckpointError> {
        for (&height, &hash) in &self.0 {
            let Some(stored) = store.main(height)? else { break };
            if stored.hash != hash {
                let checkpoint = Checkpoint { height, hash };
                return Err(CheckpointError::Contradicted { checkpoint, stored: stored.hash });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        MemoryStore,
        testing::{TestConsensus, checked},
    };

    fn checkpoint(height: u64, byte: u8) -> Checkpoint {
        Checkpoint { height: Height::new(height), hash: BlockHash::from_bytes([byte; 32]) }
    }

    #[test]
    fn a_checkpoint_is_read_as_it_is_written() {
        let checkpoint = checkpoint(1200, 0xab);
        assert_eq!(checkpoint.to_string().parse(), Ok(checkpoint));
        for wrong in ["", "1200", "1200:ab", ":ab", &format!("-1:{}", checkpoint.hash)] {
            assert_eq!(wrong.parse::<Checkpoint>(), Err(CheckpointFormError), "{wrong}");
        }
    }

    #[test]
    fn two_blocks_of_one_height_are_refused() {
        assert!(Checkpoints::new([checkpoint(5, 1), checkpoint(5, 1)]).is_ok());
        let error = Checkpoints::new([checkpoint(5, 1), checkpoint(5, 2)]).unwrap_err().to_string();
        assert!(error.contains("two hashes at height 5"), "{error}");
    }

    #[test]
    fn a_stored_chain_that_is_another_is_told_with_the_lowest_difference() {
        let test = TestConsensus::new();
        let store = MemoryStore::new(test.genesis_block());
        let row = test.row(&store.tip(), 10, 0);
        store.append(&checked(&row), row[9].hash()).unwrap();
        let right =
            |height: usize| Checkpoint { height: Height::new(height as u64 + 1), hash: row[height].hash() };
        let check = |list: &[Checkpoint]| Checkpoints::new(list.iter().copied()).unwrap().check_store(&store);
        check(&[right(3), right(9), checkpoint(11, 1)]).unwrap();
        let error = check(&[right(3), checkpoint(7, 1), checkpoint(9, 1)]).unwrap_err().to_string();
        assert!(error.contains(&checkpoint(7, 1).to_string()), "{error}");
        assert!(error.contains(&row[6].hash().to_string()), "{error}");
    }
}
