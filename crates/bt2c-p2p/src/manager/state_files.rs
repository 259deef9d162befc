//! `bans.json`, `peers.json` and `reputation.json`: read at the start, replaced atomically.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bt2c_discovery::PeersFileError;
use bt2c_security::ReputationFileError;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::{
    StartError,
    core::{Core, StateFile},
};
use crate::{
    config::P2PConfig,
    env::{Compute, Disk, Env},
};

/// Where a state file lives.
fn path(dir: &Path, file: StateFile) -> PathBuf {
    dir.join(match file {
        StateFile::Bans => "bans.json",
        StateFile::Peers => "peers.json",
        StateFile::Reputation => "reputation.json",
    })
}

/// Reads what an earlier run left. Files of another version stop the start, and so does a damaged bans file, for going on
/// would lift the bans; a damaged peers or reputation file is set aside.
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
    if let Some(json) = read(env, &peers)?
        && let Err(error) = core.parts().1.load(now, &json)
    {
        if let PeersFileError::Version { .. } = error {
            return Err(StartError::Peers { path: named(&peers), source: error });
        }
        set_aside(env, &peers, &error)?;
    }
    let reputation = path(dir, StateFile::Reputation);
    if let Some(json) = read(env, &reputation)?
        && let Err(error) = core.parts().0.load_reputation(now, &json)
    {
        if let ReputationFileError::Version(_) = error {
            return Err(StartError::Reputation { path: named(&reputation), source: error });
        }
        set_aside(env, &reputation, &error)?;
    }
    Ok(())
}

/// What can be had again is kept out of the way, for a person to look at.
fn set_aside(env: &Env, path: &Path, error: &dyn std::fmt::Display) -> Result<(), StartError> {
    let aside = path.with_added_extension("damaged");
    tracing::warn!(%error, file = %path.display(), kept_as = %aside.display(), "set aside");
    let moved = env.disk.rename(path, &aside);
    moved.map_err(|source| StartError::StateFile { path: path.display().to_string().into(), source })
}

fn read(env: &Env, path: &Path) -> Result<Option<Vec<u8>>, StartError> {
    match env.disk.read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StartError::StateFile { path: path.display().to_string().into(), source }),
    }
}

/// Writes state files off the reactor, one at a time: of each only the newest content, and never an older one after it.
pub(super) struct Saver {
    dir: Option<PathBuf>,
    disk: Arc<dyn Disk>,
    compute: Arc<dyn Compute>,
    tracker: TaskTracker,
    waiting: BTreeMap<StateFile, Vec<u8>>,
    writing: Option<oneshot::Receiver<()>>,
}

impl Saver {
    /// Saves to `dir`, or nowhere.
    pub(super) fn new(dir: Option<PathBuf>, env: &Env, tracker: TaskTracker) -> Self {
        let (disk, compute) = (Arc::clone(&env.disk), Arc::clone(&env.compute));
        Self { dir, disk, compute, tracker, waiting: BTreeMap::new(), writing: None }
    }

    /// Replaces what a file is to hold.
    pub(super) fn save(&mut self, file: StateFile, bytes: Vec<u8>) {
        self.waiting.insert(file, bytes);
        self.begin();
    }

    /// Completes when a file was written, and goes on with the next; never while there is nothing to write.
    pub(super) async fn saved(&mut self) {
        let Some(writing) = &mut self.writing else { return std::future::pending().await };
        // An error means that the task was ended: there is nothing to wait for either.
        let _ = writing.await;
        self.writing = None;
        self.begin();
    }

    /// At a stop: these files too, and then waits until everything is written.
    pub(super) async fn finish(mut self, files: Vec<(StateFile, Vec<u8>)>) {
        self.waiting.extend(files);
        self.begin();
        while self.writing.is_some() {
            self.saved().await;
        }
    }

    fn begin(&mut self) {
        if self.writing.is_some() {
            return;
        }
        let (Some((file, bytes)), Some(dir)) = (self.waiting.pop_first(), &self.dir) else { return };
        let (path, disk, compute) = (path(dir, file), Arc::clone(&self.disk), Arc::clone(&self.compute));
        let (done, writing) = oneshot::channel();
        self.writing = Some(writing);
        self.tracker.spawn(async move {
            let job = move || {
                if let Err(error) = disk.write_atomic(&path, &bytes, true) {
                    tracing::error!(file = %path.display(), %error, "cannot write state; the old file stays");
                }
            };
            compute.compute(Duration::ZERO, job).await;
            // The actor outlives its writes.
            let _ = done.send(());
        });
    }
}
