//! What kind of store a directory holds.

use std::{io, path::Path};

use bt2c_p2p::env::Disk;
use bt2c_proto::BlockHash;
use serde::{Deserialize, Serialize};

use super::segments::io_error;
use crate::store::StoreError;

/// The format that this version writes.
const FORMAT: u32 = 1;

/// What `format.json` says.
#[derive(Serialize, Deserialize)]
struct Format {
    format: u32,
    genesis: BlockHash,
}

/// Checks what kind of store this is; writes it down in a new one.
pub(super) fn check_format(disk: &dyn Disk, dir: &Path, genesis: BlockHash) -> Result<(), StoreError> {
    let path = dir.join("format.json");
    let bytes = match disk.read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let format = Format { format: FORMAT, genesis };
            let bytes = serde_json::to_vec(&format).expect("two plain fields");
            return disk
                .write_atomic(&path, &bytes, false)
                .map_err(|source| io_error("write", &path, source));
        }
        Err(source) => return Err(io_error("read", &path, source)),
    };
    let format: Format = serde_json::from_slice(&bytes)
        .map_err(|error| StoreError::Format { path, reason: error.to_string().into() })?;
    if format.format > FORMAT {
        return Err(StoreError::Newer { path: dir.to_owned(), found: format.format, supported: FORMAT });
    }
    if format.genesis != genesis {
        let path = dir.to_owned();
        return Err(StoreError::OtherGenesis { path, found: format.genesis, expected: genesis });
    }
    Ok(())
}
