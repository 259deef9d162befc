//! Too much of anything: half-open connections, requests, failed attempts.

use std::{net::SocketAddr, num::NonZeroU32, time::Duration};

use bt2c_p2p::{CloseReason, HandshakeFailure};
use bt2c_proto::{CloseCode, Network};
use bt2c_tests::{Attacker, Shown, Victim, dial, in_time, ip, now};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{frames::after_hello, told_code};

#[tokio::test]
async fn half_open_connections_hold_few_slots_and_for_a_short_time() {
    // On mainnet the limits count loopback addresses too.
    let mut node = Victim::start(|config| {
        config.network = Network::Mainnet;
        config.discovery.network = Network::Mainnet;
        config.tls_timeout = Duration::from_secs(3);
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(dial(ip(1, 66), node.addr()).await);
    }
    for refused in 1..=20 {
        let mut stream = dial(ip(1, 66), node.addr()).await;
        let end = in_time("the third is closed on", stream.read(&mut [0; 1])).await;
        assert!(matches!(end, Ok(0) | Err(_)));
        assert_eq!(node.closed("refused", "full"), refused);
    }
    let held_by: Vec<SocketAddr> = held.iter().map(|stream| stream.local_addr().unwrap()).collect();
    for addr in held_by {
        assert_eq!(node.end_of(addr).await, CloseReason::Handshake(HandshakeFailure::Timeout));
    }
    assert_eq!(node.closed("handshake", "timeout"), 2);
    assert!(node.handle().bans().await.is_empty(), "a slow line is no offence");
    node.is_well().await;
}

#[tokio::test]
async fn half_open_connections_leave_room_for_others_meanwhile() {
    let node = Victim::start(|config| {
        config.network = Network::Mainnet;
        config.discovery.network = Network::Mainnet;
        config.tls_timeout = Duration::from_secs(600);
        config.connection_timeout = Duration::from_secs(600);
    })
    .await;
    let mut held = Vec::new();
    // More than all handshakes that may be under way, of which two are an IP's.
    for net in 11..=22 {
        for _ in 0..3 {
            held.push(dial(ip(net, 1), node.addr()).await);
        }
    }
    node.is_well().await;
}

#[tokio::test]
async fn a_flood_of_requests_ends_in_a_ban() {
    let (mut node, mut attacker) = after_hello().await;
    let mut other = Attacker::tls(ip(1, 66), node.addr(), &Shown::identity(3, now())).await;
    other.greet().await;
    let request = b"{\"type\":\"get_peers\",\"data\":{\"count\":1}}";
    let frame = [&u32::try_from(request.len()).unwrap().to_be_bytes(), &request[..]].concat();
    attacker.raw(&frame.repeat(400)).await;
    let told = attacker.rest().await;
    assert_eq!(told_code(&told).unwrap_or("rate"), "rate");
    assert!(told.iter().filter(|(kind, _)| kind == "peers").count() <= 110);
    assert_eq!(node.end_of(attacker.addr).await, CloseReason::Local(CloseCode::Rate));
    assert_eq!(node.closed("local", "rate"), 1);
    assert_eq!(node.counter("bt2c_p2p_offences_total{offence=\"request_excess\"}"), 1);
    assert_eq!(told_code(&other.rest().await), Some("banned"), "its IP's other connections end too");
    let ban = node.handle().is_banned(ip(1, 66)).await.expect("the flood is banned");
    assert_eq!(ban.reason, "request_excess");

    let mut again = dial(ip(1, 66), node.addr()).await;
    let end = in_time("it is closed on", again.read(&mut [0; 1])).await;
    assert!(matches!(end, Ok(0) | Err(_)));
    assert_eq!(node.closed("refused", "banned"), 1);
    assert!(node.counter("bt2c_p2p_bans_total") >= 1);
    node.is_well().await;
}

#[tokio::test]
async fn the_first_request_over_the_limit_bans_where_the_operator_wants_it() {
    let mut node = Victim::start(|config| {
        config.security.ban_after_excess = 0;
        config.security.requests_per_minute = NonZeroU32::new(3).unwrap();
    })
    .await;
    let mut attacker = Attacker::tls(ip(1, 66), node.addr(), &Shown::identity(1, now())).await;
    attacker.greet().await;
    for _ in 0..4 {
        attacker.send("get_peers", json!({"count": 1})).await;
    }
    assert_eq!(node.ban().await, "request_excess");
    node.is_well().await;
}

#[tokio::test]
async fn five_failed_attempts_are_a_ban() {
    let mut node = Victim::start(|_| {}).await;
    for attempt in 1..=5 {
        let mut stream = dial(ip(1, 66), node.addr()).await;
        let addr = stream.local_addr().unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert_eq!(node.end_of(addr).await, CloseReason::Handshake(HandshakeFailure::Tls));
        assert_eq!(node.closed("handshake", "tls"), attempt);
    }
    let ban = node.handle().is_banned(ip(1, 66)).await.expect("five are a ban");
    assert_eq!(ban.reason, "failed_attempts");
    assert!(ban.evidence.contains("bad_tls"), "{}", ban.evidence);
    let mut stream = dial(ip(1, 66), node.addr()).await;
    let end = in_time("it is closed on", stream.read(&mut [0; 1])).await;
    assert!(matches!(end, Ok(0) | Err(_)));
    assert_eq!(node.closed("refused", "banned"), 1);
    node.is_well().await;
}
