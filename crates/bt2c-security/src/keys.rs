//! RSA keys: the key rule that certificates and transactions share, and the node's own key.
//!
//! A key has exactly one accepted encoding. Its hash is a PeerId and an address, so a second spelling of the same key
//! would be a second identity for free.

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der},
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::{
        KeyPair as _, ParsedPublicKey, RSA_PKCS1_SHA256, RSA_PSS_2048_8192_SHA256, RSA_PSS_SHA256,
        RsaSignatureEncoding,
    },
};
use bt2c_proto::{Address, PeerId};
use zeroize::Zeroizing;

use crate::{der, pem};

/// An RSA public key that keeps the key rule; parsed once, cheap to clone.
///
/// The rule: a SubjectPublicKeyInfo in DER with the algorithm `rsaEncryption` and NULL parameters, a modulus of
/// [`MIN_KEY_BITS`] to [`MAX_KEY_BITS`], the exponent 65537, and nothing behind it.
#[derive(Clone)]
pub struct RsaPublicKey(Arc<PublicInner>);

struct PublicInner {
    spki: Box<[u8]>,
    modulus_len: usize,
    parsed: ParsedPublicKey,
}

/// Shortest modulus accepted, in bits.
pub const MIN_KEY_BITS: usize = 2048;

/// Longest modulus accepted, in bits: the cost of a verification grows with its square.
pub const MAX_KEY_BITS: usize = 4096;

impl RsaPublicKey {
    /// Parses a DER-encoded SubjectPublicKeyInfo and holds it to the key rule.
    ///
    /// # Errors
    /// Whatever breaks the rule.
    pub fn from_spki_der(spki: &[u8]) -> Result<Self, KeyError> {
        let modulus_bits = modulus_bits(spki)?;
        let parsed = ParsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, spki).map_err(|_| KeyError::Rejected)?;
        Ok(Self(Arc::new(PublicInner { spki: spki.into(), modulus_len: modulus_bits.div_ceil(8), parsed })))
    }

    /// The DER encoding of the SubjectPublicKeyInfo.
    pub fn spki_der(&self) -> &[u8] {
        &self.0.spki
    }

    /// The identity that belongs to this key.
    pub fn peer_id(&self) -> PeerId {
        PeerId::from_spki_der(self.spki_der())
    }

    /// The chain address that belongs to this key.
    pub fn address(&self) -> Address {
        Address::from_spki_der(self.spki_der())
    }

    /// Checks an RSA-PSS signature (SHA-256, MGF1-SHA-256, salt of 32 bytes) over a chain object's hash.
    ///
    /// # Errors
    /// The signature is not exactly as long as the modulus, or was not made by this key over this message.
    pub fn verify(&self, message: &[u8; 32], signature: &[u8]) -> Result<(), SignatureError> {
        if signature.len() != self.0.modulus_len {
            return Err(SignatureError);
        }
        self.0.parsed.verify_sig(message, signature).map_err(|_| SignatureError)
    }
}

impl PartialEq for RsaPublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.spki_der() == other.spki_der()
    }
}

impl Eq for RsaPublicKey {}

impl fmt::Debug for RsaPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RsaPublicKey({})", self.peer_id().short())
    }
}

/// Why a key was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The bytes are not the one DER encoding of a public key, or something follows it.
    #[error("public key is not encoded in DER as it must be: {0}")]
    Encoding(&'static str),
    /// The algorithm is not `rsaEncryption` with NULL parameters.
    #[error("public key is not an RSA key (rsaEncryption with NULL parameters)")]
    NotRsa,
    /// The modulus is too short or too long.
    #[error("RSA modulus has {0} bits; {MIN_KEY_BITS} to {MAX_KEY_BITS} are accepted")]
    Size(usize),
    /// The public exponent is not 65537.
    #[error("RSA public exponent is not 65537")]
    Exponent,
    /// The numbers do not make an RSA key (an even modulus, for instance).
    #[error("the numbers do not make a valid RSA key")]
    Rejected,
    /// The text is not one PEM block `PRIVATE KEY`, or its content is no PKCS#8 RSA key.
    #[error("not an unencrypted PKCS#8 RSA private key (PEM block \"PRIVATE KEY\")")]
    Private,
    /// The cryptographic library failed to make a key.
    #[error("the cryptographic library could not generate a key")]
    Generation,
}

/// A signature that does not belong to the key and the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("signature does not match the key and the message")]
pub struct SignatureError;

/// A node's own key pair; cheap to clone, never shown, wiped from memory with its last clone.
#[derive(Clone)]
pub struct Identity(Arc<PrivateInner>);

struct PrivateInner {
    pair: KeyPair,
    pkcs8: Zeroizing<Vec<u8>>,
    public: RsaPublicKey,
}

