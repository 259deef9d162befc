//! `NodeDiscovery` against a naive model: whatever happens in whatever order, the promises hold.

use std::collections::BTreeSet;

use bt2c_proto::{IpUnit, Network, is_global};
use proptest::prelude::*;

use super::*;
use crate::{Connected, DialReason, DialTarget, reach};

/// Something that happens. Addresses and peers are small numbers, so that they meet again.
#[derive(Debug, Clone)]
enum Step {
    Add {
        addr: u8,
        source: u8,
    },
    Peers {
        from: u8,
        addrs: Vec<u8>,
    },
    Inbound {
        addr: u8,
    },
    Resolved {
        addrs: Vec<u8>,
    },
    Dial,
    /// The oldest dial under way ends.
    DialEnds {
        connects: bool,
    },
    Disconnect {
        nth: u8,
        honest: bool,
    },
    Ban {
        addr: u8,
        secs: u16,
    },
    Unban {
        addr: u8,
    },
    Own {
        addr: u8,
    },
    Remove {
        addr: u8,
    },
    Pass {
        secs: u16,
    },
    Ask {
        asker: u8,
        count: u16,
    },
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let addrs = || proptest::collection::vec(any::<u8>(), 0..40);
    let step = prop_oneof![
        1 => (any::<u8>(), any::<u8>()).prop_map(|(addr, source)| Step::Add { addr, source }),
        1 => (0..4u8, addrs()).prop_map(|(from, addrs)| Step::Peers { from, addrs }),
        1 => any::<u8>().prop_map(|addr| Step::Inbound { addr }),
        1 => addrs().prop_map(|addrs| Step::Resolved { addrs }),
        3 => Just(Step::Dial),
        4 => any::<bool>().prop_map(|connects| Step::DialEnds { connects }),
        1 => (any::<u8>(), any::<bool>()).prop_map(|(nth, honest)| Step::Disconnect { nth, honest }),
        1 => (any::<u8>(), any::<u16>()).prop_map(|(addr, secs)| Step::Ban { addr, secs }),
        1 => any::<u8>().prop_map(|addr| Step::Unban { addr }),
        1 => (0..32u8).prop_map(|addr| Step::Own { addr }),
        1 => any::<u8>().prop_map(|addr| Step::Remove { addr }),
        3 => (0..500u16).prop_map(|secs| Step::Pass { secs }),
        2 => (any::<u8>(), 0..1200u16).prop_map(|(asker, count)| Step::Ask { asker, count }),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..150)
}

/// Public addresses in 24 netgroups, and private and loopback ones.
fn addr(n: u8) -> SocketAddr {
    match n {
        0..=199 => SocketAddr::from(([11, n % 24, 0, n], 8338)),
        200..=229 => SocketAddr::from(([10, 0, 0, n], 8338)),
        _ => SocketAddr::from(([127, 0, 0, 1], 8000 + u16::from(n))),
    }
}

/// The node at that address; two addresses may be of one node.
fn peer(addr: SocketAddr) -> PeerId {
    let IpAddr::V4(ip) = addr.ip() else { unreachable!("the model uses IPv4 only") };
    PeerId::from_spki_der(&[ip.octets()[3] % 100, addr.port().to_be_bytes()[1]])
}

/// The node under test and what a naive observer remembers.
struct Model {
    node: NodeDiscovery,
    config: DiscoveryConfig,
    now: Time,
    view: Connected,
    /// Dials under way, and when they time out.
    dialling: Vec<(Time, DialTarget)>,
    up: Vec<SocketAddr>,
    answered: BTreeSet<SocketAddr>,
    own: BTreeSet<SocketAddr>,
    banned: BTreeMap<IpUnit, Time>,
}

impl Model {
    fn new(network: Network) -> Self {
        let mut config = DiscoveryConfig::for_network(network);
        config.outbound_wanted = 3;
        config.new_buckets = 2.try_into().unwrap();
        config.tried_buckets = 1.try_into().unwrap();
        config.seeds = vec![addr(1).into(), "seed.example.org:8338".parse().unwrap()];
        config.connect = vec![addr(250).into()];
        config.validate().unwrap();
        Self {
            node: NodeDiscovery::new(config.clone(), [8; 32]),
            config,
            now: Time::from_secs(1_712_352_000),
            view: Connected::default(),
            dialling: Vec::new(),
            up: Vec::new(),
            answered: BTreeSet::new(),
            own: BTreeSet::new(),
            banned: BTreeMap::new(),
        }
    }

