//! State files in JSON that begin with the version of their format.

use serde::{Deserialize, de::DeserializeOwned};

/// Why a state file cannot be used.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// Not the JSON that it should be.
    Damaged(serde_json::Error),
    /// Of another format.
    Version(u32),
}

/// Reads a file of the format that is known. The version is read first, so that another format is refused as such and not as
/// damage.
pub(crate) fn read<T: DeserializeOwned>(json: &[u8], known: u32) -> Result<T, Unreadable> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }

    match serde_json::from_slice(json).map_err(Unreadable::Damaged)? {
        Versioned { version } if version == known => {
            serde_json::from_slice(json).map_err(Unreadable::Damaged)
        }
        Versioned { version } => Err(Unreadable::Version(version)),
    }
}
