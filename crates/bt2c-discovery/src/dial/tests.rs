use bt2c_proto::{Network, PeerAddr};

use crate::{DiscoveryAction, DiscoveryConfig, Source};

use super::*;

fn at(secs: u64) -> Time {
    Time::from_secs(1_712_352_000 + secs)
}

fn public(n: u32) -> SocketAddr {
    SocketAddr::from(((0x0b00_0001 + n * 0x1_0000).to_be_bytes(), 8338))
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn peer(n: u32) -> PeerId {
    PeerId::from_spki_der(&n.to_be_bytes())
}

fn node(network: Network, configure: impl FnOnce(&mut DiscoveryConfig)) -> NodeDiscovery {
    let mut config = DiscoveryConfig::for_network(network);
    configure(&mut config);
    config.validate().unwrap();
    NodeDiscovery::new(config, [9; 32])
}

/// Takes every target that is offered now and enters it in the view, as the owner does.
fn dial_all(node: &mut NodeDiscovery, now: Time, view: &mut Connected) -> Vec<DialTarget> {
    let targets = std::iter::from_fn(|| {
        let target = node.next_dial(now, view)?;
        assert!(view.outbound.insert(target.addr), "{target:?} was handed out twice");
        Some(target)
    });
    targets.collect()
}

fn connect(node: &mut NodeDiscovery, now: Time, view: &mut Connected, addr: SocketAddr, peer: PeerId) {
    view.outbound.insert(addr);
    view.peers.insert(peer);
    node.handle_connected(now, addr, peer);
}

fn end(node: &mut NodeDiscovery, now: Time, view: &mut Connected, addr: SocketAddr, peer: PeerId) {
    view.outbound.remove(&addr);
    view.peers.remove(&peer);
    node.handle_disconnected(now, addr, true);
}

#[test]
fn as_many_are_dialled_as_outbound_peers_are_wanted() {
    let mut node = node(Network::Mainnet, |_| ());
    for n in 0..50 {
        node.add_peer(at(0), public(n), Source::Operator);
    }
    let mut view = Connected::default();
    let targets = dial_all(&mut node, at(0), &mut view);
    let reasons: Vec<_> = targets.iter().map(|target| target.reason).collect();
    assert_eq!(reasons, [[DialReason::Book; 8].as_slice(), &[DialReason::Feeler]].concat());
}

#[test]
fn one_outbound_peer_a_netgroup() {
    let mut node = node(Network::Mainnet, |_| ());
    for n in 0..20 {
        node.add_peer(at(0), SocketAddr::from(([11, 0, n, 1], 8338)), Source::Operator);
    }
    let targets = dial_all(&mut node, at(0), &mut Connected::default());
    assert_eq!(targets.len(), 1);
}

#[test]
fn local_addresses_off_mainnet_are_exempt_from_netgroups() {
    let mut node = node(Network::Devnet, |_| ());
    for port in 1..=5 {
        node.add_peer(at(0), SocketAddr::from(([127, 0, 0, 1], port)), Source::Operator);
    }
    assert_eq!(dial_all(&mut node, at(0), &mut Connected::default()).len(), 5);
}

#[test]
fn operator_named_peers_are_exempt_from_netgroups_and_take_none() {
    let mut node = node(Network::Mainnet, |config| {
        config.seeds = vec![addr("11.0.0.1:1").into(), addr("11.0.0.2:1").into()];
        config.connect = vec![addr("11.0.0.3:1").into()];
    });
    node.add_peer(at(0), addr("11.0.0.4:1"), Source::Operator);
    let targets = dial_all(&mut node, at(0), &mut Connected::default());
    let mut reasons: Vec<_> = targets.into_iter().map(|target| target.reason).collect();
    reasons.sort();
    assert_eq!(reasons, [DialReason::Operator, DialReason::Seed, DialReason::Seed, DialReason::Book]);
}

#[test]
fn own_banned_and_connected_addresses_and_peers_are_not_dialled() {
    let mut node = node(Network::Mainnet, |config| config.seeds = vec![public(0).into(), public(1).into()]);
    for n in 0..6 {
        node.add_peer(at(0), public(n), Source::Operator);
    }
    node.handle_answered(at(0), public(4), peer(4));
    node.handle_self(at(0), public(0));
    node.ban_peer(public(1).ip(), at(100));
    node.ban_peer(public(2).ip(), at(100));
    let mut view = Connected { inbound: [public(3)].into(), peers: [peer(4)].into(), ..Connected::default() };
    let targets = dial_all(&mut node, at(60), &mut view);
    assert_eq!(targets.iter().map(|target| target.addr).collect::<Vec<_>>(), [public(5)]);
    assert!(!node.add_peer(at(60), public(0), Source::Operator), "an own address is not taken back");
    node.unban_peer(public(2).ip());
    assert!(dial_all(&mut node, at(60), &mut view).iter().any(|target| target.addr == public(2)));
}

#[test]
fn wanted_peers_are_dialled_though_all_slots_are_taken() {
    let mut node = node(Network::Mainnet, |config| {
        config.outbound_wanted = 1;
        config.connect = vec![public(7).into()];
    });
    let mut view = Connected::default();
    connect(&mut node, at(0), &mut view, public(1), peer(1));
    let targets = dial_all(&mut node, at(0), &mut view);
    assert_eq!(targets, [DialTarget { addr: public(7), pin: None, reason: DialReason::Operator }]);
}

#[test]
fn a_failed_address_is_waited_for_and_the_wait_is_announced() {
    let mut node = node(Network::Mainnet, |_| ());
    node.add_peer(at(0), public(1), Source::Operator);
    let mut view = Connected::default();
    node.handle_timeout(at(0));
    let mut now = at(0);
    let mut waits = Vec::new();
    for _ in 0..12 {
        assert_eq!(dial_all(&mut node, now, &mut view).len(), 1);
        view.outbound.clear();
        node.handle_dial_failed(now, public(1));
        assert_eq!(node.next_dial(now, &view), None);
        let wake = node.wake.expect("there is one to wait for");
        assert!(node.poll_timeout() <= Some(wake));
        waits.push(wake.since(now));
        now = wake;
    }
    assert!(waits[0] >= Duration::from_secs(1) && waits[0] <= Duration::from_secs(2));
    assert!(waits[11] >= Duration::from_secs(150) && waits[11] <= Duration::from_secs(300));
}

#[test]
fn names_that_never_answer_are_forgotten_unless_our_own_network_is_down() {
    let fail_often = |node: &mut NodeDiscovery| {
        for _ in 0..8 {
            node.handle_dial_failed(at(9), public(1));
        }
    };
    let mut offline = node(Network::Mainnet, |_| ());
    offline.add_peer(at(0), public(1), Source::Operator);
    fail_often(&mut offline);
    assert_eq!(offline.known().len(), 1);
    let mut online = node(Network::Mainnet, |_| ());
    online.handle_connected(at(0), public(2), peer(2));
    online.add_peer(at(0), public(1), Source::Operator);
    fail_often(&mut online);
    assert_eq!(online.known().iter().map(|known| known.addr).collect::<Vec<_>>(), [public(2)]);
}

#[test]
fn a_lasting_peer_is_gone_back_to_soon_and_one_that_closes_at_once_ever_later() {
    let mut node = node(Network::Mainnet, |_| ());
    let mut view = Connected::default();
    connect(&mut node, at(0), &mut view, public(1), peer(1));
    end(&mut node, at(60), &mut view, public(1), peer(1));
    assert!(node.known()[0].retry_at <= at(62) && node.known()[0].failures == 0);
    for n in 1..10 {
        connect(&mut node, at(100), &mut view, public(1), peer(1));
        end(&mut node, at(101), &mut view, public(1), peer(1));
        assert_eq!(node.known()[0].failures, n);
    }
    assert!(node.known()[0].retry_at > at(101 + 149));
}

#[test]
fn a_dishonest_peer_is_no_anchor_and_gone_back_to_late() {
    let mut node = node(Network::Mainnet, |_| ());
    node.handle_connected(at(0), public(1), peer(1));
    node.handle_disconnected(at(999), public(1), false);
    assert!(node.anchors.is_empty());
    assert_eq!(node.known()[0].failures, 1);
}

#[test]
fn anchors_outlive_the_loss_of_all_connections() {
    let mut node = node(Network::Mainnet, |_| ());
    for n in 1..=3 {
        node.handle_connected(at(n.into()), public(n), peer(n));
    }
    let anchors = node.anchors.clone();
    assert_eq!(anchors.iter().map(|anchor| anchor.addr).collect::<Vec<_>>(), [public(1), public(2)]);
    for n in [3, 2, 1] {
        node.handle_disconnected(at(100), public(n), true);
    }
    assert_eq!(node.anchors, anchors);
}

#[test]
fn a_node_with_a_good_book_turns_to_its_seeds_only_after_an_interval_alone() {
    let mut node = node(Network::Mainnet, |config| config.seeds = vec![public(0).into()]);
    for n in 1..40 {
        node.add_peer(at(0), public(n), Source::Operator);
        node.handle_answered(at(0), public(n), peer(n));
    }
    let mut view = Connected::default();
    let reasons = |targets: Vec<DialTarget>| targets.into_iter().map(|t| t.reason).collect::<BTreeSet<_>>();
    assert_eq!(reasons(dial_all(&mut node, at(10), &mut view)), [DialReason::Book].into());
    for failed in std::mem::take(&mut view.outbound) {
        node.handle_dial_failed(at(69), failed);
    }
    assert!(!reasons(dial_all(&mut node, at(69), &mut view)).contains(&DialReason::Seed));
    for failed in std::mem::take(&mut view.outbound) {
        node.handle_dial_failed(at(70), failed);
    }
    assert_eq!(node.next_dial(at(70), &view).unwrap().reason, DialReason::Seed);
}

#[test]
fn seeds_take_half_of_the_slots_while_the_book_has_others() {
    let mut node =
        node(Network::Mainnet, |config| config.seeds = (0..20).map(|n| public(n).into()).collect());
    for n in 20..60 {
        node.add_peer(at(0), public(n), Source::Operator);
    }
    let targets = dial_all(&mut node, at(0), &mut Connected::default());
    assert_eq!(targets.iter().filter(|target| target.reason == DialReason::Seed).count(), 4);
    assert_eq!(targets.iter().filter(|target| target.reason == DialReason::Book).count(), 4);
}

#[test]
fn one_feeler_at_a_time_and_none_lost_for_ever() {
    let mut node = node(Network::Testnet, |config| config.outbound_wanted = 0);
    let inbound: BTreeSet<_> = (1..=3).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
    let mut view = Connected { inbound: inbound.clone(), ..Connected::default() };
    for addr in &inbound {
        node.handle_inbound(at(0), addr.ip(), addr.port());
    }
    let first = dial_all(&mut node, at(0), &mut view);
    assert_eq!(first.len(), 1);
    view.outbound.clear();
    node.handle_answered(at(0), first[0].addr, peer(1));
    assert_eq!(node.next_dial(at(0), &view), None, "the next comes a second later");
    assert_eq!(node.wake, Some(at(1)));
    let second = node.next_dial(at(1), &view).unwrap();
    assert_eq!(node.next_dial(at(30), &view), None);
    let third = node.next_dial(at(31), &view).expect("the end of the second was never reported");
    assert!(first[0].addr != second.addr && inbound.contains(&third.addr));
}

#[test]
fn a_check_that_fails_is_repeated_a_few_times() {
    let mut node = node(Network::Mainnet, |_| ());
    node.handle_inbound(at(0), public(1).ip(), public(1).port());
    let view = Connected { inbound: [public(1)].into(), ..Connected::default() };
    let mut now = at(0);
    for _ in 0..3 {
        let target = node.next_dial(now, &view).unwrap();
        assert_eq!(target.reason, DialReason::Feeler);
        node.handle_dial_failed(now, target.addr);
        assert_eq!(node.next_dial(now, &view), None);
        now = node.wake.unwrap_or(now) + Duration::from_secs(9);
    }
    assert_eq!(node.next_dial(now, &view), None);
    assert_eq!(node.wake, None);
}

#[test]
fn one_public_ip_is_checked_at_one_port_at_a_time() {
    let mut node = node(Network::Mainnet, |_| ());
    let ip = public(1).ip();
    for port in 1..=200 {
        node.handle_inbound(at(0), ip, port);
    }
    let view = Connected {
        inbound: (1..=200).map(|port| SocketAddr::new(ip, port)).collect(),
        ..Connected::default()
    };
    let target = node.next_dial(at(0), &view).unwrap();
    node.handle_answered(at(0), target.addr, peer(1));
    assert_eq!(node.next_dial(at(5), &view), None);
}

#[test]
fn the_queue_of_checks_is_bounded() {
    let mut node = node(Network::Testnet, |_| ());
    for port in 1..=500 {
        node.handle_inbound(at(0), "127.0.0.1".parse().unwrap(), port);
    }
    let view = Connected {
        inbound: (1..=500).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect(),
        ..Connected::default()
    };
    let checked = (0..500).filter(|secs| {
        let Some(target) = node.next_dial(at(*secs), &view) else { return false };
        node.handle_answered(at(*secs), target.addr, peer(1));
        true
    });
    assert_eq!(checked.count(), 128);
}

#[test]
fn a_large_book_is_looked_through_in_parts() {
    let mut node = node(Network::Mainnet, |_| ());
    for n in 0..1000u16 {
        let [high, low] = n.to_be_bytes();
        let addr = SocketAddr::from(([11, 0, high, low], 8338));
        node.add_peer(at(0), addr, Source::Peer([low, 9, 9, 9].into()));
    }
    let held = node.size().new;
    assert!(held > SAMPLE, "{held}");
    let view = Connected { outbound: [addr("11.0.255.255:1")].into(), ..Connected::default() };
    assert_eq!(node.next_dial(at(0), &view), None, "its netgroup is taken");
    assert_eq!(node.wake, Some(at(0) + RESAMPLE));
}

#[test]
fn a_seed_that_dialled_us_is_asked_while_there_is_no_outbound_peer() {
    let seed: PeerAddr = "11.9.0.1:8338".parse().unwrap();
    let mut node = node(Network::Mainnet, |config| config.seeds.push(seed));
    let (mut view, seed) = (Connected::default(), addr("11.9.0.1:8338"));
    let asked = |node: &mut NodeDiscovery| -> Vec<_> {
        let actions = std::iter::from_fn(|| node.poll_action());
        let asked = actions.filter_map(|action| match action {
            DiscoveryAction::AskPeers { peer, .. } => Some(peer),
            _ => None,
        });
        asked.collect()
    };
    dial_all(&mut node, at(0), &mut view);
    connect(&mut node, at(0), &mut view, seed, peer(1));
    assert_eq!(asked(&mut node), [peer(1)]);
    end(&mut node, at(1), &mut view, seed, peer(1));
    // It comes back on its own, together with a stranger, who is not asked.
    view.peers.extend([peer(1), peer(2)]);
    assert!(dial_all(&mut node, at(2), &mut view).is_empty());
    assert_eq!(asked(&mut node), [peer(1)]);
    node.handle_timeout(at(3));
    assert!(dial_all(&mut node, at(3), &mut view).is_empty());
    assert_eq!(asked(&mut node), []);
    assert!(node.poll_timeout().is_some_and(|wake| wake <= at(62)));
    dial_all(&mut node, at(62), &mut view);
    assert_eq!(asked(&mut node), [peer(1)], "once an interval");
    // With an outbound peer there is no need.
    connect(&mut node, at(63), &mut view, public(1), peer(3));
    assert_eq!(asked(&mut node), [peer(3)]);
    dial_all(&mut node, at(200), &mut view);
    assert_eq!(asked(&mut node), []);
}

/// How many of 200 nodes, each with another seed, dial the address that answered as peer 1 before the other one.
fn first_choice(standings: &[(u32, i32)], groups: &[(u32, i32)]) -> usize {
    let view = Connected {
        standings: standings.iter().map(|(n, standing)| (peer(*n), *standing)).collect(),
        group_standings: groups
            .iter()
            .map(|(n, standing)| (Netgroup::of(public(*n).ip()), *standing))
            .collect(),
        ..Connected::default()
    };
    let first = |seed: u8| {
        let mut node = NodeDiscovery::new(DiscoveryConfig::for_network(Network::Mainnet), [seed; 32]);
        for n in [1, 2] {
            node.add_peer(at(0), public(n), Source::Operator);
            node.handle_answered(at(0), public(n), peer(n));
        }
        node.next_dial(at(100), &view).map(|target| target.addr)
    };
    (0..200).filter(|seed| first(*seed) == Some(public(1))).count()
}

#[test]
fn of_two_addresses_the_one_with_the_better_standing_is_dialled() {
    let strangers = first_choice(&[], &[]);
    assert!((60..140).contains(&strangers), "{strangers}");
    assert_eq!(first_choice(&[(1, -1)], &[]), 0);
    assert_eq!(first_choice(&[(1, 1)], &[]), 200);
    assert_eq!(first_choice(&[], &[(1, -1)]), 0);
    assert_eq!(first_choice(&[(1, 5)], &[(1, -4)]), 200, "both count together");
    assert_eq!(
        first_choice(&[(1, -20), (2, -30)], &[]),
        200,
        "a bad one too, where there is only a worse one"
    );
}
