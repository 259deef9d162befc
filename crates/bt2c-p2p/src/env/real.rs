//! The seams of a node on a machine: sockets, the system clock, files, threads.

mod compute;

use std::{
    fs::{self, File, OpenOptions},
    io,
    net::{IpAddr, SocketAddr},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime},
};

use bt2c_proto::{Time, canonical};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

pub use self::compute::RealCompute;
use super::{BoxFuture, Clock, Connection, Disk, DiskFile, Listener, Net};

/// TCP and the system's resolver.
#[derive(Debug, Clone, Copy)]
pub struct RealNet;

/// Connections the kernel may hold for us before they are accepted.
const BACKLOG: u32 = 128;

impl Net for RealNet {
    fn listen(&self, addr: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let socket = socket_for(addr.ip())?;
            socket.set_reuseaddr(true)?;
            socket.bind(addr)?;
            let listener = socket.listen(BACKLOG)?;
            let local = listener.local_addr()?;
            Ok(Box::new(RealListener { listener, local }) as Box<dyn Listener>)
        })
    }

    fn dial(&self, local: Option<IpAddr>, remote: SocketAddr) -> BoxFuture<'_, io::Result<Connection>> {
        Box::pin(async move {
            let socket = socket_for(remote.ip())?;
            if let Some(local) = local.filter(|local| local.is_ipv4() == remote.is_ipv4()) {
                socket.bind(SocketAddr::new(local, 0))?;
            }
            connection(socket.connect(remote).await?, remote)
        })
    }

    fn resolve(&self, name: Box<str>) -> BoxFuture<'_, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((&*name, 0)).await?;
            Ok(found.map(|addr| addr.ip().to_canonical()).collect())
        })
    }
}

fn socket_for(ip: IpAddr) -> io::Result<TcpSocket> {
    if ip.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }
}

fn connection(stream: TcpStream, remote: SocketAddr) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    Ok(Connection::new(Box::new(stream), canonical(remote)))
}

struct RealListener {
    listener: TcpListener,
    local: SocketAddr,
}

impl Listener for RealListener {
    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<Connection>> {
        Box::pin(async move {
            let (stream, remote) = self.listener.accept().await?;
            connection(stream, remote)
        })
    }
}

/// Unix time from an anchor and a monotone counter; set forwards, never back, when the system clock runs ahead of it (a
/// suspended machine's monotone counter stands still).
#[derive(Debug)]
pub struct RealClock {
    started: Instant,
    /// Unix time in milliseconds at `started`.
    anchor: AtomicU64,
}

/// How far the system clock must be ahead before the clock is set forwards, in milliseconds.
const REANCHOR_MS: u64 = 5_000;

impl RealClock {
    /// A clock that shows the system's time.
    #[expect(clippy::new_without_default, reason = "reads the system's clock: no value to default to")]
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn new() -> Self {
        Self { started: Instant::now(), anchor: AtomicU64::new(system_millis()) }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the clock")]
fn system_millis() -> u64 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

impl Clock for RealClock {
    fn now(&self) -> Time {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (anchor, system) = (self.anchor.load(Ordering::Relaxed), system_millis());
        let now = anchor.saturating_add(elapsed);
        if system > now.saturating_add(REANCHOR_MS) {
            self.anchor.fetch_max(system.saturating_sub(elapsed), Ordering::Relaxed);
            return Time::from_millis(system);
        }
        Time::from_millis(now)
    }

    fn sleep_until(&self, at: Time) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(at.since(self.now())))
    }
}

/// The file system.
#[derive(Debug, Clone, Copy)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn write_atomic(&self, path: &Path, bytes: &[u8], private: bool) -> io::Result<()> {
        use io::Write;
        let temporary = path.with_added_extension("tmp");
        let mode = if private { 0o600 } else { 0o644 };
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                files.push(entry.path());
            }
        }
        files.sort_unstable();
        Ok(files)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(fs::TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

#[derive(Debug)]
struct RealFile(File);

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        self.0.metadata().map(|metadata| metadata.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn atomic_writes_replace_and_keep_private_files_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        RealDisk.write_atomic(&path, b"one", true).unwrap();
        RealDisk.write_atomic(&path, b"two", true).unwrap();
        assert_eq!(RealDisk.read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        // Written beside: where that fails, the old one is as it was.
        fs::create_dir(path.with_added_extension("tmp")).unwrap();
        assert!(RealDisk.write_atomic(&path, b"three", true).is_err());
        assert_eq!(RealDisk.read(&path).unwrap(), b"two");
        assert_eq!(RealDisk.list(dir.path()).unwrap(), [path]);
    }

    #[test]
    fn what_cannot_be_synced_is_not_taken_for_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        RealDisk.write_atomic(&path, b"one", false).unwrap();
        // Takes every byte, and refuses a sync.
        std::os::unix::fs::symlink("/dev/null", path.with_added_extension("tmp")).unwrap();
        assert!(RealDisk.write_atomic(&path, b"two", false).is_err());
        assert_eq!(RealDisk.read(&path).unwrap(), b"one");
        let file = RealDisk.open(Path::new("/dev/null")).unwrap();
        file.write_at(0, b"two").unwrap();
        assert!(file.sync().is_err());
    }

    #[test]
    fn a_lock_is_held_until_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = RealDisk.lock(&path).unwrap();
        assert_eq!(RealDisk.lock(&path).err().unwrap().kind(), io::ErrorKind::WouldBlock);
        drop(held);
        assert!(RealDisk.lock(&path).is_ok());
    }
}
