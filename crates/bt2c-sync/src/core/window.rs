//! Blocks above a height, and the gaps between them.

use std::collections::BTreeMap;

use bt2c_proto::PeerId;

use crate::chain::{BlockRef, CheckedBlock};

/// Blocks by height, one of each, with the runs of heights that have no gap.
#[derive(Debug, Default)]
pub(super) struct Window {
    pieces: BTreeMap<u64, Piece>,
    /// The first and the last height of each run. Few, whatever the window's length: who answers fills one after the other.
    runs: BTreeMap<u64, u64>,
    bytes: usize,
}

#[derive(Debug)]
pub(super) struct Piece {
    pub(super) from: PeerId,
    pub(super) place: BlockRef,
    pub(super) size: usize,
    pub(super) state: PieceState,
}

#[derive(Debug)]
pub(super) enum PieceState {
    /// With the workers, as this job.
    Checking(u64),
    /// Ready to be stored.
    Checked(CheckedBlock),
    /// Stored already, beside the main chain.
    Stored,
}

impl Window {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Bytes of all blocks.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn get(&self, height: u64) -> Option<&Piece> {
        self.pieces.get(&height)
    }

    pub(super) fn get_mut(&mut self, height: u64) -> Option<&mut Piece> {
        self.pieces.get_mut(&height)
    }

    /// The blocks of these heights, ascending.
    pub(super) fn range(
        &self,
        heights: impl std::ops::RangeBounds<u64>,
    ) -> impl DoubleEndedIterator<Item = &Piece> {
        self.pieces.range(heights).map(|(_, piece)| piece)
    }

    /// Takes a block, and returns the one that was at its height.
    pub(super) fn insert(&mut self, piece: Piece) -> Option<Piece> {
        let height = piece.place.height.get();
        self.bytes += piece.size;
        let before = self.pieces.insert(height, piece);
        match &before {
            Some(before) => self.bytes -= before.size,
            None => self.join(height),
        }
        before
    }

    /// Notes that a height is no gap any more.
    fn join(&mut self, height: u64) {
        let below = self.runs.range(..height).next_back().map(|(first, last)| (*first, *last));
        let first = below.filter(|(_, last)| last + 1 == height).map_or(height, |(first, _)| first);
        let last = self.runs.remove(&(height + 1)).unwrap_or(height);
        self.runs.insert(first, last);
    }

    /// Lets go of the lowest block, if it is at this height.
    pub(super) fn pop(&mut self, height: u64) -> Option<Piece> {
        let lowest = self.pieces.first_entry().filter(|lowest| *lowest.key() == height)?;
        let piece = lowest.remove();
        self.bytes -= piece.size;
        if let Some(last) = self.runs.remove(&height)
            && last > height
        {
            self.runs.insert(height + 1, last);
        }
        Some(piece)
    }

    pub(super) fn retain(&mut self, keep: impl Fn(u64, &Piece) -> bool) {
        self.pieces.retain(|height, piece| keep(*height, piece));
        self.bytes = self.pieces.values().map(|piece| piece.size).sum();
        self.runs.clear();
        let heights: Vec<u64> = self.pieces.keys().copied().collect();
        heights.into_iter().for_each(|height| self.join(height));
    }

    /// The end of the run that begins at this height or has it; none if that is a gap.
    pub(super) fn run_end(&self, height: u64) -> Option<u64> {
        self.runs.range(..=height).next_back().map(|(_, last)| *last).filter(|last| *last >= height)
    }

    /// The runs of heights from `first` to `last` that are neither here nor in one of `asked`; ascending.
    pub(super) fn gaps(
        &self,
        first: u64,
        last: u64,
        asked: impl Iterator<Item = (u64, u64)>,
    ) -> Vec<(u64, u64)> {
        let mut covered: Vec<(u64, u64)> = self.runs.iter().map(|(first, last)| (*first, *last)).collect();
        covered.extend(asked);
        covered.push((last.saturating_add(1), last.saturating_add(1)));
        covered.sort_unstable();
        let (mut gaps, mut next) = (Vec::new(), first);
        for (start, end) in covered {
            if next < start && next <= last {
                gaps.push((next, last.min(start - 1)));
            }
            next = next.max(end.saturating_add(1));
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::testing::TestConsensus;

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u64),
        Pop,
        Drop(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => (0..40_u64).prop_map(Step::Insert),
            2 => Just(Step::Pop),
            1 => (0..40_u64).prop_map(Step::Drop),
        ];
        prop::collection::vec(step, 0..80)
    }

    proptest! {
        #[test]
        fn runs_and_gaps_are_those_of_the_heights_that_are_here(
            steps in steps(), first in 0..20_u64, last in 0..45_u64, asked in (0..45_u64, 0..5_u64),
        ) {
            let place = TestConsensus::new().genesis_ref();
            let (mut window, mut here) = (Window::default(), BTreeSet::new());
            for step in steps {
                match step {
                    Step::Insert(height) => {
                        let place = BlockRef { height: bt2c_proto::Height::new(height), ..place };
                        let from = PeerId::from_bytes([1; 32]);
                        let before = window.insert(Piece { from, place, size: 3, state: PieceState::Stored });
                        prop_assert_eq!(before.is_none(), here.insert(height));
                    }
                    Step::Pop => {
                        let lowest = here.pop_first();
                        prop_assert!(window.pop(lowest.unwrap_or(0)).is_some() == lowest.is_some());
                    }
                    Step::Drop(height) => {
                        here.remove(&height);
                        window.retain(|other, _| other != height);
                    }
                }
                prop_assert_eq!(window.bytes(), 3 * here.len());
            }
            for height in 0..45 {
                let end = (height..).take_while(|height| here.contains(height)).last();
                prop_assert_eq!(window.run_end(height), end);
            }
            let asked = (asked.0, asked.0 + asked.1);
            let gaps = window.gaps(first, last, std::iter::once(asked));
            prop_assert!(gaps.is_sorted_by(|(_, end), (start, _)| end + 1 < *start), "{:?}", gaps);
            let missing: Vec<u64> = gaps.into_iter().flat_map(|(start, end)| start..=end).collect();
            let covered = |height: &u64| here.contains(height) || (asked.0..=asked.1).contains(height);
            let expected: Vec<u64> = (first..=last).filter(|height| !covered(height)).collect();
            prop_assert_eq!(missing, expected);
        }
    }
}
