//! Two connections between the same two nodes.

use std::time::Duration;

use bt2c_p2p::{Direction, env::MemoryDisk};

use crate::harness::{Node, World, ip, pass, until, within};

async fn the_one_peer(node: &Node) -> bt2c_p2p::Peer {
    let peers = node.peers().await;
    assert_eq!(peers.len(), 1, "{peers:?}");
    peers[0].peer.clone()
}

#[tokio::test(start_paused = true)]
async fn two_that_dial_each_other_at_the_same_moment_end_with_one_connection() {
    for latency in [0, 1, 30, 200] {
        for head_start in [0, 1, 35, 90, 400] {
            for lower_first in [true, false] {
                let world = World::new(latency);
                let (lower, higher) = (world.node(1).await, world.node(2).await);
                let (first, second) = if lower_first { (&lower, &higher) } else { (&higher, &lower) };
                let late = async {
                    tokio::time::sleep(Duration::from_millis(head_start)).await;
                    second.handle.connect_to_peer(first.addr.into()).await
                };
                let (early, late) = tokio::join!(first.handle.connect_to_peer(second.addr.into()), late);
                assert_eq!((early, late), (Ok(second.id()), Ok(first.id())));
                pass(15).await;
                let (up, down) = (the_one_peer(&lower).await, the_one_peer(&higher).await);
                assert_ne!(up.direction(), down.direction(), "both kept the same connection");
                pass(120).await;
                assert_eq!(the_one_peer(&lower).await.connection(), up.connection(), "and it lasts");
                lower.manager.stop().await;
                higher.manager.stop().await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_connection_of_the_lower_identity_is_the_one_that_stays() {
    let world = World::new(20);
    let (lower, higher) = (world.node(1).await, world.node(2).await);
    let (a, b) = tokio::join!(
        lower.handle.connect_to_peer(higher.addr.into()),
        higher.handle.connect_to_peer(lower.addr.into())
    );
    assert!(a.is_ok() && b.is_ok());
    pass(15).await;
    assert_eq!(the_one_peer(&lower).await.direction(), Direction::Outbound);
    assert_eq!(the_one_peer(&higher).await.direction(), Direction::Inbound);
}

/// A node crashes without a word and comes back at another address; by whom it and the survivor are connected before
/// and after is the caller's choice.
async fn comes_back(latency: u64, survivor: u8, crashed: u8, before: bool, after: bool) {
    let world = World::new(latency);
    let (stays, ghost) = (world.node(survivor).await, world.node(crashed).await);
    let (from, to) = if before { (&stays, &ghost) } else { (&ghost, &stays) };
    from.handle.connect_to_peer(to.addr.into()).await.unwrap();
    until(5, async || stays.peers().await.len(), |len| *len == 1).await;
    pass(20).await;
    world.net.cut(&[stays.addr.ip()], &[ghost.addr.ip()]);
    ghost.manager.stop().await;

    let back = world.node_with(crashed, ip(100), MemoryDisk::new(), |_| {}).await;
    let (from, to) = if after { (&stays, &back) } else { (&back, &stays) };
    let met = within(8, from.handle.connect_to_peer(to.addr.into())).await;
    assert_eq!(met, Ok(to.id()));
    pass(8).await;
    let peer = the_one_peer(&stays).await;
    assert_eq!((peer.id(), peer.addr().ip()), (back.id(), ip(100)));
    assert_eq!(the_one_peer(&back).await.id(), stays.id());
    pass(200).await;
    assert_eq!(the_one_peer(&stays).await.connection(), peer.connection(), "and it lasts");
    back.manager.stop().await;
    stays.manager.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_comes_back_replaces_its_ghost_whoever_dials() {
    for latency in [1, 40, 300] {
        for (survivor, crashed) in [(1, 2), (2, 1)] {
            for (before, after) in [(true, true), (true, false), (false, true), (false, false)] {
                comes_back(latency, survivor, crashed, before, after).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_checked_by_a_feeler_keeps_its_connection() {
    for (dialler, dialled) in [(1, 2), (2, 1)] {
        let world = World::new(20);
        let (mut from, to) = (world.node(dialler).await, world.node(dialled).await);
        from.handle.connect_to_peer(to.addr.into()).await.unwrap();
        let connection = from.up().await.connection();
        let known = async || to.handle.known_peers().await;
        until(60, known, |known| known.iter().any(|peer| peer.peer == Some(from.id()))).await;
        pass(10).await;
        assert_eq!(the_one_peer(&from).await.connection(), connection);
        assert_eq!(the_one_peer(&to).await.id(), from.id());
    }
}
