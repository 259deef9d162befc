//! Nodes over time: coming back, finding each other, restarting, stopping, and doing the same twice.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bt2c_p2p::{
    CloseReason, ConnectError, CredentialsError, Env, Event, HandshakeFailure, P2PConfig, P2PManager, Tip,
    env::{Disk, MemoryDisk},
};
use bt2c_proto::{CloseCode, Height, Network};
use bt2c_security::Subject;

use crate::harness::{GENESIS, Node, World, credentials, ip, pass, until, within};

#[tokio::test(start_paused = true)]
async fn a_stopping_node_says_so() {
    let world = World::new(20);
    let (mut stays, leaves) = (world.node(1).await, world.node(2).await);
    leaves.handle.connect_to_peer(stays.addr.into()).await.unwrap();
    stays.up().await;
    let begun = world.now();
    leaves.manager.stop().await;
    assert!(world.now().since(begun) <= std::time::Duration::from_secs(2), "a stop is quick");
    assert_eq!(stays.down().await, CloseReason::Remote(CloseCode::Shutdown));
    assert!(leaves.handle.peers().await.is_empty());
    let refused = leaves.handle.connect_to_peer(stays.addr.into()).await;
    assert_eq!(refused, Err(bt2c_p2p::ConnectError::Stopped));
}

#[tokio::test(start_paused = true)]
async fn a_reissued_certificate_is_shown_without_a_restart() {
    let world = World::new(20);
    let node = world.node(1).await;
    let next_year = world.ahead_by(Duration::from_secs(366 * 24 * 3600));
    let stranger = next_year.node(2).await;
    let outcome = stranger.handle.connect_to_peer(node.addr.into()).await;
    let dates = CloseReason::Handshake(HandshakeFailure::Dates);
    assert_eq!(outcome, Err(ConnectError::Failed(dates)), "the first one has expired by then");
    let foreign = node.handle.set_credentials(&credentials(3)).await;
    assert!(matches!(foreign, Err(CredentialsError::Other(_))), "{foreign:?}");
    let renewed = credentials(1).renewed(next_year.now()).unwrap();
    node.handle.set_credentials(&renewed).await.unwrap();
    assert_eq!(stranger.handle.connect_to_peer(node.addr.into()).await, Ok(node.id()));
}

#[tokio::test(start_paused = true)]
async fn peers_to_stay_connected_to_are_dialled_again_after_a_loss() {
    let world = World::new(20);
    let target = world.node(1).await;
    let addr = target.addr;
    let wants = |config: &mut P2PConfig| config.discovery.connect = vec![addr.into()];
    let mut node = world.node_with(2, ip(2), MemoryDisk::new(), wants).await;
    assert_eq!(node.up().await.id(), target.id());
    // Once it says goodbye, once it just disappears.
    target.manager.stop().await;
    assert_eq!(node.down().await, CloseReason::Remote(CloseCode::Shutdown));
    pass(30).await;
    let back = world.node(1).await;
    assert_eq!(within(90, node.up()).await.id(), back.id());
    world.net.cut(&[ip(1)], &[ip(2)]);
    assert_eq!(node.down().await, CloseReason::Local(CloseCode::Timeout));
    pass(60).await;
    world.net.heal();
    within(310, node.up()).await;
}

async fn join_ten(world: &World) -> Vec<Node> {
    let mut nodes = vec![world.node(0).await];
    let seed = nodes[0].addr;
    for index in 1..10 {
        let seeded = |config: &mut P2PConfig| config.discovery.seeds = vec![seed.into()];
        nodes.push(world.node_with(index, ip(index), MemoryDisk::new(), seeded).await);
        pass(1).await;
    }
    nodes
}

