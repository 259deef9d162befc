use std::net::IpAddr;

use bt2c_proto::Network;

use crate::{DiscoveryAction, NodeDiscovery};

use super::*;

fn at(secs: u64) -> Time {
    Time::from_secs(1_712_352_000 + secs)
}

fn node(seeds: &[&str]) -> NodeDiscovery {
    let mut config = DiscoveryConfig::for_network(Network::Mainnet);
    config.seeds = seeds.iter().map(|seed| seed.parse().unwrap()).collect();
    NodeDiscovery::new(config, [3; 32])
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn lookups(node: &mut NodeDiscovery) -> Vec<String> {
    let actions = std::iter::from_fn(|| node.poll_action());
    let names = actions.filter_map(|action| match action {
        DiscoveryAction::Resolve { name, port } => Some(format!("{name}:{port}")),
        _ => None,
    });
    names.collect()
}

fn no_view() -> Connected {
    Connected::default()
}

#[test]
fn a_name_is_looked_up_once_and_then_dialled() {
    let mut node = node(&["seed.example.org:8338"]);
    assert_eq!(node.next_dial(at(0), &no_view()), None);
    assert_eq!(node.next_dial(at(1), &no_view()), None);
    assert_eq!(lookups(&mut node), ["seed.example.org:8338"]);
    node.handle_resolved(at(1), "seed.example.org", 8338, &[ip("11.0.0.1"), ip("12.0.0.1")]);
    let target = node.next_dial(at(1), &no_view()).unwrap();
    assert_eq!((target.addr.to_string().as_str(), target.reason), ("11.0.0.1:8338", DialReason::Seed));
    assert!(lookups(&mut node).is_empty());
    assert_eq!(node.known().len(), 2, "what a seed's name stands for is worth remembering");
}

#[test]
fn a_name_takes_one_slot_however_many_addresses_it_has() {
    let mut node = node(&["seed.example.org:8338"]);
    node.next_dial(at(0), &no_view());
    let ips: Vec<_> = (0..60).map(|n| IpAddr::from([11, 0, 0, n])).collect();
    node.handle_resolved(at(0), "seed.example.org", 8338, &ips);
    let first = node.next_dial(at(0), &no_view()).unwrap().addr;
    let view = Connected { outbound: [first].into(), ..no_view() };
    let second = node.next_dial(at(0), &view).expect("the book has the rest");
    assert_eq!(second.reason, DialReason::Book);
    assert!(ips[32..].contains(&second.addr.ip()), "those kept for the name are left to it");
    let view = Connected { outbound: [first, second.addr].into(), ..no_view() };
    assert_eq!(node.next_dial(at(0), &view), None, "and the book counts netgroups");
}

#[test]
fn all_addresses_of_a_name_are_tried_before_it_waits_and_is_looked_up_again() {
    let mut node = node(&["seed.example.org:8338"]);
    node.next_dial(at(0), &no_view());
    assert_eq!(lookups(&mut node).len(), 1);
    node.handle_resolved(at(0), "seed.example.org", 8338, &[ip("11.0.0.1"), ip("11.0.0.2")]);
    for expected in ["11.0.0.1:8338", "11.0.0.2:8338"] {
        let target = node.next_dial(at(0), &no_view()).unwrap();
        assert_eq!(target.addr.to_string(), expected);
        node.handle_dial_failed(at(0), target.addr);
    }
    assert_eq!(node.next_dial(at(0), &no_view()), None);
    assert!(lookups(&mut node).is_empty());
    assert!(node.next_dial(at(2), &no_view()).is_some());
    assert_eq!(lookups(&mut node).len(), 1);
}

#[test]
fn a_failed_lookup_is_repeated_after_a_wait_and_keeps_what_was_known() {
    let mut node = node(&["seed.example.org:8338"]);
    node.next_dial(at(0), &no_view());
    assert_eq!(lookups(&mut node).len(), 1);
    node.handle_resolved(at(0), "seed.example.org", 8338, &[]);
    assert_eq!(node.next_dial(at(0), &no_view()), None);
    assert!(lookups(&mut node).is_empty());
    assert!(node.poll_timeout().is_some());
    node.next_dial(at(2), &no_view());
    assert_eq!(lookups(&mut node).len(), 1);
    node.handle_resolved(at(2), "seed.example.org", 8338, &[ip("11.0.0.1")]);
    node.handle_resolved(at(3), "seed.example.org", 8338, &[]);
    assert_eq!(node.next_dial(at(9), &no_view()).unwrap().addr.ip(), ip("11.0.0.1"));
}

#[test]
fn a_lookup_that_is_never_answered_is_asked_for_again() {
    let mut node = node(&["seed.example.org:8338"]);
    for (secs, expected) in [(0, 1), (59, 0), (60, 1)] {
        node.next_dial(at(secs), &no_view());
        assert_eq!(lookups(&mut node).len(), expected, "after {secs} s");
    }
}

#[test]
fn an_answer_about_another_name_or_port_changes_nothing() {
    let mut node = node(&["seed.example.org:8338"]);
    node.handle_resolved(at(0), "seed.example.org", 1, &[ip("11.0.0.1")]);
    node.handle_resolved(at(0), "other.example.org", 8338, &[ip("11.0.0.1")]);
    assert_eq!((node.next_dial(at(0), &no_view()), node.known().len()), (None, 0));
}

#[test]
fn a_pin_goes_with_every_dial_and_its_addresses_stay_out_of_the_book() {
    let pin = PeerId::from_spki_der(b"pinned");
    let (literal, name) = (format!("{pin}@11.0.0.1:1"), format!("{pin}@seed.example.org:1"));
    for seed in [literal, name] {
        let mut node = node(&[&seed]);
        node.next_dial(at(0), &no_view());
        node.handle_resolved(at(0), "seed.example.org", 1, &[ip("11.0.0.1")]);
        let target = node.next_dial(at(0), &no_view()).unwrap();
        assert_eq!((target.addr.to_string().as_str(), target.pin), ("11.0.0.1:1", Some(pin)));
        assert!(node.known().is_empty());
        let connected = Connected { peers: [pin].into(), ..no_view() };
        assert_eq!(node.next_dial(at(0), &connected), None, "it is connected already, wherever it is");
    }
}

#[test]
fn a_seed_met_under_another_address_is_not_dialled_again() {
    let mut node = node(&["11.0.0.1:1"]);
    let (seed, peer) = ("11.0.0.1:1".parse().unwrap(), PeerId::from_spki_der(b"seed"));
    node.handle_connected(at(0), seed, peer);
    node.handle_disconnected(at(100), seed, true);
    let inbound = Connected { peers: [peer].into(), ..no_view() };
    assert_eq!(node.next_dial(at(200), &inbound), None);
    assert!(node.next_dial(at(200), &no_view()).is_some());
}

#[test]
fn a_seed_on_a_private_address_serves_mainnet_without_entering_the_book() {
    let mut node = node(&["10.0.0.1:1"]);
    let target = node.next_dial(at(0), &no_view()).unwrap();
    node.handle_connected(at(0), target.addr, PeerId::from_spki_der(b"seed"));
    assert!(node.known().is_empty());
}

#[test]
fn seeds_are_tried_in_an_order_that_depends_on_the_node() {
    let seeds: Vec<_> = (1..=9).map(|n| format!("11.0.0.{n}:1")).collect();
    let mut config = DiscoveryConfig::for_network(Network::Mainnet);
    config.seeds = seeds.iter().map(|seed| seed.parse().unwrap()).collect();
    let first = |n| NodeDiscovery::new(config.clone(), [n; 32]).next_dial(at(0), &no_view()).unwrap().addr;
    assert!((0..20).map(first).collect::<BTreeSet<_>>().len() > 4);
    assert_eq!(first(1), first(1));
}
