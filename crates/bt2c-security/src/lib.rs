//! Who a BT2C node is, whom it lets in, and how much they may ask for.
//!
//! Everything here is pure, except that [`CertificateManager`] reads and writes the identity in the data directory, and
//! that keys, salts and TLS draw on the cryptographic library's randomness. It holds
//! - keys and the one rule for them ([`RsaPublicKey`], [`Identity`]),
//! - certificates, a peer's ([`PeerCertificate`]) and one's own ([`Credentials`]),
//! - TLS 1.3 configurations that ask both sides for one ([`client_config`], [`server_config`]),
//! - what an offence costs ([`Offence`]), and the core that turns offences into bans ([`SecurityManager`]),
//! - the limits of a connection ([`SessionQuota`]).
//!
//! ```
//! use bt2c_proto::Time;
//! use bt2c_security::{Attempt, Credentials, Identity, Offence, PeerCertificate, SecurityConfig, SecurityManager};
//!
//! let now = Time::from_secs(1_712_352_000);
//! let credentials = Credentials::issue(Identity::generate()?, Some("alice".parse()?), now)?;
//! let seen_by_others = PeerCertificate::parse(credentials.certificate_der())?;
//! assert_eq!(seen_by_others.peer_id, credentials.peer_id());
//! assert_eq!(seen_by_others.label.as_ref(), Some(credentials.node_id()));
//!
//! let mut security = SecurityManager::new(SecurityConfig::default().build()?);
//! let ip = "203.0.113.7".parse()?;
//! assert_eq!(security.admit_attempt(now, ip), Attempt::Admit);
//! security.report(now, ip, None, Offence::InvalidBlock, "block 7: wrong proposer").expect("that is a ban");
//! assert_eq!(security.admit_attempt(now, ip), Attempt::Banned);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod ban;
mod bucket;
mod certificate;
mod certificate_manager;
mod config;
mod credentials;
mod der;
mod files;
#[cfg(any(test, feature = "fixtures"))]
pub mod fixtures;
mod handshakes;
mod keys;
mod ledger;
mod manager;
mod offence;
mod pace;
mod pem;
mod quota;
mod reputation;
mod shares;
mod subject;
mod tls;
mod versioned;

pub use ban::{Ban, BansFileError, MAX_EVIDENCE, MAX_REASON};
pub use certificate::{CertificateError, DATE_TOLERANCE, MAX_CERTIFICATE_LEN, ORGANISATION, PeerCertificate};
pub use certificate_manager::{CertificateManager, IdentityFileError};
pub use config::{SecurityConfig, SecurityConfigError};
pub use credentials::{Credentials, IssueError, OwnCertificateError, RENEW_BEFORE_EXPIRY, VALIDITY};
pub use keys::{Identity, KeyError, MAX_KEY_BITS, MIN_KEY_BITS, RsaPublicKey, SignatureError};
pub use manager::{Attempt, SecurityAction, SecurityManager};
pub use offence::{BAN_THRESHOLD, Offence};
pub use pace::{PushPace, RequestPace};
pub use quota::{Admission, FLOOD_FACTOR, PushAdmission, PushKind, SessionQuota};
pub use reputation::{Deed, MAX_STANDING, ReputationFileError};
pub use subject::{Subject, SubjectError};
pub use tls::{ALPN, TlsError, certificate_error, client_config, server_config, server_name, tls_offence};
