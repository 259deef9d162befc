use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, Issuer, PublicKeyData, date_time_ymd,
};

use super::*;
use crate::{
    credentials::Credentials,
    fixtures,
    keys::tests::{modulus, rsa_public_key},
};

const NOW: Time = Time::from_secs(1_712_352_000);

fn good() -> Vec<u8> {
    Credentials::issue(fixtures::identity(0), None, NOW).unwrap().certificate_der().to_vec()
}

/// The parameters of a certificate that keeps the rules.
pub(crate) fn params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2025, 1, 1);
    params.distinguished_name = names(&[ORGANISATION], &["BT2C Node alice"]);
    params
}

fn names(organisations: &[&str], common_names: &[&str]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    organisations.iter().for_each(|value| name.push(DnType::OrganizationName, *value));
    common_names.iter().for_each(|value| name.push(DnType::CommonName, *value));
    name
}

/// A certificate that breaks one rule.
pub(crate) fn certificate(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = params();
    change(&mut params);
    params.self_signed(&fixtures::identity(0)).unwrap().der().to_vec()
}

/// A certificate for a key that nobody has to have.
fn certificate_for(key: Vec<u8>) -> Vec<u8> {
    struct Key(Vec<u8>);

    impl PublicKeyData for Key {
        fn der_bytes(&self) -> &[u8] {
            &self.0
        }

        fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
            &rcgen::PKCS_RSA_SHA256
        }
    }

    let (params, signer) = (params(), fixtures::identity(0));
    let issuer = Issuer::from_params(&params, &signer);
    params.signed_by(&Key(key), &issuer).unwrap().der().to_vec()
}

fn refused(der: &[u8]) -> CertificateError {
    let error = PeerCertificate::parse(der).expect_err("this certificate breaks a rule");
    assert_eq!(error.offence(), Some(Offence::BadCertificate));
    error
}

/// The golden vectors, which another implementation made.
#[test]
fn certificates_of_the_vectors_are_judged_as_they_say() {
    let vectors: Vec<serde_json::Value> = serde_json::from_str(bt2c_proto::vectors::CERTIFICATES).unwrap();
    assert!(vectors.len() > 20);
    for vector in vectors {
        let der = data_encoding::BASE64.decode(vector["certificate"].as_str().unwrap().as_bytes()).unwrap();
        let said = match PeerCertificate::parse(&der) {
            Ok(parsed) => serde_json::json!({
                "name": vector["name"], "certificate": vector["certificate"],
                "peer_id": parsed.peer_id.to_string(), "label": parsed.label,
                "not_before": parsed.not_before.as_secs(), "not_after": parsed.not_after.as_secs(),
            }),
            Err(error) => serde_json::json!({
                "name": vector["name"], "certificate": vector["certificate"],
                "error": match error {
                    CertificateError::TooLong(_) => "too-long",
                    CertificateError::Encoding => "encoding",
                    CertificateError::Trailing(_) => "trailing",
                    CertificateError::Organisation => "organisation",
                    CertificateError::Key(_) => "key",
                    _ => "another",
                },
            }),
        };
        assert_eq!(said, vector);
    }
}

#[test]
fn a_good_certificate_says_who_and_when() {
    let parsed = PeerCertificate::parse(&certificate(|_| {})).unwrap();
    assert_eq!(parsed.peer_id, fixtures::identity(0).peer_id());
    assert_eq!(parsed.label, Some("alice".parse().unwrap()));
    assert_eq!(parsed.not_before, Time::from_secs(1_704_067_200));
    assert_eq!(parsed.not_after, Time::from_secs(1_735_689_600));
}

#[test]
fn keys_of_2048_to_4096_bits_are_accepted_and_shorter_or_longer_ones_refused() {
    for bits in [2048, 3072, 4096] {
        assert!(PeerCertificate::parse(&certificate_for(rsa_public_key(&modulus(bits), &[1, 0, 1]))).is_ok());
    }
    for bits in [1024, 2047, 4097, 8192] {
        let der = certificate_for(rsa_public_key(&modulus(bits), &[1, 0, 1]));
        assert_eq!(refused(&der), CertificateError::Key(KeyError::Size(bits)));
    }
    let der = certificate_for(rsa_public_key(&modulus(2048), &[3]));
    assert_eq!(refused(&der), CertificateError::Key(KeyError::Exponent));
}

