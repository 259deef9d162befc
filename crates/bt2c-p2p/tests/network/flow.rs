//! What passes between connected nodes: relay, broadcast, back-pressure, slow readers.

use std::time::Duration;

use bt2c_p2p::{CloseReason, ConnectionId, DropCause, Inbound, Inventory, SendError};
use bt2c_proto::{CloseCode, GetBlocks, Height, Message, MessageKind, NewTransaction, Time, TxHash};
use bt2c_security::Offence;
use serde_json::json;
use tokio::sync::mpsc;

use crate::{
    harness::{Node, World, credentials, ip, pass, transaction, until, within},
    raw::RawPeer,
};

fn push(nonce: u64) -> Message {
    Message::NewTransaction(NewTransaction { transaction: transaction(nonce, "") })
}

fn get_blocks() -> Message {
    Message::GetBlocks(GetBlocks::range(Height::GENESIS, Height::GENESIS))
}

fn handler(node: &Node, kind: MessageKind, capacity: usize) -> mpsc::Receiver<Inbound> {
    let (sender, receiver) = mpsc::channel(capacity);
    node.handle.register_message_handler(kind, sender).unwrap();
    receiver
}

fn nonce(inbound: &Inbound) -> u64 {
    let Message::NewTransaction(push) = &inbound.message else { panic!("{inbound:?}") };
    push.transaction.nonce
}

/// A hub and three nodes that dialled it, with what they receive.
async fn star(world: &World) -> (Node, Vec<(Node, mpsc::Receiver<Inbound>)>) {
    let hub = world.node(1).await;
    let mut others = Vec::new();
    for index in 2..5 {
        let node = world.node(index).await;
        let received = handler(&node, MessageKind::NewTransaction, 16);
        node.handle.connect_to_peer(hub.addr.into()).await.unwrap();
        others.push((node, received));
    }
    until(5, async || hub.peers().await.len(), |len| *len == 3).await;
    (hub, others)
}

