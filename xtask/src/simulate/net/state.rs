//! Everything a simulated network knows, and what happens in it.

mod dialing;
mod faults;
mod streams;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    task::Waker,
    time::Duration,
};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tokio::time::Instant;

use super::{
    fair::LinkId,
    flows::{Flows, PipeId},
    link::{HostSpec, Traffic},
    pipe::{Pipe, Route, wait, wake},
};

pub(super) use dialing::Dial;

/// The first port that dials come from.
const FIRST_PORT: u16 = 32_768;

/// Everything a simulated network knows.
#[derive(Debug)]
pub(super) struct State {
    seed: u64,
    /// One way between any two hosts, instead of what their regions say.
    latency: Option<Duration>,
    pub(super) hosts: Vec<Host>,
    pub(super) by_ip: BTreeMap<IpAddr, usize>,
    pub(super) names: BTreeMap<Box<str>, Vec<IpAddr>>,
    /// Ports that routers forward.
    forwards: BTreeMap<SocketAddr, usize>,
    /// By host and port.
    listeners: BTreeMap<(usize, u16), Listening>,
    /// The last port from which a public address dialled.
    ports: BTreeMap<IpAddr, u16>,
    cuts: BTreeMap<u64, Cut>,
    conns: BTreeMap<u64, Conn>,
    numbers: u64,
    flows: Flows,
    driver: Option<Waker>,
}

#[derive(Debug)]
pub(super) struct Host {
    spec: HostSpec,
    up: Option<LinkId>,
    down: Option<LinkId>,
    /// Which of its lives it is in; even numbers are between lives.
    pub(super) life: u64,
    pub(super) traffic: Traffic,
    rng: ChaCha8Rng,
}

/// What one side does not get to the other.
#[derive(Debug)]
struct Cut {
    from: BTreeSet<IpAddr>,
    to: BTreeSet<IpAddr>,
}

#[derive(Debug)]
struct Listening {
    number: u64,
    declared: Option<Arc<[u8]>>,
    queue: VecDeque<(u64, SocketAddr)>,
    waker: Option<Waker>,
}

/// A connection. Side 0 dialled; pipe 0 is what side 0 writes.
#[derive(Debug)]
struct Conn {
    hosts: [usize; 2],
    pipes: [Pipe; 2],
    /// What certificate each side declares.
    declared: [Option<Arc<[u8]>>; 2],
    /// Sides that were dropped.
    closed: [bool; 2],
    /// Sides whose host has crashed.
    dead: [bool; 2],
}

