//! What is expected of a run, and what came of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::report;

/// One thing that is expected of a network, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expectation {
    /// What is expected.
    pub name: String,
    /// Whether it is so.
    pub met: bool,
    /// What was found.
    pub found: String,
    /// Whether this is a known gap: what is expected is what happens today, for want of a defence.
    pub gap: bool,
}

impl Expectation {
    /// What the network owes whoever runs it.
    pub fn new(name: impl Into<String>, met: bool, found: impl Into<String>) -> Self {
        Self { name: name.into(), met, found: found.into(), gap: false }
    }

    /// What happens today because a defence is missing. Once it is there this is no longer met, and goes.
    pub fn known_gap(name: impl Into<String>, met: bool, found: impl Into<String>) -> Self {
        Self { gap: true, ..Self::new(name, met, found) }
    }
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What was expected.
    pub expectations: Vec<Expectation>,
    /// SHA-256 over every message and every change of peers and bans.
    pub trace: String,
    /// How many messages were received.
    pub messages: u64,
    /// Virtual time that passed.
    pub passed: Duration,
    /// All of it, for a report.
    pub run: report::Run,
}

impl Outcome {
    /// The expectations that are not met.
    pub fn unmet(&self) -> impl Iterator<Item = &Expectation> {
        self.expectations.iter().filter(|expectation| !expectation.met)
    }
}
