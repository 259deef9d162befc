//! One table of the book: who sits where, and drawing some of them at random.

use std::{collections::BTreeMap, net::SocketAddr, num::NonZeroU16};

use rand_chacha::ChaCha8Rng;

/// Seats that are taken, in memory proportional to their number.
///
/// Invariant: `order` holds exactly the values of `taken`, each once, in an order that depends only on what was done.
#[derive(Debug)]
pub(crate) struct Seats {
    pub(crate) buckets: NonZeroU16,
    taken: BTreeMap<u32, SocketAddr>,
    order: Vec<SocketAddr>,
    position: BTreeMap<SocketAddr, usize>,
}

impl Seats {
    pub(crate) const fn new(buckets: NonZeroU16) -> Self {
        Self { buckets, taken: BTreeMap::new(), order: Vec::new(), position: BTreeMap::new() }
    }

    pub(crate) fn at(&self, seat: u32) -> Option<SocketAddr> {
        self.taken.get(&seat).copied()
    }

    pub(crate) const fn len(&self) -> usize {
        self.order.len()
    }

    /// Takes a free seat for an address that has none here.
    pub(crate) fn sit(&mut self, seat: u32, addr: SocketAddr) {
        debug_assert!(!self.taken.contains_key(&seat) && !self.position.contains_key(&addr));
        self.taken.insert(seat, addr);
        self.position.insert(addr, self.order.len());
        self.order.push(addr);
    }

    /// Frees a seat.
    pub(crate) fn rise(&mut self, seat: u32) {
        let Some(addr) = self.taken.remove(&seat) else { return };
        let index = self.position.remove(&addr).expect("whoever sits has a position");
        self.order.swap_remove(index);
        if let Some(moved) = self.order.get(index) {
            self.position.insert(*moved, index);
        }
    }

    /// Up to that many different addresses, at random.
    pub(crate) fn draw(&self, amount: usize, rng: &mut ChaCha8Rng) -> impl Iterator<Item = SocketAddr> {
        let indices = rand::seq::index::sample(rng, self.order.len(), amount.min(self.order.len()));
        indices.into_iter().map(|index| self.order[index])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng;

    use super::*;

    #[test]
    fn drawing_covers_all_without_repeating_as_seats_come_and_go() {
        let addr = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let mut seats = Seats::new(NonZeroU16::MIN);
        let mut rng = ChaCha8Rng::from_seed([0; 32]);
        for port in 1..=50u16 {
            seats.sit(u32::from(port), addr(port));
        }
        for port in (1..=50u16).filter(|port| port % 3 == 0) {
            seats.rise(u32::from(port));
        }
        let drawn: Vec<_> = seats.draw(100, &mut rng).collect();
        let expected: BTreeSet<_> = (1..=50u16).filter(|port| port % 3 != 0).map(addr).collect();
        assert_eq!(drawn.len(), expected.len());
        assert_eq!(drawn.into_iter().collect::<BTreeSet<_>>(), expected);
        assert_eq!(seats.draw(5, &mut rng).count(), 5);
    }
}
