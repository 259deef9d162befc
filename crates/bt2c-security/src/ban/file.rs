//! The format of `bans.json`, version 1.

use bt2c_proto::Time;
use serde::{Deserialize, Serialize};

use super::{Ban, BanTable, Live, MAX_EVIDENCE, MAX_REASON, Past, clip};
use crate::{
    subject::Subject,
    versioned::{self, Unreadable},
};

impl BanTable {
    /// Reads what [`encode`](Self::encode) wrote and adds it to what is there; nothing, if it cannot be read in full.
    pub(crate) fn decode(&mut self, now: Time, json: &[u8]) -> Result<(), BansFileError> {
        let file: File = versioned::read(json, VERSION)?;
        for past in file.past {
            self.remember(past);
        }
        for Entry { subject, reason, evidence, since, until, strikes } in file.bans {
            let (reason, evidence) = (clip(&reason, MAX_REASON), clip(&evidence, MAX_EVIDENCE));
            self.put(Ban { subject, reason, evidence, since, until }, strikes);
        }
        self.expire(now);
        Ok(())
    }

    /// The content of `bans.json`.
    pub(crate) fn encode(&self, now: Time) -> Vec<u8> {
        let file = File {
            version: VERSION,
            bans: self.live.values().map(Entry::from).collect(),
            past: self.past.values().filter(|past| self.remembers(now, past)).copied().collect(),
        };
        let mut json = serde_json::to_vec_pretty(&file).expect("text and numbers always serialise");
        json.push(b'\n');
        json
    }
}

/// Why a `bans.json` cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BansFileError {
    /// Not the JSON that it should be.
    #[error("bans file is damaged")]
    Damaged(#[source] serde_json::Error),
    /// Written by a later edition of this program.
    #[error("bans file has version {0}, this program knows {VERSION}: use the program that wrote it")]
    Version(u32),
}

impl From<Unreadable> for BansFileError {
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
    bans: Vec<Entry>,
    past: Vec<Past>,
}

/// A ban with how often its subject was punished, flat.
#[derive(Serialize, Deserialize)]
struct Entry {
    subject: Subject,
    reason: String,
    evidence: String,
    since: Time,
    until: Time,
    strikes: u32,
}

impl From<&Live> for Entry {
    fn from(Live { ban, strikes }: &Live) -> Self {
        let Ban { subject, reason, evidence, since, until } = ban.clone();
        Self { subject, reason, evidence, since, until, strikes: *strikes }
    }
}

const VERSION: u32 = 1;
