//! Durations as people write them: a whole number and a unit.

use std::time::Duration;

use super::units;

/// Units and their lengths in milliseconds, longest first.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Longest duration taken: a hundred years, with their leap days. What is longer was mistyped.
pub(crate) const MAX_DURATION: Duration = Duration::from_secs(36_525 * 86_400);

/// A text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no duration: write a whole number and one of ms, s, m, h, d, such as \"10s\" or \"5m\", 100 years at most"
)]
pub struct DurationError(Box<str>);

/// Reads `250ms`, `10s`, `5m`, `1h`, `7d`.
///
/// # Errors
/// [`DurationError`] for anything else, also for a number without a unit, and above a hundred years.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let duration = units::multiply(units::split(text), &UNITS).map(Duration::from_millis);
    duration
        .filter(|duration| *duration <= MAX_DURATION)
        .ok_or_else(|| DurationError(text.chars().take(40).collect()))
}

/// Writes a duration in the largest unit that divides it; what is below a millisecond is cut.
pub fn format_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".to_owned();
    }
    let (name, unit) = UNITS
        .into_iter()
        .find(|(_, unit)| millis.is_multiple_of(*unit))
        .expect("every whole number of milliseconds is divided by one");
    format!("{}{name}", millis / unit)
}

/// Writes a duration for people, to its two largest units: `3d 4h`, `12m 5s`, `850 ms`.
pub fn humane_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis < 1000 {
        return format!("{millis} ms");
    }
    let first = UNITS.iter().position(|(_, unit)| millis >= *unit).expect("a second is reached");
    let (name, unit) = UNITS[first];
    let (next_name, next_unit) = UNITS[first + 1];
    match millis % unit / next_unit {
        rest if rest > 0 && name != "s" => format!("{}{name} {rest}{next_name}", millis / unit),
        _ => format!("{}{name}", millis / unit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_round_trip_in_their_largest_unit() {
        for text in ["250ms", "10s", "5m", "1h", "7d", "90s", "0s"] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), text);
        }
        assert_eq!(format_duration(parse_duration("120s").unwrap()), "2m");
    }

    #[test]
    fn what_has_no_unit_no_number_or_no_room_is_refused() {
        for text in [
            "",
            "10",
            "s",
            "1.5s",
            "-1s",
            "10 s",
            "10S",
            "99999999999999999999d",
            "18446744073709551615d",
            "36526d",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn people_see_two_units() {
        let seconds = |seconds| humane_duration(Duration::from_secs(seconds));
        assert_eq!(seconds(3), "3s");
        assert_eq!(seconds(725), "12m 5s");
        assert_eq!(seconds(273_600), "3d 4h");
        assert_eq!(humane_duration(Duration::from_millis(850)), "850 ms");
    }
}
