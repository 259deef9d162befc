//! The format of `reputation.json`, version 1.

use bt2c_proto::Time;
use serde::{Deserialize, Serialize};

use super::{MAX_STANDING, MAX_STANDINGS, POINT_LASTS, Reputation, Standing};
use crate::{
    subject::Subject,
    versioned::{self, Unreadable},
};

impl Reputation {
    /// Reads what [`encode`](Self::encode) wrote, in the place of what is there; nothing, if it cannot be read in full.
    /// A standing beyond what can be earned, by a clock that was wrong, is cut.
    pub(crate) fn decode(&mut self, now: Time, json: &[u8]) -> Result<(), ReputationFileError> {
        let file: File = versioned::read(json, VERSION)?;
        let furthest = now + POINT_LASTS * MAX_STANDING.unsigned_abs();
        self.standings = file
            .standings
            .into_iter()
            .filter(|entry| now < entry.neutral_at)
            .take(MAX_STANDINGS)
            .map(|Entry { subject, good, neutral_at }| {
                (subject, Standing { good, neutral_at: neutral_at.min(furthest) })
            })
            .collect();
        self.changed = self.standings.keys().copied().collect();
        self.last_sweep = now;
        Ok(())
    }

    /// The content of `reputation.json`.
    pub(crate) fn encode(&self, now: Time) -> Vec<u8> {
        let live = self.standings.iter().filter(|(_, standing)| now < standing.neutral_at);
        let standings = live
            .map(|(subject, Standing { good, neutral_at })| Entry {
                subject: *subject,
                good: *good,
                neutral_at: *neutral_at,
            })
            .collect();
        let mut json = serde_json::to_vec_pretty(&File { version: VERSION, standings })
            .expect("text and numbers always serialise");
        json.push(b'\n');
        json
    }
}

/// Why a `reputation.json` cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReputationFileError {
    /// Not the JSON that it should be.
    #[error("reputation file is damaged")]
    Damaged(#[source] serde_json::Error),
    /// Written by a later edition of this program.
    #[error("reputation file has version {0}, this program knows {VERSION}: use the program that wrote it")]
    Version(u32),
}

impl From<Unreadable> for ReputationFileError {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Damaged(error) => Self::Damaged(error),
            Unreadable::Version(version) => Self::Version(version),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    standings: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    subject: Subject,
    good: bool,
    neutral_at: Time,
}

const VERSION: u32 = 1;
