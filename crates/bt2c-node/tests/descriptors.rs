//! A node that may open only so many files.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking, in their helpers too")]

mod support;

use std::{
    io::Read,
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
    let mut command = limited("ulimit -n 64", dir.path());
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
    let (api, p2p) = (node.api_addr(), node.p2p_addr());
    let open =
        |addr: &str, count| -> Vec<_> { (0..count).map(|_| TcpStream::connect(addr).unwrap()).collect() };
    let peers = open(&p2p, 40);
    let scripts = open(&api, 2);
    assert_eq!(node.get("/status")["height"], 0);
    // Two handshakes are under way; the others are refused.
    for mut refused in &peers[2..] {
        refused.set_read_timeout(Some(support::DEADLINE)).unwrap();
        match refused.read(&mut [0]) {
            Ok(read) => assert_eq!(read, 0),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
    let many = open(&api, 40);
    assert!(open_files(&node) < 64, "{}", open_files(&node));
    drop((peers, scripts, many));
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
