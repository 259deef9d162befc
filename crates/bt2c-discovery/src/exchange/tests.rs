use std::{collections::BTreeSet, time::Duration};

use bt2c_proto::Network;

use crate::DiscoveryConfig;

use super::*;

fn discovery(network: Network) -> NodeDiscovery {
    NodeDiscovery::new(DiscoveryConfig::for_network(network), [5; 32])
}

fn at(secs: u64) -> Time {
    Time::from_secs(1_712_352_000 + secs)
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The n-th of many public addresses, each of its own netgroup.
fn public(n: u32) -> SocketAddr {
    SocketAddr::from(((0x0b00_0001 + n * 0x1_0000).to_be_bytes(), 8338))
}

fn peer(n: u32) -> PeerId {
    PeerId::from_spki_der(&n.to_be_bytes())
}

/// A node that has had answers from the first `answered` of `named` public addresses.
fn node_knowing(named: u32, answered: u32) -> NodeDiscovery {
    let mut node = discovery(Network::Mainnet);
    for n in 0..named {
        node.add_peer(at(0), public(n), Source::Operator);
        if n < answered {
            node.handle_answered(at(0), public(n), peer(n));
        }
    }
    node
}

#[test]
fn only_addresses_that_answered_are_handed_on() {
    let mut node = node_knowing(50, 5);
    let told: BTreeSet<_> = node.get_peers(at(1), 1000, addr("8.8.8.8:8338")).into_iter().collect();
    assert_eq!(told, (0..5).map(public).collect());
}

#[test]
fn nobody_is_told_more_than_the_share_nor_more_than_asked() {
    let mut node = node_knowing(1000, 800);
    let book = node.book.len();
    let told = node.get_peers(at(1), 1000, addr("8.8.8.8:8338"));
    assert_eq!(told.len(), book * 23 / 100);
    assert_eq!(told.iter().collect::<BTreeSet<_>>().len(), told.len());
    assert_eq!(node.get_peers(at(1), 3, addr("8.8.8.8:8338")).len(), 3);
    assert!(node.get_peers(at(1), 0, addr("8.8.8.8:8338")).is_empty());
}

#[test]
fn a_netgroup_gets_the_same_answer_for_ten_minutes() {
    let mut node = node_knowing(1000, 800);
    let first = node.get_peers(at(0), 1000, addr("8.8.8.8:8338"));
    assert_eq!(node.get_peers(at(599), 1000, addr("8.8.4.4:1")), first);
    assert_ne!(node.get_peers(at(599), 1000, addr("9.9.9.9:1")), first);
    assert_ne!(node.get_peers(at(600), 1000, addr("8.8.4.4:1")), first);
}

#[test]
fn a_small_book_is_told_whole_even_to_who_asked_before_it_grew() {
    let mut node = node_knowing(1, 1);
    let asker = addr("8.8.8.8:8338");
    assert_eq!(node.get_peers(at(0), 10, asker), [public(0)]);
    for n in 1..30 {
        node.add_peer(at(1), public(n), Source::Operator);
        node.handle_answered(at(1), public(n), peer(n));
    }
    assert_eq!(node.get_peers(at(2), 10, asker).len(), 10);
}

#[test]
fn an_asker_is_never_told_of_itself() {
    let mut node = node_knowing(3, 3);
    let told = node.get_peers(at(1), 10, public(1));
    assert_eq!(told.into_iter().collect::<BTreeSet<_>>(), BTreeSet::from([public(0), public(2)]));
}

#[test]
fn banned_failing_and_forgotten_addresses_are_not_handed_on() {
    let mut node = node_knowing(4, 4);
    let asker = addr("8.8.8.8:8338");
    assert_eq!(node.get_peers(at(1), 10, asker).len(), 4);
    node.ban_peer(public(0).ip(), at(100));
    node.remove_peer(at(1), public(1));
    for _ in 0..3 {
        node.handle_dial_failed(at(1), public(2));
    }
    assert_eq!(node.get_peers(at(2), 10, asker), [public(3)]);
    assert_eq!(node.get_peers(at(100), 10, asker).len(), 2, "a ban ends");
}

#[test]
fn local_addresses_stay_on_their_machine_and_site() {
    let mut node = discovery(Network::Testnet);
    for (n, text) in (0..).zip(["127.0.0.1:1", "10.0.0.1:1", "11.0.0.1:1"]) {
        node.add_peer(at(0), addr(text), Source::Operator);
        node.handle_answered(at(0), addr(text), peer(n));
    }
    let mut told = |asker| {
        let mut told: Vec<_> =
            node.get_peers(at(1), 10, addr(asker)).iter().map(ToString::to_string).collect();
        told.sort();
        told
    };
    assert_eq!(told("127.0.0.1:9"), ["10.0.0.1:1", "11.0.0.1:1", "127.0.0.1:1"]);
    assert_eq!(told("10.0.0.9:9"), ["10.0.0.1:1", "11.0.0.1:1"]);
    assert_eq!(told("8.8.8.8:9"), ["11.0.0.1:1"]);
}

#[test]
fn peers_lists_add_what_the_network_keeps_and_the_teller_could_know() {
    let list = ["127.0.0.1:1", "10.0.0.1:1", "11.0.0.1:1", "224.0.0.1:1", "0.0.0.0:1", "[::ffff:12.0.0.1]:1"];
    let list = list.map(addr);
    let taken =
        |network, from: &str| discovery(network).handle_peers(at(0), peer(0), from.parse().unwrap(), &list);
    assert_eq!(taken(Network::Mainnet, "127.0.0.1"), 2);
    assert_eq!(taken(Network::Testnet, "8.8.8.8"), 2);
    assert_eq!(taken(Network::Testnet, "10.0.0.7"), 3);
    assert_eq!(taken(Network::Testnet, "127.0.0.9"), 4);
}

#[test]
fn a_peer_that_tells_too_much_is_not_listened_to() {
    let mut node = discovery(Network::Mainnet);
    let list: Vec<_> = (0..1000).map(public).collect();
    let ip = "8.8.8.8".parse().unwrap();
    node.handle_peers(at(0), peer(0), ip, &list);
    let held = node.book.len();
    assert!(held > 800, "{held} of 1000 found a seat");
    let more: Vec<_> = (2000..3000).map(public).collect();
    assert_eq!(node.handle_peers(at(0), peer(0), ip, &more), 0);
    assert!(node.handle_peers(at(50), peer(0), ip, &more) <= 5);
    assert_eq!(node.askable(at(50), &peer(0)), 10);
    assert_eq!(node.askable(at(50), &peer(1)), 1000);
}

#[test]
fn an_inbound_peer_is_handed_on_only_after_it_answered_a_feeler() {
    let mut node = discovery(Network::Mainnet);
    let (observed, asker) = (public(1), addr("8.8.8.8:8338"));
    node.handle_inbound(at(0), observed.ip(), observed.port());
    assert!(node.get_peers(at(0), 10, asker).is_empty());
    let view = crate::Connected { inbound: [observed].into(), ..Default::default() };
    assert_eq!(node.poll_timeout(), Some(Time::default()), "the first round is due");
    node.handle_timeout(at(0));
    let target = node.next_dial(at(0), &view).unwrap();
    assert_eq!((target.addr, target.reason), (observed, crate::DialReason::Feeler));
    node.handle_answered(at(1), observed, peer(1));
    assert_eq!(node.get_peers(at(1), 10, asker), [observed]);
    node.handle_inbound(at(2), observed.ip(), observed.port());
    assert_eq!(node.next_dial(at(9), &view), None, "it is not checked again");
}

#[test]
fn an_inbound_peer_without_a_usable_port_or_reach_is_not_remembered() {
    let mut node = discovery(Network::Mainnet);
    node.handle_inbound(at(0), public(1).ip(), 0);
    node.handle_inbound(at(0), "10.0.0.1".parse().unwrap(), 8338);
    assert_eq!(node.known(), []);
    assert!(node.poll_timeout() < Some(at(0) + Duration::from_secs(1)), "only the round is due");
}