    fn is_banned(&self, ip: IpAddr) -> bool {
        self.banned.get(&IpUnit::of(ip)).is_some_and(|until| *until > self.now)
    }

    fn step(&mut self, step: Step) {
        let now = self.now;
        match step {
            Step::Add { addr: n, source } => {
                let added = self.node.add_peer(now, addr(n), Source::Peer(addr(source).ip()));
                assert!(!added || !self.own.contains(&addr(n)));
            }
            Step::Peers { from, addrs } => {
                let list: Vec<_> = addrs.into_iter().map(addr).collect();
                self.node.handle_peers(now, peer(addr(from)), addr(from).ip(), &list);
            }
            Step::Inbound { addr: n } => {
                self.view.inbound.insert(addr(n));
                self.node.handle_inbound(now, addr(n).ip(), addr(n).port());
            }
            Step::Resolved { addrs } => {
                let ips: Vec<_> = addrs.into_iter().map(|n| addr(n).ip()).collect();
                self.node.handle_resolved(now, "seed.example.org", 8338, &ips);
            }
            Step::Dial => self.dial(),
            Step::DialEnds { connects } => self.dial_ends(connects),
            Step::Disconnect { nth, honest } => self.disconnect(nth, honest),
            Step::Ban { addr: n, secs } => {
                let until = now + Duration::from_secs(secs.into());
                self.node.ban_peer(addr(n).ip(), until);
                let known = self.banned.entry(IpUnit::of(addr(n).ip())).or_insert(until);
                *known = until.max(*known);
            }
            Step::Unban { addr: n } => {
                self.node.unban_peer(addr(n).ip());
                self.banned.remove(&IpUnit::of(addr(n).ip()));
            }
            Step::Own { addr: n } => {
                self.node.handle_self(now, addr(n));
                self.own.insert(addr(n));
                self.dialling.retain(|(_, target)| target.addr != addr(n));
                if !self.up.contains(&addr(n)) {
                    self.view.outbound.remove(&addr(n));
                }
            }
            Step::Remove { addr: n } => {
                self.node.remove_peer(now, addr(n));
            }
            Step::Pass { secs } => self.pass(secs),
            Step::Ask { asker, count } => self.ask(addr(asker), count),
            Step::Restart => self.restart(),
        }
    }

    fn dial(&mut self) {
        while let Some(target) = self.node.next_dial(self.now, &self.view) {
            let feeler = target.reason == DialReason::Feeler;
            let exempt =
                matches!(target.reason, DialReason::Operator | DialReason::Seed | DialReason::Feeler);
            assert!(!self.own.contains(&target.addr), "{target:?} is ourselves");
            assert!(!self.is_banned(target.addr.ip()), "{target:?} is banned");
            assert!(!self.view.outbound.contains(&target.addr), "{target:?} is dialled already");
            assert!(feeler || !self.view.inbound.contains(&target.addr), "{target:?} is connected inbound");
            let feelers = self.dialling.iter().filter(|(_, dial)| dial.reason == DialReason::Feeler).count();
            if feeler {
                assert_eq!(feelers, 0, "two feelers at once");
            } else if target.reason != DialReason::Operator {
                assert!(self.view.outbound.len() - feelers < self.config.outbound_wanted);
            }
            if !exempt && is_global(target.addr.ip()) {
                let same = |other: &&SocketAddr| reach::Group::of(**other) == reach::Group::of(target.addr);
                let counted = self.view.outbound.iter().filter(|addr| !self.node.operator.names(**addr));
                assert_eq!(counted.filter(same).count(), 0, "{target:?} shares a netgroup");
            }
            self.view.outbound.insert(target.addr);
            self.dialling.push((self.now + DIAL_TIMEOUT, target));
        }
        assert!(self.dialling.len() + self.up.len() < 16);
    }

    fn dial_ends(&mut self, connects: bool) {
        if self.dialling.is_empty() {
            return;
        }
        let (_, target) = self.dialling.remove(0);
        let peer = peer(target.addr);
        if connects && target.reason != DialReason::Feeler {
            self.node.handle_connected(self.now, target.addr, peer);
            self.view.peers.insert(peer);
            self.up.push(target.addr);
        } else {
            self.view.outbound.remove(&target.addr);
            if connects {
                self.node.handle_answered(self.now, target.addr, peer);
            } else {
                self.node.handle_dial_failed(self.now, target.addr);
            }
        }
        if connects {
            self.answered.insert(target.addr);
        }
    }

