//! The manager: a pure core, the actor that drives it, and the handle that others hold.

mod actor;
mod clock;
mod connection;
mod contest;
pub(crate) mod core;
pub(crate) mod dialing;
mod ending;
mod eviction;
mod explaining;
pub(crate) mod ingress;
mod listener;
mod penalties;
mod seen;
mod slots;
mod state_files;
mod unreached;

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc};

use bt2c_security::{Credentials, TlsError};
use parking_lot::RwLock;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    actor::{Actor, Inputs},
    core::Core,
    ingress::{Handle, LocalInfo, Shared},
};
use crate::{
    config::{ConfigError, P2PConfig, Tip},
    env::{Env, Listener},
    local::{Local, OwnChain},
    metrics::Metrics,
    session::{
        self,
        core::SessionConfig,
        handshake::{Tls, Workshop},
    },
};

/// Requests and notes that may wait for the actor. When full, whoever asks waits.
const QUEUE: usize = 1024;

/// Events that a subscriber may be behind before it is told to start over.
const EVENTS: usize = 1024;

/// Manages peer connections: listens, dials, holds sessions, routes messages, relays.
///
/// Dropping it without [`P2PManager::stop`] ends its tasks too, but without goodbyes.
#[derive(Debug)]
pub struct P2PManager {
    handle: Handle,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Why a [`P2PManager`] did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration contradicts itself.
    #[error("configuration: {0}")]
    Config(#[from] ConfigError),
    /// Discovery's part of the configuration contradicts itself.
    #[error("configuration: {0}")]
    Discovery(#[from] bt2c_discovery::DiscoveryConfigError),
    /// The credentials make no TLS configuration.
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    /// An address cannot be listened on.
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The bans of an earlier run cannot be used, and starting without them would lift them.
    #[error("{path}: {source}; restore the file, or remove it to lift all bans")]
    Bans {
        /// The file.
        path: Box<str>,
        /// What is wrong.
        #[source]
        source: bt2c_security::BansFileError,
    },
    /// The standings of an earlier run are in the format of another edition, whose work would be lost.
    #[error("{path}: {source}, or remove it to know everybody anew")]
    Reputation {
        /// The file.
        path: Box<str>,
        /// Which version it has.
        #[source]
        source: bt2c_security::ReputationFileError,
    },
    /// The addresses of an earlier run are in the format of another edition, whose work would be lost.
    #[error("{path}: {source}; use the program that wrote it, or remove it to learn addresses anew")]
    Peers {
        /// The file.
        path: Box<str>,
        /// Which version it has.
        #[source]
        source: bt2c_discovery::PeersFileError,
    },
    /// A state file cannot be read or set aside.
    #[error("{path}: {source}")]
    StateFile {
        /// The file.
        path: Box<str>,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

impl P2PManager {
    /// Listens, and begins to find peers. `tip` is what hellos tell until [`Handle::set_tip`].
    ///
    /// # Errors
    /// Any of [`StartError`]; nothing runs then.
    pub async fn start(
        config: P2PConfig,
        env: Env,
        credentials: Credentials,
        tip: Tip,
    ) -> Result<Self, StartError> {
        config.validate()?;
        config.discovery.validate()?;
        let config = Arc::new(config);
        let mut listeners = Vec::new();
        for &addr in &config.listen {
            let listener = env.net.listen(addr).await;
            listeners.push(listener.map_err(|source| StartError::Listen { addr, source })?);
        }
        let listen: Vec<_> = listeners.iter().map(|listener| listener.local_addr()).collect();
        let local = Local::new(&config, credentials.peer_id(), credentials.node_id().clone(), &listen);
        let local = Arc::new(local);
        let mut core = Core::new(Arc::clone(&config), Arc::clone(&local), env.seed);
        state_files::load(&mut core, &config, &env)?;
        let now = env.clock.now();
        for addr in listen.iter().copied().chain(config.external_addr) {
            if !addr.ip().is_unspecified() {
                core.parts().1.handle_self(now, addr);
            }
        }
        let info = LocalInfo {
            peer_id: credentials.peer_id(),
            node_id: credentials.node_id().clone(),
            network: config.network,
            listen: listen.clone(),
            features: config.features.clone(),
        };
        let wiring = Wiring { config, env, credentials, listen, listeners };
        wiring.spawn(core, local, info, tip)
    }

    /// The client side.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Says goodbye to every peer, writes the state files, and returns when every task has ended.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

impl Drop for P2PManager {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What is needed to set the tasks going.
struct Wiring {
    config: Arc<P2PConfig>,
    env: Env,
    credentials: Credentials,
    listen: Vec<SocketAddr>,
    listeners: Vec<Box<dyn Listener>>,
}

impl Wiring {
    fn spawn(
        self,
        core: Core,
        local: Arc<Local>,
        info: LocalInfo,
        tip: Tip,
    ) -> Result<P2PManager, StartError> {
        let Self { config, env, credentials, listen, listeners } = self;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (requests, requests_in) = mpsc::channel(QUEUE);
        let (notes, notes_in) = mpsc::channel(QUEUE);
        let (accepted, accepted_in) = mpsc::channel(config.pending_total.max(1));
        let chain = watch::Sender::new(OwnChain::from(tip));
        let (metrics, routes) = (Arc::new(Metrics::default()), Arc::new(RwLock::new(BTreeMap::new())));
        let workshop = Workshop {
            shared: session::Shared {
                clock: Arc::clone(&env.clock),
                notes,
                routes: Arc::clone(&routes),
                metrics: Arc::clone(&metrics),
                chain: chain.subscribe(),
                shutdown: CancellationToken::new(),
                send_timeout: config.send_timeout,
                tap: env.tap.clone(),
            },
            local,
            session: SessionConfig::new(&config),
            send_queue_bytes: config.send_queue_bytes,
            net: Arc::clone(&env.net),
            listen: listen.into(),
            tls: Tls::new(&credentials, Arc::clone(&env.clock))?,
        };
        for listener in listeners {
            let clock = Arc::clone(&env.clock);
            tasks.spawn(listener::run(listener, accepted.clone(), clock, stop.clone()));
        }
        let shared = Shared {
            requests,
            events: broadcast::Sender::new(EVENTS),
            routes,
            chain,
            local: info,
            clock: Arc::clone(&env.clock),
            metrics,
        };
        let handle = Handle { shared: Arc::new(shared) };
        let inputs =
            Inputs { requests: requests_in, notes: notes_in, accepted: accepted_in, stop: stop.clone() };
        let actor = Actor::new(config, env, core, workshop, handle.clone(), tasks.clone());
        tasks.spawn(actor.run(inputs));
        tasks.close();
        Ok(P2PManager { handle, stop, tasks })
    }
}