#[tokio::test(start_paused = true)]
async fn an_object_is_relayed_once_and_not_to_those_who_have_it() {
    let world = World::new(20);
    let (hub, mut others) = star(&world).await;
    let inventory = Inventory::Transaction(TxHash::from_bytes([1; 32]));
    hub.handle.mark_seen(inventory, others[0].0.id()).await;
    let frame = hub.handle.frame(&push(1)).unwrap();
    hub.handle.relay(inventory, frame.clone()).await;
    hub.handle.relay(inventory, frame).await;
    pass(5).await;
    let counts: Vec<_> = others
        .iter_mut()
        .map(|(_, received)| std::iter::from_fn(|| received.try_recv().ok()).count())
        .collect();
    assert_eq!(counts, [0, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_broadcast_reaches_everyone_who_is_connected() {
    let world = World::new(20);
    let (hub, mut others) = star(&world).await;
    assert_eq!(hub.handle.broadcast_message(&push(7)).await.unwrap(), 3);
    for (_, received) in &mut others {
        let inbound = within(5, received.recv()).await.unwrap();
        assert_eq!((nonce(&inbound), inbound.peer.id()), (7, hub.id()));
    }
    let (gone, _) = others.pop().unwrap();
    gone.manager.stop().await;
    until(5, async || hub.peers().await.len(), |len| *len == 2).await;
    assert_eq!(hub.handle.broadcast_message(&push(8)).await.unwrap(), 2);
}

async fn connection(of: &Node, to: &Node) -> ConnectionId {
    within(5, async {
        loop {
            match of.handle.peer(to.id()).await {
                Some(peer) => return peer.connection(),
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_is_behind_stops_the_peer_that_fills_it_and_nobody_else() {
    let world = World::new(20);
    let node = world.node(1).await;
    let mut pushes = handler(&node, MessageKind::NewTransaction, 1);
    let mut requests = handler(&node, MessageKind::GetBlocks, 16);
    let (eager, other) = (world.node(2).await, world.node(3).await);
    for peer in [&eager, &other] {
        peer.handle.connect_to_peer(node.addr.into()).await.unwrap();
    }
    let (at_node, at_eager) = (connection(&node, &eager).await, connection(&eager, &node).await);
    for nonce in 0..500 {
        eager.handle.broadcast_message(&push(nonce)).await.unwrap();
    }
    other.handle.broadcast_message(&get_blocks()).await.unwrap();
    let inbound = within(5, requests.recv()).await.unwrap();
    assert_eq!(inbound.peer.id(), other.id(), "others are heard");
    eager.handle.broadcast_message(&get_blocks()).await.unwrap();
    // Far longer than any silence that is tolerated: each still has the other's pings, or knows why there are none.
    pass(600).await;
    assert!(requests.try_recv().is_err(), "nothing overtakes what waits");
    let sent = 500 * eager.handle.frame(&push(0)).unwrap().bytes().len() as u64;
    let (read, _) = node.handle.peer(eager.id()).await.unwrap().traffic();
    assert!(read < sent / 2, "no more is read meanwhile than what comes at once: {read} of {sent}");
    assert_eq!(connection(&node, &eager).await, at_node);
    assert_eq!(connection(&eager, &node).await, at_eager);
    for expected in 0..500 {
        assert_eq!(nonce(&within(5, pushes.recv()).await.unwrap()), expected);
    }
    assert_eq!(within(5, requests.recv()).await.unwrap().peer.id(), eager.id());
    assert_eq!(node.handle.metrics().dropped_for(DropCause::NoHandler), 0);
}

#[tokio::test(start_paused = true)]
async fn sessions_that_wait_for_one_handler_take_turns_and_all_come_through() {
    let world = World::new(20);
    let (hub, others) = star(&world).await;
    let mut pushes = handler(&hub, MessageKind::NewTransaction, 1);
    for nonce in 0..20 {
        for (node, _) in &others {
            node.handle.broadcast_message(&push(nonce)).await.unwrap();
        }
    }
    pass(5).await; // by now all three have more to hand on than the handler has room for
    let mut senders = Vec::new();
    for _ in 0..60 {
        senders.push(within(5, pushes.recv()).await.unwrap().peer.id());
    }
    for (node, _) in &others {
        assert_eq!(senders.iter().filter(|id| **id == node.id()).count(), 20);
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_is_let_go_as_slow() {
    let world = World::new(20);
    let mut node = world.node(1).await;
    let mut deaf = RawPeer::dial(&world.net, ip(200), &credentials(3), node.addr).await;
    deaf.greet(true).await;
    let peer = node.up().await;
    // The line holds 256 KiB, the queue 4 MiB.
    let large = Message::NewTransaction(NewTransaction { transaction: transaction(1, &"x".repeat(60_000)) });
    let frame = node.handle.frame(&large).unwrap();
    let taken = std::iter::repeat_with(|| peer.send(frame.clone())).take_while(Result::is_ok).count();
    assert!((60..=70).contains(&taken), "{taken} frames of 60 KB fit");
    assert_eq!(peer.send(frame), Err(SendError::Full));
    let begun = world.now();
    assert_eq!(node.down().await, CloseReason::Local(CloseCode::Slow));
    let took = world.now().since(begun);
    assert!(took >= Duration::from_secs(20) && took < Duration::from_secs(22), "{took:?}");
    drop(deaf);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_nothing_is_let_go_after_its_time() {
    let world = World::new(20);
    let mut node = world.node(1).await;
    let mut silent = RawPeer::dial(&world.net, ip(200), &credentials(3), node.addr).await;
    silent.greet(true).await;
    node.up().await;
    let begun: Time = world.now();
    assert_eq!(node.down().await, CloseReason::Local(CloseCode::Timeout));
    assert!(world.now().since(begun) <= Duration::from_secs(75));
    let said = within(5, silent.rest()).await;
    let kinds: Vec<_> = said.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["ping", "ping", "disconnect"]);
    assert_eq!(said[2].1["code"], json!("timeout"));
}

#[tokio::test(start_paused = true)]
async fn requests_before_the_answering_hello_are_served_after_it() {
    let world = World::new(20);
    let node = world.node(1).await;
    let mut eager = RawPeer::dial(&world.net, ip(200), &credentials(3), node.addr).await;
    let hello = eager.hello(false);
    eager.send("hello", hello).await;
    eager.send("get_peers", json!({"count": 10})).await;
    eager.send("ping", json!({"timestamp": 5})).await;
    let kinds = [eager.read().await.unwrap().0, eager.read().await.unwrap().0, eager.read().await.unwrap().0];
    assert_eq!(kinds[0], "hello");
    assert!(kinds.contains(&"peers".to_owned()) && kinds.contains(&"pong".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn an_offence_reported_from_above_bans_with_its_evidence() {
    let world = World::new(20);
    let mut node = world.node(1).await;
    let mut bad = RawPeer::dial(&world.net, ip(200), &credentials(3), node.addr).await;
    bad.greet(true).await;
    let peer = node.up().await;
    node.handle.report(peer.id(), Offence::InvalidBlock, "block 7: wrong proposer".to_owned()).await;
    assert_eq!(node.down().await, CloseReason::Local(CloseCode::Banned));
    let ban = node.handle.is_banned(ip(200)).await.unwrap();
    assert_eq!((ban.reason.as_str(), ban.evidence.as_str()), ("invalid_block", "block 7: wrong proposer"));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_pauses_takes_turns_with_everybody_else() {
    // As many as the limits take at once: who sends more is read from more slowly.
    const PUSHES: u64 = 1000;
    let world = World::new(0);
    let node = world.node(1).await;
    let mut flooder = RawPeer::dial(&world.net, ip(66), &credentials(3), node.addr).await;
    flooder.greet(true).await;
    for nonce in 0..PUSHES {
        flooder.send("new_transaction", json!({"transaction": transaction(nonce, "")})).await;
    }
    // Parsed, and nobody registered for them.
    let handled = || node.handle.metrics().dropped_for(DropCause::NoHandler);
    let mut most_in_a_turn = 0;
    while handled() < PUSHES {
        let before = handled();
        tokio::task::yield_now().await;
        most_in_a_turn = most_in_a_turn.max(handled() - before);
    }
    assert!((1..=128).contains(&most_in_a_turn), "{most_in_a_turn} messages while everybody else waits");
}
