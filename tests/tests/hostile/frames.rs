//! What ends a session: broken frames and bodies, messages out of order, labels of others.

use std::time::Duration;

use bt2c_p2p::CloseReason;
use bt2c_proto::CloseCode;
use bt2c_tests::{Attacker, Shown, Victim, in_time, ip, now};
use serde_json::json;

use crate::told_code;

const PROTOCOL: CloseReason = CloseReason::Local(CloseCode::Protocol);

/// A node, and a stranger that is through TLS.
async fn after_tls() -> (Victim, Attacker) {
    let node = Victim::start(|config| config.frame_timeout = Duration::from_millis(300)).await;
    let attacker = Attacker::tls(ip(1, 66), node.addr(), &Shown::identity(1, now())).await;
    (node, attacker)
}

/// The same after both hellos.
pub(crate) async fn after_hello() -> (Victim, Attacker) {
    let (node, mut attacker) = after_tls().await;
    attacker.greet().await;
    (node, attacker)
}

/// Expects the node to end the connection with this code and to say so to whoever said hello.
async fn expect(mut node: Victim, attacker: Attacker, code: CloseCode, told: bool) {
    ends(&mut node, attacker, code, told).await;
    node.is_well().await;
}

/// The same, of a node that goes on.
async fn ends(node: &mut Victim, mut attacker: Attacker, code: CloseCode, told: bool) {
    let heard = attacker.rest().await;
    assert_eq!(node.end_of(attacker.addr).await, CloseReason::Local(code));
    assert_eq!(told_code(&heard), told.then_some(code.name()), "{heard:?}");
    assert_eq!(node.closed("local", code.name()), 1);
    assert!(node.handle().bans().await.is_empty(), "once is no ban");
}

#[tokio::test]
async fn an_empty_frame_is_a_violation() {
    let (node, mut attacker) = after_hello().await;
    attacker.raw(&[0; 4]).await;
    expect(node, attacker, CloseCode::Protocol, true).await;
    let (node, mut attacker) = after_tls().await;
    attacker.raw(&[0; 4]).await;
    expect(node, attacker, CloseCode::Protocol, false).await;
}

#[tokio::test]
async fn an_over_long_frame_ends_the_connection_with_nothing_more_read() {
    for (greeted, len) in [(false, 16 * 1024 + 1), (true, 1024 * 1024 + 1), (true, u32::MAX)] {
        let (mut node, mut attacker) = if greeted { after_hello().await } else { after_tls().await };
        attacker.raw(&len.to_be_bytes()).await;
        let told = attacker.rest().await;
        assert_eq!(told_code(&told), greeted.then_some("protocol"));
        assert_eq!(node.end_of(attacker.addr).await, PROTOCOL);
        let read = node.counter("bt2c_p2p_bytes_received_total");
        // The kernel refuses the body at the latest when it has told us so itself.
        in_time("writing fails", async { while attacker.try_raw(&[b' '; 16 * 1024]).await.is_ok() {} }).await;
        assert_eq!(node.counter("bt2c_p2p_bytes_received_total"), read);
        assert_eq!(node.closed("local", "protocol"), 1);
        node.is_well().await;
    }
}

#[tokio::test]
async fn of_a_body_sent_along_with_an_over_long_length_no_more_is_read_than_came_at_once() {
    let (mut node, mut attacker) = after_hello().await;
    let before = node.counter("bt2c_p2p_bytes_received_total");
    let mut bytes = u32::MAX.to_be_bytes().to_vec();
    bytes.resize(1024 * 1024, b' ');
    attacker.raw(&bytes).await;
    assert_eq!(node.end_of(attacker.addr).await, PROTOCOL);
    let read = node.counter("bt2c_p2p_bytes_received_total") - before;
    assert!(read <= 16 * 1024, "one read, of {read} bytes");
    node.is_well().await;
}

#[tokio::test]
async fn a_frame_that_is_never_finished_ends_in_its_time() {
    let (node, mut attacker) = after_hello().await;
    attacker.raw(&100_u32.to_be_bytes()).await;
    attacker.raw(b"{\"type\":").await;
    expect(node, attacker, CloseCode::Timeout, true).await;
    // Before the hello the connection's own deadline counts.
    let node = Victim::start(|config| config.connection_timeout = Duration::from_secs(3)).await;
    let mut attacker = Attacker::tls(ip(1, 66), node.addr(), &Shown::identity(1, now())).await;
    attacker.raw(&[0, 0]).await;
    expect(node, attacker, CloseCode::Timeout, false).await;
}

#[tokio::test]
async fn bodies_that_are_no_messages_are_violations() {
    let deep = format!("{{\"type\":\"ping\",\"data\":{}", "[".repeat(100_000));
    let deep_objects = format!("{{\"type\":\"ping\",\"data\":{}", "{\"a\":".repeat(100_000));
    let bodies: [&[u8]; 7] = [
        b"this is no JSON",
        b"\xff\xfe\xfd",
        b"{\"type\":\"ping\xff\",\"data\":{\"timestamp\":1}}",
        deep.as_bytes(),
        deep_objects.as_bytes(),
        b"{\"type\":\"ping\",\"type\":\"ping\",\"data\":{\"timestamp\":1}}",
        b"{\"type\":\"get_blocks\",\"data\":{\"start_height\":9,\"end_height\":1}}",
    ];
    for body in bodies {
        let (node, mut attacker) = after_hello().await;
        attacker.frame(body).await;
        expect(node, attacker, CloseCode::Protocol, true).await;
    }
}

#[tokio::test]
async fn nothing_but_a_hello_comes_first() {
    for (kind, data) in [
        ("get_peers", json!({"count": 10})),
        ("get_blocks", json!({"start_height": 0, "end_height": 9})),
        ("ping", json!({"timestamp": 1})),
        ("disconnect", json!({"code": "shutdown", "reason": ""})),
        ("unknown", json!({})),
    ] {
        let (node, mut attacker) = after_tls().await;
        attacker.send(kind, data).await;
        expect(node, attacker, CloseCode::Protocol, false).await;
    }
}

#[tokio::test]
async fn a_second_hello_is_a_violation() {
    let (node, mut attacker) = after_hello().await;
    let hello = attacker.hello();
    attacker.send("hello", hello).await;
    expect(node, attacker, CloseCode::Protocol, true).await;
}

#[tokio::test]
async fn a_label_that_is_somebody_elses_peer_id_is_refused() {
    let mut node = Victim::start(|_| ()).await;
    let theirs = bt2c_security::fixtures::identity(2).peer_id().to_string()[..40].to_owned();
    // Certificate and hello agree.
    let mut attacker = Attacker::tls(ip(1, 66), node.addr(), &Shown::labelled(1, theirs)).await;
    let hello = attacker.hello();
    attacker.send("hello", hello).await;
    ends(&mut node, attacker, CloseCode::Label, true).await;
    assert_eq!(node.counter("bt2c_p2p_offences_total{offence=\"stolen_label\"}"), 1);
    node.is_well().await;
}
