//! The node's own certificate: issued from its key, reissued with the same key before it expires.

use std::{sync::Arc, time::Duration};

use bt2c_proto::{NodeId, PeerId, Time};
use rcgen::{CertificateParams, DistinguishedName, DnType, date_time_ymd};

use crate::{
    certificate::{COMMON_NAME_PREFIX, CertificateError, ORGANISATION, PeerCertificate},
    keys::Identity,
};

/// How long a certificate is valid, counted from a midnight (UTC) a day before it was issued.
pub const VALIDITY: Duration = Duration::from_secs(365 * DAY);

/// A certificate with less than this left is reissued.
pub const RENEW_BEFORE_EXPIRY: Duration = Duration::from_secs(30 * DAY);

/// A node's identity with the certificate that presents it; cheap to clone.
#[derive(Debug, Clone)]
pub struct Credentials(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    identity: Identity,
    node_id: NodeId,
    certificate: Box<[u8]>,
    not_after: Time,
}

impl Credentials {
    /// Issues a self-signed certificate for an identity under a label; without one, under the label that its PeerId
    /// gives it.
    ///
    /// The same arguments on the same day give the same bytes.
    ///
    /// # Errors
    /// The label is reserved to another identity, or `now` is beyond what a certificate can express.
    pub fn issue(identity: Identity, node_id: Option<NodeId>, now: Time) -> Result<Self, IssueError> {
        let peer_id = identity.peer_id();
        let node_id = node_id.unwrap_or_else(|| NodeId::derived_from(&peer_id));
        if !node_id.may_be_used_by(&peer_id) {
            return Err(IssueError::Label(node_id));
        }
        let midnight = now.as_secs() / DAY * DAY;
        if midnight > LAST_DAY {
            return Err(IssueError::Date(now));
        }
        let not_before = Duration::from_secs(midnight.saturating_sub(DAY));
        let mut params = CertificateParams::default();
        params.not_before = date_time_ymd(1970, 1, 1) + not_before;
        params.not_after = params.not_before + VALIDITY;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, ORGANISATION);
        params.distinguished_name.push(DnType::CommonName, format!("{COMMON_NAME_PREFIX}{node_id}"));
        let certificate = params.self_signed(&identity).map_err(IssueError::Encoding)?;
        Ok(Self(Arc::new(Inner {
            identity,
            node_id,
            certificate: certificate.der().as_ref().into(),
            not_after: Time::from_millis(0) + not_before + VALIDITY,
        })))
    }

    /// Puts an identity and a certificate issued for it earlier together.
    ///
    /// # Errors
    /// The certificate breaks the rules, belongs to another key, or bears no label that this identity may bear.
    pub fn from_parts(identity: Identity, certificate: &[u8]) -> Result<Self, OwnCertificateError> {
        let parsed = PeerCertificate::parse(certificate)?;
        let peer_id = identity.peer_id();
        if parsed.peer_id != peer_id {
            return Err(OwnCertificateError::OtherKey { certificate: parsed.peer_id, identity: peer_id });
        }
        let node_id =
            parsed.label.filter(|label| label.may_be_used_by(&peer_id)).ok_or(OwnCertificateError::Label)?;
        let not_after = parsed.not_after;
        Ok(Self(Arc::new(Inner { identity, node_id, certificate: certificate.into(), not_after })))
    }

    /// A new certificate for the same key and label.
    ///
    /// # Errors
    /// `now` is beyond what a certificate can express.
    pub fn renewed(&self, now: Time) -> Result<Self, IssueError> {
        Self::issue(self.identity().clone(), Some(self.node_id().clone()), now)
    }

    /// The key pair.
    pub fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// The label in the certificate, to be used in hello as well.
    pub fn node_id(&self) -> &NodeId {
        &self.0.node_id
    }

    /// The identity of the key.
    pub fn peer_id(&self) -> PeerId {
        self.0.identity.peer_id()
    }

    /// The certificate.
    pub fn certificate_der(&self) -> &[u8] {
        &self.0.certificate
    }

    /// End of the certificate's validity.
    pub fn not_after(&self) -> Time {
        self.0.not_after
    }

    /// Whether fewer than [`RENEW_BEFORE_EXPIRY`] are left.
    pub fn needs_renewal(&self, now: Time) -> bool {
        now + RENEW_BEFORE_EXPIRY > self.not_after()
    }
}

/// Why no certificate was issued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The label is 40 hex digits that are not this identity's.
    #[error("node id {0} is reserved to the peer whose PeerId begins with it: choose another")]
    Label(NodeId),
    /// The year is beyond 9998.
    #[error("no certificate can be dated {0}: is the clock right?")]
    Date(Time),
    /// The certificate could not be written.
    #[error("the certificate could not be encoded")]
    Encoding(#[source] rcgen::Error),
}

/// Why a stored certificate does not fit the stored key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OwnCertificateError {
    /// It breaks the rules that peers hold it to.
    #[error(transparent)]
    Rules(#[from] CertificateError),
    /// It was issued for another key.
    #[error("certificate is for {certificate}, the key is {identity}")]
    OtherKey {
        /// Whom the certificate names.
        certificate: PeerId,
        /// Whom the key makes.
        identity: PeerId,
    },
    /// Its common name is not `BT2C Node <label>` with a label that this identity may bear.
    #[error("certificate bears no label that this identity may bear")]
    Label,
}

const DAY: u64 = 24 * 60 * 60;

/// 9998-01-01: the last day whose certificate ends within the four-digit years of X.509.
const LAST_DAY: u64 = 253_339_228_800;

#[cfg(test)]
mod tests;
