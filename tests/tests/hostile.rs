//! The basics of hostility, over real sockets: each attack is refused as docs/protocol.md says, is counted under its
//! code, and leaves the node well.

use std::{net::SocketAddr, num::NonZeroU32, time::Duration};

use bt2c_p2p::{CloseReason, HandshakeFailure};
use bt2c_proto::{CloseCode, Network};
use bt2c_tests::{Attacker, Shown, Told, Victim, dial, in_time, ip, now};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const TLS: CloseReason = CloseReason::Handshake(HandshakeFailure::Tls);
const CERTIFICATE: CloseReason = CloseReason::Handshake(HandshakeFailure::Certificate);
const DATES: CloseReason = CloseReason::Handshake(HandshakeFailure::Dates);
const PROTOCOL: CloseReason = CloseReason::Local(CloseCode::Protocol);

fn told_code(told: &[Told]) -> Option<&str> {
    let (kind, data) = told.last()?;
    (kind == "disconnect").then(|| data["code"].as_str())?
}

/// Shows something in TLS, and expects the node to end it so.
async fn refused_in_tls(shown: Shown, expected: CloseReason) {
    let mut node = Victim::start(|_| {}).await;
    let (addr, told) = match Attacker::try_tls(ip(1, 66), node.addr(), &shown).await {
        Ok(mut attacker) => {
            let hello = attacker.hello();
            attacker.send("hello", hello).await;
            (attacker.addr, attacker.rest().await)
        }
        Err(addr) => (addr, Vec::new()),
    };
    assert_eq!(node.end_of(addr).await, expected);
    assert_eq!(told, [], "who is not through TLS is told nothing");
    assert_eq!(node.closed(expected.by(), expected.code()), 1);
    node.is_well().await;
}

#[tokio::test]
async fn a_certificate_of_another_organisation_is_refused() {
    refused_in_tls(Shown::organisation(1, "Other Network"), CERTIFICATE).await;
}

#[tokio::test]
async fn a_certificate_with_a_short_rsa_key_is_refused() {
    let weak = include_bytes!("../fixtures/rsa1024.der").to_vec();
    refused_in_tls(Shown::stolen(weak), CERTIFICATE).await;
}

#[tokio::test]
async fn a_certificate_with_an_elliptic_curve_key_is_refused() {
    refused_in_tls(Shown::elliptic_curve(), CERTIFICATE).await;
}

#[tokio::test]
async fn an_expired_certificate_of_a_stranger_is_refused() {
    let then = bt2c_proto::Time::from_secs((now().as_secs()) - 400 * DAY.as_secs());
    refused_in_tls(Shown::identity(1, then), DATES).await;
}

#[tokio::test]
async fn a_certificate_that_is_not_valid_yet_is_refused() {
    refused_in_tls(Shown::identity(1, now() + DAY * 3), DATES).await;
}

#[tokio::test]
async fn somebody_elses_certificate_proves_nothing() {
    let honest =
        bt2c_security::Credentials::issue(bt2c_security::fixtures::identity(2), None, now()).unwrap();
    refused_in_tls(Shown::stolen(honest.certificate_der().to_vec()), TLS).await;
}

#[tokio::test]
async fn a_peer_without_a_certificate_is_refused() {
    refused_in_tls(Shown::nothing(), TLS).await;
}

#[tokio::test]
async fn only_other_protocols_are_refused_and_none_at_all_is_fine() {
    refused_in_tls(Shown::identity(1, now()).with_alpn(&[b"h2", b"http/1.1"]), TLS).await;
    let node = Victim::start(|_| {}).await;
    let mut peer = Attacker::tls(ip(1, 66), node.addr(), &Shown::identity(1, now()).with_alpn(&[])).await;
    peer.greet().await;
    node.is_well().await;
}

