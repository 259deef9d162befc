//! Hellos that are refused: with which code, and who is told.

use bt2c_p2p::{CloseReason, ConnectError, env::MemoryDisk};
use bt2c_proto::{CloseCode, PeerId};
use bt2c_security::{Offence, Subject};
use serde_json::{Value, json};

use crate::{
    harness::{Node, World, credentials, ip, until, within},
    raw::RawPeer,
};

/// Says a hello to a node and returns what came back until the end.
async fn say(
    world: &World,
    node: &Node,
    extensions: bool,
    change: &dyn Fn(&mut Value),
) -> Vec<(String, Value)> {
    let mut peer = RawPeer::dial(&world.net, ip(200), &credentials(3), node.addr).await;
    let mut hello = peer.hello(extensions);
    change(&mut hello);
    peer.send("hello", hello).await;
    within(20, peer.rest()).await
}

async fn assert_refused(code: CloseCode, text: &str, change: impl Fn(&mut Value)) {
    let world = World::new(10);
    let node = world.node(1).await;
    assert_refusal(&world, &node, code, text, &change).await;
    assert!(node.handle.bans().await.is_empty());
}

async fn assert_refusal(
    world: &World,
    node: &Node,
    code: CloseCode,
    text: &str,
    change: &dyn Fn(&mut Value),
) {
    let reason = CloseReason::Local(code);
    let before = node.handle.metrics().closed_for(reason);
    let told = say(world, node, true, change).await;
    assert_eq!(told.len(), 1, "nothing but the refusal: {told:?}");
    assert_eq!((told[0].0.as_str(), &told[0].1["code"]), ("disconnect", &json!(code.name())));
    assert_eq!(told[0].1["reason"], json!(text), "and why");
    assert_eq!(say(world, node, false, change).await, [], "a base peer is told nothing");
    until(5, async || node.handle.metrics().closed_for(reason), |count| *count == before + 2).await;
    assert!(node.peers().await.iter().all(|info| info.peer.id() != credentials(3).peer_id()));
}

