//! What is refused before any session: TLS and certificates.

use std::time::Duration;

use bt2c_p2p::{CloseReason, HandshakeFailure};
use bt2c_proto::Time;
use bt2c_security::{Credentials, fixtures};
use bt2c_tests::{Attacker, Shown, Victim, dial, in_time, ip, now};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const TLS: CloseReason = CloseReason::Handshake(HandshakeFailure::Tls);
const CERTIFICATE: CloseReason = CloseReason::Handshake(HandshakeFailure::Certificate);
const DATES: CloseReason = CloseReason::Handshake(HandshakeFailure::Dates);

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
    let weak = include_bytes!("../../fixtures/rsa1024.der").to_vec();
    refused_in_tls(Shown::stolen(weak), CERTIFICATE).await;
}

#[tokio::test]
async fn a_certificate_with_an_elliptic_curve_key_is_refused() {
    refused_in_tls(Shown::elliptic_curve(), CERTIFICATE).await;
}

#[tokio::test]
async fn an_expired_certificate_of_a_stranger_is_refused() {
    let then = Time::from_secs(now().as_secs() - 400 * DAY.as_secs());
    refused_in_tls(Shown::identity(1, then), DATES).await;
}

#[tokio::test]
async fn a_certificate_that_is_not_valid_yet_is_refused() {
    refused_in_tls(Shown::identity(1, now() + DAY * 3), DATES).await;
}

#[tokio::test]
async fn somebody_elses_certificate_proves_nothing() {
    let honest = Credentials::issue(fixtures::identity(2), None, now()).unwrap();
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
