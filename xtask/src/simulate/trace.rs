//! What happened and when, as a running hash.

use std::{collections::BTreeMap, time::Duration};

use bt2c_proto::PeerId;
use sha2::{Digest, Sha256};

/// A running SHA-256 over every message that any node received (virtual time, from, to, content), every change of a
/// node's peers and bans, and every step of the schedule.
///
/// The salts of RSA-PSS signatures are random, and so are the hashes of blocks that commit to them. Signatures are
/// therefore masked, and hashes stand as the order in which they first appeared.
#[derive(Debug, Default)]
pub(super) struct Trace {
    hash: Sha256,
    messages: u64,
    hashes: BTreeMap<[u8; HASH], u64>,
    masked: Vec<u8>,
}

/// Digits of a hash.
const HASH: usize = 64;

impl Trace {
    /// Adds a line that is the same in every run.
    pub(super) fn line(&mut self, line: &str) {
        self.hash.update(line);
        self.hash.update(b"\n");
    }

    /// Adds a message.
    pub(super) fn message(&mut self, at: Duration, from: PeerId, to: PeerId, body: &[u8]) {
        self.hash.update(at.as_millis().to_be_bytes());
        self.hash.update(from.as_bytes());
        self.hash.update(to.as_bytes());
        mask(body, &mut self.hashes, &mut self.masked);
        self.hash.update((self.masked.len() as u64).to_be_bytes());
        self.hash.update(&self.masked);
        self.messages += 1;
    }

    /// The hash so far in hex, and how many messages are in it.
    pub(super) fn digest(&self) -> (String, u64) {
        (data_encoding::HEXLOWER.encode(&self.hash.clone().finalize()), self.messages)
    }
}

/// The strings of a JSON text with what lies between them: the bytes before each string, the string without its quotes,
/// and whether it is the name of a field. Of what is no JSON, something of the kind.
pub(super) fn strings(body: &[u8]) -> impl Iterator<Item = (&[u8], &[u8], bool)> {
    let mut rest = body;
    std::iter::from_fn(move || {
        let start = rest.iter().position(|byte| *byte == b'"')? + 1;
        let mut escaped = false;
        let len = rest[start..].iter().position(|byte| {
            let ends = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            ends
        });
        let end = start + len?;
        let (before, string) = (&rest[..start], &rest[start..end]);
        rest = &rest[end..];
        let is_name = rest[1..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':');
        rest = &rest[1..];
        Some((before, string, is_name))
    })
}

/// Replaces what differs between two runs of the same seed.
fn mask(body: &[u8], hashes: &mut BTreeMap<[u8; HASH], u64>, masked: &mut Vec<u8>) {
    masked.clear();
    let mut done = 0;
    let mut field: &[u8] = b"";
    for (before, string, is_name) in strings(body) {
        masked.extend_from_slice(before);
        done += before.len() + string.len() + 1;
        match <[u8; HASH]>::try_from(string) {
            _ if is_name => field = string,
            _ if field == b"signature" => continue,
            Ok(hash) if hash.iter().all(u8::is_ascii_hexdigit) => {
                let next = hashes.len() as u64;
                masked.extend_from_slice(&hashes.entry(hash).or_insert(next).to_be_bytes());
                continue;
            }
            _ => {}
        }
        masked.extend_from_slice(string);
    }
    masked.extend_from_slice(&body[done..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traced(bodies: &[&str]) -> String {
        let (mut trace, peer) = (Trace::default(), PeerId::from_bytes([1; 32]));
        for body in bodies {
            trace.message(Duration::from_secs(1), peer, peer, body.as_bytes());
        }
        trace.digest().0
    }

    fn hash(digit: &str) -> String {
        digit.repeat(64)
    }

    #[test]
    fn signatures_and_the_hashes_over_them_do_not_count_but_everything_else_does() {
        let with = |own: &str, parent: &str, signature: &str, rest: &str| {
            let (own, parent) = (hash(own), hash(parent));
            let block = format!("{{\"block\":{{\"hash\":\"{own}\",\"signature\":\"{signature}\"{rest}}}}}");
            traced(&[&block, &format!("{{\"previous_hash\" : \"{parent}\"}}")])
        };
        let first = with("a", "a", "x", "");
        assert_eq!(first, with("b", "b", "yy", ""));
        assert_ne!(first, with("b", "c", "y", ""));
        assert_ne!(first, with("a", "a", "x", ",\"height\":1"));
        assert_ne!(first, with("a", "a", "x", ",\"note\":\"x\""));
    }

    #[test]
    fn what_is_no_json_counts_as_it_is() {
        assert_ne!(traced(&["not JSON"]), traced(&["no JSON"]));
        assert_ne!(traced(&["{\"a\":\"b"]), traced(&["{\"a\":\"c"]));
        assert_ne!(traced(&["\"\\\"a\""]), traced(&["\"\\\"b\""]));
        let found: Vec<_> =
            strings(b"{\"a\\\"\" : \"b\\\\\",\"c\"").map(|(_, string, name)| (string, name)).collect();
        assert_eq!(found, [(&b"a\\\""[..], true), (b"b\\\\", false), (b"c", false)]);
    }
}
