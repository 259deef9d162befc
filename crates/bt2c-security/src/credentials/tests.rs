use super::*;
use crate::fixtures;

/// 2024-04-06, 00:45:45 UTC.
const NOW: Time = Time::from_secs(1_712_364_345);

fn issue(node_id: Option<&str>) -> Credentials {
    Credentials::issue(fixtures::identity(0), node_id.map(|id| id.parse().unwrap()), NOW).unwrap()
}

#[test]
fn our_certificate_keeps_the_rules_that_we_hold_others_to() {
    let credentials = issue(Some("alice"));
    let parsed = PeerCertificate::parse(credentials.certificate_der()).unwrap();
    assert_eq!(parsed.peer_id, credentials.peer_id());
    assert_eq!(parsed.label.as_ref(), Some(credentials.node_id()));
    assert_eq!(parsed.not_after, credentials.not_after());
    assert_eq!(parsed.check_dates(NOW), Ok(()));
}

#[test]
fn validity_begins_at_the_midnight_a_day_before_and_lasts_365_days() {
    let parsed = PeerCertificate::parse(issue(None).certificate_der()).unwrap();
    assert_eq!(parsed.not_before, Time::from_secs(1_712_275_200));
    assert_eq!(parsed.not_after.since(parsed.not_before), VALIDITY);
}

#[test]
fn the_same_day_gives_the_same_bytes() {
    assert_eq!(issue(None).certificate_der(), issue(None).certificate_der());
}

#[test]
fn the_longest_label_and_the_derived_one_fit() {
    let longest = "x".repeat(bt2c_proto::MAX_NODE_ID_LEN);
    assert_eq!(issue(Some(&longest)).node_id().as_str(), longest);
    assert_eq!(*issue(None).node_id(), NodeId::derived_from(&fixtures::identity(0).peer_id()));
}

#[test]
fn a_label_that_is_another_peers_is_refused() {
    let stolen = NodeId::derived_from(&fixtures::identity(1).peer_id());
    let error = Credentials::issue(fixtures::identity(0), Some(stolen), NOW).unwrap_err();
    assert!(matches!(error, IssueError::Label(_)));
}

#[test]
fn renewal_keeps_key_and_label_and_is_due_with_thirty_days_left() {
    let credentials = issue(Some("alice"));
    let due = credentials.not_after() - RENEW_BEFORE_EXPIRY;
    assert!(!credentials.needs_renewal(due));
    let later = due + Duration::from_millis(1);
    assert!(credentials.needs_renewal(later));
    let renewed = credentials.renewed(later).unwrap();
    assert_eq!(renewed.peer_id(), credentials.peer_id());
    assert_eq!(renewed.node_id(), credentials.node_id());
    assert!(!renewed.needs_renewal(later));
}

#[test]
fn clocks_that_are_far_off_give_an_error_and_no_panic() {
    assert!(Credentials::issue(fixtures::identity(0), None, Time::from_millis(0)).is_ok());
    assert!(Credentials::issue(fixtures::identity(0), None, Time::from_secs(LAST_DAY)).is_ok());
    for now in [Time::from_secs(LAST_DAY + DAY), Time::from_millis(u64::MAX)] {
        let error = Credentials::issue(fixtures::identity(0), None, now).unwrap_err();
        assert!(matches!(error, IssueError::Date(_)));
    }
}

#[test]
fn a_stored_certificate_must_belong_to_the_key() {
    let credentials = issue(Some("alice"));
    let again = Credentials::from_parts(fixtures::identity(0), credentials.certificate_der()).unwrap();
    assert_eq!(again.node_id(), credentials.node_id());
    let other = Credentials::from_parts(fixtures::identity(1), credentials.certificate_der()).unwrap_err();
    assert!(matches!(other, OwnCertificateError::OtherKey { .. }));
    let broken = Credentials::from_parts(fixtures::identity(0), b"nothing").unwrap_err();
    assert_eq!(broken, OwnCertificateError::Rules(CertificateError::Encoding));
    let unnamed = crate::certificate::tests::certificate(|params| {
        params.distinguished_name.push(DnType::CommonName, "somebody");
    });
    let unnamed = Credentials::from_parts(fixtures::identity(0), &unnamed).unwrap_err();
    assert_eq!(unnamed, OwnCertificateError::Label);
}
