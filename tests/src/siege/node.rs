//! The node under siege: a process of its own, measured from outside.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::{Child, Command},
    time::timeout,
};

use super::world::World;

/// Longest wait for the process to do as it is told; only a failing siege waits as long.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is looked at meanwhile.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// A running node; killed when it is dropped.
pub(super) struct Node {
    child: Child,
    home: PathBuf,
    log: PathBuf,
    pid: u32,
    /// Where it listens for peers.
    pub(super) addr: SocketAddr,
    api: SocketAddr,
}

impl Node {
    /// Gives it the chain, starts it with its defaults, and returns once it listens.
    pub(super) async fn start(program: &Path, dir: &Path, world: &World) -> Result<Self> {
        let (home, log) = (dir.join("node"), dir.join("node.log"));
        let import = command(program, &["chain", "import"])
            .arg(&world.chain_file)
            .args(network(world, &home))
            .output();
        let import = import.await.with_context(|| format!("cannot run {}", program.display()))?;
        ensure!(import.status.success(), "chain import: {}", String::from_utf8_lossy(&import.stderr));
        let child = command(program, &["run", "--listen", "127.0.0.1:0", "--api", "127.0.0.1:0"])
            .args(network(world, &home))
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()?;
        let pid = child.id().context("it has just been started")?;
        let mut node = Self { child, home, log, pid, addr: ([0; 4], 0).into(), api: ([0; 4], 0).into() };
        let run = timeout(PATIENCE, node.run_file()).await.context("the node does not start")??;
        let addr =
            |key: &str| run[key].as_str().context("run.json names no address")?.parse().context("an address");
        (node.addr, node.api) = (addr("p2p_addr")?, addr("api_addr")?);
        Ok(node)
    }

    async fn run_file(&mut self) -> Result<Value> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("the node ended with {status}: {}", fs::read_to_string(&self.log)?.trim());
            }
            // It is written in one step, and there is none before.
            if let Ok(bytes) = fs::read(self.home.join("run.json")) {
                return Ok(serde_json::from_slice(&bytes)?);
            }
            tokio::time::sleep(TICK).await;
        }
    }

    /// `GET` of the control API, as JSON.
    pub(super) async fn get(&self, path: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.get_text(path).await?)?)
    }

    /// `GET` of the control API, on a connection of its own.
    pub(super) async fn get_text(&self, path: &str) -> Result<String> {
        let get = async {
            let mut stream = TcpStream::connect(self.api).await?;
            let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.api);
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
            ensure!(head.starts_with("HTTP/1.1 200"), "{path}: {head}");
            Ok(body.to_owned())
        };
        timeout(PATIENCE, get).await.with_context(|| format!("GET {path} is not answered"))?
    }

    /// Resident memory in bytes: now, and at most since the start.
    pub(super) fn memory(&self) -> Result<(u64, u64)> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).context("the node is gone")?;
        let field = |name: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such field")?;
            let kibibytes: u64 = line.trim().strip_suffix("kB").context("not in kB")?.trim().parse()?;
            Ok(kibibytes * 1024)
        };
        Ok((field("VmRSS:")?, field("VmHWM:")?))
    }

    /// Open descriptors.
    pub(super) fn descriptors(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.pid)).context("the node is gone")?.count())
    }

    /// Processor time so far, in seconds, of user and system.
    pub(super) fn processor_s(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).context("the node is gone")?;
        let (_, rest) = stat.rsplit_once(") ").context("no name")?;
        // Fields 14 and 15 of proc(5), in ticks of which every Linux shows 100 a second; the state is field 3.
        let ticks: Vec<f64> = rest.split(' ').skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
        Ok(ticks.iter().sum::<f64>() / 100.0)
    }

    /// Tells it to stop, and says how it ended and what its log says that it should not.
    pub(super) async fn stop(mut self) -> Result<Ended> {
        let kill = Command::new("kill").arg("-TERM").arg(self.pid.to_string()).status().await?;
        ensure!(kill.success(), "kill: {kill}");
        let status = timeout(PATIENCE, self.child.wait()).await.context("the node does not stop")??;
        let log = fs::read_to_string(&self.log)?;
        let bad = |line: &&str| line.contains("panicked") || line.contains(" ERROR ");
        let complaints = log.lines().filter(bad).map(str::to_owned).collect();
        Ok(Ended { code: status.code(), complaints, log })
    }
}

/// How a node ended.
pub(super) struct Ended {
    /// Its exit code; none if a signal ended it.
    pub(super) code: Option<i32>,
    /// Panics and errors in its log.
    pub(super) complaints: Vec<String>,
    /// Its log.
    pub(super) log: String,
}

/// A command away from the user's own configuration.
fn command(program: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("BT2C_")) {
            command.env_remove(name);
        }
    }
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    command
}

fn network(world: &World, home: &Path) -> [PathBuf; 6] {
    let (genesis, home) = (world.genesis_file.clone(), home.to_owned());
    ["--network".into(), "mainnet".into(), "--genesis".into(), genesis, "--data-dir".into(), home]
}
