//! What is read from elsewhere than the wire: a peer's certificate, and our own state files.

use bt2c_discovery::{DiscoveryConfig, NodeDiscovery};
use bt2c_proto::Network;
use bt2c_security::{
    MAX_CERTIFICATE_LEN, MAX_EVIDENCE, MAX_REASON, MAX_STANDING, PeerCertificate, SecurityAction,
    SecurityConfig, SecurityManager, Subject,
};

use crate::NOW;

/// A certificate that keeps the rules stands alone, and the manager says the same of it.
pub(crate) fn certificate(der: &[u8]) {
    let parsed = PeerCertificate::parse(der);
    let security = SecurityManager::new(SecurityConfig::default());
    assert_eq!(security.verify_peer_certificate(NOW, der, true), parsed);
    let Ok(certificate) = parsed else { return };
    assert!(der.len() <= MAX_CERTIFICATE_LEN);
    assert!(PeerCertificate::parse(&[der, b"\0"].concat()).is_err(), "a byte behind it");
    let strict = security.verify_peer_certificate(NOW, der, false);
    assert_eq!(strict.is_ok(), certificate.check_dates(NOW).is_ok());
}

/// A bans file that is read holds bounded texts, and is the same after it was written and read again.
pub(crate) fn bans(json: &[u8]) {
    let fresh = || SecurityManager::new(SecurityConfig::default());
    let mut security = fresh();
    if security.load_bans(NOW, json).is_err() {
        assert_eq!(security.bans(NOW), [], "a damaged file adds nothing");
        return;
    }
    let bans = security.bans(NOW);
    for ban in &bans {
        assert!(ban.is_live(NOW));
        assert!(ban.reason.chars().count() <= MAX_REASON && ban.evidence.chars().count() <= MAX_EVIDENCE);
        assert!(!ban.reason.chars().chain(ban.evidence.chars()).any(char::is_control));
    }
    let ours = "192.0.2.200".parse().expect("an address");
    let Some(ban) = security.ban_ip(NOW, ours, None) else { return };
    security.flush(NOW);
    let written = std::iter::from_fn(|| security.poll_action()).find_map(|action| match action {
        SecurityAction::Persist(bytes) => Some(bytes),
        _ => None,
    });
    let mut again = fresh();
    again.load_bans(NOW, &written.expect("a change is written")).expect("what we wrote is read");
    assert_eq!(again.bans(NOW), security.bans(NOW));
    assert!(
        again.bans(NOW).contains(&ban)
            && bans.iter().all(|ban| ban.subject == ours.into() || again.bans(NOW).contains(ban))
    );
}

/// A reputation file that is read gives no standing beyond the bounds, now or ever, and is the same when read again.
pub(crate) fn reputation(json: &[u8]) {
    let mut security = SecurityManager::new(SecurityConfig::default());
    if security.load_reputation(NOW, json).is_err() {
        assert!(security.poll_action().is_none(), "a damaged file changes nothing");
        return;
    }
    let mut subjects = Vec::new();
    while let Some(action) = security.poll_action() {
        let SecurityAction::Standing(subject, standing) = action else { panic!("{action:?}") };
        assert!(standing != 0 && standing.abs() <= MAX_STANDING, "{subject}: {standing}");
        subjects.push(subject);
    }
    let day = NOW + std::time::Duration::from_secs(24 * 60 * 60);
    for subject in subjects {
        if let Subject::Peer(peer) = subject {
            assert_eq!(security.score(day, &peer), 0, "all of them wear off within a day");
        }
    }
}

/// A peers file that is read is the same after it was written and read again.
pub(crate) fn peers(json: &[u8]) {
    for network in [Network::Devnet, Network::Mainnet] {
        let fresh = || NodeDiscovery::new(DiscoveryConfig::for_network(network), [7; 32]);
        let mut discovery = fresh();
        if discovery.load(NOW, json).is_err() {
            assert_eq!(discovery.known(), [], "a damaged file adds nothing");
            continue;
        }
        assert!(discovery.known().iter().all(|peer| peer.addr.port() != 0 && peer.seen <= NOW));
        let written = discovery.snapshot();
        let mut again = fresh();
        again.load(NOW, &written).expect("what we wrote is read");
        assert_eq!(again.known(), discovery.known());
        assert_eq!(again.size(), discovery.size());
        assert_eq!(again.snapshot(), written);
    }
}
