//! PEM as the two identity files use it: one block, strict base64, buffers wiped.

use data_encoding::BASE64;
use zeroize::Zeroizing;

pub(crate) const PRIVATE_KEY: &str = "PRIVATE KEY";
pub(crate) const CERTIFICATE: &str = "CERTIFICATE";

/// Characters of base64 in a line (RFC 7468, section 2).
const LINE: usize = 64;

/// One PEM block.
pub(crate) fn encode(label: &str, der: &[u8]) -> Zeroizing<String> {
    let mut base64 = Zeroizing::new(vec![0; BASE64.encode_len(der.len())]);
    BASE64.encode_mut(der, &mut base64);
    // Reserved at once: a growing string would leave copies of the key behind.
    let mut text = Zeroizing::new(String::with_capacity(base64.len() + base64.len() / LINE + 128));
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    for line in base64.chunks(LINE) {
        text.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// The content of the text's only block, which must bear this label; white space may stand around and in it.
pub(crate) fn decode(label: &str, text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let body = text
        .trim()
        .strip_prefix(&format!("-----BEGIN {label}-----"))?
        .strip_suffix(&format!("-----END {label}-----"))?;
    let mut base64 = Zeroizing::new(Vec::with_capacity(body.len()));
    base64.extend(body.bytes().filter(|byte| !byte.is_ascii_whitespace()));
    let mut der = Zeroizing::new(vec![0; BASE64.decode_len(base64.len()).ok()?]);
    let len = BASE64.decode_mut(&base64, &mut der).ok()?;
    der.truncate(len);
    Some(der)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_round_trip_at_every_line_length() {
        for len in 0..200 {
            let der: Vec<u8> = (0..len).collect();
            let text = encode(CERTIFICATE, &der);
            assert!(text.lines().all(|line| line.len() <= LINE));
            assert_eq!(decode(CERTIFICATE, &text).unwrap().as_slice(), der);
            assert_eq!(decode(CERTIFICATE, &text.replace('\n', "\r\n")).unwrap().as_slice(), der);
        }
    }

    #[test]
    fn other_labels_two_blocks_and_damage_are_refused() {
        let text = encode(CERTIFICATE, b"content");
        assert!(decode(PRIVATE_KEY, &text).is_none());
        assert!(decode(CERTIFICATE, &text.repeat(2)).is_none());
        assert!(decode(CERTIFICATE, &text.replace("-----END", "")).is_none());
        assert!(decode(CERTIFICATE, &text.replacen("Y29", "Y*9", 1)).is_none());
        assert!(decode(CERTIFICATE, "").is_none());
    }
}
