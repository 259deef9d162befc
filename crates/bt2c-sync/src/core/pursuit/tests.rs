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