    fn disconnect(&mut self, nth: u8, honest: bool) {
        if self.up.is_empty() {
            return;
        }
        let gone = self.up.remove(usize::from(nth) % self.up.len());
        self.node.handle_disconnected(self.now, gone, honest);
        self.view.outbound.remove(&gone);
        self.view.peers = self.up.iter().map(|addr| peer(*addr)).collect();
    }

    fn pass(&mut self, secs: u16) {
        let end = self.now + Duration::from_secs(secs.into());
        for _ in 0..10_000 {
            let timeout = self.dialling.first().map(|(at, _)| *at);
            let next = timeout.into_iter().chain(self.node.poll_timeout()).min();
            let Some(at) = next.filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(at);
            if timeout == Some(at) {
                self.dial_ends(false);
            }
            self.node.handle_timeout(self.now);
            self.dial();
            while self.node.poll_action().is_some() {}
            assert!(self.node.poll_timeout() > Some(self.now), "it would spin");
        }
        panic!("more than 10,000 timeouts in {secs} s");
    }

    fn ask(&mut self, asker: SocketAddr, count: u16) {
        let answer = self.node.get_peers(self.now, count.into(), asker);
        let network = self.config.network;
        assert_eq!(answer.iter().collect::<BTreeSet<_>>().len(), answer.len(), "told twice");
        for told in &answer {
            assert!(self.answered.contains(told), "{told} never answered");
            assert!(!self.is_banned(told.ip()) && !self.own.contains(told) && *told != asker);
            assert!(reach::may_pass(network, told.ip(), asker.ip()), "{told} told to {asker}");
        }
        let share = self.node.book.len() * 23 / 100;
        assert!(answer.len() <= usize::from(count).min(share.max(10)));
        let good = self.node.book.iter().filter(|(addr, entry)| {
            let banned = self.is_banned(addr.ip());
            entry.is_good() && !banned && *addr != asker && reach::may_pass(network, addr.ip(), asker.ip())
        });
        assert!(answer.len() >= good.count().min(10).min(count.into()), "told less than assured");
    }

    /// The process ends and starts again: connections and bans are gone, the file stays.
    fn restart(&mut self) {
        let mut next = NodeDiscovery::new(self.config.clone(), [7; 32]);
        next.load(self.now, &self.node.snapshot()).expect("what was written can be read");
        assert_eq!(next.size(), self.node.size());
        *self = Self {
            node: next,
            now: self.now,
            answered: std::mem::take(&mut self.answered),
            ..Self::new(self.config.network)
        };
    }

    fn check(&self) {
        let size = self.node.size();
        assert!(size.new <= 128 && size.tried <= 64, "{size:?}");
        assert_eq!(size.new + size.tried, self.node.known().len());
        for known in self.node.known() {
            assert!(reach::belongs(self.config.network, known.addr.ip()));
            assert!(!self.own.contains(&known.addr));
            assert!(known.answered.is_none() || self.answered.contains(&known.addr));
        }
        assert!(
            self.node.anchors.len() <= 2 && self.node.anchors.iter().all(|a| self.answered.contains(&a.addr))
        );
    }
}

/// What PROTOCOL calls connect, TLS and hello together.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_promises_hold_whatever_happens(mainnet in any::<bool>(), steps in steps()) {
        let mut model = Model::new(if mainnet { Network::Mainnet } else { Network::Testnet });
        for step in steps {
            model.step(step);
            model.check();
        }
    }
}

proptest! {
    #[test]
    fn no_number_overflows(now in any::<u64>(), later in any::<u64>(), count in any::<u64>(), bytes in any::<[u8; 6]>()) {
        let mut node = NodeDiscovery::new(DiscoveryConfig::default(), [1; 32]);
        let [a, b, c, d, e, f] = bytes;
        let addr = SocketAddr::from(([a, b, c, d], u16::from_be_bytes([e, f])));
        for now in [now, later].map(Time::from_millis) {
            node.handle_peers(now, peer(addr), addr.ip(), &[addr]);
            node.handle_inbound(now, addr.ip(), addr.port());
            node.handle_connected(now, addr, peer(addr));
            node.get_peers(now, count, addr);
            node.next_dial(now, &Connected::default());
            node.handle_timeout(now);
            node.ban_peer(addr.ip(), now);
            node.handle_disconnected(now, addr, true);
            node.handle_dial_failed(now, addr);
            while node.poll_action().is_some() {}
        }
    }

    #[test]
    fn any_bytes_as_a_peers_file_are_refused_or_taken(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut node = NodeDiscovery::new(DiscoveryConfig::default(), [1; 32]);
        prop_assert!(node.load(Time::default(), &bytes).is_err() || node.known().is_empty());
    }
}
