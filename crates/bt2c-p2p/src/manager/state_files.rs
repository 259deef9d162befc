//! `bans.json` and `peers.json`: read at the start, replaced atomically.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    StartError,
    core::{Core, StateFile},
};
use crate::{config::P2PConfig, env::Env};

/// Where a state file lives.
pub(super) fn path(dir: &Path, file: StateFile) -> PathBuf {
    dir.join(match file {
        StateFile::Bans => "bans.json",
        StateFile::Peers => "peers.json",
    })
}

/// Reads what an earlier run left. A damaged peers file is set aside; a damaged bans file stops the start.
pub(super) fn load(core: &mut Core, config: &P2PConfig, env: &Env) -> Result<(), StartError> {
    let Some(dir) = &config.data_dir else { return Ok(()) };
    let now = env.clock.now();
    let named = |path: &Path| path.display().to_string().into_boxed_str();
    let bans = path(dir, StateFile::Bans);
    if let Some(json) = read(env, &bans)? {
        let loaded = core.parts().0.load_bans(now, &json);
        loaded.map_err(|source| StartError::Bans { path: named(&bans), source })?;
    }
    let peers = path(dir, StateFile::Peers);
    if let Some(json) = read(env, &peers)? {
        if let Err(error) = core.parts().1.load(now, &json) {
            let aside = peers.with_added_extension("damaged");
            tracing::warn!(%error, file = %peers.display(), kept_as = %aside.display(), "set aside");
            let moved = env.disk.rename(&peers, &aside);
            moved.map_err(|source| StartError::StateFile { path: named(&peers), source })?;
        }
    }
    Ok(())
}

fn read(env: &Env, path: &Path) -> Result<Option<Vec<u8>>, StartError> {
    match env.disk.read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StartError::StateFile { path: path.display().to_string().into(), source }),
    }
}
