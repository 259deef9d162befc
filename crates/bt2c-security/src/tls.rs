//! TLS as BT2C speaks it: version 1.3 only, both sides with one certificate, nothing resumed.
//!
//! The verifier judges everything but the dates of a certificate, because a peer met before may present stale ones and
//! only the session knows whom it met. What it refuses keeps its price through rustls and `io` errors ([`tls_offence`]).

use std::{error::Error as StdError, io, sync::Arc};

use rustls::{
    CertificateError as RustlsCertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName,
    Error as RustlsError, OtherError, PeerIncompatible, ServerConfig, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature_with_raw_key},
    pki_types::{
        CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
    },
    server::{
        NoServerSessionStorage,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::{CertifiedKey, SingleCertAndKey},
    time_provider::TimeProvider,
    version::TLS13,
};

use crate::{
    certificate::{CertificateError, PeerCertificate},
    credentials::Credentials,
    offence::Offence,
};

/// The protocol that we offer: a peer may offer none, but not only others.
pub const ALPN: &[u8] = b"bt2c/1";

/// How a dialer speaks TLS.
///
/// # Errors
/// rustls refused the configuration; no input of a peer or an operator leads to that.
pub fn client_config(
    credentials: &Credentials,
    time: Arc<dyn TimeProvider>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let mut config = ClientConfig::builder_with_details(Arc::new(provider()), time)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PeerVerifier))
        .with_client_cert_resolver(own_certificate(credentials)?);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(Arc::new(config))
}

/// How a listener speaks TLS.
///
/// # Errors
/// As [`client_config`].
pub fn server_config(
    credentials: &Credentials,
    time: Arc<dyn TimeProvider>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_details(Arc::new(provider()), time)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(PeerVerifier))
        .with_cert_resolver(own_certificate(credentials)?);
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A resumed session would keep the certificate but never ask the verifier.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// The name that every dialer sends: peers have none, and a fixed one tells a listener on the path nothing.
pub fn server_name() -> ServerName<'static> {
    ServerName::try_from("bt2c.invalid").expect("a valid DNS name")
}

/// A TLS configuration that rustls refused.
#[derive(Debug, thiserror::Error)]
#[error("rustls refuses the TLS configuration")]
pub struct TlsError(#[from] RustlsError);

/// What a failed handshake says against the peer, if anything.
///
/// Looks through every wrapping of rustls and `io`: certificate refusals keep the price of their
/// [`CertificateError`]; other faults that only the remote can cause are [`Offence::BadTls`]. Alerts (the peer refuses
/// *us*), lost connections and our own failures are nobody's offence.
pub fn tls_offence(error: &(dyn StdError + 'static)) -> Option<Offence> {
    if let Some(error) = certificate_error(error) {
        return error.offence();
    }
    match find(error)? {
        RustlsError::InappropriateMessage { .. }
        | RustlsError::InappropriateHandshakeMessage { .. }
        | RustlsError::InvalidMessage(_)
        | RustlsError::NoCertificatesPresented
        | RustlsError::DecryptError
        | RustlsError::PeerIncompatible(_)
        | RustlsError::PeerMisbehaved(_)
        | RustlsError::InvalidCertificate(_)
        | RustlsError::PeerSentOversizedRecord
        | RustlsError::NoApplicationProtocol => Some(Offence::BadTls),
        _ => None,
    }
}

/// The refusal of our verifier inside an error of a handshake, if that is what it was.
pub fn certificate_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a CertificateError> {
    find(error)
}

/// The first error of type `E` in what an error wraps.
fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // These two wrap without naming what they wrap as their source.
        next = match (error.downcast_ref::<io::Error>(), error.downcast_ref::<RustlsError>()) {
            (Some(error), _) => error.get_ref().map(|inner| inner as &(dyn StdError + 'static)),
            (_, Some(RustlsError::InvalidCertificate(RustlsCertificateError::Other(OtherError(inner))))) => {
                Some(inner.as_ref())
            }
            _ => error.source(),
        };
    }
    None
}

fn refusal(error: CertificateError) -> RustlsError {
    RustlsError::InvalidCertificate(RustlsCertificateError::Other(OtherError(Arc::new(error))))
}

fn own_certificate(credentials: &Credentials) -> Result<Arc<SingleCertAndKey>, TlsError> {
    let chain = vec![CertificateDer::from(credentials.certificate_der().to_vec())];
    // Borrowed: rustls parses the key and keeps no copy of its bytes.
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(credentials.identity().pkcs8_der()));
    let key = aws_lc_rs::sign::any_supported_type(&key)?;
    Ok(Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key))))
}

fn provider() -> CryptoProvider {
    use aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768};
    CryptoProvider {
        // Post-quantum first: what is recorded today shall not be read later.
        kx_groups: vec![X25519MLKEM768, X25519, SECP256R1, SECP384R1],
        ..aws_lc_rs::default_provider()
    }
}

/// Judges the other side's certificate, whichever side it is on.
#[derive(Debug)]
struct PeerVerifier;

impl PeerVerifier {
    fn verify(end_entity: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<(), RustlsError> {
        if !others.is_empty() {
            return Err(refusal(CertificateError::Chain(1 + others.len())));
        }
        PeerCertificate::parse(end_entity).map(drop).map_err(refusal)
    }

    /// Proof of possession, against the key as our rules read it.
    fn verify_signature(
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        let (_, key) = PeerCertificate::parse_with_key(certificate).map_err(refusal)?;
        verify_tls13_signature_with_raw_key(
            message,
            &SubjectPublicKeyInfoDer::from(key.spki_der()),
            signature,
            &aws_lc_rs::default_provider().signature_verification_algorithms,
        )
    }

    /// RSA-PSS signs the handshake; PKCS#1 is named because the certificates themselves are signed so, which some TLS
    /// libraries want to see announced (RFC 8446, section 4.2.3). rustls refuses it in a handshake.
    fn schemes() -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::RSA_PSS_SHA384,
            SignatureScheme::RSA_PSS_SHA512,
            SignatureScheme::RSA_PKCS1_SHA256,
            SignatureScheme::RSA_PKCS1_SHA384,
            SignatureScheme::RSA_PKCS1_SHA512,
        ]
    }

    fn no_tls12() -> RustlsError {
        RustlsError::PeerIncompatible(PeerIncompatible::Tls12NotOfferedOrEnabled)
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, RustlsError> {
        Self::verify(end_entity, intermediates).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        Err(Self::no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        Self::verify_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Self::schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, RustlsError> {
        Self::verify(end_entity, intermediates).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        Err(Self::no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        Self::verify_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Self::schemes()
    }
}

#[cfg(test)]
mod tests;
