//! Putting a node together.

use std::{sync::Arc, time::Duration};

use bt2c_p2p::{Env, P2PConfig, P2PManager, Tip};
use bt2c_proto::{BlockHash, Genesis, Network};
use bt2c_security::{Credentials, Identity};
use bt2c_sync::{BlockchainSynchronizer, ChainStore, ValidatorSchedule};
use parking_lot::Mutex;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    P2PNode, StartError,
    files::RunningFiles,
    handle::{NodeHandle, Shared},
    metrics::Metrics,
    opening::{Opened, Opening},
    renewal,
};
use crate::{
    api::{ApiServer, Token},
    config::NodeConfig,
    genesis::{self, GenesisFile, GenesisFileError, devnet_genesis},
    home::{HomeLock, RunFile},
    random,
};

/// What opening an identity and a store is modelled to cost in a simulation.
const OPEN_COST: Duration = Duration::from_millis(1);

/// A node about to start. What is not set follows from the configuration.
#[derive(Debug)]
#[must_use = "a node starts with `start`"]
pub struct P2PNodeBuilder {
    config: NodeConfig,
    env: Option<Env>,
    genesis: Option<Genesis>,
    credentials: Option<Credentials>,
    producer: Option<Identity>,
    store: Option<Arc<dyn ChainStore>>,
}

impl P2PNodeBuilder {
    pub(super) const fn new(config: NodeConfig) -> Self {
        Self { config, env: None, genesis: None, credentials: None, producer: None, store: None }
    }

    /// The surroundings; by default this machine's: [`Env::real`].
    pub fn env(mut self, env: Env) -> Self {
        self.env = Some(env);
        self
    }

    /// The network's parameters; by default those of the configured file, or the built-in ones of the devnet.
    pub fn genesis(mut self, genesis: Genesis) -> Self {
        self.genesis = Some(genesis);
        self
    }

    /// Who the node is; by default the identity in the data directory, or a fresh one without a data directory.
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// A validator's key to propose blocks with; by default that of the configuration, if it says `produce`.
    pub fn producer(mut self, validator: Identity) -> Self {
        self.producer = Some(validator);
        self
    }

    /// Where blocks are kept; by default in the data directory, or in memory without one.
    pub fn store(mut self, store: Arc<dyn ChainStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// Starts the node. It listens, and finds peers, when this returns.
    ///
    /// # Errors
    /// Any of [`StartError`]; nothing runs then.
    pub async fn start(mut self) -> Result<P2PNode, StartError> {
        self.config.validate()?;
        let env = match self.env.take() {
            Some(env) => env,
            None => Env::real().map_err(StartError::Randomness)?,
        };
        let genesis = self.take_genesis()?;
        let home = match &self.config.data_dir {
            Some(dir) => Some(HomeLock::wait(&env, dir).await?),
            None => None,
        };
        let checkpoints = self.config.checkpoints()?;
        let schedule = Arc::new(ValidatorSchedule::new(genesis.clone())?.with_checkpoints(checkpoints));
        let opening = Opening {
            env: env.clone(),
            config: self.config.clone(),
            genesis,
            credentials: self.credentials.take(),
            producer: self.producer.take(),
            store: self.store.take(),
        };
        let opened = env.compute.compute(OPEN_COST, move || opening.open()).await?;
        Starting { config: self.config, env, schedule, home, opened }.start().await
    }

    fn take_genesis(&mut self) -> Result<Genesis, GenesisFileError> {
        let network = self.config.network;
        let genesis = match (self.genesis.take(), &self.config.genesis) {
            (Some(genesis), _) => genesis,
            (None, Some(path)) => GenesisFile::read(path)?,
            (None, None) if network == Network::Devnet => devnet_genesis(),
            (None, None) => return Err(GenesisFileError::Missing(network)),
        };
        genesis::check(&genesis)?;
        if genesis.network() != network {
            return Err(GenesisFileError::OtherNetwork { found: genesis.network(), expected: network });
        }
        Ok(genesis)
    }
}

/// Everything opened; the parts are started one after the other.
struct Starting {
    config: NodeConfig,
    env: Env,
    schedule: Arc<ValidatorSchedule>,
    home: Option<HomeLock>,
    opened: Opened,
}

impl Starting {
    async fn start(self) -> Result<P2PNode, StartError> {
        let Self { config, env, schedule, home, opened } = self;
        let genesis_hash = schedule.parameters().hash();
        let tip = opened.store.tip();
        let (p2p_config, tip) =
            (p2p_config(&config, genesis_hash), Tip { height: tip.height, hash: tip.hash });
        let p2p = P2PManager::start(p2p_config, env.clone(), opened.credentials.clone(), tip).await?;
        let sync = BlockchainSynchronizer::start(
            config.sync.clone(),
            env.clone(),
            p2p.handle(),
            Arc::clone(&opened.store),
            schedule.clone(),
        );
        let sync = match sync {
            Ok(sync) => sync,
            Err(error) => {
                p2p.stop().await;
                return Err(error.into());
            }
        };
        let handle = NodeHandle::new(Shared {
            metrics: Metrics::new(p2p.handle().metrics(), sync.handle().metrics()),
            p2p: p2p.handle(),
            sync: sync.handle(),
            schedule,
            genesis_hash,
            started: env.clock.now(),
            env: env.clone(),
        });
        let stopping = CancellationToken::new();
        let mut node = P2PNode {
            handle,
            p2p,
            sync,
            producing: Mutex::new(None),
            _stop_on_drop: stopping.clone().drop_guard(),
            stopping,
            tasks: TaskTracker::new(),
            api: None,
            files: None,
            _home: home,
        };
        if let Err(error) = serve(&mut node, &config, &env).await {
            node.stop().await;
            return Err(error);
        }
        if let (true, Some(dir)) = (opened.identity_on_disk, config.data_dir) {
            let (p2p, stop) = (node.handle.p2p().clone(), node.stopping.child_token());
            node.tasks.spawn(renewal::run(env, p2p, dir, opened.credentials, stop));
        }
        if let Some(validator) = opened.producer {
            node.start_producing(validator);
        }
        Ok(node)
    }
}

/// Opens the control API, and says in the data directory where everything is.
async fn serve(node: &mut P2PNode, config: &NodeConfig, env: &Env) -> Result<(), StartError> {
    if let Some(addr) = config.api.0 {
        let token = Token::new(random::bytes().map_err(StartError::Randomness)?);
        let server = ApiServer::start(node.handle(), addr, token.clone(), config.api_connections)
            .await
            .map_err(|source| StartError::Api { addr, source })?;
        node.api = Some((server, token));
    }
    let Some(dir) = &config.data_dir else { return Ok(()) };
    let local = node.handle.p2p().local();
    let run = RunFile {
        pid: std::process::id(),
        node_id: local.node_id.clone(),
        peer_id: local.peer_id,
        p2p_addr: local.listen.first().copied(),
        api_addr: node.api().map(|(addr, _)| addr),
        network: local.network,
    };
    let disk = Arc::clone(&env.disk);
    let token = node.api.as_ref().map(|(_, token)| token);
    node.files = Some(RunningFiles::write(disk, dir.clone(), &run, token)?);
    Ok(())
}

fn p2p_config(config: &NodeConfig, genesis_hash: BlockHash) -> P2PConfig {
    let mut p2p = config.p2p.clone();
    p2p.discovery.outbound_wanted = p2p.discovery.outbound_wanted.min(p2p.max_connections);
    p2p.network = config.network;
    p2p.discovery.network = config.network;
    p2p.genesis_hash = genesis_hash;
    p2p.data_dir = config.data_dir.clone();
    p2p
}