#[tokio::test(start_paused = true)]
async fn ten_nodes_find_each_other_through_one_seed() {
    let world = World::new(20);
    let nodes = join_ten(&world).await;
    for node in &nodes {
        until(180, async || node.peers().await.len(), |len| *len >= 8).await;
    }
    pass(300).await;
    for node in &nodes {
        let peers = node.peers().await;
        assert!(peers.len() >= 8, "{} has {}", node.addr, peers.len());
        assert!(peers.iter().all(|info| info.score == 0), "nobody offended anybody: {peers:?}");
        assert!(node.handle.bans().await.is_empty());
    }
    for node in nodes {
        within(5, node.manager.stop()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn bans_and_peers_survive_a_restart() {
    let world = World::new(20);
    let disk = MemoryDisk::new();
    let on_disk = |config: &mut P2PConfig| config.data_dir = Some(PathBuf::from("/data"));
    let other = world.node(2).await;
    let node = world.node_with(1, ip(1), disk.clone(), on_disk).await;
    node.handle.connect_to_peer(other.addr.into()).await.unwrap();
    node.handle.ban(Subject::of_ip(ip(66)), None, "test".to_owned()).await.unwrap();
    pass(70).await;
    node.manager.stop().await;

    let mut node = world.node_with(1, ip(1), disk.clone(), on_disk).await;
    assert_eq!(node.handle.is_banned(ip(66)).await.unwrap().reason, "test");
    assert_eq!(within(60, node.up()).await.id(), other.id(), "the anchor is dialled");
    pass(3600).await;
    assert!(node.handle.bans().await.is_empty(), "and a ban still ends in its time");
    let lifted = |event: &Event| matches!(event, Event::Unbanned(_)).then_some(());
    node.event(lifted).await;
    node.manager.stop().await;

    // What was decided a moment before a stop is kept as well.
    let node = world.node_with(1, ip(1), disk.clone(), on_disk).await;
    for last in 70..80 {
        node.handle.ban(Subject::of_ip(ip(last)), None, "late".to_owned()).await.unwrap();
    }
    node.manager.stop().await;
    let node = world.node_with(1, ip(1), disk, on_disk).await;
    assert!(node.handle.bans().await.iter().filter(|ban| ban.reason == "late").count() == 10);
}

#[tokio::test(start_paused = true)]
async fn state_files_that_cannot_be_used_stop_the_start_unless_they_can_be_had_again() {
    let world = World::new(20);
    let start = async |file: &str, content: &str| {
        let disk = MemoryDisk::new();
        disk.write_atomic(&Path::new("/data").join(file), content.as_bytes(), true).unwrap();
        let mut env = Env::simulated(world.net.host(ip(1)), world.now(), [1; 32]);
        env.disk = Arc::new(disk.clone());
        let mut config = P2PConfig::for_network(Network::Devnet, GENESIS);
        config.data_dir = Some(PathBuf::from("/data"));
        let tip = Tip { height: Height::GENESIS, hash: GENESIS };
        let started = P2PManager::start(config, env, credentials(1), tip).await;
        (started.map(drop).map_err(|error| error.to_string()), disk)
    };
    let (newer, disk) = start("peers.json", r#"{"version":7}"#).await;
    let expected = "/data/peers.json: the peers file has version 7; this program reads version 1; \
        use the program that wrote it, or remove it to learn addresses anew";
    assert_eq!(newer, Err(expected.to_owned()));
    assert_eq!(disk.read(Path::new("/data/peers.json")).unwrap(), br#"{"version":7}"#, "it is left alone");
    let (damaged, disk) = start("peers.json", "{").await;
    assert_eq!(damaged, Ok(()));
    assert_eq!(disk.read(Path::new("/data/peers.json.damaged")).unwrap(), b"{");
    let (damaged, _) = start("bans.json", "{").await;
    let expected = "/data/bans.json: bans file is damaged; restore the file, or remove it to lift all bans";
    assert_eq!(damaged, Err(expected.to_owned()));
    let (damaged, disk) = start("reputation.json", "{").await;
    assert_eq!(damaged, Ok(()));
    assert_eq!(disk.read(Path::new("/data/reputation.json.damaged")).unwrap(), b"{");
    for (file, content) in [
        ("bans.json", r#"{"version":7,"bans":[],"past":[]}"#),
        ("reputation.json", r#"{"version":7,"standings":[]}"#),
    ] {
        let (newer, disk) = start(file, content).await;
        let error = newer.unwrap_err();
        assert!(error.contains(file) && error.contains("has version 7"), "{error}");
        assert_eq!(disk.read(&Path::new("/data").join(file)).unwrap(), content.as_bytes());
    }
}

/// What happened on each of ten nodes that meet, in its order.
async fn history() -> Vec<String> {
    let world = World::new(20);
    let mut nodes = join_ten(&world).await;
    pass(120).await;
    let mut lines = Vec::new();
    for node in &mut nodes {
        while let Ok(event) = node.events.try_recv() {
            let since = if let Event::PeerUp(peer) = &event { Some(peer.since()) } else { None };
            lines.push(format!("{} {event:?} {since:?}", node.addr));
        }
    }
    lines
}

#[test]
fn two_runs_are_the_same() {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(history())
    };
    let (first, second) = (run(), run());
    assert!(first.len() > 40, "{} events", first.len());
    for (index, (one, other)) in first.iter().zip(&second).enumerate() {
        assert_eq!(one, other, "event {index}");
    }
    assert_eq!(first.len(), second.len());
}
