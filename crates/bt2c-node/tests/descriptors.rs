//! A node that may open only so many files.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking, in their helpers too")]

mod support;

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
};

use support::{Running, binary, finish};

/// `run` in a shell that has set a limit first.
fn limited(limit: &str, home: &Path) -> Command {
    let node = binary();
    let mut shell = Command::new("sh");
    let script = format!("{limit}; exec \"$0\" \"$@\"");
    shell.args(["-c", &script]).arg(node.get_program()).stdin(Stdio::null());
    for (name, value) in node.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.args(["run", "--network", "devnet", "--listen", "127.0.0.1:0", "--api", "127.0.0.1:0"]);
    shell.arg("--data-dir").arg(home);
    shell
}

/// What the system lets this node open at once.
fn allowed(node: &Running) -> u64 {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", node.run_file()["pid"])).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().nth(3).unwrap().parse().unwrap()
}

fn open_files(node: &Running) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", node.run_file()["pid"])).unwrap().count()
}

#[test]
fn a_low_limit_means_fewer_slots_for_peers_and_for_the_api_and_a_warning_that_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("patient.toml");
    std::fs::write(&config, "tls_timeout = \"50s\"\nconnection_timeout = \"50s\"\n").unwrap();
    let mut command = limited("ulimit -n 64", dir.path());
    // Long enough for what is asserted about handshakes under way to hold on a slow machine.
    command.args(["--config", config.to_str().unwrap()]);
    let node = Running::spawn(&mut command, dir.path());
    let warning = node.before.iter().find(|line| line.contains("file descriptors")).unwrap();
    assert!(warning.contains("WARN"), "{warning}");
    for part in [
        "279 file descriptors are needed and 64 allowed",
        "max_connections = 6, pending_total = 2, api_connections = 3",
        "`ulimit -n 279`",
        "LimitNOFILE=279",
    ] {
        assert!(warning.contains(part), "{part} in {warning}");
    }
    // More of both kinds than there are descriptors; whoever has no place waits, or is closed.
    let (api, p2p, before) = (node.api_addr(), node.p2p_addr(), open_files(&node));
    let open = |addr: &str, count| -> Vec<_> {
        let stream = || {
            let stream = TcpStream::connect(addr).unwrap();
            stream.set_read_timeout(Some(support::DEADLINE)).unwrap();
            stream
        };
        (0..count).map(|_| stream()).collect()
    };
    let peers = open(&p2p, 40);
    for mut refused in &peers[2..] {
        match refused.read(&mut [0]) {
            Ok(read) => assert_eq!(read, 0),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
    for mut under_way in &peers[..2] {
        under_way.set_nonblocking(true).unwrap();
        assert_eq!(under_way.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
    let mut scripts = open(&api, 40);
    for script in &mut scripts {
        script.write_all(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    }
    for served in &mut scripts[..3] {
        served.read_exact(&mut [0]).unwrap();
    }
    let now = open_files(&node);
    assert!(now <= before + 2 + 3, "{now} open files, {before} before");
    drop((peers, scripts));
    assert_eq!(node.get("/status")["height"], 0);
    let logged = node.logged();
    assert!(!logged.iter().any(|line| line.contains("accept failed")), "{logged:?}");
    assert_eq!(node.terminate().code(), Some(0));
}

#[test]
fn a_soft_limit_is_raised_to_what_is_needed_without_a_word() {
    let dir = tempfile::tempdir().unwrap();
    let node = Running::spawn(&mut limited("ulimit -Sn 64", dir.path()), dir.path());
    assert_eq!(allowed(&node), 279);
    assert!(node.before.iter().all(|line| !line.contains("descriptors")), "{:?}", node.before);
}

#[test]
fn a_limit_below_what_any_node_needs_stops_the_start_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let line = finish(&mut limited("ulimit -n 32", dir.path())).failed();
    assert!(line.contains("32 file descriptors are allowed") && line.contains("fewer than 59"), "{line}");
    assert!(line.contains("`ulimit -n 279`") && line.contains("LimitNOFILE=279"), "{line}");
}
