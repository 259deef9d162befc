//! Sizes as people write them on the command line: a whole number of bytes, or with a unit.

use super::units;

/// Units and their lengths in bytes.
const UNITS: [(&str, u64); 9] = [
    ("", 1),
    ("kB", 1000),
    ("MB", 1000 * 1000),
    ("GB", 1000 * 1000 * 1000),
    ("TB", 1000 * 1000 * 1000 * 1000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// A text that is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no size: write a whole number of bytes, or one with kB, MB, GB, TB, KiB, MiB, GiB, TiB, such as 20GB"
)]
pub struct SizeError(Box<str>);

/// Reads `5000`, `64MiB`, `20GB`.
///
/// # Errors
/// [`SizeError`] for anything else, and above 2⁶⁴ bytes.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    let (number, unit) = units::split(text);
    units::multiply((number, unit.trim_start()), &UNITS)
        .ok_or_else(|| SizeError(text.chars().take(40).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_counts_bytes_unless_it_has_a_unit() {
        let sizes = [("0", 0), ("5000", 5000), ("3kB", 3000), ("2 GB", 2_000_000_000), ("64MiB", 64 << 20)];
        for (text, bytes) in sizes {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "GB", "-1", "1.5GB", "1gb", "1 g b", "99999999TiB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
