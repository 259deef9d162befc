//! What a hand-made peer shows in TLS.

use std::sync::Arc;

use bt2c_proto::Time;
use bt2c_security::{ALPN, Credentials, fixtures};
use rcgen::{CertificateParams, DistinguishedName, DnType};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureAlgorithm, SignatureScheme,
    client::{
        ResolvesClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    sign::{CertifiedKey, Signer, SigningKey},
    version::TLS13,
};

use crate::victim::credentials;

/// The label of who shows nothing better.
const MALLORY: &str = "mallory";

/// What a hand-made peer shows in TLS: which certificate, what proof of its key, which protocol.
#[derive(Debug, Clone)]
pub struct Shown {
    certificate: Option<Arc<CertifiedKey>>,
    alpn: Vec<Vec<u8>>,
    pub(crate) label: String,
}

impl Shown {
    /// No certificate.
    pub fn nothing() -> Self {
        Self { certificate: None, alpn: vec![ALPN.to_vec()], label: MALLORY.to_owned() }
    }

    /// What an honest node shows.
    pub fn credentials(credentials: &Credentials) -> Self {
        let key = PrivateKeyDer::from_pem_slice(credentials.identity().to_pem().as_bytes());
        let key =
            aws_lc_rs::sign::any_supported_type(&key.expect("it is one block")).expect("the key is good");
        let label = credentials.node_id().to_string();
        Self { label, ..Self::certificate(credentials.certificate_der().to_vec(), key) }
    }

    /// What the fixture's `index`th identity shows, with a certificate issued then.
    pub fn identity(index: usize, issued: Time) -> Self {
        Self::credentials(&credentials(index, issued))
    }

    /// A certificate without its key: the proof is made up.
    pub fn stolen(certificate: Vec<u8>) -> Self {
        Self::certificate(certificate, Arc::new(NoKey))
    }

    /// A good key in a certificate that names another organisation.
    pub fn organisation(index: usize, organisation: &str) -> Self {
        let honest = Self::identity(index, crate::now());
        let certificate = certificate(&fixtures::identity(index), organisation, MALLORY);
        let key = honest.certificate.expect("it has one").key.clone();
        Self::certificate(certificate, key)
    }

    /// A good key in a certificate that bears this label.
    pub fn labelled(index: usize, label: String) -> Self {
        let key = Self::identity(index, crate::now()).certificate.expect("it has one").key.clone();
        let certificate = certificate(&fixtures::identity(index), bt2c_security::ORGANISATION, &label);
        Self { label, ..Self::certificate(certificate, key) }
    }

    /// A good certificate but for its key, which is on an elliptic curve.
    ///
    /// The node asks for RSA signatures only, so the proof is made up as well; the certificate is judged before it.
    pub fn elliptic_curve() -> Self {
        let key = rcgen::KeyPair::generate().expect("P-256 is supported");
        Self::stolen(certificate(&key, bt2c_security::ORGANISATION, MALLORY))
    }

    /// The same certificate under other protocol names; none offers none.
    #[must_use]
    pub fn with_alpn(mut self, names: &[&[u8]]) -> Self {
        self.alpn = names.iter().map(|name| name.to_vec()).collect();
        self
    }

    /// The first bytes that such a peer sends.
    ///
    /// # Panics
    /// TLS cannot be set up, which it always can.
    pub fn client_hello(&self) -> Vec<u8> {
        let mut connection =
            rustls::ClientConnection::new(self.client_config(), bt2c_security::server_name())
                .expect("the configuration is good");
        let mut bytes = Vec::new();
        connection.write_tls(&mut bytes).expect("a vector takes it");
        bytes
    }

    fn certificate(der: Vec<u8>, key: Arc<dyn SigningKey>) -> Self {
        let certificate = CertifiedKey::new(vec![CertificateDer::from(der)], key);
        Self { certificate: Some(Arc::new(certificate)), ..Self::nothing() }
    }

    /// A TLS configuration that shows this and believes anything.
    pub(crate) fn client_config(&self) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .expect("TLS 1.3 is supported")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Believer));
        let mut config = match &self.certificate {
            Some(certificate) => builder.with_client_cert_resolver(Arc::new(Always(Arc::clone(certificate)))),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols.clone_from(&self.alpn);
        Arc::new(config)
    }
}

fn certificate(key: &impl rcgen::SigningKey, organisation: &str, label: &str) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, organisation);
    params.distinguished_name.push(DnType::CommonName, format!("BT2C Node {label}"));
    params.self_signed(key).expect("the parameters are good").der().to_vec()
}

/// Shows its certificate whatever is asked for.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesClientCert for Always {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Signs with nothing.
#[derive(Debug)]
struct NoKey;

impl SigningKey for NoKey {
    fn choose_scheme(&self, _: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        Some(Box::new(Self))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::RSA
    }
}

impl Signer for NoKey {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(vec![0x42; 256])
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::RSA_PSS_SHA256
    }
}

/// Believes any server.
#[derive(Debug)]
struct Believer;

impl ServerCertVerifier for Believer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::RSA_PSS_SHA384,
            SignatureScheme::RSA_PSS_SHA512,
        ]
    }
}
