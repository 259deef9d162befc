use rustls::{
    ClientConnection, Connection, NamedGroup, ServerConnection, SignatureScheme, client::ResolvesClientCert,
    sign::SigningKey,
};

use super::*;
use crate::{certificate::tests::certificate, fixtures, keys::KeyError};

#[derive(Debug)]
struct FixedTime;

impl TimeProvider for FixedTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_712_352_000)))
    }
}

fn credentials(i: usize) -> Credentials {
    let now = bt2c_proto::Time::from_secs(1_712_352_000);
    Credentials::issue(fixtures::identity(i), None, now).unwrap()
}

fn client() -> ClientConfig {
    Arc::unwrap_or_clone(client_config(&credentials(0), Arc::new(FixedTime)).unwrap())
}

fn server() -> ServerConfig {
    Arc::unwrap_or_clone(server_config(&credentials(1), Arc::new(FixedTime)).unwrap())
}

/// A client that has fixture key 0 but presents these certificates.
fn client_with_chain(chain: Vec<Vec<u8>>) -> ClientConfig {
    let mut config = client();
    config.client_auth_cert_resolver = presenting(chain, 0);
    config
}

fn presenting(chain: Vec<Vec<u8>>, key: usize) -> Arc<SingleCertAndKey> {
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, signing_key(key))))
}

fn signing_key(i: usize) -> Arc<dyn SigningKey> {
    let identity = fixtures::identity(i);
    aws_lc_rs::sign::any_supported_type(&PrivateKeyDer::Pkcs8(identity.pkcs8_der().into())).unwrap()
}

/// Runs both sides until neither has anything to say.
fn handshake(
    client: ClientConfig,
    server: ServerConfig,
) -> (Result<ClientConnection, RustlsError>, Result<ServerConnection, RustlsError>) {
    let mut client = ClientConnection::new(Arc::new(client), server_name()).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    let (mut client_error, mut server_error) = (None, None);
    while client.wants_write() || server.wants_write() {
        pass(&mut client, &mut server, &mut server_error);
        pass(&mut server, &mut client, &mut client_error);
    }
    (client_error.map_or(Ok(client), Err), server_error.map_or(Ok(server), Err))
}

fn pass<A, B, C, D>(from: &mut A, to: &mut B, error: &mut Option<RustlsError>)
where
    A: std::ops::DerefMut<Target = rustls::ConnectionCommon<C>>,
    B: std::ops::DerefMut<Target = rustls::ConnectionCommon<D>>,
{
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    feed(to, &bytes, error);
}

fn feed<B, D>(to: &mut B, mut bytes: &[u8], error: &mut Option<RustlsError>)
where
    B: std::ops::DerefMut<Target = rustls::ConnectionCommon<D>>,
{
    while !bytes.is_empty() && error.is_none() {
        to.read_tls(&mut bytes).unwrap();
        *error = to.process_new_packets().err();
    }
}

fn server_refusal(client: ClientConfig, server: ServerConfig) -> RustlsError {
    handshake(client, server).1.expect_err("the server accepted it")
}

#[test]
fn two_nodes_meet_and_know_each_other() {
    let (client, server) = handshake(client(), server());
    let (client, server) = (client.unwrap(), server.unwrap());
    assert!(!client.is_handshaking() && !server.is_handshaking());
    for (side, other) in [(Connection::Client(client), 1), (Connection::Server(server), 0)] {
        assert_eq!(side.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
        assert_eq!(side.alpn_protocol(), Some(ALPN));
        assert_eq!(side.negotiated_key_exchange_group().unwrap().name(), NamedGroup::X25519MLKEM768);
        let chain = side.peer_certificates().unwrap();
        assert_eq!(PeerCertificate::parse(&chain[0]).unwrap().peer_id, fixtures::identity(other).peer_id());
    }
}

#[test]
fn classical_groups_serve_those_who_know_no_other() {
    for group in [aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP256R1, aws_lc_rs::kx_group::SECP384R1]
    {
        let provider = CryptoProvider { kx_groups: vec![group], ..aws_lc_rs::default_provider() };
        let client = ClientConfig::builder_with_details(Arc::new(provider), Arc::new(FixedTime))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(PeerVerifier))
            .with_client_cert_resolver(own_certificate(&credentials(0)).unwrap());
        let server = handshake(client, server()).1.unwrap();
        assert_eq!(server.negotiated_key_exchange_group().unwrap().name(), group.name());
    }
}

