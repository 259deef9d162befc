//! TLS of a dialer that shows anything and believes anything, and remembers what it was shown.

use std::{fmt, sync::Arc};

use bt2c_security::{ALPN, Credentials, Identity};
use parking_lot::Mutex;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, NamedGroup, SignatureAlgorithm, SignatureScheme,
    client::{
        ClientSessionStore, ResolvesClientCert, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    sign::{CertifiedKey, Signer, SigningKey},
    version::TLS13,
};

/// What the other side showed and did in a handshake.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Its certificates, the leaf first, in DER.
    pub(super) chain: Vec<Vec<u8>>,
    /// What is wrong with the proof that it has the leaf's key.
    pub(super) unproven: Option<String>,
    /// It asked for our certificate.
    pub(super) asked: bool,
    /// Session tickets that it sent.
    pub(super) tickets: usize,
}

/// What a dialer shows in TLS.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    certificate: Option<Arc<CertifiedKey>>,
    alpn: Vec<Vec<u8>>,
    only_x25519: bool,
    /// The server name that goes out.
    pub(super) name: ServerName<'static>,
}

impl Shown {
    /// No certificate; otherwise what an honest dialer shows.
    pub(super) fn nothing() -> Self {
        let alpn = vec![ALPN.to_vec()];
        Self { certificate: None, alpn, only_x25519: false, name: bt2c_security::server_name() }
    }

    /// What an honest dialer shows.
    pub(super) fn honest(credentials: &Credentials) -> Self {
        Self::chain(vec![credentials.certificate_der().to_vec()], credentials.identity())
    }

    /// Any certificates, and the proof of this key.
    pub(super) fn chain(chain: Vec<Vec<u8>>, identity: &Identity) -> Self {
        let key = PrivateKeyDer::from_pem_slice(identity.to_pem().as_bytes())
            .expect("an identity's own PEM is one block");
        let key = aws_lc_rs::sign::any_supported_type(&key).expect("an identity's key is RSA");
        Self::with_key(chain, key)
    }

    /// A certificate whose key we do not have: the proof is made up.
    pub(super) fn unproven(certificate: Vec<u8>) -> Self {
        Self::with_key(vec![certificate], Arc::new(NoKey))
    }

    fn with_key(chain: Vec<Vec<u8>>, key: Arc<dyn SigningKey>) -> Self {
        let chain = chain.into_iter().map(CertificateDer::from).collect();
        Self { certificate: Some(Arc::new(CertifiedKey::new(chain, key))), ..Self::nothing() }
    }

    /// The same under other protocol names; none offers none.
    pub(super) fn alpn(mut self, names: &[&[u8]]) -> Self {
        self.alpn = names.iter().map(|name| name.to_vec()).collect();
        self
    }

    /// The same with X25519 as the only key exchange.
    pub(super) fn only_x25519(mut self) -> Self {
        self.only_x25519 = true;
        self
    }

    /// The same with another server name.
    pub(super) fn name(mut self, name: &'static str) -> Self {
        self.name = ServerName::try_from(name).expect("a valid DNS name");
        self
    }

    /// A configuration that shows this, believes anything, and writes what happens into `seen`.
    pub(super) fn client_config(&self, seen: &Arc<Mutex<Seen>>) -> Arc<ClientConfig> {
        let mut provider = aws_lc_rs::default_provider();
        if self.only_x25519 {
            provider.kx_groups.retain(|group| group.name() == NamedGroup::X25519);
        }
        let witness = Arc::new(Witness { seen: Arc::clone(seen), provider: Arc::new(provider.clone()) });
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has suites of TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(witness)
            .with_client_cert_resolver(Arc::new(Always {
                certificate: self.certificate.clone(),
                seen: Arc::clone(seen),
            }));
        config.alpn_protocols.clone_from(&self.alpn);
        config.resumption = Resumption::store(Arc::new(Tickets(Arc::clone(seen))));
        Arc::new(config)
    }
}

/// Shows its certificate whatever is asked for.
#[derive(Debug)]
struct Always {
    certificate: Option<Arc<CertifiedKey>>,
    seen: Arc<Mutex<Seen>>,
}

impl ResolvesClientCert for Always {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.seen.lock().asked = true;
        self.certificate.clone()
    }

    fn has_certs(&self) -> bool {
        self.certificate.is_some()
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

/// Believes any server and remembers it. A proof is checked all the same, for the report.
struct Witness {
    seen: Arc<Mutex<Seen>>,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Witness")
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = std::iter::once(leaf).chain(others).map(|der| der.to_vec()).collect();
        self.seen.lock().chain = chain;
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
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        let proof = verify_tls13_signature(message, leaf, signature, algorithms);
        self.seen.lock().unproven = proof.err().map(|error| error.to_string());
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::RSA_PSS_SHA384,
            SignatureScheme::RSA_PSS_SHA512,
            SignatureScheme::RSA_PKCS1_SHA256,
            SignatureScheme::ECDSA_NISTP256_SHA256,
        ]
    }
}

/// Counts tickets and keeps none.
#[derive(Debug)]
struct Tickets(Arc<Mutex<Seen>>);

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, _: Tls13ClientSessionValue) {
        self.0.lock().tickets += 1;
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        None
    }
}
