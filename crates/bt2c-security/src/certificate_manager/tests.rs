use std::time::Duration;

use super::*;
use crate::{files::MAX_FILE_LEN, fixtures};

const NOW: Time = Time::from_secs(1_712_352_000);

struct Home {
    dir: tempfile::TempDir,
    manager: CertificateManager,
}

impl Home {
    fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let manager = CertificateManager::new(dir.path());
        Self { dir, manager }
    }

    fn with_identity() -> Self {
        let home = Self::empty();
        write_atomically(&home.key(), fixtures::identity(0).to_pem().as_bytes(), Kind::NewKey).unwrap();
        home.manager.load_or_generate(None, NOW).unwrap();
        home
    }

    fn key(&self) -> PathBuf {
        self.dir.path().join(CertificateManager::KEY_FILE)
    }

    fn certificate(&self) -> PathBuf {
        self.dir.path().join(CertificateManager::CERTIFICATE_FILE)
    }

    fn refused(&self) -> IdentityFileError {
        let (key, certificate) = (fs::read(self.key()).ok(), fs::read(self.certificate()).ok());
        let error = self.manager.load_or_generate(None, NOW).expect_err("this identity cannot be used");
        assert_eq!(fs::read(self.key()).ok(), key, "the key was touched");
        assert_eq!(fs::read(self.certificate()).ok(), certificate, "the certificate was touched");
        error
    }
}

#[test]
fn an_empty_directory_gets_an_identity_that_stays() {
    let home = Home::empty();
    assert!(matches!(home.manager.load().unwrap_err(), IdentityFileError::Io { action: "read", .. }));
    let first = home.manager.load_or_generate(Some(&"alice".parse().unwrap()), NOW).unwrap();
    let again = home.manager.load_or_generate(Some(&"alice".parse().unwrap()), NOW).unwrap();
    assert_eq!(again.certificate_der(), first.certificate_der());
    assert_eq!(home.manager.load().unwrap().peer_id(), first.peer_id());
    assert_eq!(fs::read_dir(home.dir.path()).unwrap().count(), 2, "no temporary file stays");
}

#[test]
fn a_missing_directory_is_made() {
    let parent = tempfile::tempdir().unwrap();
    let manager = CertificateManager::new(parent.path().join("a/b"));
    let made = manager.load_or_generate(None, NOW).unwrap();
    assert_eq!(manager.load().unwrap().peer_id(), made.peer_id());
}

#[test]
fn another_label_and_a_near_expiry_reissue_with_the_same_key() {
    let home = Home::with_identity();
    let peer_id = fixtures::identity(0).peer_id();
    let bob = home.manager.load_or_generate(Some(&"bob".parse().unwrap()), NOW).unwrap();
    assert_eq!((bob.peer_id(), bob.node_id().as_str()), (peer_id, "bob"));
    let derived = home.manager.load_or_generate(None, NOW).unwrap();
    assert_eq!(*derived.node_id(), NodeId::derived_from(&peer_id));
    let later = NOW + Duration::from_secs(340 * 24 * 60 * 60);
    let renewed = home.manager.load_or_generate(None, later).unwrap();
    assert_eq!(renewed.peer_id(), peer_id);
    assert!(renewed.not_after() > derived.not_after());
    let expired_long_ago = later + Duration::from_secs(1000 * 24 * 60 * 60);
    let renewed = home.manager.renew(&renewed, expired_long_ago).unwrap();
    assert_eq!(home.manager.load().unwrap().not_after(), renewed.not_after());
}

#[test]
fn a_missing_certificate_is_reissued() {
    let home = Home::with_identity();
    fs::remove_file(home.certificate()).unwrap();
    let credentials = home.manager.load_or_generate(None, NOW).unwrap();
    assert_eq!(credentials.peer_id(), fixtures::identity(0).peer_id());
    assert!(home.certificate().is_file());
}