impl Identity {
    /// Makes a fresh 2048-bit key. Takes 40 to 270 ms of CPU: not for a reactor thread.
    ///
    /// # Errors
    /// The cryptographic library failed.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| KeyError::Generation)?;
        let pkcs8 = AsDer::<Pkcs8V1Der<'static>>::as_der(&pair).map_err(|_| KeyError::Generation)?;
        // The library's own buffer of the encoding is wiped by it when `pkcs8` is dropped.
        Self::from_pair(pair, Zeroizing::new(pkcs8.as_ref().to_vec()))
    }

    /// Reads an unencrypted PKCS#8 key in DER; its public half must keep the key rule.
    ///
    /// # Errors
    /// Not such a key, or one outside the rule.
    pub fn from_pkcs8_der(pkcs8: &[u8]) -> Result<Self, KeyError> {
        // The library would pass over bytes behind the key.
        der::only(der::SEQUENCE, pkcs8).ok_or(KeyError::Private)?;
        let pair = KeyPair::from_pkcs8(pkcs8).map_err(|_| KeyError::Private)?;
        Self::from_pair(pair, Zeroizing::new(pkcs8.to_vec()))
    }

    /// Reads the form that [`to_pem`](Self::to_pem) writes.
    ///
    /// # Errors
    /// As [`from_pkcs8_der`](Self::from_pkcs8_der), or text that is not exactly one such block.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let pkcs8 = pem::decode(pem::PRIVATE_KEY, text).ok_or(KeyError::Private)?;
        Self::from_pkcs8_der(&pkcs8)
    }

    /// The key as one PEM block `PRIVATE KEY`.
    pub fn to_pem(&self) -> Zeroizing<String> {
        pem::encode(pem::PRIVATE_KEY, &self.0.pkcs8)
    }

    /// The public half.
    pub fn public_key(&self) -> &RsaPublicKey {
        &self.0.public
    }

    /// The identity that belongs to this key.
    pub fn peer_id(&self) -> PeerId {
        self.0.public.peer_id()
    }

    /// The chain address that belongs to this key.
    pub fn address(&self) -> Address {
        self.0.public.address()
    }

    /// Signs a chain object's hash with RSA-PSS (SHA-256, MGF1-SHA-256, salt of 32 bytes).
    ///
    /// The signature is as long as the modulus; it differs from call to call, for the salt is random.
    pub fn sign(&self, message: &[u8; 32]) -> Vec<u8> {
        self.sign_with(&RSA_PSS_SHA256, message)
    }

    pub(crate) fn pkcs8_der(&self) -> &[u8] {
        &self.0.pkcs8
    }

    fn sign_with(&self, encoding: &'static RsaSignatureEncoding, message: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.0.pair.public_modulus_len()];
        self.0
            .pair
            .sign(encoding, &SystemRandom::new(), message, &mut signature)
            .expect("a checked key of at least 2048 bits has room for any SHA-256 signature");
        signature
    }

    fn from_pair(pair: KeyPair, pkcs8: Zeroizing<Vec<u8>>) -> Result<Self, KeyError> {
        let spki =
            AsDer::<PublicKeyX509Der<'static>>::as_der(pair.public_key()).map_err(|_| KeyError::Rejected)?;
        let public = RsaPublicKey::from_spki_der(spki.as_ref())?;
        Ok(Self(Arc::new(PrivateInner { pair, pkcs8, public })))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({}, private key not shown)", self.peer_id().short())
    }
}

// rcgen signs certificates through these, so that no second copy of the private key is made for it.
impl rcgen::PublicKeyData for Identity {
    fn der_bytes(&self) -> &[u8] {
        self.0.pair.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_RSA_SHA256
    }
}

impl rcgen::SigningKey for Identity {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.sign_with(&RSA_PKCS1_SHA256, message))
    }
}

/// Checks the key rule on the encoding itself and returns the size of the modulus.
fn modulus_bits(spki: &[u8]) -> Result<usize, KeyError> {
    let info = der::only(der::SEQUENCE, spki).ok_or(KeyError::Encoding("no single SEQUENCE"))?;
    let key = info.strip_prefix(RSA_ENCRYPTION).ok_or(KeyError::NotRsa)?;
    let key = der::only(der::BIT_STRING, key)
        .and_then(|bits| bits.strip_prefix(&[0]))
        .ok_or(KeyError::Encoding("no single BIT STRING of whole bytes"))?;
    let key = der::only(der::SEQUENCE, key).ok_or(KeyError::Encoding("no single RSAPublicKey"))?;
    let (modulus, exponent) =
        der::first(der::INTEGER, key).ok_or(KeyError::Encoding("RSAPublicKey without a modulus"))?;
    let exponent =
        der::only(der::INTEGER, exponent).ok_or(KeyError::Encoding("RSAPublicKey without one exponent"))?;
    // A positive INTEGER whose first bit is set carries one leading zero byte, and none otherwise.
    let modulus = match modulus {
        [0, rest @ ..] if rest.first().is_some_and(|&byte| byte >= 0x80) => rest,
        [1..0x80, ..] => modulus,
        _ => return Err(KeyError::Encoding("modulus is not positive or not minimal")),
    };
    let bits = modulus.len() * 8 - leading_zeros(modulus);
    if !(MIN_KEY_BITS..=MAX_KEY_BITS).contains(&bits) {
        return Err(KeyError::Size(bits));
    }
    if exponent != [1, 0, 1] {
        return Err(KeyError::Exponent);
    }
    Ok(bits)
}

fn leading_zeros(bytes: &[u8]) -> usize {
    bytes.first().map_or(0, |byte| usize::try_from(byte.leading_zeros()).unwrap_or(0))
}

/// AlgorithmIdentifier: OID 1.2.840.113549.1.1.1 with NULL parameters (RFC 8017, appendix A.1).
const RSA_ENCRYPTION: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

#[cfg(test)]
pub(crate) mod tests;
