use std::error::Error;

use crate::{NodeDiscovery, Source};

use super::*;

fn config() -> DiscoveryConfig {
    DiscoveryConfig::for_network(Network::Mainnet)
}

fn at(secs: u64) -> Time {
    Time::from_secs(secs)
}

fn public(n: u32) -> SocketAddr {
    SocketAddr::from(((0x0b00_0001 + n * 0x1_0000).to_be_bytes(), 8338))
}

fn peer(n: u32) -> PeerId {
    PeerId::from_spki_der(&n.to_be_bytes())
}

fn full() -> NodeDiscovery {
    let mut node = NodeDiscovery::new(config(), [1; 32]);
    for n in 0..200 {
        node.add_peer(at(5), public(n), Source::Peer([8, 8, 8, 8].into()));
        if n % 2 == 0 {
            node.handle_answered(at(u64::from(n)), public(n), peer(n));
        }
    }
    node.handle_connected(at(300), public(1), peer(1));
    node.handle_connected(at(301), public(2), peer(2));
    node.handle_connected(at(302), public(3), peer(3));
    node
}

#[test]
fn a_restart_keeps_book_tables_key_and_anchors() {
    let before = full();
    let json = before.snapshot();
    let mut after = NodeDiscovery::new(config(), [2; 32]);
    after.load(at(1000), &json).unwrap();
    let facts = |node: &NodeDiscovery| -> Vec<_> {
        node.known().into_iter().map(|k| (k.addr, k.source, k.seen, k.answered, k.peer)).collect()
    };
    assert_eq!(facts(&after), facts(&before));
    assert_eq!(after.size(), before.size());
    assert_eq!(after.snapshot(), json);
}

#[test]
fn anchors_are_dialled_first_after_a_restart_and_pinned() {
    let mut node = NodeDiscovery::new(config(), [2; 32]);
    node.load(at(1000), &full().snapshot()).unwrap();
    let mut view = crate::Connected::default();
    let mut first: Vec<_> = Vec::new();
    for _ in 0..3 {
        let target = node.next_dial(at(1000), &view).unwrap();
        view.outbound.insert(target.addr);
        first.push(target);
    }
    let anchor =
        |n| crate::DialTarget { addr: public(n), pin: Some(peer(n)), reason: crate::DialReason::Anchor };
    assert_eq!(first[..2], [anchor(2), anchor(1)], "the two that had lasted longest");
    assert_eq!(first[2].reason, crate::DialReason::Book);
}

#[test]
fn anchors_of_one_netgroup_are_not_both_dialled() {
    let mut before = NodeDiscovery::new(config(), [1; 32]);
    for n in 1..=2 {
        let addr = SocketAddr::from(([11, 0, 0, n], 8338));
        before.handle_connected(at(0), addr, peer(n.into()));
        before.handle_disconnected(at(100), addr, true);
    }
    assert_eq!(before.anchors.len(), 2);
    let mut node = NodeDiscovery::new(config(), [2; 32]);
    node.load(at(200), &before.snapshot()).unwrap();
    let mut view = crate::Connected::default();
    let first = node.next_dial(at(200), &view).unwrap();
    view.outbound.insert(first.addr);
    assert_eq!(first.reason, crate::DialReason::Anchor);
    assert_eq!(node.next_dial(at(200), &view), None);
}

#[test]
fn our_own_address_in_an_old_file_is_left_out() {
    let mut node = NodeDiscovery::new(config(), [2; 32]);
    node.handle_self(at(1000), public(1));
    node.load(at(1000), &full().snapshot()).unwrap();
    assert!(node.known().iter().all(|known| known.addr != public(1)));
    assert!(node.anchors.iter().chain(&node.pending_anchors).all(|anchor| anchor.addr != public(1)));
    assert_eq!(node.known().len() + 1, full().known().len());
}

#[test]
fn times_ahead_of_the_clock_become_now() {
    let tried = String::from_utf8(full().snapshot()).unwrap();
    let untried = tried.replace("\"tried\":true", "\"tried\":false");
    assert_ne!(tried, untried);
    for file in [tried, untried] {
        let mut node = NodeDiscovery::new(config(), [2; 32]);
        node.load(at(3), file.as_bytes()).unwrap();
        assert!(node.known().iter().any(|known| known.answered.is_some()));
        assert!(node.known().iter().all(|known| known.seen <= at(3) && known.answered <= Some(at(3))));
    }
}

#[test]
fn what_the_network_does_not_keep_is_left_out() {
    let mut local = NodeDiscovery::new(DiscoveryConfig::for_network(Network::Testnet), [1; 32]);
    local.add_peer(at(0), "10.0.0.1:1".parse().unwrap(), Source::Operator);
    local.add_peer(at(0), public(0), Source::Operator);
    let json = String::from_utf8(local.snapshot()).unwrap().replace("testnet", "mainnet");
    let mut node = NodeDiscovery::new(config(), [2; 32]);
    node.load(at(0), json.as_bytes()).unwrap();
    assert_eq!(node.known().iter().map(|known| known.addr).collect::<Vec<_>>(), [public(0)]);
}

#[test]
fn damage_is_an_error_that_changes_nothing() {
    let json = full().snapshot();
    let mut node = full();
    for cut in (0..json.len()).step_by(97) {
        assert!(matches!(node.load(at(0), &json[..cut]), Err(PeersFileError::Damaged(_))), "cut at {cut}");
    }
    let text = String::from_utf8(json).unwrap();
    let error = node.load(at(0), text.replace("\"version\":1", "\"version\":2").as_bytes()).unwrap_err();
    assert!(matches!(error, PeersFileError::Version { found: 2 }));
    let error = node.load(at(0), text.replace("mainnet", "devnet").as_bytes()).unwrap_err();
    assert!(matches!(error, PeersFileError::Network { found: Network::Devnet, expected: Network::Mainnet }));
    let key = text.split("\"key\":\"").nth(1).unwrap()[..32].to_owned();
    let error = node.load(at(0), text.replace(&key, "+1").as_bytes()).unwrap_err();
    assert!(matches!(error, PeersFileError::Key) && error.source().is_none());
    assert_eq!(node.snapshot(), full().snapshot());
}

#[test]
fn a_newer_version_is_refused_by_its_number_whatever_else_changed() {
    let mut node = NodeDiscovery::new(config(), [2; 32]);
    let error = node.load(at(0), br#"{"version":7,"peers":{"all":"different"}}"#).unwrap_err();
    assert_eq!(error.to_string(), "the peers file has version 7; this program reads version 1");
}
