//! Opening what a node has on disk: directory, identity, validator key, chain. Slow, so it happens off the reactor.

use std::sync::Arc;

use bt2c_p2p::Env;
use bt2c_proto::Genesis;
use bt2c_security::{CertificateManager, Credentials, Identity};
use bt2c_sync::{ChainStore, DiskStore, DiskStoreConfig, MemoryStore};

use super::StartError;
use crate::{config::NodeConfig, genesis, home::CHAIN_DIR};

/// What is about to be opened, and what the caller brings along instead.
pub(super) struct Opening {
    pub(super) env: Env,
    pub(super) config: NodeConfig,
    pub(super) genesis: Genesis,
    pub(super) credentials: Option<Credentials>,
    pub(super) producer: Option<Identity>,
    pub(super) store: Option<Arc<dyn ChainStore>>,
}

/// What was opened.
pub(super) struct Opened {
    pub(super) credentials: Credentials,
    /// Whether the identity came from the data directory, whose certificate is kept fresh.
    pub(super) identity_on_disk: bool,
    pub(super) producer: Option<Identity>,
    pub(super) store: Arc<dyn ChainStore>,
}

impl Opening {
    pub(super) fn open(self) -> Result<Opened, StartError> {
        if let Some(dir) = &self.config.data_dir {
            genesis::remember(&*self.env.disk, dir, &self.genesis)?;
        }
        let identity_on_disk = self.credentials.is_none() && self.config.data_dir.is_some();
        let credentials = self.credentials()?;
        let producer = self.producer(&credentials)?;
        let store = self.store()?;
        self.config.checkpoints()?.check_store(&*store)?;
        Ok(Opened { credentials, identity_on_disk, producer, store })
    }

    fn credentials(&self) -> Result<Credentials, StartError> {
        let now = self.env.clock.now();
        match (&self.credentials, &self.config.data_dir) {
            (Some(credentials), _) => Ok(credentials.clone()),
            (None, Some(dir)) => {
                Ok(CertificateManager::new(dir).load_or_generate(self.config.node_id.as_ref(), now)?)
            }
            (None, None) => Ok(Credentials::issue(Identity::generate()?, self.config.node_id.clone(), now)?),
        }
    }

    fn producer(&self, credentials: &Credentials) -> Result<Option<Identity>, StartError> {
        let validator = match (&self.producer, self.config.produce, &self.config.key) {
            (Some(validator), ..) => validator.clone(),
            (None, false, _) => return Ok(None),
            (None, true, None) => credentials.identity().clone(),
            (None, true, Some(key)) => key.read(self.genesis.network())?,
        };
        let address = validator.address();
        if self.genesis.validators().iter().any(|entry| entry.address() == address) {
            Ok(Some(validator))
        } else {
            Err(StartError::NotAValidator(address))
        }
    }

    fn store(&self) -> Result<Arc<dyn ChainStore>, StartError> {
        let genesis = self.genesis.block();
        match (&self.store, &self.config.data_dir) {
            (Some(store), _) => Ok(Arc::clone(store)),
            (None, None) => Ok(Arc::new(MemoryStore::new(&genesis))),
            (None, Some(dir)) => {
                let disk = Arc::clone(&self.env.disk);
                let store =
                    DiskStore::open(disk, &dir.join(CHAIN_DIR), &genesis, store_config(&self.config))?;
                Ok(Arc::new(store))
            }
        }
    }
}

/// How the chain is kept: no shallower than branches are followed.
pub(crate) fn store_config(config: &NodeConfig) -> DiskStoreConfig {
    let mut store = DiskStoreConfig::default();
    store.max_reorg_depth = config.sync.max_reorg_depth;
    store.segment_bytes = config.segment_bytes;
    store.prune_bytes = (config.prune_bytes > 0).then_some(config.prune_bytes);
    store
}
