//! What attackers are made of: a stage to act on, identities at will, and connections on which anything can be said.

mod line;
mod serving;

use std::{collections::BTreeMap, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use bt2c_p2p::env::{BoxFuture, Connection, Listener, Net, Stream};
use bt2c_proto::{BlockHash, Genesis};
use bt2c_security::Credentials;
use bt2c_sync::ChainStore;
use parking_lot::Mutex;
use rand_chacha::ChaCha8Rng;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;

use super::{
    clock::SimClock,
    identity::{MAX_IDENTITIES, identity},
    net::SimHost,
};

pub use line::Line;
pub use serving::{Behaviour, serve};

/// An attacker's program.
#[derive(Debug, Clone, Copy)]
pub struct Attack {
    /// Its name, for reports.
    pub name: &'static str,
    /// Plays it, for ever or until it has nothing more to do.
    pub play: fn(Stage) -> BoxFuture<'static, ()>,
}

impl Attack {
    pub(super) fn run(self, stage: Stage) -> impl Future<Output = ()> + Send + 'static {
        let stop = stage.stop.clone();
        async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = (self.play)(stage) => {}
            }
        }
    }
}

/// What an attacker has: a host, time, and what everyone knows of the network. Cloning shares the host.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Its host's number.
    pub number: usize,
    /// Its host.
    pub net: SimHost,
    /// The right time.
    pub clock: SimClock,
    /// The network's parameters.
    pub genesis: Genesis,
    /// The end of the chain that there was at the start.
    pub tip: (u64, BlockHash),
    /// Its last block.
    pub tip_block: serde_json::Value,
    /// That chain.
    pub chain: Arc<dyn ChainStore>,
    /// Another valid branch, if the plan has one.
    pub branch: Arc<dyn ChainStore>,
    /// Where all honest nodes listen, also those that are not there yet; by their numbers.
    pub honest: Vec<SocketAddr>,
    /// Where all attackers are, by host.
    pub accomplices: Vec<SocketAddr>,
    /// Chance.
    pub rng: ChaCha8Rng,
    pub(super) tls: bool,
    pub(super) counts: Arc<Mutex<BTreeMap<&'static str, u64>>>,
    pub(super) stop: CancellationToken,
}

/// Identities of one attacker.
const PERSONAS: usize = 16;

impl Stage {
    /// One of the attacker's identities, with its certificate.
    ///
    /// # Errors
    /// If there is none of that number.
    pub fn persona(&self, number: usize) -> Result<Credentials> {
        // From the end of what there is: nodes have those at the beginning.
        let place = self.number * PERSONAS + number;
        ensure!(
            number < PERSONAS && place < MAX_IDENTITIES / 2,
            "host {} has no identity {number}: an attacker has {PERSONAS}, and they are short",
            self.number
        );
        let index = MAX_IDENTITIES - 1 - place;
        Ok(Credentials::issue(identity(index)?, None, bt2c_p2p::env::Clock::now(&self.clock))?)
    }

    /// Counts something, for those who judge.
    pub fn count(&self, what: &'static str) {
        *self.counts.lock().entry(what).or_default() += 1;
    }

    /// Lets time pass.
    pub async fn wait(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    /// Opens a raw stream.
    ///
    /// # Errors
    /// If nobody listens there.
    pub async fn connect(&self, to: SocketAddr) -> io::Result<Box<dyn Stream>> {
        Ok(self.net.dial(None, to).await?.stream)
    }

    /// Opens a connection up to where hellos are said, as one of the attacker's identities.
    ///
    /// # Errors
    /// If nobody listens there, or TLS fails already on this side.
    pub async fn dial(&self, to: SocketAddr, me: &Credentials) -> io::Result<Line> {
        let raw = self.declaring(me).dial(None, to).await?;
        self.secure(raw, me, true).await
    }

    /// Takes connections on a port.
    ///
    /// # Errors
    /// If something listens there.
    pub async fn listen(&self, port: u16, me: &Credentials) -> io::Result<Box<dyn Listener>> {
        self.declaring(me).listen(SocketAddr::from(([0, 0, 0, 0], port))).await
    }

    /// Takes an accepted connection up to where hellos are said.
    ///
    /// # Errors
    /// If TLS fails.
    pub async fn accepted(&self, raw: Connection, me: &Credentials) -> io::Result<Line> {
        self.secure(raw, me, false).await
    }

    fn declaring(&self, me: &Credentials) -> SimHost {
        if self.tls { self.net.clone() } else { self.net.clone().declaring(me.certificate_der()) }
    }

    async fn secure(&self, raw: Connection, me: &Credentials, dialled: bool) -> io::Result<Line> {
        let time = Arc::new(self.clock);
        let remote = raw.remote;
        let stream: Box<dyn Stream> = if raw.declared.is_some() {
            raw.stream
        } else if dialled {
            let config = bt2c_security::client_config(me, time).map_err(io::Error::other)?;
            Box::new(TlsConnector::from(config).connect(bt2c_security::server_name(), raw.stream).await?)
        } else {
            let config = bt2c_security::server_config(me, time).map_err(io::Error::other)?;
            Box::new(TlsAcceptor::from(config).accept(raw.stream).await?)
        };
        Ok(Line::new(stream, remote, me.node_id().clone(), self.clock))
    }

    /// A hello that nobody can object to, with this tip; `listens` tells the port of honest nodes.
    pub fn hello(
        &self,
        me: &Credentials,
        (height, hash): (u64, BlockHash),
        listens: bool,
    ) -> serde_json::Value {
        let mut hello = serde_json::json!({
            "version": "1.0.0", "node_id": me.node_id().to_string(), "block_height": height,
            "last_block_hash": hash.to_string(), "network": self.genesis.network().name(),
            "genesis_hash": self.genesis.hash().to_string(), "features": [],
        });
        if listens {
            hello["listen_port"] = super::world::PORT.into();
        }
        hello
    }
}
