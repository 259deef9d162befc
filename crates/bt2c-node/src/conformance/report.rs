//! What came of each check, and of all of them.

use serde::Serialize;

/// Why a check did not pass.
#[derive(Debug)]
pub(super) enum Stop {
    /// The peer does not do what the page says.
    Failed(String),
    /// Nothing to check: the peer does not offer it, or gave nothing to check it on.
    Skipped(String),
    /// The peer bans us for earlier violations, as the page lets it.
    Banned(String),
}

/// What was seen, or why the check did not pass.
pub(super) type Outcome = Result<String, Stop>;

/// A failure.
pub(super) fn failed<T>(seen: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Failed(seen.into()))
}

/// Fails unless that holds.
pub(super) fn ensure(holds: bool, seen: impl FnOnce() -> String) -> Result<(), Stop> {
    if holds { Ok(()) } else { failed(seen()) }
}

/// What came of several things of a kind.
#[derive(Default)]
pub(super) struct Tally {
    good: usize,
    faults: Vec<String>,
}

/// Failures after which the rest is not tried: each may take the longest wait.
const ENOUGH: usize = 3;

impl Tally {
    /// Adds what came of one; whether to go on to the next.
    ///
    /// # Errors
    /// It was neither right nor wrong, and nothing was wrong before.
    pub(super) fn add<T>(&mut self, name: &str, outcome: Result<T, Stop>) -> Result<bool, Stop> {
        match outcome {
            Ok(_) => self.good += 1,
            Err(Stop::Failed(seen)) => self.faults.push(format!("{name}: {seen}")),
            Err(Stop::Banned(seen)) if self.good > 0 && self.faults.is_empty() => {
                return Err(Stop::Banned(format!("{} were as they should be, then {seen}", self.good)));
            }
            Err(stop) if self.faults.is_empty() => return Err(stop),
            Err(_) => return Ok(false),
        }
        Ok(self.faults.len() < ENOUGH)
    }

    /// How many were right, or what was wrong.
    pub(super) fn finish(self) -> Outcome {
        if self.faults.is_empty() {
            return Ok(format!("all {}", self.good));
        }
        failed(self.faults.join("; "))
    }
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// As the page says.
    Passed,
    /// Not as the page says.
    Failed,
    /// Not offered, or nothing to check it on.
    Skipped,
    /// Not tried, or not to its end: the peer bans us for earlier violations.
    Banned,
}

impl Verdict {
    /// The word for people.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "FAILED",
            Self::Skipped => "skipped",
            Self::Banned => "banned",
        }
    }
}

/// One row of the report.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// The check.
    pub(crate) name: &'static str,
    /// What the protocol page says.
    pub(crate) says: &'static str,
    /// How it ended.
    pub(crate) result: Verdict,
    /// What was seen.
    pub(crate) seen: String,
}

impl Row {
    pub(super) fn new(name: &'static str, says: &'static str, outcome: Outcome) -> Self {
        let (result, seen) = match outcome {
            Ok(seen) => (Verdict::Passed, seen),
            Err(Stop::Failed(seen)) => (Verdict::Failed, seen),
            Err(Stop::Skipped(seen)) => (Verdict::Skipped, seen),
            Err(Stop::Banned(seen)) => (Verdict::Banned, seen),
        };
        let seen = if seen.len() > MAX_SEEN { cut(&seen) } else { seen };
        Self { name, says, result, seen }
    }
}

/// Longest text about what was seen, in bytes; it may quote the peer.
const MAX_SEEN: usize = 240;

fn cut(text: &str) -> String {
    let mut end = MAX_SEEN;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

/// The whole report.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The address that was checked.
    pub(crate) target: String,
    /// The peer's label, if it said hello.
    pub(crate) node_id: Option<String>,
    /// Its software, if it told.
    pub(crate) user_agent: Option<String>,
    /// Its network, if it told.
    pub(crate) network: Option<String>,
    /// The hash of its block 0.
    pub(crate) genesis_hash: Option<String>,
    /// The checks, in the order in which they ran.
    pub(crate) checks: Vec<Row>,
    /// How many passed.
    pub(crate) passed: usize,
    /// How many failed.
    pub(crate) failed: usize,
    /// How many had nothing to check.
    pub(crate) skipped: usize,
    /// How many were answered by a ban.
    pub(crate) banned: usize,
}

impl Report {
    /// Whether nothing failed.
    pub(crate) const fn is_good(&self) -> bool {
        self.failed == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_ends_after_some_failures_and_tells_them() {
        let mut tally = Tally::default();
        assert!(tally.add("a", Ok(())).unwrap());
        assert!(tally.add::<()>("b", failed("x")).unwrap() && tally.add::<()>("c", failed("y")).unwrap());
        assert!(!tally.add::<()>("d", Err(Stop::Banned("z".to_owned()))).unwrap());
        assert!(!tally.add::<()>("e", failed("z")).unwrap());
        assert!(matches!(tally.finish(), Err(Stop::Failed(seen)) if seen == "b: x; c: y; e: z"));
        let banned = Tally { good: 2, ..Tally::default() }.add::<()>("a", Err(Stop::Banned("so".to_owned())));
        assert!(matches!(banned, Err(Stop::Banned(seen)) if seen.starts_with("2 were")));
    }

    #[test]
    fn what_a_peer_said_is_quoted_at_bounded_length() {
        let row = Row::new("x", "y", failed("é".repeat(1000)));
        assert!(row.seen.len() <= MAX_SEEN + 3 && row.seen.ends_with('…'));
        assert_eq!(row.result, Verdict::Failed);
    }
}
