use rand::SeedableRng;

use super::*;

const KEY: BucketKey = BucketKey([3, 4]);

fn addr(n: u32) -> SocketAddr {
    SocketAddr::from(((0x0800_0000 + n * 0x1_0000).to_be_bytes(), 8338))
}

fn source(n: u8) -> IpAddr {
    IpAddr::from([20 + n, n, 1, 1])
}

fn peer(n: u32) -> PeerId {
    PeerId::from_spki_der(&n.to_be_bytes())
}

fn small() -> Book {
    Book::new(KEY, NonZeroU16::MIN, NonZeroU16::MIN)
}

/// Two different addresses that share a seat of the tried table (of one bucket).
fn rivals(book: &Book) -> (SocketAddr, SocketAddr) {
    let seat = |n| KEY.tried_seat(book.tried.buckets, addr(n));
    let second = (1..).find(|n| seat(*n) == seat(0)).expect("there are only 64 seats");
    (addr(0), addr(second))
}

fn at(secs: u64) -> Time {
    Time::from_secs(secs)
}

#[test]
fn an_address_is_new_once() {
    let mut book = small();
    assert!(book.add(at(1), addr(1), source(1)));
    assert!(!book.add(at(9), addr(1), source(2)));
    let entry = book.get(addr(1)).unwrap();
    assert_eq!((entry.source, entry.seen, entry.is_tried()), (source(1), at(9), false));
}

#[test]
fn a_flood_of_names_displaces_nothing_that_may_still_be_good() {
    let mut book = small();
    for n in 0..10_000 {
        book.add(at(1), addr(n), source(1));
    }
    let held: Vec<_> = book.iter().map(|(addr, _)| addr).collect();
    assert!(held.len() <= 64);
    for n in 10_000..20_000 {
        book.add(at(2), addr(n), source(2));
    }
    assert!(held.iter().all(|addr| book.get(*addr).is_some()));
    assert!(book.len() <= 64);
}

#[test]
fn failures_and_age_give_a_new_seat_up() {
    for spoil in [0, 1] {
        let mut book = small();
        let seat = |addr| KEY.new_seat(NonZeroU16::MIN, addr, source(1));
        let rival = (1..).map(addr).find(|rival| seat(*rival) == seat(addr(0))).unwrap();
        assert!(book.add(at(0), addr(0), source(1)));
        assert!(!book.add(at(0), rival, source(1)));
        let now = if spoil == 0 {
            book.get_mut(addr(0)).unwrap().retry.failures = DOUBTFUL;
            at(0)
        } else {
            at(0) + MONTH + Duration::from_secs(1)
        };
        assert!(book.add(now, rival, source(1)));
        assert!(book.get(addr(0)).is_none());
    }
}

#[test]
fn who_answered_is_tried_and_worth_telling_until_it_fails() {
    let mut book = small();
    book.add(at(1), addr(1), source(1));
    assert!(!book.get(addr(1)).unwrap().is_good());
    book.answered(at(2), addr(1), peer(1));
    let entry = book.get_mut(addr(1)).unwrap();
    assert!(entry.is_good() && entry.is_tried());
    assert_eq!((entry.answered, entry.peer), (Some(at(2)), Some(peer(1))));
    entry.retry.failures = DOUBTFUL;
    assert!(!entry.is_good());
    assert_eq!((book.table_len(Table::New), book.table_len(Table::Tried)), (0, 1));
}

#[test]
fn a_tried_seat_is_kept_by_who_answered_lately() {
    let mut book = small();
    let (first, second) = rivals(&book);
    for addr in [first, second] {
        book.add(at(0), addr, source(1));
    }
    book.answered(at(0), first, peer(1));
    book.answered(at(60), second, peer(2));
    assert!(book.get(first).unwrap().is_tried());
    let late = book.get(second).unwrap();
    assert!(!late.is_tried() && late.answered.is_some());
}

#[test]
fn a_tried_seat_is_lost_to_who_answers_now_if_its_holder_does_not() {
    let mut book = small();
    let (first, second) = rivals(&book);
    for addr in [first, second] {
        book.add(at(0), addr, source(1));
    }
    book.answered(at(0), first, peer(1));
    book.answered(at(0) + RECENT, second, peer(2));
    assert!(book.get(second).unwrap().is_tried());
    assert!(!book.get(first).unwrap().is_tried(), "it went back among the new");
    assert_eq!(book.len(), 2);
}

#[test]
fn what_never_answered_dies_of_failures_and_what_did_also_needs_a_week() {
    let mut book = small();
    book.add(at(0), addr(1), source(1));
    let entry = book.get_mut(addr(1)).unwrap();
    entry.retry.failures = DEAD - 1;
    assert!(!entry.is_dead(at(0)));
    entry.retry.failures = DEAD;
    assert!(entry.is_dead(at(0)));
    entry.answered = Some(at(0));
    assert!(!entry.is_dead(at(0) + WEEK));
    assert!(entry.is_dead(at(1) + WEEK));
}

#[test]
fn removing_frees_the_seat() {
    let mut book = small();
    let mut rng = ChaCha8Rng::from_seed([0; 32]);
    book.add(at(0), addr(1), source(1));
    book.add(at(0), addr(2), source(1));
    book.answered(at(0), addr(2), peer(2));
    assert!(book.remove(addr(1)) && book.remove(addr(2)) && !book.remove(addr(2)));
    assert_eq!(book.draw(Table::New, 9, &mut rng).count() + book.draw(Table::Tried, 9, &mut rng).count(), 0);
    assert!(book.add(at(0), addr(1), source(1)));
}