#[test]
fn nothing_is_left_to_resume() {
    let (config, server_config) = (Arc::new(client()), Arc::new(server()));
    for _ in 0..2 {
        let (client, server) = handshake((*config).clone(), (*server_config).clone());
        assert_eq!(client.unwrap().tls13_tickets_received(), 0);
        assert_eq!(server.unwrap().handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
    // Nor does a dialer keep what a server that knows no better hands out.
    let mut generous = server();
    generous.send_tls13_tickets = 2;
    generous.session_storage = rustls::server::ServerSessionMemoryCache::new(8);
    for _ in 0..2 {
        let (client, server) = handshake((*config).clone(), generous.clone());
        assert_eq!(client.unwrap().tls13_tickets_received(), 2, "they are handed out");
        assert_eq!(server.unwrap().handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
    assert!(!config.enable_early_data);
    assert_eq!(server_config.max_early_data_size, 0);
}

#[test]
fn no_alpn_is_accepted_on_either_side() {
    let mut silent_client = client();
    silent_client.alpn_protocols.clear();
    let (a, b) = handshake(silent_client, server());
    assert_eq!((a.unwrap().alpn_protocol(), b.unwrap().alpn_protocol()), (None, None));
    let mut silent_server = server();
    silent_server.alpn_protocols.clear();
    let (a, b) = handshake(client(), silent_server);
    assert_eq!((a.unwrap().alpn_protocol(), b.unwrap().alpn_protocol()), (None, None));
}

#[test]
fn only_other_protocols_are_refused() {
    let mut other = client();
    other.alpn_protocols = vec![b"h2".to_vec(), b"bt2c/2".to_vec()];
    let error = server_refusal(other, server());
    assert!(matches!(error, RustlsError::NoApplicationProtocol), "{error}");
    assert_eq!(tls_offence(&error), Some(Offence::BadTls));
    let mut several = client();
    several.alpn_protocols = vec![b"bt2c/2".to_vec(), ALPN.to_vec()];
    assert_eq!(handshake(several, server()).1.unwrap().alpn_protocol(), Some(ALPN));
}

#[test]
fn a_client_without_certificate_is_refused() {
    #[derive(Debug)]
    struct Nobody;

    impl ResolvesClientCert for Nobody {
        fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
            None
        }

        fn has_certs(&self) -> bool {
            false
        }
    }

    let mut config = client();
    config.client_auth_cert_resolver = Arc::new(Nobody);
    let error = server_refusal(config, server());
    assert!(matches!(error, RustlsError::NoCertificatesPresented), "{error}");
    assert_eq!(tls_offence(&error), Some(Offence::BadTls));
}

#[test]
fn a_client_of_tls_1_2_is_refused() {
    let mut server = ServerConnection::new(Arc::new(server())).unwrap();
    let mut error = None;
    feed(&mut server, &tls12_client_hello(), &mut error);
    let error = error.expect("TLS 1.2 was accepted");
    assert!(matches!(error, RustlsError::PeerIncompatible(_)), "{error}");
    assert_eq!(tls_offence(&error), Some(Offence::BadTls));
}

/// RFC 5246, section 7.4.1.2: ECDHE-RSA with AES-128-GCM on P-256, and no `supported_versions`.
fn tls12_client_hello() -> Vec<u8> {
    let extensions = [
        &[0x00, 0x0a, 0x00, 0x04, 0x00, 0x02, 0x00, 0x17][..], // supported_groups: secp256r1
        &[0x00, 0x0b, 0x00, 0x02, 0x01, 0x00],                 // ec_point_formats: uncompressed
        &[0x00, 0x0d, 0x00, 0x04, 0x00, 0x02, 0x08, 0x04],     // signature_algorithms: rsa_pss_rsae_sha256
    ]
    .concat();
    let with_len = |prefix: &[u8], body: &[u8]| {
        [prefix, &u16::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
    };
    let hello = [
        &[0x03, 0x03][..],
        &[0x42; 32],
        &[0x00],                   // no session
        &[0x00, 0x02, 0xc0, 0x2f], // one cipher suite
        &[0x01, 0x00],             // no compression
        &with_len(&[], &extensions),
    ]
    .concat();
    with_len(&[0x16, 0x03, 0x01], &with_len(&[0x01, 0x00], &hello))
}

#[test]
fn bytes_that_are_no_tls_are_refused() {
    let mut server = ServerConnection::new(Arc::new(server())).unwrap();
    let mut error = None;
    feed(&mut server, b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n", &mut error);
    assert_eq!(tls_offence(&error.unwrap()), Some(Offence::BadTls));
}

#[test]
fn two_certificates_are_refused_on_both_sides() {
    let own = |i| credentials(i).certificate_der().to_vec();
    let error = server_refusal(client_with_chain(vec![own(0), own(1)]), server());
    assert_eq!(certificate_error(&error), Some(&CertificateError::Chain(2)));
    assert_eq!(tls_offence(&error), Some(Offence::BadCertificate));
    let mut config = server();
    config.cert_resolver = presenting(vec![own(1), own(0)], 1);
    let error = handshake(client(), config).0.unwrap_err();
    assert_eq!(certificate_error(&error), Some(&CertificateError::Chain(2)));
}

#[test]
fn certificates_that_break_a_rule_are_refused_in_the_handshake() {
    let good = credentials(0).certificate_der().to_vec();
    let organisation = certificate(|params| {
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "Evil Network");
    });
    let ec = rcgen::KeyPair::generate().unwrap();
    let ec = crate::certificate::tests::params().self_signed(&ec).unwrap().der().to_vec();
    for (der, expected) in [
        (organisation, CertificateError::Organisation),
        (ec, CertificateError::Key(KeyError::NotRsa)),
        ([&good[..], &[0]].concat(), CertificateError::Trailing(1)),
        (vec![0x30; 5000], CertificateError::TooLong(5000)),
        (b"junk".to_vec(), CertificateError::Encoding),
    ] {
        let error = server_refusal(client_with_chain(vec![der]), server());
        assert_eq!(certificate_error(&error), Some(&expected));
        assert_eq!(tls_offence(&error), Some(Offence::BadCertificate));
    }
}

#[test]
fn dates_are_left_to_the_session() {
    let expired = certificate(|params| params.not_after = rcgen::date_time_ymd(2024, 1, 2));
    assert!(handshake(client_with_chain(vec![expired]), server()).1.is_ok());
}

#[test]
fn a_certificate_without_its_key_is_refused() {
    // Key 0 signs, but the certificate is that of key 2.
    let foreign = credentials(2).certificate_der().to_vec();
    let error = server_refusal(client_with_chain(vec![foreign.clone()]), server());
    assert!(matches!(error, RustlsError::InvalidCertificate(_)), "{error}");
    assert_eq!(tls_offence(&error), Some(Offence::BadTls));
    let mut config = server();
    config.cert_resolver = presenting(vec![foreign], 1);
    assert_eq!(tls_offence(&handshake(client(), config).0.unwrap_err()), Some(Offence::BadTls));
}

#[test]
fn a_price_survives_every_wrapping() {
    #[derive(Debug, thiserror::Error)]
    #[error("handshake failed")]
    struct Outer(#[source] io::Error);

    let wrapped = |error: CertificateError| Outer(io::Error::other(io::Error::other(refusal(error))));
    for (error, price) in [
        (CertificateError::Chain(2), Some(Offence::BadCertificate)),
        (CertificateError::TooLong(5000), Some(Offence::BadCertificate)),
        (CertificateError::Encoding, Some(Offence::BadCertificate)),
        (CertificateError::Trailing(1), Some(Offence::BadCertificate)),
        (CertificateError::Organisation, Some(Offence::BadCertificate)),
        (CertificateError::Key(KeyError::NotRsa), Some(Offence::BadCertificate)),
        (CertificateError::NotYetValid { not_before: bt2c_proto::Time::from_secs(1) }, None),
        (CertificateError::Expired { not_after: bt2c_proto::Time::from_secs(1) }, None),
    ] {
        assert_eq!(certificate_error(&wrapped(error.clone())), Some(&error));
        assert_eq!(tls_offence(&wrapped(error)), price);
    }
    let decrypt = io::Error::new(io::ErrorKind::InvalidData, RustlsError::DecryptError);
    assert_eq!(tls_offence(&decrypt), Some(Offence::BadTls));
}

#[test]
fn alerts_lost_connections_and_our_own_failures_cost_nothing() {
    let alert = RustlsError::AlertReceived(rustls::AlertDescription::BadCertificate);
    assert_eq!(tls_offence(&io::Error::other(alert)), None);
    assert_eq!(tls_offence(&io::Error::from(io::ErrorKind::UnexpectedEof)), None);
    assert_eq!(tls_offence(&RustlsError::FailedToGetRandomBytes), None);
}