#[tokio::test(start_paused = true)]
async fn another_network_genesis_or_version_is_refused_by_name() {
    assert_refused(CloseCode::Network, "the network differs", |hello| hello["network"] = json!("mainnet"))
        .await;
    assert_refused(CloseCode::Genesis, "the genesis differs", |hello| {
        hello["genesis_hash"] = json!("0".repeat(64))
    })
    .await;
    assert_refused(CloseCode::Version, "the major version differs", |hello| {
        hello["version"] = json!("2.0.0")
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_full_node_says_so_and_knows_its_peers_when_they_come_back() {
    let world = World::new(10);
    let full = |config: &mut bt2c_p2p::P2PConfig| config.max_connections = 1;
    let node = world.node_with(1, ip(1), MemoryDisk::new(), full).await;
    let other = world.node(2).await;
    other.handle.connect_to_peer(node.addr.into()).await.unwrap();
    assert_refusal(&world, &node, CloseCode::Full, "no slot is free", &|_| {}).await;
    let mut again = RawPeer::dial(&world.net, ip(2), &credentials(2), node.addr).await;
    again.greet(true).await;
    assert_eq!(node.peers().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_label_that_is_not_the_certificates_is_refused_and_five_times_banned() {
    let world = World::new(10);
    let node = world.node(1).await;
    let foreign = credentials(4).peer_id().to_string()[..40].to_owned();
    let change = |hello: &mut Value| hello["node_id"] = json!(foreign);
    let relabelled = async |extensions| {
        let mut peer = RawPeer::dial(&world.net, ip(200), &credentials(3), node.addr).await;
        let mut hello = peer.hello(extensions);
        change(&mut hello);
        peer.relabel(&foreign);
        peer.send("hello", hello).await;
        within(20, peer.rest()).await
    };
    let told = relabelled(true).await;
    assert_eq!(told[0].1["code"], json!("label"));
    assert_eq!(told[0].1["reason"], json!("node_id is the start of another identity"));
    for _ in 0..4 {
        assert!(relabelled(false).await.is_empty());
    }
    let reason = CloseReason::Local(CloseCode::Label);
    until(5, async || node.handle.metrics().closed_for(reason), |count| *count == 5).await;
    let banned = until(5, async || node.handle.is_banned(ip(200)).await, Option::is_some).await;
    assert_eq!(banned.unwrap().reason, "failed_attempts");
    let metrics = node.handle.metrics();
    let charged = [Offence::StolenLabel, Offence::FailedAttempts, Offence::BadHello, Offence::Protocol];
    assert_eq!(charged.map(|offence| metrics.offences_for(offence)), [5, 1, 0, 0]);
    let bans = node.handle.bans().await;
    assert!(
        bans.iter().any(|ban| ban.subject == credentials(3).peer_id().into()),
        "its points ban it: {bans:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn each_fault_in_hello_is_charged_once_to_identity_and_ip() {
    let world = World::new(10);
    let node = world.node(1).await;
    let metrics = node.handle.metrics();
    let charged = || [Offence::BadHello, Offence::Protocol].map(|offence| metrics.offences_for(offence));
    let mut relabelled = RawPeer::dial(&world.net, ip(200), &credentials(3), node.addr).await;
    relabelled.relabel("another");
    let hello = relabelled.hello(true);
    relabelled.send("hello", hello).await;
    let told = within(20, relabelled.rest()).await;
    assert_eq!(told[0].1["reason"], json!("node_id is not the label in the certificate"));
    until(5, async || charged(), |counts| *counts == [1, 0]).await;
    let mut early = RawPeer::dial(&world.net, ip(200), &credentials(3), node.addr).await;
    early.send("ping", json!({ "timestamp": 1 })).await;
    assert_eq!(within(20, early.rest()).await, []);
    until(5, async || charged(), |counts| *counts == [1, 1]).await;
    // The points of both stand against the peer that now comes in as it should.
    let mut good = RawPeer::dial(&world.net, ip(200), &credentials(3), node.addr).await;
    good.greet(true).await;
    let peers = until(5, async || node.peers().await, |peers| peers.len() == 1).await;
    assert_eq!(peers[0].score, -40);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_dials_itself_finds_out_without_a_ban() {
    let world = World::new(10);
    let node = world.node(1).await;
    let met = node.handle.connect_to_peer(node.addr.into()).await;
    assert_eq!(met, Err(ConnectError::Failed(CloseReason::Local(CloseCode::SelfConnection))));
    assert!(node.handle.bans().await.is_empty() && node.peers().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_banned_are_let_in_nowhere_and_connected_ones_are_told() {
    let world = World::new(10);
    let node = world.node(1).await;
    let peer: PeerId = credentials(3).peer_id();
    let mut connected = RawPeer::dial(&world.net, ip(200), &credentials(3), node.addr).await;
    connected.greet(true).await;
    node.handle.ban(Subject::Peer(peer), None, "test".to_owned()).await.unwrap();
    let told = within(5, connected.rest()).await;
    assert_eq!((told[0].0.as_str(), &told[0].1["code"]), ("disconnect", &json!("banned")));

    assert_refusal(&world, &node, CloseCode::Banned, "the identity is banned", &|_| {}).await;

    node.handle.ban(Subject::of_ip(ip(200)), None, "test".to_owned()).await.unwrap();
    let mut stream = {
        use bt2c_p2p::env::Net;
        world.net.host(ip(200)).dial(None, node.addr).await.unwrap().stream
    };
    use tokio::io::AsyncReadExt;
    assert_eq!(within(5, stream.read(&mut [0; 1])).await.unwrap(), 0, "not even TLS");
    assert_eq!(node.handle.metrics().closed_for(CloseReason::Refused(CloseCode::Banned)), 1);
}
