use bt2c_proto::Network;

use super::*;

fn at(secs: u64) -> Time {
    Time::from_secs(1_712_352_000 + secs)
}

fn public(n: u32) -> SocketAddr {
    SocketAddr::from(((0x0b00_0001 + n * 0x1_0000).to_be_bytes(), 8338))
}

fn peer(n: u32) -> PeerId {
    PeerId::from_spki_der(&n.to_be_bytes())
}

fn node() -> NodeDiscovery {
    NodeDiscovery::new(DiscoveryConfig::for_network(Network::Mainnet), [4; 32])
}

/// Lets the node do what is due until that moment, and lists what it did and when.
fn run_until(node: &mut NodeDiscovery, end: Time) -> Vec<(Time, DiscoveryAction)> {
    let mut done = Vec::new();
    while let Some(now) = node.poll_timeout().filter(|at| *at <= end) {
        let now = now.max(at(0));
        node.handle_timeout(now);
        done.extend(std::iter::from_fn(|| node.poll_action()).map(|action| (now, action)));
        assert!(node.poll_timeout() > Some(now), "it would spin");
        assert!(done.len() < 10_000);
    }
    done
}

fn asked(done: &[(Time, DiscoveryAction)]) -> Vec<(u64, PeerId)> {
    let asked = done.iter().filter_map(|(now, action)| match action {
        DiscoveryAction::AskPeers { peer, .. } => Some((now.since(at(0)).as_secs(), *peer)),
        _ => None,
    });
    asked.collect()
}

#[test]
fn a_new_peer_is_asked_at_once_for_as_many_as_will_be_taken() {
    let mut node = node();
    node.handle_connected(at(0), public(1), peer(1));
    assert_eq!(node.poll_action(), Some(DiscoveryAction::AskPeers { peer: peer(1), count: 1000 }));
    assert_eq!(node.poll_action(), None);
}

#[test]
fn rounds_come_quickly_to_a_lone_pair_and_slow_down_to_the_interval() {
    let mut node = node();
    node.handle_timeout(at(0));
    node.handle_connected(at(0), public(1), peer(1));
    while node.poll_action().is_some() {}
    let times: Vec<_> = asked(&run_until(&mut node, at(250))).into_iter().map(|(secs, _)| secs).collect();
    assert_eq!(times, [2, 6, 14, 30, 62, 122, 182, 242]);
}

#[test]
fn a_node_with_enough_peers_asks_each_once_an_interval() {
    let mut node = node();
    node.handle_timeout(at(0));
    for n in 0..8 {
        node.handle_connected(at(0), public(n), peer(n));
    }
    while node.poll_action().is_some() {}
    let asked = asked(&run_until(&mut node, at(185)));
    assert_eq!(asked.len(), 8 * 4, "once soon after the first came up, then once a minute: {asked:?}");
}

#[test]
fn only_outbound_peers_are_asked() {
    let mut node = node();
    node.handle_inbound(at(0), public(1).ip(), 8338);
    assert!(asked(&run_until(&mut node, at(300))).is_empty());
}

#[test]
fn a_peer_that_left_is_not_asked() {
    let mut node = node();
    node.handle_connected(at(0), public(1), peer(1));
    node.handle_disconnected(at(0), public(1), true);
    assert!(asked(&run_until(&mut node, at(100))).is_empty());
}

#[test]
fn changes_are_written_in_batches() {
    let mut node = node();
    let writes = |done: &[(Time, DiscoveryAction)]| -> Vec<_> {
        let written = done.iter().filter(|(_, action)| matches!(action, DiscoveryAction::Persist(_)));
        written.map(|(now, _)| now.since(at(0)).as_secs()).collect()
    };
    assert!(writes(&run_until(&mut node, at(50))).is_empty(), "nothing has changed");
    let mut times = Vec::new();
    for secs in 100..300 {
        let n = u32::try_from(secs).unwrap();
        node.add_peer(at(secs), public(n), Source::Operator);
        times.extend(writes(&run_until(&mut node, at(secs))));
    }
    assert_eq!(times, [105, 165, 225, 285]);
    assert_eq!(writes(&run_until(&mut node, at(999))), [345], "and what came last is not forgotten");
}

