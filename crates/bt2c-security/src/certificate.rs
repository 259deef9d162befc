//! What a peer's certificate must be, and what it says.
//!
//! The certificate only carries a key and a label: nobody vouches for it, so its own signature is not looked at. That
//! the peer has the key is proven by its TLS signature (see `tls`).

use std::time::Duration;

use bt2c_proto::{NodeId, PeerId, Time};
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

use crate::{
    keys::{KeyError, RsaPublicKey},
    offence::Offence,
};

/// The organisation that every certificate names.
pub const ORGANISATION: &str = "BT2C Network";

/// What stands before the label in the common name.
pub(crate) const COMMON_NAME_PREFIX: &str = "BT2C Node ";

/// Longest certificate accepted, in bytes: with a 4096-bit key ours has about 1,400.
pub const MAX_CERTIFICATE_LEN: usize = 4 * 1024;

/// How far two clocks may disagree about a certificate's dates.
pub const DATE_TOLERANCE: Duration = Duration::from_secs(10 * 60);

/// What a certificate that keeps the rules says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// The identity of the key in it.
    pub peer_id: PeerId,
    /// The label in the common name `BT2C Node <label>`; `None` if there is no such name. Whether the peer may bear it
    /// is decided when its hello is in, where the refusal can be told.
    pub label: Option<NodeId>,
    /// Start of the validity.
    pub not_before: Time,
    /// End of the validity.
    pub not_after: Time,
}

impl PeerCertificate {
    /// Holds a certificate to every rule but its dates.
    ///
    /// # Errors
    /// The first rule broken.
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        Ok(Self::parse_with_key(der)?.0)
    }

    pub(crate) fn parse_with_key(der: &[u8]) -> Result<(Self, RsaPublicKey), CertificateError> {
        if der.len() > MAX_CERTIFICATE_LEN {
            return Err(CertificateError::TooLong(der.len()));
        }
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| CertificateError::Encoding)?;
        if !rest.is_empty() {
            return Err(CertificateError::Trailing(rest.len()));
        }
        if only(certificate.subject().iter_organization()) != Some(ORGANISATION) {
            return Err(CertificateError::Organisation);
        }
        let key = RsaPublicKey::from_spki_der(certificate.public_key().raw)?;
        let validity = certificate.validity();
        let parsed = Self {
            peer_id: key.peer_id(),
            label: label(certificate.subject()),
            not_before: time(validity.not_before.timestamp()),
            not_after: time(validity.not_after.timestamp()),
        };
        Ok((parsed, key))
    }

    /// Whether `now` lies inside the validity, give or take [`DATE_TOLERANCE`].
    ///
    /// # Errors
    /// [`CertificateError::NotYetValid`] or [`CertificateError::Expired`]; for a peer met before, the caller only warns.
    pub fn check_dates(&self, now: Time) -> Result<(), CertificateError> {
        if now + DATE_TOLERANCE < self.not_before {
            return Err(CertificateError::NotYetValid { not_before: self.not_before });
        }
        if now > self.not_after + DATE_TOLERANCE {
            return Err(CertificateError::Expired { not_after: self.not_after });
        }
        Ok(())
    }
}

/// Why a peer's certificate was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// More than one certificate was presented.
    #[error("{0} certificates were presented; a self-signed one stands alone")]
    Chain(usize),
    /// Longer than [`MAX_CERTIFICATE_LEN`].
    #[error("certificate has {0} bytes, more than {MAX_CERTIFICATE_LEN}")]
    TooLong(usize),
    /// Not an X.509 certificate in DER.
    #[error("not an X.509 certificate")]
    Encoding,
    /// Bytes behind the certificate.
    #[error("{0} bytes follow the certificate")]
    Trailing(usize),
    /// The subject does not name the organisation, or names several.
    #[error("certificate does not name the organisation {ORGANISATION:?}")]
    Organisation,
    /// The key breaks the key rule.
    #[error("certificate's key is refused: {0}")]
    Key(#[from] KeyError),
    /// The validity begins in the future.
    #[error("certificate is valid from {not_before} on: is a clock wrong?")]
    NotYetValid {
        /// Start of the validity.
        not_before: Time,
    },
    /// The validity is over.
    #[error("certificate expired at {not_after}")]
    Expired {
        /// End of the validity.
        not_after: Time,
    },
}

impl CertificateError {
    /// The price: dates cost nothing, for the clock that is wrong may be ours.
    pub const fn offence(&self) -> Option<Offence> {
        match self {
            Self::NotYetValid { .. } | Self::Expired { .. } => None,
            Self::Chain(_)
            | Self::TooLong(_)
            | Self::Encoding
            | Self::Trailing(_)
            | Self::Organisation
            | Self::Key(_) => Some(Offence::BadCertificate),
        }
    }
}

fn label(subject: &X509Name<'_>) -> Option<NodeId> {
    only(subject.iter_common_name())?.strip_prefix(COMMON_NAME_PREFIX)?.parse().ok()
}

/// The text of an attribute that must stand alone: of two names, one would be for show.
fn only<'a, 'n: 'a>(
    mut attributes: impl Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'n>>,
) -> Option<&'a str> {
    let first = attributes.next()?;
    attributes.next().is_none().then(|| first.as_str().ok()).flatten()
}

/// Dates before 1970 count as 1970.
fn time(unix_seconds: i64) -> Time {
    Time::from_secs(u64::try_from(unix_seconds).unwrap_or(0))
}

#[cfg(test)]
pub(crate) mod tests;
