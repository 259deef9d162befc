//! The data directory: the names of its files, who holds it, and what a running node says of itself there.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use bt2c_p2p::{Env, env::Disk};
use bt2c_proto::{Network, NodeId, PeerId};
use serde::{Deserialize, Serialize};

/// What a running node says of itself.
pub(crate) const RUN_FILE: &str = "run.json";

/// The secret that changes through the control API need.
pub(crate) const TOKEN_FILE: &str = "api.token";

/// The configuration.
pub(crate) const CONFIG_FILE: &str = "config.toml";

/// The genesis that the directory was started with.
pub(crate) const GENESIS_FILE: &str = "genesis.json";

/// The chain's directory.
pub(crate) const CHAIN_DIR: &str = "chain";

/// Held by the one process that uses the directory.
pub(crate) const LOCK_FILE: &str = "lock";

/// Where data is kept unless told otherwise: `bt2c` in the user's data directory.
pub(crate) fn default_data_dir() -> Result<PathBuf> {
    use etcetera::BaseStrategy;
    let strategy = etcetera::choose_base_strategy()
        .context("no home directory is known: say where to keep data with --data-dir")?;
    Ok(strategy.data_dir().join("bt2c"))
}

/// How long a directory that is in use is waited for: a process that was just killed may still be on its way out.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// How often it is tried meanwhile.
const RETRY: Duration = Duration::from_millis(50);

/// A data directory that nobody else uses.
pub(crate) struct HomeLock {
    _lock: Box<dyn Send + Sync>,
}

impl std::fmt::Debug for HomeLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HomeLock")
    }
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HomeError {
    /// Another process has it.
    #[error("{} is in use by another process: stop that node first, or use another --data-dir", .0.display())]
    InUse(PathBuf),
    /// The file system failed.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

impl HomeError {
    pub(crate) fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { what, path: path.to_owned(), source }
    }
}

impl HomeLock {
    /// Takes the directory, waiting [`PATIENCE`] for another process to end.
    pub(crate) async fn wait(env: &Env, dir: &Path) -> Result<Self, HomeError> {
        let deadline = env.clock.now() + PATIENCE;
        loop {
            match Self::take(&*env.disk, dir) {
                Err(HomeError::InUse(_)) if env.clock.now() < deadline => {
                    env.clock.sleep_until(env.clock.now() + RETRY).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// The same for a command that does nothing else meanwhile.
    #[expect(clippy::disallowed_methods, reason = "a command has no reactor whose thread it would hold up")]
    pub(crate) fn wait_blocking(disk: &dyn Disk, dir: &Path) -> Result<Self, HomeError> {
        for _ in 0..PATIENCE.as_millis() / RETRY.as_millis() {
            match Self::take(disk, dir) {
                Err(HomeError::InUse(_)) => std::thread::sleep(RETRY),
                outcome => return outcome,
            }
        }
        Self::take(disk, dir)
    }

    /// Makes the directory if it is missing, and takes it until the value is dropped.
    fn take(disk: &dyn Disk, dir: &Path) -> Result<Self, HomeError> {
        disk.create_dir_all(dir).map_err(|source| HomeError::io("make the directory", dir, source))?;
        let path = dir.join(LOCK_FILE);
        match disk.lock(&path) {
            Ok(lock) => Ok(Self { _lock: lock }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(HomeError::InUse(dir.to_owned())),
            Err(source) => Err(HomeError::io("lock", &path, source)),
        }
    }
}

/// `run.json`: where to find the node that runs in a data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunFile {
    pub(crate) pid: u32,
    pub(crate) node_id: NodeId,
    pub(crate) peer_id: PeerId,
    /// The first address it listens on; none if it takes no connections.
    pub(crate) p2p_addr: Option<SocketAddr>,
    /// None if the control API is off.
    pub(crate) api_addr: Option<SocketAddr>,
    pub(crate) network: Network,
}

impl RunFile {
    /// What the node in this directory says; `None` if none runs there.
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(RUN_FILE);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .with_context(|| format!("{} is damaged: remove it if no node runs there", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use bt2c_p2p::env::MemoryDisk;

    use super::*;

    #[test]
    fn a_directory_has_one_user_at_a_time() {
        let disk = MemoryDisk::new();
        let dir = Path::new("home");
        let held = HomeLock::take(&disk, dir).unwrap();
        assert!(matches!(HomeLock::take(&disk, dir), Err(HomeError::InUse(_))));
        drop(held);
        assert!(HomeLock::take(&disk, dir).is_ok());
    }
}
