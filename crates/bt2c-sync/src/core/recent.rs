//! The top of the tree of stored blocks: what a branch may still leave from.

use std::collections::{BTreeMap, VecDeque};

use bt2c_proto::{BlockHash, Height};

use crate::chain::BlockRef;

/// The main chain from the deepest block that a branch may leave from up to the tip, and the stored blocks beside it.
///
/// Bounded by the depth and by the two blocks a slot that are taken from pushes; blocks beside the chain that were fetched
/// are bounded by [`MAX_SIDE`].
#[derive(Debug)]
pub(super) struct Recent {
    depth: u64,
    blocks: BTreeMap<BlockHash, (BlockRef, u64)>,
    main: VecDeque<BlockRef>,
    slots: BTreeMap<u64, Vec<BlockHash>>,
}

/// Blocks beside the main chain that are remembered; the lowest are forgotten first.
const MAX_SIDE: usize = 2048;

impl Recent {
    /// From the main chain's last blocks, ascending, each with its slot.
    pub(super) fn new(depth: u64, main: impl IntoIterator<Item = (BlockRef, u64)>) -> Self {
        let mut recent =
            Self { depth, blocks: BTreeMap::new(), main: VecDeque::new(), slots: BTreeMap::new() };
        for (place, slot) in main {
            recent.insert(place, slot);
            recent.main.push_back(place);
        }
        recent.prune();
        recent
    }

    pub(super) fn tip(&self) -> BlockRef {
        *self.main.back().expect("a chain has a genesis block")
    }

    /// The deepest block that a branch may leave from.
    pub(super) fn lowest(&self) -> BlockRef {
        *self.main.front().expect("a chain has a genesis block")
    }

    pub(super) fn get(&self, hash: &BlockHash) -> Option<&BlockRef> {
        self.blocks.get(hash).map(|(place, _)| place)
    }

    pub(super) fn contains(&self, hash: &BlockHash) -> bool {
        self.blocks.contains_key(hash)
    }

    pub(super) fn main_at(&self, height: u64) -> Option<&BlockRef> {
        let above = height.checked_sub(self.lowest().height.get())?;
        self.main.get(usize::try_from(above).ok()?)
    }

    /// The stored blocks of a slot.
    pub(super) fn in_slot(&self, slot: u64) -> &[BlockHash] {
        self.slots.get(&slot).map_or(&[], Vec::as_slice)
    }

    /// Notes a stored block.
    pub(super) fn insert(&mut self, place: BlockRef, slot: u64) {
        if self.blocks.insert(place.hash, (place, slot)).is_none() {
            self.slots.entry(slot).or_default().push(place.hash);
        }
    }

    /// Puts `path`, ascending blocks that were noted, in place of whatever the main chain has from their first height on.
    pub(super) fn extend_main(&mut self, path: impl IntoIterator<Item = BlockRef>) {
        for place in path {
            while self.main.back().is_some_and(|tip| tip.height >= place.height) {
                self.main.pop_back();
            }
            self.main.push_back(place);
        }
        self.prune();
    }

    fn prune(&mut self) {
        let mut dropped = false;
        while u64::try_from(self.main.len()).is_ok_and(|len| len > self.depth + 1) {
            if let Some(place) = self.main.pop_front() {
                self.forget(&place.hash);
                dropped = true;
            }
        }
        if dropped || self.blocks.len() > self.main.len() + MAX_SIDE {
            self.prune_side();
        }
    }

    fn prune_side(&mut self) {
        let lowest = self.lowest().height;
        let mut side: Vec<(Height, BlockHash)> = self
            .blocks
            .values()
            .filter(|(place, _)| self.main_at(place.height.get()).is_none_or(|main| main.hash != place.hash))
            .map(|(place, _)| (place.height, place.hash))
            .collect();
        side.sort_unstable();
        let too_many = side.len().saturating_sub(MAX_SIDE);
        // Ascending, so that a block whose parent was forgotten goes too: its branch leaves the chain too deep.
        for (index, (height, hash)) in side.into_iter().enumerate() {
            let attached = self.get(&hash).is_some_and(|place| self.contains(&place.parent));
            if index < too_many || height <= lowest || !attached {
                self.forget(&hash);
            }
        }
    }

    fn forget(&mut self, hash: &BlockHash) {
        let Some((_, slot)) = self.blocks.remove(hash) else { return };
        if let Some(hashes) = self.slots.get_mut(&slot) {
            hashes.retain(|other| other != hash);
            if hashes.is_empty() {
                self.slots.remove(&slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TestConsensus, places};

    fn extended(recent: &mut Recent, path: &[BlockRef]) {
        for place in path {
            recent.insert(*place, place.timestamp);
        }
        recent.extend_main(path.iter().copied());
    }

    #[test]
    fn a_branch_can_be_left_for_as_deep_as_it_says_and_no_deeper() {
        let test = TestConsensus::new();
        let genesis = test.genesis_ref();
        let mut recent = Recent::new(3, [(genesis, 0)]);
        let main = places(&test.row(&genesis, 6, 0));
        let side = places(&test.row(&genesis, 5, 1));
        extended(&mut recent, &main[..3]);
        side.iter().for_each(|place| recent.insert(*place, place.timestamp));
        assert!(
            side.iter().all(|place| recent.contains(&place.hash)),
            "it leaves three blocks below the tip"
        );
        assert_eq!(recent.main_at(0), Some(&genesis));

        extended(&mut recent, &main[3..4]);
        assert_eq!((recent.lowest(), recent.main_at(0)), (main[0], None));
        assert!(
            !side.iter().any(|place| recent.contains(&place.hash)),
            "it leaves four blocks below the tip"
        );
        assert!(recent.slots.values().all(|hashes| hashes.len() == 1));
    }

    #[test]
    fn another_path_replaces_what_is_above_the_fork() {
        let test = TestConsensus::new();
        let genesis = test.genesis_ref();
        let mut recent = Recent::new(10, [(genesis, 0)]);
        let main = places(&test.row(&genesis, 5, 0));
        let side = places(&test.row(&main[1], 2, 1));
        extended(&mut recent, &main);
        extended(&mut recent, &side);
        assert_eq!(recent.tip(), side[1]);
        assert_eq!(
            [2, 3, 4, 5].map(|height| recent.main_at(height).copied()),
            [Some(main[1]), Some(side[0]), Some(side[1]), None]
        );
        assert!(recent.contains(&main[4].hash), "what was left is still known");
        assert_eq!(recent.in_slot(side[0].timestamp).len(), 2);
    }
}
