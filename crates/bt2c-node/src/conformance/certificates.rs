//! Certificates and a TLS hello that no honest peer shows.

use std::time::Duration;

use bt2c_proto::NodeId;
use bt2c_security::ORGANISATION;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::report::{Outcome, failed};

/// What a certificate says, apart from its key.
pub(super) struct Says<'a> {
    pub(super) organisation: &'a str,
    pub(super) label: &'a NodeId,
    /// Bytes of an extension that nobody knows.
    pub(super) extra: usize,
}

impl<'a> Says<'a> {
    /// What an honest one says.
    pub(super) const fn honest(label: &'a NodeId) -> Self {
        Self { organisation: ORGANISATION, label, extra: 0 }
    }

    /// A certificate that says this, with that key.
    pub(super) fn with_key(&self, key: &impl rcgen::SigningKey) -> Vec<u8> {
        signed(key, self)
    }

    /// A certificate that says this, with a new key on an elliptic curve.
    pub(super) fn elliptic(&self) -> Vec<u8> {
        signed(&rcgen::KeyPair::generate().expect("P-256 is supported"), self)
    }
}

fn signed(key: &impl rcgen::SigningKey, says: &Says<'_>) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, says.organisation);
    params.distinguished_name.push(DnType::CommonName, format!("BT2C Node {}", says.label));
    if says.extra > 0 {
        let filler = CustomExtension::from_oid_content(FILLER, octets(says.extra));
        params.custom_extensions.push(filler);
    }
    params.self_signed(key).expect("the parameters are good").der().to_vec()
}

/// An object identifier below the one that is set apart for examples, for an extension that nobody knows.
const FILLER: &[u64] = &[2, 999, 1];

/// A DER octet string of so many zeros, 128 to 65,535.
fn octets(len: usize) -> Vec<u8> {
    let len_bytes = u16::try_from(len).expect("65,535 at most").to_be_bytes();
    [&[0x04, 0x82], len_bytes.as_slice(), &vec![0; len]].concat()
}

/// Says the ClientHello of a client that knows TLS up to 1.2, and waits for a refusal.
pub(super) async fn tls12_hello_is_refused(stream: &mut TcpStream, step: Duration) -> Outcome {
    // That the other side has closed shows in what is read.
    let _ = stream.write_all(&tls12_hello()).await;
    let mut header = [0; 6];
    match timeout(step, stream.read_exact(&mut header)).await {
        Err(_) => failed(format!("no refusal in {step:?}")),
        Ok(Err(_)) => Ok("closed".to_owned()),
        Ok(Ok(_)) if header[0] == ALERT => Ok("refused with an alert".to_owned()),
        Ok(Ok(_)) => failed("it answered with a ServerHello"),
    }
}

/// The content type of a TLS record that holds an alert.
const ALERT: u8 = 21;

/// The first record of a TLS 1.2 handshake (RFC 5246, section 7.4.1.2): no `supported_versions`.
fn tls12_hello() -> Vec<u8> {
    let extensions = [
        extension(10, &[0, 4, 0x00, 0x1d, 0x00, 0x17]), // groups: X25519, P-256
        extension(11, &[1, 0]),                         // points: uncompressed
        extension(13, &[0, 6, 0x08, 0x04, 0x04, 0x01, 0x04, 0x03]), // signatures: RSA-PSS, PKCS#1 and ECDSA, SHA-256
        extension(16, b"\x00\x07\x06bt2c/1"),                       // ALPN
    ]
    .concat();
    let suites = [0xc0, 0x2f, 0xc0, 0x30, 0xcc, 0xa8, 0x00, 0x9c]; // ECDHE and plain RSA with AES-GCM and ChaCha20
    let body = [&[3, 3][..], &[0x42; 32], &[0], &sized(&suites), &[1, 0], &sized(&extensions)].concat();
    let handshake = [&[1, 0][..], &sized(&body)].concat();
    [&[22, 3, 1][..], &sized(&handshake)].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &sized(content)].concat()
}

/// Bytes behind their length in two bytes.
fn sized(content: &[u8]) -> Vec<u8> {
    let len = u16::try_from(content.len()).expect("a hello is short");
    [&len.to_be_bytes()[..], content].concat()
}