#[test]
fn other_kinds_of_keys_are_refused() {
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ED25519] {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let der = params().self_signed(&key).unwrap();
        assert_eq!(refused(der.der()), CertificateError::Key(KeyError::NotRsa));
    }
}

#[test]
fn another_organisation_none_and_two_are_refused() {
    for organisations in [&[][..], &["BT2C"], &["BT2C Network "], &["bt2c network"], &["Evil Network"]] {
        let der =
            certificate(|params| params.distinguished_name = names(organisations, &["BT2C Node alice"]));
        assert_eq!(refused(&der), CertificateError::Organisation);
    }
    assert_eq!(refused(&two_organisations()), CertificateError::Organisation);
}

/// rcgen keeps one value of a kind, so a name of the same length is turned into a second organisation.
fn two_organisations() -> Vec<u8> {
    let mut der = certificate(|params| {
        params.distinguished_name.push(DnType::OrganizationalUnitName, "Evil Network");
    });
    let unit = [0x06, 0x03, 0x55, 0x04, 0x0b];
    let at = |der: &[u8]| der.windows(unit.len()).position(|window| window == unit);
    while let Some(found) = at(&der) {
        der[found + 4] = 0x0a;
    }
    der
}

#[test]
fn a_label_is_what_stands_behind_the_prefix_and_nothing_else() {
    for common_name in ["alice", "BT2C Node ", "BT2C Node a b", "bt2c node alice", " BT2C Node alice"] {
        let der = certificate(|params| params.distinguished_name = names(&[ORGANISATION], &[common_name]));
        assert_eq!(PeerCertificate::parse(&der).unwrap().label, None, "{common_name:?}");
    }
    let der = certificate(|params| params.distinguished_name = names(&[ORGANISATION], &[]));
    assert_eq!(PeerCertificate::parse(&der).unwrap().label, None);
}

#[test]
fn bytes_behind_the_certificate_are_refused() {
    assert_eq!(refused(&[&good()[..], &[0]].concat()), CertificateError::Trailing(1));
    assert_eq!(refused(&good().repeat(2)), CertificateError::Trailing(good().len()));
}

#[test]
fn more_than_four_kibibytes_are_refused_unread() {
    let filler =
        CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![0x04; MAX_CERTIFICATE_LEN]);
    let der = certificate(|params| params.custom_extensions = vec![filler]);
    assert_eq!(refused(&der), CertificateError::TooLong(der.len()));
    assert_eq!(
        refused(&vec![0; MAX_CERTIFICATE_LEN + 1]),
        CertificateError::TooLong(MAX_CERTIFICATE_LEN + 1)
    );
    let filler = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![0x04; 3000]);
    assert!(PeerCertificate::parse(&certificate(|params| params.custom_extensions = vec![filler])).is_ok());
}

#[test]
fn what_is_no_certificate_is_refused() {
    let good = good();
    for der in [&[][..], b"-----BEGIN CERTIFICATE-----", &good[..good.len() - 1], &good[4..]] {
        assert_eq!(refused(der), CertificateError::Encoding);
    }
}

#[test]
fn dates_are_judged_with_ten_minutes_of_tolerance_and_cost_nothing() {
    let parsed = PeerCertificate::parse(&certificate(|_| {})).unwrap();
    let millisecond = Duration::from_millis(1);
    let (first, last) = (parsed.not_before - DATE_TOLERANCE, parsed.not_after + DATE_TOLERANCE);
    assert_eq!(parsed.check_dates(first), Ok(()));
    assert_eq!(parsed.check_dates(last), Ok(()));
    let early = parsed.check_dates(first - millisecond).unwrap_err();
    assert_eq!(early, CertificateError::NotYetValid { not_before: parsed.not_before });
    let late = parsed.check_dates(last + millisecond).unwrap_err();
    assert_eq!(late, CertificateError::Expired { not_after: parsed.not_after });
    assert_eq!((early.offence(), late.offence()), (None, None));
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_panic_the_parser(der in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = PeerCertificate::parse(&der);
        }

        #[test]
        fn no_damage_panics_the_parser_or_changes_the_key(at in 0_usize..700, value: u8) {
            let mut der = good();
            let at = at % der.len();
            der[at] = value;
            if let Ok(parsed) = PeerCertificate::parse(&der) {
                let (_, key) = PeerCertificate::parse_with_key(&der).unwrap();
                prop_assert_eq!(parsed.peer_id, key.peer_id());
            }
        }
    }
}
