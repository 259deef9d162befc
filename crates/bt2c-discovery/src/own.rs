//! The addresses that turned out to be our own.

use std::{collections::VecDeque, net::SocketAddr};

/// The last [`MAX_OWN`] addresses under which we met ourselves. One that is forgotten costs one more dial.
///
/// The book and the anchors hold none of them.
#[derive(Debug, Default)]
pub(crate) struct OwnAddrs {
    addrs: VecDeque<SocketAddr>,
}

impl OwnAddrs {
    pub(crate) fn insert(&mut self, addr: SocketAddr) {
        if self.contains(addr) {
            return;
        }
        if self.addrs.len() >= MAX_OWN {
            self.addrs.pop_front();
        }
        self.addrs.push_back(addr);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = SocketAddr> {
        self.addrs.iter().copied()
    }

    pub(crate) fn contains(&self, addr: SocketAddr) -> bool {
        self.addrs.contains(&addr)
    }
}

const MAX_OWN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_too_many_is_forgotten() {
        let mut own = OwnAddrs::default();
        let addr = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        for port in 1..=65 {
            own.insert(addr(port));
            own.insert(addr(port));
        }
        assert!(!own.contains(addr(1)) && own.contains(addr(2)) && own.contains(addr(65)));
    }
}
