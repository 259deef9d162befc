//! Whole numbers with a unit.

/// Splits digits from what follows them.
pub(super) fn split(text: &str) -> (&str, &str) {
    text.split_at(text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len())
}

/// So many of a unit; `None` if the number is none, the unit unknown, or the product too much.
pub(super) fn multiply((number, unit): (&str, &str), units: &[(&str, u64)]) -> Option<u64> {
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}
