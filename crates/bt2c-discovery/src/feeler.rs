//! Feelers: short dials that only learn whether an address answers.
//!
//! Without them the first node of a network would never have anything to tell: all others dial it, so it would dial
//! none of them. A peer that dialled us is therefore checked at the address it says it listens on, soon and once; and
//! when all outbound slots are taken, some other untried address is checked now and then.

use std::{net::SocketAddr, time::Duration};

use bt2c_proto::{IpUnit, Time, is_global};

use crate::{
    book::{Entry, Table},
    dial::{Connected, DialReason, DialTarget},
    discovery::NodeDiscovery,
};

/// Which addresses to check, and the pace. At most one feeler is out at a time.
#[derive(Debug, Default)]
pub(crate) struct Feelers {
    queue: Vec<SocketAddr>,
    /// The one that is out, and when it is given up for lost.
    out: Option<(SocketAddr, Time)>,
    /// Not before this.
    ready: Time,
    /// The next one from the book.
    book_at: Time,
}

impl Feelers {
    /// The address that is being checked.
    pub(crate) fn out(&self) -> Option<SocketAddr> {
        self.out.map(|(addr, _)| addr)
    }

    /// A dial ended; says whether it was the feeler.
    pub(crate) fn ended(&mut self, addr: SocketAddr) -> bool {
        self.out.take_if(|(out, _)| *out == addr).is_some()
    }
}

impl NodeDiscovery {
    /// Has an address checked as soon as the pace allows. Full queues and second addresses of one public IP are
    /// dropped: whoever dials us cannot make us dial much.
    pub(crate) fn check_soon(&mut self, now: Time, addr: SocketAddr) {
        let same_unit = |queued: &SocketAddr| {
            *queued == addr || (is_global(addr.ip()) && IpUnit::of(queued.ip()) == IpUnit::of(addr.ip()))
        };
        if self.feelers.queue.len() < MAX_QUEUE && !self.feelers.queue.iter().any(same_unit) {
            self.feelers.queue.push(addr);
            self.wake_at(self.feelers.ready.max(now));
        }
    }

    /// The next address to check. `full` says that all outbound slots are taken.
    pub(crate) fn next_feeler(&mut self, now: Time, view: &Connected, full: bool) -> Option<DialTarget> {
        self.feelers.out.take_if(|(_, lost)| *lost <= now);
        if let Some((_, lost)) = self.feelers.out {
            self.wake_at(lost);
            return None;
        }
        if self.feelers.ready > now {
            self.wake_at(self.feelers.ready);
            return None;
        }
        let addr = self.next_queued(now, view).or_else(|| self.next_untried(now, view, full))?;
        self.feelers.out = Some((addr, now + PATIENCE));
        self.feelers.ready = now + PACE;
        Some(DialTarget { addr, pin: None, reason: DialReason::Feeler })
    }

    /// The first of the queue that need not wait. It stays in the queue until it answered or failed too often. That it
    /// is connected inbound does not matter: that is why it is here.
    fn next_queued(&mut self, now: Time, view: &Connected) -> Option<SocketAddr> {
        let unknown = |entry: &Entry| entry.answered.is_none() && entry.retry.failures < MAX_CHECKS;
        self.feelers.queue.retain(|addr| self.book.get(*addr).is_some_and(unknown));
        let open =
            |addr: SocketAddr| self.bans.until(now, addr.ip()).is_none() && !view.outbound.contains(&addr);
        let mut wake = None;
        for addr in self.feelers.queue.iter().copied().filter(|addr| open(*addr)) {
            let retry_at = self.book.get(addr).map_or(now, |entry| entry.retry.at);
            if retry_at <= now {
                return Some(addr);
            }
            wake = Some(wake.map_or(retry_at, |wake: Time| wake.min(retry_at)));
        }
        wake.into_iter().for_each(|at| self.wake_at(at));
        None
    }

    fn next_untried(&mut self, now: Time, view: &Connected, full: bool) -> Option<SocketAddr> {
        if !full {
            return None;
        }
        if self.feelers.book_at <= now {
            self.feelers.book_at = now + self.config.feeler_interval;
            let drawn = self.book.draw(Table::New, SAMPLE, &mut self.rng);
            let mut ready = drawn.filter(|(_, entry)| entry.retry.at <= now).map(|(addr, _)| addr);
            return ready.find(|addr| self.is_open(now, view, *addr));
        }
        self.wake_at(self.feelers.book_at);
        None
    }
}

/// Most addresses that wait to be checked.
const MAX_QUEUE: usize = 128;

/// How often one address is checked before it is left to chance.
const MAX_CHECKS: u32 = 3;

/// Least time between two feelers.
const PACE: Duration = Duration::from_secs(1);

/// After this a feeler whose end was not reported is taken for lost: three times the limit for a connection.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many addresses are looked at for a feeler from the book.
const SAMPLE: usize = 16;
