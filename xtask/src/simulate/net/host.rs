//! A host's seam to the network.

use std::{
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    task::Poll,
};

use bt2c_p2p::env::{BoxFuture, Connection, Listener, Net};
use parking_lot::Mutex;

use super::{
    SimNet, now,
    state::{Dial, State},
    stream::SimStream,
};

/// One life of a host in a [`SimNet`]: what a node there sees of the network, from its start to its crash.
///
/// A dial to an address where no host is, or through a router that lets none in, stays unanswered; one to a host that
/// does not listen is refused after a round trip. Every host reaches IPv4 and IPv6 addresses alike. After a crash,
/// everything here fails; [`SimNet::restart`] gives the next life.
#[derive(Debug, Clone)]
pub struct SimHost {
    net: SimNet,
    host: usize,
    life: u64,
    declared: Option<Arc<[u8]>>,
}

impl SimHost {
    pub(super) const fn new(net: SimNet, host: usize, life: u64) -> Self {
        Self { net, host, life, declared: None }
    }

    /// The same host, whose streams declare this certificate. Between two ends that both do, nodes do without TLS.
    pub fn declaring(self, certificate: &[u8]) -> Self {
        Self { declared: Some(certificate.into()), ..self }
    }
}

impl Net for SimHost {
    fn listen(&self, addr: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let (number, local) =
                self.net.state.lock().listen(self.host, self.life, addr.port(), self.declared.clone())?;
            let state = Arc::clone(&self.net.state);
            Ok(Box::new(SimListener { state, host: self.host, local, number }) as Box<dyn Listener>)
        })
    }

    fn dial(&self, _local: Option<IpAddr>, remote: SocketAddr) -> BoxFuture<'_, io::Result<Connection>> {
        Box::pin(async move {
            loop {
                let healed = self.net.healed.notified();
                let dial = self.net.state.lock().dial(self.host, self.life, remote)?;
                match dial {
                    Dial::Silent => std::future::pending().await,
                    Dial::Cut => healed.await,
                    Dial::Answer(after) => {
                        tokio::time::sleep(after).await;
                        let declared = self.declared.clone();
                        let conn =
                            self.net.state.lock().connect(self.host, self.life, remote, declared, now())?;
                        if let Some(conn) = conn {
                            return Ok(connection(&self.net.state, conn, 0, remote));
                        }
                    }
                }
            }
        })
    }

    fn resolve(&self, name: Box<str>) -> BoxFuture<'_, io::Result<Vec<IpAddr>>> {
        let found = self.net.state.lock().names.get(&name).cloned();
        Box::pin(async move { found.ok_or_else(|| io::ErrorKind::NotFound.into()) })
    }
}

fn connection(state: &Arc<Mutex<State>>, conn: u64, side: usize, remote: SocketAddr) -> Connection {
    let stream = SimStream::new(Arc::clone(state), (conn, side));
    Connection { declared: state.lock().declared(conn, side), ..Connection::new(Box::new(stream), remote) }
}

struct SimListener {
    state: Arc<Mutex<State>>,
    host: usize,
    local: SocketAddr,
    number: u64,
}

impl Listener for SimListener {
    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<Connection>> {
        Box::pin(poll_fn(|cx| {
            let next = self.state.lock().accept(self.host, self.local.port(), self.number, cx.waker());
            next.map_or(Poll::Pending, |(conn, remote)| {
                Poll::Ready(Ok(connection(&self.state, conn, 1, remote)))
            })
        }))
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        self.state.lock().unlisten(self.host, self.local.port(), self.number, now());
    }
}