impl State {
    pub(super) fn new(seed: u64, latency: Option<Duration>) -> Self {
        Self {
            seed,
            latency,
            hosts: Vec::new(),
            by_ip: BTreeMap::new(),
            names: BTreeMap::new(),
            forwards: BTreeMap::new(),
            listeners: BTreeMap::new(),
            ports: BTreeMap::new(),
            cuts: BTreeMap::new(),
            conns: BTreeMap::new(),
            numbers: 0,
            flows: Flows::default(),
            driver: None,
        }
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn port(&mut self, public: IpAddr) -> u16 {
        let port = self.ports.entry(public).or_insert(FIRST_PORT - 1);
        *port = port.checked_add(1).unwrap_or(FIRST_PORT);
        *port
    }

    pub(super) fn add_host(&mut self, spec: HostSpec) -> usize {
        let id = self.hosts.len();
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(id as u64 + 1);
        let up = spec.link.up.limit().map(|bits| self.flows.add_link(bits));
        let down = spec.link.down.limit().map(|bits| self.flows.add_link(bits));
        self.hosts.push(Host { spec, up, down, life: 1, traffic: Traffic::default(), rng });
        self.by_ip.insert(spec.ip, id);
        id
    }

    /// Whether a host has this address, or a router.
    pub(super) fn is_taken(&self, ip: IpAddr) -> bool {
        self.by_ip.contains_key(&ip) || self.hosts.iter().any(|host| host.spec.public() == ip)
    }

    fn ip(&self, host: usize) -> IpAddr {
        self.hosts[host].spec.ip
    }

    /// Fails unless the host is still in this life.
    fn check_alive(&self, host: usize, life: u64) -> io::Result<()> {
        if self.hosts[host].life == life { Ok(()) } else { Err(io::ErrorKind::NetworkDown.into()) }
    }

    fn route(&self, from: usize, to: usize) -> Route {
        let (a, b) = (&self.hosts[from], &self.hosts[to]);
        if from == to {
            let latency = Duration::ZERO;
            return Route { from, to, latency, jitter: Duration::ZERO, loss: 0, links: [None; 2] };
        }
        Route {
            from,
            to,
            latency: self.latency.unwrap_or_else(|| a.spec.region.latency(b.spec.region)),
            jitter: a.spec.link.jitter + b.spec.link.jitter,
            loss: a.spec.link.loss.saturating_add(b.spec.link.loss),
            links: [a.up, b.down],
        }
    }

    /// What the other side of a connection declares, if both do.
    pub(super) fn declared(&self, conn: u64, side: usize) -> Option<Arc<[u8]>> {
        let [one, other] = &self.conns.get(&conn)?.declared;
        let both = one.clone().zip(other.clone())?;
        Some(if side == 0 { both.1 } else { both.0 })
    }

    /// Whether something stands between the two, this way.
    fn is_cut(&self, from: usize, to: usize) -> bool {
        let (from, to) = (self.ip(from), self.ip(to));
        self.cuts.values().any(|cut| cut.from.contains(&from) && cut.to.contains(&to))
    }
}

/// Flows: bytes that have to share links.
impl State {
    fn start_flow(&mut self, id: PipeId, now: Instant) {
        self.catch_up(now);
        let Some(conn) = self.conns.get_mut(&id.0) else { return };
        let pipe = &mut conn.pipes[id.1];
        let Some(len) = pipe.next_len() else { return };
        pipe.flow = Some(self.flows.start(id, pipe.route.links, len, now));
        wake(&mut self.driver);
    }

    fn stop_flow(&mut self, id: PipeId, now: Instant) {
        self.catch_up(now);
        let Some(conn) = self.conns.get_mut(&id.0) else { return };
        if let Some(flow) = conn.pipes[id.1].flow.take() {
            self.flows.end(flow, now);
            wake(&mut self.driver);
        }
    }

    /// Lets everything happen that was to happen by now.
    fn catch_up(&mut self, now: Instant) {
        while let Some((at, flow, id)) = self.flows.take_due(now) {
            let Some(conn) = self.conns.get_mut(&id.0) else { continue };
            let pipe = &mut conn.pipes[id.1];
            let from = &mut self.hosts[pipe.route.from];
            from.traffic.sent += pipe.launch(at, &mut from.rng) as u64;
            if let Some(len) = pipe.next_len() {
                self.flows.next_chunk(flow, len, at);
            } else {
                pipe.flow = None;
                pipe.launch_signals(at, &mut from.rng);
                self.flows.end(flow, at);
            }
        }
    }

    /// What the driver does whenever it is woken: returns when it has to be woken next.
    pub(super) fn drive(&mut self, now: Instant, waker: &Waker) -> Option<Instant> {
        wait(&mut self.driver, waker);
        self.catch_up(now);
        self.flows.settle()
    }
}

impl Drop for State {
    fn drop(&mut self) {
        wake(&mut self.driver);
    }
}

#[cfg(test)]
impl State {
    /// Connections, and flows under way.
    pub(super) fn sizes(&self) -> (usize, usize) {
        let pipes = self.conns.values().flat_map(|conn| &conn.pipes);
        (self.conns.len(), pipes.filter(|pipe| pipe.flow.is_some()).count())
    }
}
