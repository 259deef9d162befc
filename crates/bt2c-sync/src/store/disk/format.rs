//! What kind of store a directory holds.

use std::{io, path::Path};

use bt2c_p2p::env::Disk;
use bt2c_proto::BlockHash;
use serde::{Deserialize, Serialize};

use super::segments::io_error;
use crate::store::StoreError;

/// The format of a store that holds every body. Anything that reads 2 reads 1.
const WHOLE: u32 = 1;

/// The format of a store whose oldest segments may be pruned: versions that know only the other one would take them for
/// lost, and the rest for damaged.
const PRUNED: u32 = 2;

/// What `format.json` says.
#[derive(Serialize, Deserialize)]
struct Format {
    format: u32,
    genesis: BlockHash,
}

/// Checks what kind of store this is; writes it down in a new one.
pub(super) fn check_format(disk: &dyn Disk, dir: &Path, genesis: BlockHash) -> Result<(), StoreError> {
    let Some(format) = read(disk, dir)? else {
        return write(disk, dir, &Format { format: WHOLE, genesis });
    };
    if format.format > PRUNED {
        return Err(StoreError::Newer { path: dir.to_owned(), found: format.format, supported: PRUNED });
    }
    if format.genesis != genesis {
        let path = dir.to_owned();
        return Err(StoreError::OtherGenesis { path, found: format.genesis, expected: genesis });
    }
    Ok(())
}

/// Writes down that bodies may be missing from now on.
pub(super) fn allow_pruning(disk: &dyn Disk, dir: &Path, genesis: BlockHash) -> Result<(), StoreError> {
    match read(disk, dir)? {
        Some(format) if format.format >= PRUNED => Ok(()),
        _ => write(disk, dir, &Format { format: PRUNED, genesis }),
    }
}

fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<Format>, StoreError> {
    let path = dir.join("format.json");
    match disk.read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| StoreError::Format { path, reason: error.to_string().into() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(io_error("read", &path, source)),
    }
}

fn write(disk: &dyn Disk, dir: &Path, format: &Format) -> Result<(), StoreError> {
    let path = dir.join("format.json");
    let bytes = serde_json::to_vec(format).expect("two plain fields");
    disk.write_atomic(&path, &bytes, false).map_err(|source| io_error("write", &path, source))
}
