//! The four seams through which shells reach the world: net, clock, disk, compute.
//!
//! A node started with [`Env::real`] uses sockets, files and threads; one started with in-memory forms runs unchanged in
//! a simulation on virtual time. TLS sits *above* [`Net`], so a simulation runs real TLS.

mod memory_disk;
mod memory_net;
mod memory_stream;
mod real;
mod virtual_time;

use std::{
    fmt::Debug,
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use bt2c_proto::{PeerId, Time};
use tokio::io::{AsyncRead, AsyncWrite};

pub use memory_disk::{DiskFault, MemoryDisk};
pub use memory_net::{MemoryHost, MemoryNet};
pub use real::{RealClock, RealCompute, RealDisk, RealNet};
pub use virtual_time::{InlineCompute, VirtualClock};

/// A boxed future, the return type of the seams' asynchronous calls.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Everything a node takes from its surroundings.
#[derive(Debug, Clone)]
pub struct Env {
    /// Raw streams: dial, accept, resolve.
    pub net: Arc<dyn Net>,
    /// What time it is, and waking up later.
    pub clock: Arc<dyn Clock>,
    /// Files with fsync and rename.
    pub disk: Arc<dyn Disk>,
    /// Work that is too heavy for a reactor thread.
    pub compute: Arc<dyn Compute>,
    /// Seed of all randomness in cores.
    pub seed: [u8; 32],
    /// Who is shown every message that is received: a simulation's trace. Nobody on a machine.
    pub tap: Option<Arc<dyn Tap>>,
}

impl Env {
    /// Sockets, the system clock, files, threads, and a seed from the system's generator.
    ///
    /// # Errors
    /// If the system gives no randomness.
    pub fn real() -> io::Result<Self> {
        use rand::TryRng;
        let mut seed = [0; 32];
        rand::rngs::SysRng.try_fill_bytes(&mut seed).map_err(io::Error::other)?;
        Ok(Self {
            net: Arc::new(RealNet),
            clock: Arc::new(RealClock::new()),
            disk: Arc::new(RealDisk),
            compute: Arc::new(RealCompute::new()),
            seed,
            tap: None,
        })
    }

    /// An in-memory node at `host`: virtual time from `epoch` on, an empty disk, inline compute.
    ///
    /// To be made inside the runtime, whose clock should be paused.
    pub fn simulated(host: MemoryHost, epoch: Time, seed: [u8; 32]) -> Self {
        Self {
            net: Arc::new(host),
            clock: Arc::new(VirtualClock::new(epoch)),
            disk: Arc::new(MemoryDisk::new()),
            compute: Arc::new(InlineCompute),
            seed,
            tap: None,
        }
    }
}

/// Watches messages. It sees all of them and can change none.
pub trait Tap: Send + Sync + Debug {
    /// A session of `to` received the body of a frame from `from`; it is not parsed yet, and may be anything.
    fn message(&self, at: Time, from: PeerId, to: PeerId, body: &[u8]);
}

/// The time, and waking up at one.
pub trait Clock: Send + Sync + Debug {
    /// Now: Unix time in milliseconds, monotone.
    fn now(&self) -> Time;

    /// Completes at `at`, or at once if that is past.
    fn sleep_until(&self, at: Time) -> BoxFuture<'static, ()>;
}

/// Work off the reactor.
pub trait Compute: Send + Sync + Debug {
    /// Runs `job`; the future completes when it is done. `cost` is how long the job is modelled to take in a simulation
    /// and means nothing elsewhere. How many jobs wait is bounded by whoever submits them.
    fn run(&self, cost: Duration, job: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()>;
}

impl dyn Compute {
    /// Like [`Compute::run`], with the job's result.
    pub async fn compute<T: Send + 'static>(
        &self,
        cost: Duration,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        // The receiver is gone only if this future is, and then nobody wants the result.
        self.run(cost, Box::new(move || drop(sender.send(job())))).await;
        receiver.await.expect("a job that completed has sent its result")
    }
}

/// Files. Calls block like those of `std::fs`: heavy ones belong into [`Compute`].
pub trait Disk: Send + Sync + Debug {
    /// The whole content of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Replaces a file so that after a crash either the old or the new content is there: temporary file, fsync, rename,
    /// fsync of the directory. `private` files are readable by their owner alone.
    fn write_atomic(&self, path: &Path, bytes: &[u8], private: bool) -> io::Result<()>;

    /// Renames a file, replacing the target.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// The files of a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;

    /// Makes a directory and its parents.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Opens a file for reading and writing at any place; creates it if it is missing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Takes an exclusive lock until the returned value is dropped.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if someone else holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>>;
}

/// An open file.
pub trait DiskFile: Send + Sync + Debug {
    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether it has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }

    /// Fills `buffer` from `offset` on; an error if the file ends before.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`, growing the file as needed.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts or extends (with zeros) the file.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Returns once everything written is on the disk.
    fn sync(&self) -> io::Result<()>;
}

/// Raw streams between addresses.
pub trait Net: Send + Sync + Debug {
    /// Listens; port 0 picks a free one.
    fn listen(&self, addr: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>>;

    /// Connects to `remote`, from `local` if given.
    fn dial(&self, local: Option<IpAddr>, remote: SocketAddr) -> BoxFuture<'_, io::Result<Connection>>;

    /// The addresses of a DNS name.
    fn resolve(&self, name: Box<str>) -> BoxFuture<'_, io::Result<Vec<IpAddr>>>;
}

/// Takes connections.
pub trait Listener: Send {
    /// Where it listens, with the real port.
    fn local_addr(&self) -> SocketAddr;

    /// The next connection.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Connection>>;
}

/// A raw stream and its ends.
pub struct Connection {
    /// The bytes.
    pub stream: Box<dyn Stream>,
    /// The address of the other side, canonical.
    pub remote: SocketAddr,
    /// The certificate that the other side declares (DER), in a simulation without TLS.
    #[cfg(feature = "simulation")]
    pub declared: Option<Arc<[u8]>>,
}

impl Connection {
    /// A stream and the canonical address of its other side.
    pub fn new(stream: Box<dyn Stream>, remote: SocketAddr) -> Self {
        Self {
            stream,
            remote,
            #[cfg(feature = "simulation")]
            declared: None,
        }
    }
}

impl Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connection({})", self.remote)
    }
}

/// A byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Shows a node's clock to rustls, so that what it does with time follows virtual time too.
#[derive(Debug)]
pub(crate) struct TlsClock(pub(crate) Arc<dyn Clock>);

impl rustls::time_provider::TimeProvider for TlsClock {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        let since_epoch = Duration::from_millis(self.0.now().as_millis());
        Some(rustls::pki_types::UnixTime::since_unix_epoch(since_epoch))
    }
}
