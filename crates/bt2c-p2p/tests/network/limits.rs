//! Who may connect how often.

use std::net::{IpAddr, SocketAddr};

use bt2c_p2p::{CloseReason, env::MemoryDisk, env::Net, env::Stream};
use bt2c_proto::{CloseCode, Network};
use tokio::io::AsyncReadExt;

use crate::{
    harness::{Node, World, credentials, until, within},
    raw::RawPeer,
};

const REFUSED: CloseReason = CloseReason::Refused(CloseCode::Full);

async fn mainnet(world: &World) -> Node {
    world
        .node_with(1, IpAddr::from([8, 8, 8, 8]), MemoryDisk::new(), |config| {
            config.network = Network::Mainnet;
            config.discovery.network = Network::Mainnet;
            config.security.attempts_per_minute = std::num::NonZeroU32::new(1000).unwrap();
        })
        .await
}

async fn knock(world: &World, from: IpAddr, to: SocketAddr) -> Box<dyn Stream> {
    world.net.host(from).dial(None, to).await.unwrap().stream
}

async fn is_closed(stream: &mut Box<dyn Stream>) -> bool {
    let limit = std::time::Duration::from_secs(1);
    matches!(tokio::time::timeout(limit, stream.read(&mut [0; 1])).await, Ok(Ok(0)))
}

#[tokio::test(start_paused = true)]
async fn two_handshakes_an_ip_and_thirty_two_in_all_may_be_under_way() {
    let world = World::new(5);
    let node = mainnet(&world).await;
    let mut open = Vec::new();
    for group in 0..16 {
        let from = IpAddr::from([9, group, 1, 1]);
        for _ in 0..2 {
            open.push(knock(&world, from, node.addr).await);
        }
    }
    let third = &mut knock(&world, IpAddr::from([9, 0, 1, 1]), node.addr).await;
    assert!(is_closed(third).await, "the third of one IP");
    let stranger = &mut knock(&world, IpAddr::from([9, 77, 1, 1]), node.addr).await;
    assert!(is_closed(stranger).await, "the thirty-third of all");
    assert!(!is_closed(&mut open[0]).await);
    assert_eq!(node.handle.metrics().closed_for(REFUSED), 2);
    // Half-open connections are let go in time, and make room.
    within(6, async { while open[0].read(&mut [0; 1]).await.unwrap() > 0 {} }).await;
    let late = &mut knock(&world, IpAddr::from([9, 77, 1, 1]), node.addr).await;
    assert!(!is_closed(late).await);
    assert!(node.handle.bans().await.is_empty(), "silence is no fault");
}

#[tokio::test(start_paused = true)]
async fn three_peers_an_ip_and_ten_a_subnet_are_taken() {
    let world = World::new(5);
    let node = mainnet(&world).await;
    let mut open = Vec::new();
    for index in 2..12_u8 {
        // Three from each IP of one /24: the fourth would be one too many, the eleventh of the subnet as well.
        let from = IpAddr::from([9, 9, 9, index / 3]);
        let mut peer = RawPeer::dial(&world.net, from, &credentials(index.into()), node.addr).await;
        peer.greet(true).await;
        open.push(peer);
        if index == 5 {
            let fourth = &mut knock(&world, from, node.addr).await;
            assert!(is_closed(fourth).await);
        }
    }
    until(5, async || node.peers().await.len(), |len| *len == 10).await;
    let eleventh = &mut knock(&world, IpAddr::from([9, 9, 9, 200]), node.addr).await;
    assert!(is_closed(eleventh).await);
    let elsewhere = &mut knock(&world, IpAddr::from([9, 9, 10, 1]), node.addr).await;
    assert!(!is_closed(elsewhere).await);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_attempts_over_the_limit_ban_the_ip() {
    let world = World::new(5);
    let node = world.node(1).await;
    let from = crate::harness::ip(200);
    for _ in 0..230 {
        drop(knock(&world, from, node.addr).await);
    }
    let ban = until(5, async || node.handle.is_banned(from).await, Option::is_some).await.unwrap();
    assert_eq!(ban.reason, "attempt_excess");
    // A knock takes ten milliseconds, so the buckets gain a few meanwhile.
    let refused = node.handle.metrics().closed_for(CloseReason::Refused(CloseCode::Rate));
    assert!((101..=106).contains(&refused), "{refused}");
    assert!(node.handle.metrics().closed_for(CloseReason::Refused(CloseCode::Banned)) > 1);
}

#[tokio::test(start_paused = true)]
async fn handshakes_above_a_netgroups_budget_are_dropped_counted_and_held_against_nobody() {
    let world = World::new(5);
    let node = mainnet(&world).await;
    for host in 0..100 {
        drop(knock(&world, IpAddr::from([9, 1, host, 1]), node.addr).await);
    }
    let elsewhere = &mut knock(&world, IpAddr::from([9, 2, 1, 1]), node.addr).await;
    assert!(!is_closed(elsewhere).await);
    let over = node.handle.metrics().closed_for(CloseReason::Refused(CloseCode::Rate));
    // Fifty at once; a knock takes ten milliseconds, so there are ten more.
    assert!((39..=41).contains(&over), "{over}");
    assert_eq!(node.handle.metrics().offences_for(bt2c_security::Offence::AttemptExcess), 0);
    assert!(node.handle.bans().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_leaves_handshakes_unfinished_again_and_again_is_banned_and_who_does_it_now_and_then_is_not() {
    let world = World::new(5);
    let node = mainnet(&world).await;
    let (stubborn, unlucky) = (IpAddr::from([9, 1, 1, 1]), IpAddr::from([9, 2, 1, 1]));
    let silent = async |from: IpAddr| {
        let mut stream = knock(&world, from, node.addr).await;
        within(10, async { while stream.read(&mut [0; 1]).await.unwrap() > 0 {} }).await;
    };
    for _ in 0..10 {
        silent(unlucky).await;
    }
    let mut times = 0;
    while node.handle.is_banned(stubborn).await.is_none() {
        times += 1;
        assert!(times <= 30, "it goes on for ever");
        silent(stubborn).await;
    }
    // Twenty, and as many as wear off meanwhile: one in half a minute.
    assert!((21..=26).contains(&times), "{times}");
    let ban = node.handle.is_banned(stubborn).await.unwrap();
    assert_eq!(ban.reason, "failed_attempts");
    assert!(ban.evidence.contains("more than 20 handshakes"), "{}", ban.evidence);
    assert!(node.handle.is_banned(unlucky).await.is_none());
}
