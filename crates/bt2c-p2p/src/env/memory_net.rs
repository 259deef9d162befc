//! A network in memory: hosts, byte streams with latency, and cuts between hosts.
//!
//! Nothing ticks: a chunk carries the moment at which it arrives, and its reader sleeps until then. A cut freezes the
//! streams across it (as a silent network does: no reset, no error) and lets dials hang; healing thaws them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::{
    BoxFuture, Connection, Listener, Net,
    memory_stream::{MemoryStream, Pipe},
};

/// Connections that wait to be accepted at one listener.
const BACKLOG: usize = 128;

/// A network in memory. Cloning shares it.
#[derive(Debug, Clone)]
pub struct MemoryNet {
    shared: Arc<Mutex<Shared>>,
    latency: Duration,
}

#[derive(Debug, Default)]
struct Shared {
    listeners: BTreeMap<SocketAddr, mpsc::Sender<Connection>>,
    names: BTreeMap<Box<str>, Vec<IpAddr>>,
    next_port: u16,
    cuts: BTreeSet<(IpAddr, IpAddr)>,
    pipes: Vec<(IpAddr, IpAddr, Weak<Mutex<Pipe>>)>,
}

impl MemoryNet {
    /// A network whose every link delays bytes by `latency`.
    pub fn new(latency: Duration) -> Self {
        Self { shared: Arc::default(), latency }
    }

    /// The seam of the node at this address.
    pub fn host(&self, ip: IpAddr) -> MemoryHost {
        MemoryHost { net: self.clone(), ip }
    }

    /// What a DNS name resolves to.
    pub fn set_name(&self, name: &str, ips: Vec<IpAddr>) {
        self.shared.lock().names.insert(name.into(), ips);
    }

    /// Cuts every link between the two sides, both ways.
    pub fn cut(&self, side: &[IpAddr], other: &[IpAddr]) {
        let mut shared = self.shared.lock();
        for &a in side {
            for &b in other {
                shared.cuts.insert((a, b));
                shared.cuts.insert((b, a));
            }
        }
        shared.apply_cuts();
    }

    /// Heals every cut.
    pub fn heal(&self) {
        let mut shared = self.shared.lock();
        shared.cuts.clear();
        shared.apply_cuts();
    }
}

impl Shared {
    fn apply_cuts(&mut self) {
        let cuts = &self.cuts;
        self.pipes.retain(|(from, to, pipe)| {
            let Some(pipe) = pipe.upgrade() else { return false };
            pipe.lock().set_frozen(cuts.contains(&(*from, *to)));
            true
        });
    }

    fn free_port(&mut self) -> u16 {
        self.next_port = self.next_port.checked_add(1).unwrap_or(0).max(32_768);
        self.next_port
    }

    /// A one-way byte stream that cuts apply to.
    fn pipe(&mut self, from: IpAddr, to: IpAddr, latency: Duration) -> Arc<Mutex<Pipe>> {
        if self.pipes.len().is_power_of_two() {
            self.pipes.retain(|(.., pipe)| pipe.strong_count() > 0);
        }
        let pipe = Arc::new(Mutex::new(Pipe::new(latency)));
        self.pipes.push((from, to, Arc::downgrade(&pipe)));
        pipe
    }
}

/// One host's view of a [`MemoryNet`].
#[derive(Debug, Clone)]
pub struct MemoryHost {
    net: MemoryNet,
    ip: IpAddr,
}

