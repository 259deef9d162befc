//! One pass over a frame's text before any typed parse: nesting depth and string lengths.
//!
//! It does not validate JSON (the parser does); it guarantees that what the parser is given cannot nest deeper than
//! [`MAX_DEPTH`] nor hold a string longer than [`MAX_STRING`], however the text is spelled. Text with unbalanced quotes
//! or brackets may pass here and fails there.

use crate::{
    error::ParseError,
    limits::{MAX_DEPTH, MAX_STRING},
};

/// Checks depth and string limits.
pub(crate) fn check_limits(text: &str) -> Result<(), ParseError> {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'"' => at = skip_string(bytes, at)?,
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(ParseError::TooDeep);
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// Position after the closing quote of the string whose content starts at `at`.
fn skip_string(bytes: &[u8], mut at: usize) -> Result<usize, ParseError> {
    let start = at;
    // Bytes that escapes take in the text beyond what they stand for.
    let mut surplus = 0;
    loop {
        match bytes.get(at) {
            None => return Ok(at),
            Some(b'"') => break,
            Some(b'\\') => {
                let (len, value_len) = escape(&bytes[at..]);
                surplus += len - value_len;
                at += len;
            }
            Some(_) => at += 1,
        }
    }
    let len = at.min(bytes.len()) - start - surplus;
    if len > MAX_STRING { Err(ParseError::StringTooLong(len)) } else { Ok(at + 1) }
}

/// Length of the escape at the start of `bytes`, and of the UTF-8 it stands for (a half of a surrogate pair: two bytes).
fn escape(bytes: &[u8]) -> (usize, usize) {
    let Some(digits) = bytes.get(2..6).filter(|_| bytes[1] == b'u') else {
        return (2, 1);
    };
    let value = std::str::from_utf8(digits).ok().and_then(|digits| u32::from_str_radix(digits, 16).ok());
    match value {
        Some(0..=0x7f) => (6, 1),
        Some(0x80..=0x7ff | 0xd800..=0xdfff) => (6, 2),
        Some(_) => (6, 3),
        None => (2, 1), // not an escape: the parser will refuse it
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_limited_however_long_the_text() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(check_limits(&nested(MAX_DEPTH)).is_ok());
        assert!(matches!(check_limits(&nested(MAX_DEPTH + 1)), Err(ParseError::TooDeep)));
        assert!(matches!(check_limits(&"[".repeat(100_000)), Err(ParseError::TooDeep)));
        assert!(matches!(check_limits(&"{\"a\":".repeat(100_000)), Err(ParseError::TooDeep)));
    }

    #[test]
    fn brackets_and_quotes_inside_strings_do_not_count() {
        let text = format!("[\"{}\\\"{}\"]", "[".repeat(50), "{".repeat(50));
        assert!(check_limits(&text).is_ok());
    }

    #[test]
    fn string_length_is_that_of_the_value_not_of_its_spelling() {
        for (spelling, value_len) in
            [("a", 1), ("\\u0001", 1), ("\\n", 1), ("\\u00e9", 2), ("\\ud83d\\ude00", 4)]
        {
            let count = MAX_STRING / value_len;
            assert!(check_limits(&format!("\"{}\"", spelling.repeat(count))).is_ok(), "{spelling}");
            let longer = format!("\"{}\"", spelling.repeat(count + 1));
            assert!(matches!(check_limits(&longer), Err(ParseError::StringTooLong(_))), "{spelling}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics_the_scan(text in "[\\[\\]{}\"\\\\u0-9a-f]{0,200}") {
            let _ = check_limits(&text);
        }

        #[test]
        fn every_json_string_has_the_length_the_parser_sees(value in proptest::prelude::any::<String>()) {
            let text = serde_json::to_string(&value).unwrap();
            proptest::prop_assert_eq!(skip_string(text.as_bytes(), 1).unwrap(), text.len());
        }
    }
}
