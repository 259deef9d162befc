//! Finding where two branches part, by asking for single blocks.

/// The search for the last block that two branches share, with single-block questions: downwards in doubling steps (forks
/// are shallow), then by halves.
#[derive(Debug)]
pub(super) struct ForkSearch {
    lowest: u64,
    differs: u64,
    shares: Option<u64>,
    step: u64,
}

/// What a [`ForkSearch`] wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Whether the block at this height is ours.
    Ask(u64),
    /// The last shared block is here.
    Found(u64),
    /// There is no shared block as high as `lowest`.
    TooDeep,
}

impl ForkSearch {
    pub(super) const fn new(lowest: u64, differs: u64) -> Self {
        Self { lowest, differs, shares: None, step: 1 }
    }

    pub(super) fn next(&self) -> Next {
        match self.shares {
            Some(shares) if shares + 1 >= self.differs => Next::Found(shares),
            Some(shares) => Next::Ask(shares + (self.differs - shares) / 2),
            None if self.differs <= self.lowest => Next::TooDeep,
            None => Next::Ask(self.differs.saturating_sub(self.step).max(self.lowest)),
        }
    }

    pub(super) fn answer(&mut self, height: u64, shared: bool) {
        if shared {
            self.shares = Some(height);
        } else {
            self.differs = height;
            self.step = self.step.saturating_mul(2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many questions a search asks until it is done, and what it finds, when `shared` is the last shared height.
    fn search(lowest: u64, differs: u64, shared: Option<u64>) -> (Next, u32) {
        let mut search = ForkSearch::new(lowest, differs);
        for questions in 0..100 {
            match search.next() {
                Next::Ask(height) => {
                    assert!((lowest..differs).contains(&height), "{height} is outside {lowest}..{differs}");
                    search.answer(height, shared.is_some_and(|shared| height <= shared));
                }
                done => return (done, questions),
            }
        }
        panic!("the search does not end");
    }

    #[test]
    fn every_fork_is_found_within_a_logarithmic_number_of_questions() {
        for shared in 900..1000 {
            let (found, questions) = search(900, 1000, Some(shared));
            assert_eq!(found, Next::Found(shared));
            assert!(questions <= 14, "{shared}: {questions}");
        }
    }

    #[test]
    fn a_fork_one_block_below_is_found_with_one_question() {
        assert_eq!(search(900, 1000, Some(999)), (Next::Found(999), 1));
    }

    #[test]
    fn a_fork_below_the_lowest_height_is_too_deep() {
        assert_eq!(search(900, 1000, None).0, Next::TooDeep);
        assert_eq!(search(0, 1, Some(0)).0, Next::Found(0));
    }
}