/// Sends bytes in the clear, and expects the node to take them for no TLS.
async fn refused_before_tls(bytes: &[u8]) {
    let mut node = Victim::start(|_| {}).await;
    let mut stream = dial(ip(1, 66), node.addr()).await;
    let addr = stream.local_addr().unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // An alert or nothing, then the end or a reset.
    let _ = in_time("the node ends it", stream.read_to_end(&mut answer)).await;
    assert!(answer.len() <= 7, "no more than an alert comes back: {answer:?}");
    assert_eq!(node.end_of(addr).await, TLS);
    assert_eq!(node.closed("handshake", "tls"), 1);
    assert_eq!(node.counter("bt2c_p2p_offences_total{offence=\"bad_tls\"}"), 1);
    node.is_well().await;
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    refused_before_tls(&client_hello_1_2()).await;
}

#[tokio::test]
async fn plaintext_is_refused() {
    refused_before_tls(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    refused_before_tls(b"{\"type\":\"hello\",\"data\":{}}").await;
    refused_before_tls(&[0xff; 2000]).await;
}

/// A ClientHello as a TLS 1.2 client sends it (RFC 5246, section 7.4.1.2): no `supported_versions`.
fn client_hello_1_2() -> Vec<u8> {
    let extensions: &[u8] = &[
        0, 10, 0, 4, 0, 2, 0, 29, // supported_groups: x25519
        0, 11, 0, 2, 1, 0, // ec_point_formats: uncompressed
        0, 13, 0, 4, 0, 2, 8, 4, // signature_algorithms: rsa_pss_rsae_sha256
    ];
    let mut body = vec![3, 3];
    body.extend([0x42; 32]);
    body.push(0); // no session
    body.extend([0, 4, 0xc0, 0x2f, 0xc0, 0x30]); // ECDHE-RSA with AES-GCM
    body.extend([1, 0]); // no compression
    body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    body.extend(extensions);
    let mut handshake = vec![1, 0];
    handshake.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    handshake.extend(body);
    let mut record = vec![22, 3, 1];
    record.extend(u16::try_from(handshake.len()).unwrap().to_be_bytes());
    record.extend(handshake);
    record
}

/// A node, and a stranger that is through TLS.
async fn after_tls() -> (Victim, Attacker) {
    let node = Victim::start(|config| {
        config.frame_timeout = Duration::from_millis(300);
        config.connection_timeout = Duration::from_secs(2);
    })
    .await;
    let attacker = Attacker::tls(ip(1, 66), node.addr(), &Shown::identity(1, now())).await;
    (node, attacker)
}

/// The same after both hellos.
async fn after_hello() -> (Victim, Attacker) {
    let (node, mut attacker) = after_tls().await;
    attacker.greet().await;
    (node, attacker)
}

/// Expects the node to end the connection with this code and to say so to whoever said hello.
async fn expect(mut node: Victim, mut attacker: Attacker, code: CloseCode, told: bool) {
    let heard = attacker.rest().await;
    assert_eq!(node.end_of(attacker.addr).await, CloseReason::Local(code));
    assert_eq!(told_code(&heard), told.then_some(code.name()), "{heard:?}");
    assert_eq!(node.closed("local", code.name()), 1);
    assert!(node.handle().bans().await.is_empty(), "once is no ban");
    node.is_well().await;
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
    let (node, mut attacker) = after_tls().await;
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
    let (node, mut attacker) = after_tls().await;
    attacker.label = bt2c_security::fixtures::identity(2).peer_id().to_string()[..40].to_owned();
    let hello = attacker.hello();
    attacker.send("hello", hello).await;
    expect(node, attacker, CloseCode::Label, true).await;
}

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
    for host in 1..=5 {
        for _ in 0..3 {
            held.push(dial(ip(1, host), node.addr()).await);
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
        assert_eq!(node.end_of(addr).await, TLS);
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

#[tokio::test]
async fn wrong_dates_never_ban() {
    let mut node = Victim::start(|_| {}).await;
    let shown = Shown::identity(1, now() + DAY * 3);
    for _ in 0..8 {
        let mut attacker = Attacker::tls(ip(1, 66), node.addr(), &shown).await;
        attacker.rest().await;
        assert_eq!(node.end_of(attacker.addr).await, DATES);
    }
    assert!(node.handle().bans().await.is_empty());
    node.is_well().await;
}