#[test]
fn a_written_file_is_the_snapshot_and_can_be_loaded() {
    let mut node = node();
    node.add_peer(at(0), public(1), Source::Operator);
    let done = run_until(&mut node, at(10));
    let Some((_, DiscoveryAction::Persist(json))) = done.into_iter().next_back() else {
        panic!("nothing written")
    };
    assert_eq!(json, node.snapshot());
    let mut other = self::node();
    other.load(at(11), &json).unwrap();
    assert_eq!(other.known().len(), 1);
}

#[test]
fn the_same_seed_and_calls_give_the_same_book_and_dials() {
    let run = |seed| {
        let mut node = NodeDiscovery::new(DiscoveryConfig::for_network(Network::Mainnet), [seed; 32]);
        let list: Vec<_> = (0..900).map(public).collect();
        node.handle_peers(at(0), peer(1), [8, 8, 8, 8].into(), &list);
        let mut view = crate::Connected::default();
        while let Some(target) = node.next_dial(at(0), &view) {
            view.outbound.insert(target.addr);
        }
        (view.outbound, node.snapshot())
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1).0, run(2).0);
}

#[test]
fn debug_output_does_not_tell_the_key() {
    let node = node();
    let key = node.book.key().0[0];
    let text = format!("{node:?}");
    assert!(!text.contains(&key.to_string()) && !text.contains(&format!("{key:x}")), "{text}");
}

/// Several nodes on one machine whose dials succeed at once.
struct Town {
    nodes: Vec<NodeDiscovery>,
    views: Vec<crate::Connected>,
}

impl Town {
    /// Every node knows only the first.
    fn new(size: u8) -> Self {
        let mut config = DiscoveryConfig::for_network(Network::Devnet);
        config.seeds = vec![Self::addr(0).into()];
        let nodes = (0..size).map(|n| {
            let mut node = NodeDiscovery::new(config.clone(), [n; 32]);
            node.handle_self(at(0), Self::addr(n.into()));
            node
        });
        Self { nodes: nodes.collect(), views: vec![crate::Connected::default(); size.into()] }
    }

    fn addr(n: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, u8::try_from(n + 1).unwrap()], 8336))
    }

    fn peer(n: usize) -> PeerId {
        peer(u32::try_from(n).unwrap())
    }

    fn index(addr: SocketAddr) -> usize {
        (0..255).find(|n| Self::addr(*n) == addr).expect("an address of the town")
    }

    fn live(&mut self, now: Time) {
        for me in 0..self.nodes.len() {
            self.nodes[me].handle_timeout(now);
            while let Some(target) = self.nodes[me].next_dial(now, &self.views[me]) {
                self.dial(now, me, target);
            }
            while let Some(action) = self.nodes[me].poll_action() {
                let DiscoveryAction::AskPeers { peer, count } = action else { continue };
                let other = (0..self.nodes.len()).find(|n| Self::peer(*n) == peer).unwrap();
                let answer = self.nodes[other].get_peers(now, count, Self::addr(me));
                self.nodes[me].handle_peers(now, peer, Self::addr(other).ip(), &answer);
            }
        }
    }

    fn dial(&mut self, now: Time, me: usize, target: crate::DialTarget) {
        let other = Self::index(target.addr);
        if target.reason == crate::DialReason::Feeler {
            self.nodes[me].handle_answered(now, target.addr, Self::peer(other));
            return;
        }
        self.views[me].outbound.insert(target.addr);
        self.views[me].peers.insert(Self::peer(other));
        self.nodes[me].handle_connected(now, target.addr, Self::peer(other));
        self.views[other].inbound.insert(Self::addr(me));
        self.views[other].peers.insert(Self::peer(me));
        self.nodes[other].handle_inbound(now, Self::addr(me).ip(), Self::addr(me).port());
    }
}

#[test]
fn nodes_that_know_only_one_of_them_all_meet_within_seconds() {
    let mut town = Town::new(6);
    for secs in 0..20 {
        town.live(at(secs));
    }
    for (n, view) in town.views.iter().enumerate() {
        assert_eq!(view.peers.len(), 5, "node {n} knows {:?}", town.nodes[n].known());
    }
}
