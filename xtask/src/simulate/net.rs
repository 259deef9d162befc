//! The network that simulated nodes talk over: regions, access links, loss, NATs, cuts and crashes.
//!
//! It owns byte streams and what delays them, and knows nothing of messages. Nothing ticks: a chunk of bytes carries the
//! moment at which it arrives, and its reader sleeps until then. Where no link is limited, that moment is known when the
//! bytes are written and the network does nothing else. Where one is, the bytes are a flow, and one task, the driver,
//! sleeps until the next chunk of any flow is through; shares are worked out anew only when a flow begins or ends, and
//! only among the links that are connected to it through flows.
//!
//! ```text
//!  write ──► unsent ──(flow: max–min share of sender's up, receiver's down)──► sent, arrives at t ──► read
//!                     (unlimited: at once)       latency + jitter + loss ──────────────┘
//! ```
//!
//! Invariants: bytes of a direction arrive in order and none is lost while both ends live; the same calls at the same
//! virtual times give the same arrivals; an idle connection costs nothing.

mod fair;
mod flows;
mod host;
mod link;
mod pipe;
mod region;
mod state;
mod stream;

use std::{
    future::poll_fn,
    net::IpAddr,
    sync::{Arc, Weak},
    task::Poll,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};
use tokio_util::task::TaskTracker;

pub use host::SimHost;
pub use link::{Bandwidth, HostSpec, Link, Nat, Traffic};
pub use region::Region;

use state::State;
use stream::Timer;

/// A network of simulated hosts. Cloning shares it.
///
/// - **Latency** is that of the two hosts' [`Region`]s; **jitter** is added to each chunk and never lets one overtake
///   another.
/// - **Bandwidth**: every direction of a connection that has bytes to move is a flow across its sender's up-link and its
///   receiver's down-link, which the flows share max–min fairly. What is written second waits for what was written first.
/// - **Loss** never takes bytes away: a segment of 1460 bytes that is lost comes a retransmission timeout later (200 ms
///   and a round trip, doubled each time), and all that follows waits for it.
/// - **Cuts** are silent: bytes under way are lost and sent again once the cut is healed, dials wait.
/// - **Crashes** are loud: peers see a reset, one latency later.
#[derive(Debug, Clone)]
pub struct SimNet {
    state: Arc<Mutex<State>>,
    healed: Arc<Notify>,
}

/// A cut, to be healed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutId(Vec<u64>);

impl SimNet {
    /// A network without hosts; `seed` decides jitter and loss. To be made on a runtime, whose clock should be paused.
    pub fn new(seed: u64) -> Self {
        Self::start(State::new(seed, None))
    }

    /// A network in which all hosts are `latency` apart, wherever they are.
    pub fn with_latency(seed: u64, latency: Duration) -> Self {
        Self::start(State::new(seed, Some(latency)))
    }

    fn start(state: State) -> Self {
        let state = Arc::new(Mutex::new(state));
        // The driver ends with the network: it holds it weakly, and is woken when it is dropped.
        TaskTracker::new().spawn(drive(Arc::downgrade(&state)));
        Self { state, healed: Arc::default() }
    }

    /// Adds a host and begins its first life.
    ///
    /// # Errors
    /// If its own address is taken by a host or a router, or its router's by a host.
    pub fn add_host(&self, spec: HostSpec) -> Result<SimHost> {
        let mut state = self.state.lock();
        ensure!(!state.is_taken(spec.ip), "{} is taken", spec.ip);
        ensure!(!state.by_ip.contains_key(&spec.public()), "{} is a host, not a router", spec.public());
        let host = state.add_host(spec);
        Ok(SimHost::new(self.clone(), host, state.hosts[host].life))
    }

    /// What a DNS name resolves to, for everyone.
    pub fn set_name(&self, name: &str, ips: Vec<IpAddr>) {
        self.state.lock().names.insert(name.into(), ips);
    }

    /// Lets nothing pass between the two sides, either way. Hosts are named by their own addresses, and may be added
    /// later.
    pub fn cut(&self, side: &[IpAddr], other: &[IpAddr]) -> CutId {
        CutId(self.state.lock().cut(&[(side, other), (other, side)], now()))
    }

    /// Lets nothing pass one way. Connections that are open go on the other way; dials work neither way.
    pub fn cut_one_way(&self, from: &[IpAddr], to: &[IpAddr]) -> CutId {
        CutId(self.state.lock().cut(&[(from, to)], now()))
    }

    /// Heals one cut.
    pub fn heal_cut(&self, cut: &CutId) {
        self.state.lock().heal(|number| cut.0.contains(&number), now());
        self.healed.notify_waiters();
    }

    /// Heals every cut.
    pub fn heal(&self) {
        self.state.lock().heal(|_| true, now());
        self.healed.notify_waiters();
    }

    /// Ends the life of the host with this address, as when its process is killed: its listeners vanish, what it has not
    /// sent is lost, its own streams fail at once, and the other ends are reset after the latency. Nothing if there is no
    /// such host or it is down.
    pub fn crash(&self, ip: IpAddr) {
        let mut state = self.state.lock();
        if let Some(host) = state.by_ip.get(&ip).copied() {
            state.crash(host, now());
        }
    }

    /// Begins a new life of the host with this address; crashes it before, should it be up.
    ///
    /// # Errors
    /// If there is no such host.
    pub fn restart(&self, ip: IpAddr) -> Result<SimHost> {
        self.crash(ip);
        let mut state = self.state.lock();
        let host = state.by_ip.get(&ip).copied().with_context(|| format!("no host has the address {ip}"))?;
        state.hosts[host].life += 1;
        Ok(SimHost::new(self.clone(), host, state.hosts[host].life))
    }

    /// What the host with this address has sent and received so far, in all its lives; nothing if there is no such host.
    pub fn traffic(&self, ip: IpAddr) -> Traffic {
        let state = self.state.lock();
        state.by_ip.get(&ip).map(|host| state.hosts[*host].traffic).unwrap_or_default()
    }
}

/// Moves the flows of a network until it is dropped.
async fn drive(state: Weak<Mutex<State>>) {
    let mut timer = Timer(None);
    poll_fn(|cx| {
        loop {
            let Some(state) = state.upgrade() else { return Poll::Ready(()) };
            let next = state.lock().drive(now(), cx.waker());
            drop(state);
            match next {
                Some(at) if timer.poll(at, cx).is_ready() => {}
                _ => return Poll::Pending,
            }
        }
    })
    .await;
}

#[expect(clippy::disallowed_methods, reason = "the network keeps its own time")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests;