impl Net for MemoryHost {
    fn listen(&self, addr: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let mut shared = self.net.shared.lock();
            let port = if addr.port() == 0 { shared.free_port() } else { addr.port() };
            let local = SocketAddr::new(self.ip, port);
            if shared.listeners.get(&local).is_some_and(|listener| !listener.is_closed()) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            let (sender, incoming) = mpsc::channel(BACKLOG);
            shared.listeners.insert(local, sender);
            Ok(Box::new(MemoryListener { local, incoming }) as Box<dyn Listener>)
        })
    }

    fn dial(&self, _local: Option<IpAddr>, remote: SocketAddr) -> BoxFuture<'_, io::Result<Connection>> {
        Box::pin(async move {
            let latency = self.net.latency;
            tokio::time::sleep(latency * 2).await;
            if self.net.shared.lock().cuts.contains(&(self.ip, remote.ip())) {
                return std::future::pending().await;
            }
            let (here, there, listener) = {
                let mut shared = self.net.shared.lock();
                let listener =
                    shared.listeners.get(&remote).cloned().ok_or(io::ErrorKind::ConnectionRefused)?;
                let out = shared.pipe(self.ip, remote.ip(), latency);
                let back = shared.pipe(remote.ip(), self.ip, latency);
                let here = MemoryStream::new(Arc::clone(&back), Arc::clone(&out));
                let there = MemoryStream::new(out, back);
                let from = SocketAddr::new(self.ip, shared.free_port());
                (here, Connection::new(Box::new(there), from), listener)
            };
            listener.try_send(there).map_err(|_| io::ErrorKind::ConnectionRefused)?;
            Ok(Connection::new(Box::new(here), remote))
        })
    }

    fn resolve(&self, name: Box<str>) -> BoxFuture<'_, io::Result<Vec<IpAddr>>> {
        let found = self.net.shared.lock().names.get(&name).cloned();
        Box::pin(async move { found.ok_or_else(|| io::ErrorKind::NotFound.into()) })
    }
}

struct MemoryListener {
    local: SocketAddr,
    incoming: mpsc::Receiver<Connection>,
}

impl Listener for MemoryListener {
    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<Connection>> {
        Box::pin(async move {
            match self.incoming.recv().await {
                Some(connection) => Ok(connection),
                None => std::future::pending().await, // replaced by a newer listener at the same address
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::Instant,
    };

    use super::*;
    use crate::env::memory_stream::WINDOW;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    async fn pair(net: &MemoryNet) -> (Connection, Connection) {
        let (a, b) = (net.host(ip(1)), net.host(ip(2)));
        let mut listener = b.listen(SocketAddr::new(ip(2), 0)).await.unwrap();
        let dialled = a.dial(None, listener.local_addr()).await.unwrap();
        (dialled, listener.accept().await.unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_arrive_after_the_latency_and_not_before() {
        let net = MemoryNet::new(Duration::from_millis(50));
        let (mut a, mut b) = pair(&net).await;
        #[expect(clippy::disallowed_methods, reason = "measures virtual time")]
        let start = Instant::now();
        a.stream.write_all(b"hello").await.unwrap();
        let mut got = [0; 5];
        b.stream.read_exact(&mut got).await.unwrap();
        assert_eq!((&got, start.elapsed()), (b"hello", Duration::from_millis(50)));
        drop(a);
        assert_eq!(b.stream.read(&mut got).await.unwrap(), 0);
        assert_eq!(b.stream.write_all(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cut_freezes_streams_and_dials_until_it_heals() {
        let net = MemoryNet::new(Duration::from_millis(1));
        let (mut a, mut b) = pair(&net).await;
        net.cut(&[ip(1)], &[ip(2)]);
        a.stream.write_all(b"x").await.unwrap();
        let wait = Duration::from_secs(60);
        assert!(tokio::time::timeout(wait, b.stream.read_u8()).await.is_err());
        let host = net.host(ip(1));
        assert!(tokio::time::timeout(wait, host.dial(None, SocketAddr::new(ip(2), 1))).await.is_err());
        net.heal();
        assert_eq!(b.stream.read_u8().await.unwrap(), b'x');
    }

    #[tokio::test(start_paused = true)]
    async fn a_writer_waits_for_a_reader_that_does_not_read() {
        let net = MemoryNet::new(Duration::ZERO);
        let (mut a, mut b) = pair(&net).await;
        let wait = Duration::from_secs(1);
        assert!(tokio::time::timeout(wait, a.stream.write_all(&vec![0; WINDOW + 1])).await.is_err());
        let mut got = vec![0; WINDOW];
        b.stream.read_exact(&mut got).await.unwrap();
        a.stream.write_all(b"x").await.unwrap();
    }
}
