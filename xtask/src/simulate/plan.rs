//! What a run is made of: hosts, a schedule, and how long it lasts.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use bt2c_node::{config::NodeConfig, genesis::DEVNET_VALIDATORS};
use bt2c_proto::Defence;

use super::{
    attack::Attack,
    net::{Link, Nat, Region},
    schedule::{Schedule, Step},
    world::ChainPlan,
};

/// What a run is made from.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Honest nodes.
    pub nodes: usize,
    /// Virtual time.
    pub duration: Duration,
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// Whether connections are encrypted; otherwise each end declares its certificate.
    pub tls: bool,
    /// The defence that all nodes lack.
    pub without: Option<Defence>,
    /// Settings of all nodes: keys of the configuration and their values.
    pub settings: Vec<(String, String)>,
}

impl Setup {
    /// So many nodes for that long, with TLS and every defence.
    pub const fn new(nodes: usize, duration: Duration, seed: u64) -> Self {
        Self { nodes, duration, seed, tls: true, without: None, settings: Vec::new() }
    }
}

/// What a host is.
#[derive(Debug, Clone, Copy)]
pub enum Role {
    /// A node.
    Node,
    /// A node that proposes blocks with this one of the devnet's validator keys.
    Proposer(usize),
    /// Somebody who means harm.
    Attacker(Attack),
}

/// A host, as it is before anything happens.
#[derive(Debug, Clone)]
pub struct HostPlan {
    /// What it is.
    pub role: Role,
    /// Its own address.
    pub ip: IpAddr,
    /// Where it is.
    pub region: Region,
    /// Its access link.
    pub link: Link,
    /// What stands between it and the rest of the network.
    pub nat: Nat,
    /// How far its clock is ahead at the start, in milliseconds; negative: behind.
    pub skew_ms: i64,
    /// Microseconds that its clock gains in a second; negative: loses.
    pub drift_ppm: i32,
    /// The hosts that it knows as seeds.
    pub seeds: Vec<usize>,
    /// Whether its disk holds the chain that the plan asks for.
    pub has_chain: bool,
    /// Its own settings: keys of the configuration and their values.
    pub settings: Vec<(&'static str, String)>,
}

impl HostPlan {
    /// The host of this number as most are: a node in a netgroup of its own (every fifth on IPv6), in one region after
    /// the other, on a link that is fast enough but neither even nor without loss, with host 0 as its seed, and from host 50 on
    /// with further ones. The first
    /// [`DEVNET_VALIDATORS`] propose.
    pub fn ordinary(number: usize) -> Self {
        Self {
            role: if number < DEVNET_VALIDATORS { Role::Proposer(number) } else { Role::Node },
            ip: address(number),
            region: Region::ALL[number % Region::ALL.len()],
            link: Link { jitter: Duration::from_millis(5), loss: 500, ..Link::PERFECT },
            nat: Nat::Open,
            skew_ms: 0,
            drift_ppm: 0,
            // As many as a network of that size would have: each has room for some ninety.
            seeds: (0..=number / 50).collect(),
            has_chain: false,
            settings: Vec::new(),
        }
    }

    /// Somebody who means harm, at this address.
    pub fn attacker(attack: Attack, ip: IpAddr) -> Self {
        Self { role: Role::Attacker(attack), ip, ..Self::ordinary(0) }
    }

    /// Whether it is an honest node.
    pub const fn is_honest(&self) -> bool {
        !matches!(self.role, Role::Attacker(_))
    }
}

/// A global-looking address in a netgroup of its own: an IPv4 /16, or an IPv6 /32.
fn address(number: usize) -> IpAddr {
    let [.., high, low] = number.to_be_bytes();
    if number % 5 == 4 {
        Ipv6Addr::new(0x2a00, u16::from_be_bytes([high, low]), 0, 0, 0, 0, 0, 1).into()
    } else {
        Ipv4Addr::new(40 + high, low, 0, 1).into()
    }
}

/// Hosts of a large network: more than this.
const LARGE: usize = 100;

/// A change to a host's configuration, given its number.
pub type Tune = fn(usize, &mut NodeConfig);

/// Hosts, what happens to them, and how long it takes.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The hosts; a host's number is its place here.
    pub hosts: Vec<HostPlan>,
    /// What happens.
    pub schedule: Schedule,
    /// When proposing stops; three slots later the run is judged.
    pub end: Duration,
    /// What every node's configuration has besides the defaults.
    pub tune: Tune,
    /// What there is at the start.
    pub chain: ChainPlan,
}

impl Plan {
    /// The ordinary nodes that a set-up asks for, to whom nothing happens yet.
    pub fn new(setup: &Setup) -> Self {
        Self {
            hosts: (0..setup.nodes).map(HostPlan::ordinary).collect(),
            schedule: Schedule::default(),
            end: setup.duration,
            tune: |_, _| {},
            chain: ChainPlan::default(),
        }
    }

    /// Adds a host and returns its number.
    pub fn add(&mut self, host: HostPlan) -> usize {
        self.hosts.push(host);
        self.hosts.len() - 1
    }

    /// Adds a step to the schedule.
    pub fn at(&mut self, at: Duration, step: Step) {
        self.schedule.add(at, step);
    }

    /// Lets hosts join, one at each interval.
    pub fn join(&mut self, hosts: impl IntoIterator<Item = usize>, from: Duration, interval: Duration) {
        let mut at = from;
        for host in hosts {
            self.at(at, Step::Join(host));
            at += interval;
        }
    }

    /// Whether a host keeps its state on its disk. In a large network one to which nothing happens that it would have to
    /// remember keeps it in memory: it takes a fifth of the time less, and no message is another.
    pub(super) fn needs_disk(&self, host: usize) -> bool {
        let remembers =
            |step: &Step| step.host() == Some(host) && !matches!(step, Step::Join(_) | Step::Transact(_));
        self.hosts.len() <= LARGE
            || self.hosts[host].has_chain
            || self.schedule.steps().iter().any(|timed| remembers(&timed.step))
    }

    /// The numbers of the honest nodes.
    pub fn honest(&self) -> impl Iterator<Item = usize> + '_ {
        self.hosts.iter().enumerate().filter(|(_, host)| host.is_honest()).map(|(number, _)| number)
    }
}
