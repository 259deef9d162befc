//! The peer's own certificate.

use bt2c_security::{CertificateError, MAX_CERTIFICATE_LEN, PeerCertificate};

use super::{Check, check};
use crate::conformance::{
    lab::Lab,
    report::{Outcome, Stop, ensure, failed},
    tls::Seen,
};

pub(super) const CHECKS: &[Check] = &[
    check!("certificate-alone", "one certificate of at most 4096 bytes, nothing behind it", alone),
    check!("certificate-key", "RSA of 2048 to 4096 bits, exponent 65537, and the peer has it", key),
    check!("certificate-organisation", "the organisation is BT2C Network", organisation),
    check!("certificate-dates", "today is inside its dates, give or take 10 minutes", dates),
    check!("certificate-label", "the common name is BT2C Node and the node_id of hello", label),
];

fn seen(lab: &Lab) -> Result<(Seen, Result<PeerCertificate, CertificateError>), Stop> {
    let seen = lab.known()?.seen;
    let parsed = PeerCertificate::parse(seen.chain.first().map_or(&[], Vec::as_slice));
    Ok((seen, parsed))
}

/// The certificate, if another check does not say already what is wrong with it.
fn readable(parsed: Result<PeerCertificate, CertificateError>) -> Result<PeerCertificate, Stop> {
    parsed.map_err(|error| Stop::Skipped(format!("it cannot be read so far: {error}")))
}

async fn alone(lab: &mut Lab) -> Outcome {
    let (seen, parsed) = seen(lab)?;
    ensure(seen.chain.len() == 1, || format!("{} certificates", seen.chain.len()))?;
    let len = seen.chain[0].len();
    ensure(len <= MAX_CERTIFICATE_LEN, || format!("{len} bytes"))?;
    match parsed {
        Err(error @ (CertificateError::Encoding | CertificateError::Trailing(_))) => {
            failed(error.to_string())
        }
        _ => Ok(format!("{len} bytes")),
    }
}

async fn key(lab: &mut Lab) -> Outcome {
    let (seen, parsed) = seen(lab)?;
    if let Err(error @ CertificateError::Key(_)) = parsed {
        return failed(error.to_string());
    }
    if let Some(fault) = seen.unproven {
        return failed(format!("the proof of the key: {fault}"));
    }
    Ok(format!("PeerId {}", readable(parsed)?.peer_id))
}

async fn organisation(lab: &mut Lab) -> Outcome {
    match seen(lab)?.1 {
        Err(error @ CertificateError::Organisation) => failed(error.to_string()),
        parsed => readable(parsed).map(|_| "it is".to_owned()),
    }
}

async fn dates(lab: &mut Lab) -> Outcome {
    let certificate = readable(seen(lab)?.1)?;
    certificate.check_dates(lab.now()).or_else(|error| failed(error.to_string()))?;
    Ok(format!("{} to {}", certificate.not_before.to_utc(), certificate.not_after.to_utc()))
}

async fn label(lab: &mut Lab) -> Outcome {
    let certificate = readable(seen(lab)?.1)?;
    let node_id = lab.known()?.hello.node_id;
    ensure(certificate.label.as_ref() == Some(&node_id), || match &certificate.label {
        Some(label) => format!("the certificate names {label}, hello {node_id}"),
        None => format!("the certificate has no label, hello names {node_id}"),
    })?;
    ensure(node_id.may_be_used_by(&certificate.peer_id), || {
        format!("{node_id} is 40 hex digits, but not the start of {}", certificate.peer_id)
    })?;
    Ok(node_id.to_string())
}
