//! `id`: who this node is.

use anyhow::{Context, Result};
use bt2c_p2p::env::{Clock, RealClock};
use bt2c_proto::{Address, NodeId, PeerId};
use bt2c_security::{CertificateManager, Credentials};
use data_encoding::BASE64;
use serde::Serialize;

use super::{
    args::IdArgs,
    output::{self, moment, pairs},
};
use crate::home::default_data_dir;

/// What `id --json` prints.
#[derive(Serialize)]
struct IdView {
    node_id: NodeId,
    peer_id: PeerId,
    address: Address,
    /// Base64 of the DER SubjectPublicKeyInfo, as in a genesis.
    public_key: String,
    /// Seconds since the Unix epoch.
    certificate_expires: u64,
}

pub(super) fn id(args: &IdArgs) -> Result<()> {
    let home = args.home.data_dir.clone().map_or_else(default_data_dir, Ok)?;
    let manager = CertificateManager::new(&home);
    // An identity that is there is shown as it is, with the label it was given; a missing one is made.
    let is_there = home.join(CertificateManager::KEY_FILE).exists()
        && home.join(CertificateManager::CERTIFICATE_FILE).exists();
    let credentials: Credentials =
        if is_there { manager.load() } else { manager.load_or_generate(None, RealClock::new().now()) }
            .with_context(|| format!("no identity from {}", home.display()))?;
    let spki = credentials.identity().public_key().spki_der();
    if args.public_key {
        return output::text(&public_key_pem(spki));
    }
    let view = IdView {
        node_id: credentials.node_id().clone(),
        peer_id: credentials.peer_id(),
        address: credentials.identity().address(),
        public_key: BASE64.encode(spki),
        certificate_expires: credentials.not_after().as_secs(),
    };
    if args.json {
        return output::json(&view);
    }
    output::text(&pairs(&[
        ("node id", view.node_id.to_string()),
        ("peer id", view.peer_id.to_string()),
        ("address", view.address.to_string()),
        ("certificate", format!("expires {}", moment(view.certificate_expires))),
        ("data directory", home.display().to_string()),
    ]))
}

const PEM_BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const PEM_END: &str = "-----END PUBLIC KEY-----";

/// RFC 7468 text of a SubjectPublicKeyInfo.
fn public_key_pem(spki: &[u8]) -> String {
    let base64 = BASE64.encode(spki);
    let lines = base64.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line) + "\n");
    format!("{PEM_BEGIN}\n{}{PEM_END}\n", lines.collect::<String>())
}

/// The SubjectPublicKeyInfo in a file: RFC 7468 text, or base64 alone.
pub(super) fn read_public_key(text: &str) -> Option<Vec<u8>> {
    let inner = match text.split_once(PEM_BEGIN) {
        Some((_, rest)) => rest.split_once(PEM_END)?.0,
        None => text,
    };
    let base64: String = inner.split_whitespace().collect();
    BASE64.decode(base64.as_bytes()).ok().filter(|spki| !spki.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_keys_read_back_as_pem_and_as_base64() {
        let spki: Vec<u8> = (0..=255).collect();
        let pem = public_key_pem(&spki);
        assert!(pem.lines().all(|line| line.len() <= 64));
        assert_eq!(read_public_key(&pem), Some(spki.clone()));
        assert_eq!(read_public_key(&format!("{}\n", BASE64.encode(&spki))), Some(spki));
        assert_eq!(read_public_key("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"), None);
        assert_eq!(read_public_key(""), None);
    }
}