#[test]
fn a_certificate_without_its_key_stops_the_start() {
    let home = Home::with_identity();
    fs::remove_file(home.key()).unwrap();
    let error = home.refused();
    assert!(matches!(error, IdentityFileError::KeyMissing { .. }));
    assert!(error.to_string().contains("identity.key is missing"), "{error}");
}

#[test]
fn damaged_files_stop_the_start_and_are_left_as_they_are() {
    for content in [&b""[..], b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
        let home = Home::with_identity();
        fs::write(home.key(), content).unwrap();
        let error = home.refused();
        assert!(matches!(error, IdentityFileError::DamagedKey { .. }));
        assert!(
            error.to_string().contains("identity.key") && error.to_string().contains("restore it"),
            "{error}"
        );
    }
    for content in [vec![0xff; 10], vec![b'a'; MAX_FILE_LEN + 1]] {
        let home = Home::with_identity();
        fs::write(home.key(), content).unwrap();
        assert!(matches!(home.refused(), IdentityFileError::NotText { .. }));
    }
    let home = Home::with_identity();
    fs::write(home.certificate(), "nothing").unwrap();
    assert!(matches!(home.refused(), IdentityFileError::NotPem { .. }));
    let other = Credentials::issue(fixtures::identity(1), None, NOW).unwrap();
    fs::write(home.certificate(), pem::encode(pem::CERTIFICATE, other.certificate_der())).unwrap();
    let error = home.refused();
    assert!(matches!(error, IdentityFileError::DamagedCertificate { .. }));
    assert!(error.to_string().contains("identity.crt cannot be used"), "{error}");
}

#[test]
fn a_key_is_never_put_in_the_place_of_another() {
    let home = Home::with_identity();
    let before = fs::read(home.key()).unwrap();
    let error = write_atomically(&home.key(), b"other", Kind::NewKey).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read(home.key()).unwrap(), before);
}

#[test]
fn what_a_crash_left_behind_does_not_hinder() {
    let home = Home::empty();
    fs::write(home.dir.path().join("identity.key.tmp"), "half a k").unwrap();
    fs::write(home.dir.path().join("identity.crt.tmp"), "half a c").unwrap();
    home.manager.load_or_generate(None, NOW).unwrap();
    assert_eq!(fs::read_dir(home.dir.path()).unwrap().count(), 2);
}

#[cfg(unix)]
mod permissions {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_key_is_written_for_the_owner_alone() {
        let home = Home::empty();
        home.manager.load_or_generate(None, NOW).unwrap();
        assert_eq!(mode(&home.key()), 0o600);
        assert_eq!(mode(&home.certificate()) & 0o600, 0o600);
    }

    #[test]
    fn a_key_that_others_can_read_or_write_is_refused() {
        for bits in [0o640, 0o604, 0o660, 0o620, 0o644, 0o777] {
            let home = Home::with_identity();
            fs::set_permissions(home.key(), fs::Permissions::from_mode(bits)).unwrap();
            let error = home.refused();
            assert!(matches!(error, IdentityFileError::NotPrivate { mode, .. } if mode == bits));
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
        let home = Home::with_identity();
        fs::set_permissions(home.key(), fs::Permissions::from_mode(0o400)).unwrap();
        assert!(home.manager.load().is_ok());
    }

    #[test]
    fn a_linked_key_and_a_directory_in_its_place_are_refused() {
        let home = Home::with_identity();
        let elsewhere = home.dir.path().join("elsewhere");
        fs::rename(home.key(), &elsewhere).unwrap();
        symlink(&elsewhere, home.key()).unwrap();
        assert!(matches!(home.refused(), IdentityFileError::NotAFile { .. }));
        // A dangling link is no reason to make a new key either.
        fs::remove_file(&elsewhere).unwrap();
        assert!(matches!(home.refused(), IdentityFileError::NotAFile { .. }));
        fs::remove_file(home.key()).unwrap();
        fs::create_dir(home.key()).unwrap();
        assert!(matches!(home.manager.load().unwrap_err(), IdentityFileError::NotAFile { .. }));
    }
}
