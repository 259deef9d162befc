use super::*;
use crate::fixtures;

/// A SubjectPublicKeyInfo with these numbers, in the one accepted encoding if they have it.
pub(crate) fn spki(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    spki_with(RSA_ENCRYPTION, &rsa_public_key(modulus, exponent))
}

/// The RSAPublicKey inside.
pub(crate) fn rsa_public_key(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    element(der::SEQUENCE, &[element(der::INTEGER, modulus), element(der::INTEGER, exponent)].concat())
}

fn spki_with(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    let bits = element(der::BIT_STRING, &[&[0], key].concat());
    element(der::SEQUENCE, &[algorithm, &bits].concat())
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let len = content.len();
    let header = match len {
        0..=0x7f => vec![tag, u8::try_from(len).unwrap()],
        0x80..=0xff => vec![tag, 0x81, u8::try_from(len).unwrap()],
        _ => [&[tag, 0x82][..], &u16::try_from(len).unwrap().to_be_bytes()].concat(),
    };
    [header, content.to_vec()].concat()
}

/// An INTEGER content of that many bits: odd, highest bit set.
pub(crate) fn modulus(bits: usize) -> Vec<u8> {
    let mut bytes = vec![0xa5; bits.div_ceil(8)];
    bytes[0] = u8::try_from((1_u16 << ((bits - 1) % 8 + 1)) - 1).unwrap();
    if bytes[0] >= 0x80 {
        bytes.insert(0, 0);
    }
    bytes
}

const F4: &[u8] = &[1, 0, 1];

fn refused(spki: &[u8]) -> KeyError {
    RsaPublicKey::from_spki_der(spki).expect_err("this key breaks the rule")
}

#[test]
fn sizes_from_2048_to_4096_bits_are_accepted_and_no_others() {
    for bits in [2048, 2049, 3072, 4095, 4096] {
        assert!(RsaPublicKey::from_spki_der(&spki(&modulus(bits), F4)).is_ok(), "{bits}");
    }
    for bits in [512, 1024, 2047, 4097, 8192] {
        assert_eq!(refused(&spki(&modulus(bits), F4)), KeyError::Size(bits));
    }
}

#[test]
fn other_exponents_are_refused() {
    for exponent in [&[3][..], &[1], &[1, 0, 3], &[0, 1, 0, 1], &[1, 0, 0, 0, 1]] {
        assert_eq!(refused(&spki(&modulus(2048), exponent)), KeyError::Exponent);
    }
}

#[test]
fn other_algorithms_and_parameters_are_refused() {
    let key = rsa_public_key(&modulus(2048), F4);
    let without_null = [&[0x30, 0x0b][..], &RSA_ENCRYPTION[2..13]].concat();
    let mut pss = RSA_ENCRYPTION.to_vec();
    pss[12] = 10;
    for algorithm in [&without_null, &pss] {
        assert_eq!(refused(&spki_with(algorithm, &key)), KeyError::NotRsa);
    }
}

#[test]
fn a_second_spelling_of_a_key_is_refused() {
    let good = spki(&modulus(2048), F4);
    let encoding = |spki: &[u8]| assert!(matches!(refused(spki), KeyError::Encoding(_)), "{spki:02x?}");
    encoding(&[&good[..], &[0]].concat());
    encoding(&good[..good.len() - 1]);
    encoding(&[]);
    // A modulus with one zero more, without the one that makes it positive, and of no bytes.
    encoding(&spki(&[&[0][..], &modulus(2048)].concat(), F4));
    encoding(&spki(&modulus(2048)[1..], F4));
    encoding(&spki(&[], F4));
    // Something behind the exponent, behind the RSAPublicKey, and unused bits.
    let key = rsa_public_key(&modulus(2048), F4);
    let three = [element(der::INTEGER, &modulus(2048)), element(der::INTEGER, F4), element(der::INTEGER, F4)];
    encoding(&spki_with(RSA_ENCRYPTION, &element(der::SEQUENCE, &three.concat())));
    encoding(&spki_with(RSA_ENCRYPTION, &[&key[..], &[5, 0]].concat()));
    let unused_bits = element(der::BIT_STRING, &[&[1], &key[..]].concat());
    encoding(&element(der::SEQUENCE, &[RSA_ENCRYPTION, &unused_bits].concat()));
    // The indefinite form of BER.
    encoding(&[&[0x30, 0x80], &good[4..], &[0, 0]].concat());
}

#[test]
fn an_even_modulus_is_no_key() {
    let mut even = modulus(2048);
    *even.last_mut().unwrap() = 0xa4;
    assert_eq!(refused(&spki(&even, F4)), KeyError::Rejected);
}

#[test]
fn signatures_hold_for_their_message_and_key_only() {
    let (identity, other) = (fixtures::identity(0), fixtures::identity(1));
    let (message, signature) = ([7; 32], identity.sign(&[7; 32]));
    assert_eq!(signature.len(), 256);
    assert_eq!(identity.public_key().verify(&message, &signature), Ok(()));
    assert_eq!(identity.public_key().verify(&[8; 32], &signature), Err(SignatureError));
    assert_eq!(other.public_key().verify(&message, &signature), Err(SignatureError));
    for wrong_length in [&signature[..255], &[&[0][..], &signature].concat(), &[]] {
        assert_eq!(identity.public_key().verify(&message, wrong_length), Err(SignatureError));
    }
}

#[test]
fn other_paddings_and_salts_are_no_signatures() {
    use aws_lc_rs::signature::{RSA_PSS_SHA512, RsaPssSaltLength};
    static LONG_SALT: std::sync::LazyLock<RsaSignatureEncoding> =
        std::sync::LazyLock::new(|| RSA_PSS_SHA256.with_pss_salt_length(RsaPssSaltLength::Max));
    let identity = fixtures::identity(0);
    for encoding in [&RSA_PKCS1_SHA256, &RSA_PSS_SHA512, &LONG_SALT] {
        let signature = identity.sign_with(encoding, &[7; 32]);
        assert_eq!(identity.public_key().verify(&[7; 32], &signature), Err(SignatureError));
    }
}

#[test]
fn identities_round_trip_through_pem_and_hide_their_key() {
    let identity = Identity::generate().unwrap();
    let pem = identity.to_pem();
    assert_eq!(Identity::from_pem(&pem).unwrap().peer_id(), identity.peer_id());
    assert_eq!(identity.peer_id(), PeerId::from_spki_der(identity.public_key().spki_der()));
    assert_eq!(identity.address(), Address::from_spki_der(identity.public_key().spki_der()));
    let shown = format!("{identity:?}");
    assert!(shown.contains("not shown") && shown.len() < 80, "{shown}");
}

#[test]
fn what_is_no_pkcs8_rsa_key_is_no_identity() {
    let public = fixtures::identity(0).public_key().spki_der().to_vec();
    let ec = rcgen::KeyPair::generate().unwrap().serialize_der();
    for der in [&public[..], &ec, &[]] {
        assert_eq!(Identity::from_pkcs8_der(der).unwrap_err(), KeyError::Private);
    }
    assert_eq!(Identity::from_pem("not PEM").unwrap_err(), KeyError::Private);
    let mut trailing = fixtures::identity(0).pkcs8_der().to_vec();
    trailing.push(0);
    assert_eq!(Identity::from_pkcs8_der(&trailing).unwrap_err(), KeyError::Private);
}
