//! What is told to others, and what is believed of them.

use std::net::{IpAddr, SocketAddr};

use bt2c_proto::{Defence, PeerId, Time, canonical, limits::MAX_PEERS};

use crate::{
    answers::Selection,
    book::Table,
    discovery::{NodeDiscovery, Source},
    reach::{Group, may_pass},
};

impl NodeDiscovery {
    /// The answer to `get_peers`: addresses that answered a dial of ours, at random.
    ///
    /// `asker` is where the asker can be dialled as far as known (its IP with the port that it says it listens on);
    /// that address is never in the answer. Nobody is told more than the configured share of the book, though always
    /// ten if there are as many, and askers of one netgroup draw from the same selection for ten minutes: the book
    /// cannot be read out by asking again.
    pub fn get_peers(&mut self, now: Time, count: u64, asker: SocketAddr) -> Vec<SocketAddr> {
        let asker = canonical(asker);
        let limit = self.answer_limit();
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(limit);
        let group = Group::of_ip(asker.ip());
        let mut selection = self.answers.take(now, group).unwrap_or_else(|| self.select(now, limit));
        selection.addrs.retain(|addr| self.is_tellable(now, *addr));
        let suits =
            |addr: &SocketAddr| *addr != asker && may_pass(self.config.network, addr.ip(), asker.ip());
        let mut answer: Vec<_> = selection.addrs.iter().copied().filter(suits).take(count).collect();
        if answer.len() < count.min(ASSURED) {
            let missing = self.book.draw(Table::Tried, usize::MAX, &mut self.rng);
            let missing = missing.map(|(addr, _)| addr).filter(suits);
            let missing = missing.filter(|addr| !answer.contains(addr) && self.is_tellable(now, *addr));
            let missing: Vec<_> = missing.take(count.min(ASSURED) - answer.len()).collect();
            answer.extend(&missing);
            selection.addrs.extend(missing);
            selection.addrs.truncate(MAX_PEERS);
        }
        self.answers.put(group, selection);
        answer
    }

    /// Takes the addresses of a `peers` answer and says how many were new.
    ///
    /// `from` is the peer that was asked, at `ip`. Each address costs it one token, usable or not; what exceeds its
    /// bucket is ignored. Addresses that the network does not keep, or that a node at `ip` could not know, are too.
    pub fn handle_peers(&mut self, now: Time, from: PeerId, ip: IpAddr, addrs: &[SocketAddr]) -> usize {
        let taken = match self.config.defences.has(Defence::AddressBudget) {
            true => self.intake.take(now, from, addrs.len()),
            false => addrs.len(),
        };
        let mut added = 0;
        for addr in &addrs[..taken] {
            if may_pass(self.config.network, addr.ip(), ip) {
                added += usize::from(self.add_peer(now, *addr, Source::Peer(ip)));
            }
        }
        added
    }

    /// A peer that dialled us says where it listens. The address is not handed on before it answered a dial of ours,
    /// so it is checked soon.
    pub fn handle_inbound(&mut self, now: Time, observed: IpAddr, listen_port: u16) {
        let addr = canonical(SocketAddr::new(observed, listen_port));
        self.add_peer(now, addr, Source::Peer(observed));
        if self.book.get(addr).is_some_and(|entry| entry.answered.is_none()) {
            self.check_soon(now, addr);
        }
    }

    /// How many addresses a peer is asked for: as many as would be taken from it.
    pub(crate) fn askable(&self, now: Time, peer: &PeerId) -> u64 {
        let count = self.intake.available(now, peer).clamp(ASSURED, MAX_PEERS);
        u64::try_from(count).expect("at most 1000")
    }

    fn answer_limit(&self) -> usize {
        let share = self.book.len().saturating_mul(usize::from(self.config.answer_percent)) / 100;
        share.clamp(ASSURED, MAX_PEERS)
    }

    fn select(&mut self, now: Time, amount: usize) -> Selection {
        let drawn = self.book.draw(Table::Tried, usize::MAX, &mut self.rng);
        let good = drawn.filter(|(_, entry)| entry.is_good()).map(|(addr, _)| addr);
        Selection { until: now + self.config.answer_lifetime, addrs: good.take(amount).collect() }
    }

    fn is_tellable(&self, now: Time, addr: SocketAddr) -> bool {
        self.book.get(addr).is_some_and(|entry| entry.is_good()) && self.bans.until(now, addr.ip()).is_none()
    }
}

/// How many addresses anybody is told if there are as many: enough to join, too few to matter to whoever collects.
const ASSURED: usize = 10;

#[cfg(test)]
mod tests;
