//! The files that stand in the data directory while a node runs: `run.json` and `api.token`.

use std::{path::PathBuf, sync::Arc};

use bt2c_p2p::env::Disk;

use crate::{
    api::Token,
    home::{HomeError, RUN_FILE, RunFile, TOKEN_FILE},
};

/// Removed at a clean stop.
#[derive(Debug)]
pub(super) struct RunningFiles {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

impl RunningFiles {
    /// Writes the token first: whoever finds `run.json` finds it too.
    pub(super) fn write(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        run: &RunFile,
        token: Option<&Token>,
    ) -> Result<Self, HomeError> {
        let write = |name: &str, text: String, private: bool| {
            let path = dir.join(name);
            disk.write_atomic(&path, text.as_bytes(), private)
                .map_err(|source| HomeError::io("write", &path, source))
        };
        if let Some(token) = token {
            write(TOKEN_FILE, format!("{}\n", token.secret()), true)?;
        }
        let json = serde_json::to_string_pretty(run).expect("run.json has text keys and no failing parts");
        write(RUN_FILE, json + "\n", false)?;
        Ok(Self { disk, dir })
    }

    /// Takes them away. What is left behind misleads, but hurts nobody: the token is of no use to the next node.
    pub(super) fn remove(self) {
        for name in [RUN_FILE, TOKEN_FILE] {
            let path = self.dir.join(name);
            match self.disk.remove(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(file = %path.display(), %error, "cannot remove");
                }
                _ => {}
            }
        }
    }
}
