//! A node as a process: what it leaves in its directory, what it answers, how it ends.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking, in their helpers too")]

mod support;

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use support::{Running, bt2c, bt2c_in};

#[test]
fn a_node_says_where_it_is_and_cleans_up_after_itself() {
    let dir = tempfile::tempdir().unwrap();
    let node = Running::start(dir.path(), &["--node-id", "alice"]);
    let run = node.run_file();
    assert_eq!((&run["node_id"], &run["network"]), (&"alice".into(), &"devnet".into()));
    assert!(!node.p2p_addr().ends_with(":0") && !node.api_addr().ends_with(":0"));
    let status = bt2c_in(dir.path(), &["status", "--json"]).json();
    assert_eq!((&status["peer_id"], &status["height"]), (&run["peer_id"], &0.into()));
    assert_eq!(status["peers"], serde_json::json!({"inbound": 0, "outbound": 0}));
    assert!(bt2c_in(dir.path(), &["status"]).ok().contains("up to date"));
    let in_use =
        bt2c_in(dir.path(), &["run", "--network", "devnet", "--listen", "127.0.0.1:0", "--api", "off"]);
    assert!(in_use.failed().contains("in use"));
    let other = tempfile::tempdir().unwrap();
    let taken = ["run", "--network", "devnet", "--listen", &node.p2p_addr(), "--api", "off"];
    assert!(bt2c_in(other.path(), &taken).failed().contains("--listen"));
    let taken = ["run", "--network", "devnet", "--listen", "127.0.0.1:0", "--api", &node.api_addr()];
    assert!(bt2c_in(other.path(), &taken).failed().contains("--api"));
    assert!(!other.path().join("run.json").exists());
    assert_eq!(node.terminate().code(), Some(0));
    assert!(!dir.path().join("run.json").exists() && !dir.path().join("api.token").exists());
}

#[test]
fn a_killed_node_starts_again_as_itself() {
    let dir = tempfile::tempdir().unwrap();
    let node = Running::start(dir.path(), &[]);
    let before = node.run_file();
    node.kill();
    assert!(dir.path().join("run.json").exists());
    assert!(bt2c_in(dir.path(), &["status"]).failed().contains("no node answers"));
    let node = Running::start(dir.path(), &[]);
    assert_eq!(node.run_file()["peer_id"], before["peer_id"]);
}

#[test]
fn a_ban_outlives_a_kill_with_its_end_and_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let node = Running::start(dir.path(), &[]);
    bt2c_in(dir.path(), &["ban", "192.0.2.0/24", "--for", "2h", "--reason", "port scans"]).ok();
    let before = bt2c_in(dir.path(), &["bans", "--json"]).json();
    // It is written at once, but by another thread.
    let is_written = |_: &serde_json::Value| {
        std::fs::read_to_string(dir.path().join("bans.json")).is_ok_and(|bans| bans.contains("192.0.2.0/24"))
    };
    node.wait_until("/status", is_written);
    node.kill();
    let node = Running::start(dir.path(), &[]);
    assert_eq!(node.get("/bans"), before);
    assert!(bt2c_in(dir.path(), &["explain", "192.0.2.7"]).ok().contains("port scans"));
}

#[test]
fn two_nodes_are_connected_banned_and_parted_by_command() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let a = Running::start(dirs[0].path(), &[]);
    let b = Running::start(dirs[1].path(), &["--log", "debug"]);
    let b_id = b.run_file()["peer_id"].as_str().unwrap().to_owned();
    let connected = bt2c_in(dirs[0].path(), &["connect", &b.p2p_addr()]).ok();
    assert!(connected.contains(&b_id), "{connected}");
    let connected = bt2c_in(dirs[0].path(), &["connect", &b.p2p_addr(), "--json"]).json();
    assert_eq!(connected["peer_id"], b_id.as_str());
    let line = bt2c_in(dirs[0].path(), &["connect", &a.p2p_addr()]).failed();
    assert!(line.contains("is this node itself") && !line.contains("refused"), "{line}");
    let peers = bt2c_in(dirs[0].path(), &["peers", "--json"]).json();
    assert_eq!((&peers[0]["peer_id"], &peers[0]["direction"]), (&b_id.clone().into(), &"outbound".into()));
    assert!(bt2c_in(dirs[0].path(), &["peers"]).ok().contains(&b_id[..8]));
    assert!(bt2c_in(dirs[0].path(), &["peers", "--known"]).ok().contains(&b.p2p_addr()));
    bt2c_in(dirs[0].path(), &["disconnect", &b_id[..8]]).ok();
    b.wait_for("peer down");

    let ban = bt2c_in(dirs[0].path(), &["ban", &b_id, "--for", "2h", "--reason", "test"]).ok();
    assert!(ban.contains("is banned until"), "{ban}");
    let bans = bt2c_in(dirs[0].path(), &["bans", "--json"]).json();
    assert_eq!((&bans[0]["subject"], &bans[0]["reason"]), (&b_id.clone().into(), &"test".into()));
    let why = bt2c_in(dirs[0].path(), &["explain", &b_id, "--json"]).json();
    let decision = |name: &str| {
        let decisions = why["peer"]["decisions"].as_array().unwrap();
        decisions.iter().find(|decision| decision["decision"] == name).unwrap_or_else(|| panic!("{why}"))
    };
    assert_eq!(decision("banned")["rule"], "test");
    assert_eq!(decision("banned")["until"], bans[0]["until"]);
    assert!(decision("closed")["evidence"].as_str().is_some_and(|evidence| evidence.contains("connection")));
    let told = bt2c_in(dirs[0].path(), &["explain", &b_id]).ok();
    assert!(told.contains("banned until") && told.contains("by the operator"), "{told}");
    let span = bans[0]["until"].as_u64().unwrap() - bans[0]["since"].as_u64().unwrap();
    assert_eq!(span, 7200);
    bt2c_in(dirs[0].path(), &["unban", &b_id]).ok();
    assert!(bt2c_in(dirs[0].path(), &["unban", &b_id]).failed().contains("not banned"));
    bt2c_in(dirs[0].path(), &["ban", "192.0.2.0/24"]).ok();
    bt2c_in(dirs[0].path(), &["unban", "192.0.2.0/24"]).ok();
    bt2c_in(dirs[0].path(), &["allow", "127.0.0.1"]).ok();
    assert!(bt2c_in(dirs[0].path(), &["ban", "127.0.0.1"]).failed().contains("allow-listed"));
    bt2c_in(dirs[0].path(), &["disallow", "127.0.0.1"]).ok();
    drop((a, b));
}

#[test]
fn blocks_and_strangers_are_explained_and_nonsense_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let node = Running::start(dir.path(), &[]);
    let status = node.get("/status");
    let genesis = status["genesis_hash"].as_str().unwrap();
    for name in ["0", genesis] {
        let why = bt2c_in(dir.path(), &["explain", name, "--json"]).json();
        assert_eq!((&why["block"]["hash"], &why["block"]["on_main_chain"]), (&genesis.into(), &true.into()));
    }
    assert!(bt2c_in(dir.path(), &["explain", "0"]).ok().contains("on the main chain"));
    let stranger = bt2c_in(dir.path(), &["explain", "192.0.2.0/24"]).ok();
    assert!(
        stranger.contains("neither connected nor banned") && stranger.contains("nothing was decided"),
        "{stranger}"
    );
    for nonsense in ["", "no such thing", "example.org", "1.2.3.4/33", "99999999"] {
        let error = bt2c_in(dir.path(), &["explain", nonsense]).failed();
        assert!(
            error.contains("hash or height") || error.contains("no block at that height"),
            "{nonsense}: {error}"
        );
    }
}

#[test]
fn a_transaction_goes_from_the_command_line_into_the_pool() {
    let dir = tempfile::tempdir().unwrap();
    let node = Running::start(dir.path(), &[]);
    let to = bt2c_in(dir.path(), &["id", "--json"]).json()["address"].as_str().unwrap().to_owned();
    let sent = bt2c_in(dir.path(), &["tx", "send", "--to", &to, "--amount", "5", "--json"]).json();
    assert_eq!(sent["hash"].as_str().unwrap().len(), 64);
    let published = ["tx", "send", "--to", &to, "--amount", "5", "--key", "devnet:1"];
    assert!(bt2c_in(dir.path(), &published).ok().starts_with("sent "));
    assert_eq!(node.get("/status")["pending_transactions"], 2);
    let file = dir.path().join("tx.json");
    std::fs::write(&file, "{}").unwrap();
    let line = bt2c_in(dir.path(), &["tx", "submit", file.to_str().unwrap()]).failed();
    assert!(line.contains("tx.json"), "{line}");
}

#[test]
fn the_api_reads_for_all_changes_for_the_token_and_knows_its_hosts() {
    let dir = tempfile::tempdir().unwrap();
    let node = Running::start(dir.path(), &[]);
    let api = node.api_addr();
    assert_eq!(request(&api, "GET /status", "localhost", "").0, 200);
    assert_eq!(request(&api, "GET /status", "evil.example", "").0, 403);
    let (code, body) = request(&api, "GET /nowhere", "localhost", "");
    assert!(code == 404 && body.contains("\"error\""), "{code} {body}");
    assert_eq!(request(&api, "DELETE /status", "localhost", "").0, 405);
    assert_eq!(request(&api, "POST /bans", "localhost", "").0, 401);
    assert_eq!(request(&api, "POST /bans", "localhost", "Authorization: Bearer nonsense\r\n").0, 401);
    let token = std::fs::read_to_string(dir.path().join("api.token")).unwrap();
    let authorised = format!("Authorization: Bearer {}\r\n", token.trim());
    let (code, body) = request(&api, "POST /bans", "localhost", &authorised);
    assert!(code == 400 && body.contains("\"error\""), "{code} {body}");
    let too_long = format!("{authorised}Content-Length: 99999999\r\n");
    assert_eq!(request(&api, "POST /transactions", "localhost", &too_long).0, 413);
    assert_eq!(request(&api, "DELETE /peers/xyz", "localhost", &authorised).0, 400);
    let genesis = node.get("/blocks/0");
    assert_eq!(node.get(&format!("/blocks/{}", genesis["hash"].as_str().unwrap())), genesis);
    assert_eq!(request(&api, "GET /blocks/7", "localhost", "").0, 404);
    assert_eq!(request(&api, "GET /blocks/-1", "localhost", "").0, 400);
    let (_, metrics) = request(&api, "GET /metrics", "localhost", "");
    for name in [
        "bt2c_node_uptime_seconds",
        "bt2c_sync_height",
        "process_resident_memory_bytes",
        "bt2c_p2p_bytes_sent",
    ] {
        assert!(metrics.contains(name), "{name} in {metrics}");
    }
    let (code, page) = request(&api, "GET /", "127.0.0.1", "");
    assert!(
        code == 200 && page.contains("<title>BT2C node</title>") && page.contains("content-security-policy")
    );
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(dir.path().join("api.token")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn events_are_streamed_and_end_with_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let node = Running::start(dir.path(), &[]);
    let mut stream = TcpStream::connect(node.api_addr()).unwrap();
    stream.set_read_timeout(Some(support::DEADLINE)).unwrap();
    write!(stream, "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut seen = String::new();
    read_until(&mut stream, &mut seen, "text/event-stream");
    bt2c_in(dir.path(), &["ban", "192.0.2.9"]).ok();
    read_until(&mut stream, &mut seen, "event: ban");
    read_until(&mut stream, &mut seen, "192.0.2.9");
    assert_eq!(node.terminate().code(), Some(0));
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
}

#[test]
fn a_devnet_ends_on_one_tip() {
    let args = ["devnet", "--nodes", "3", "--block-time", "1s", "--duration", "8s", "--api", "127.0.0.1:0"];
    let text = bt2c(&args).ok();
    assert!(text.contains("node 3 up") && text.contains("met"), "{text}");
    assert!(text.contains("block 1") && text.contains("on all 3 nodes after"), "{text}");
    assert!(text.contains("all nodes are on the same tip"), "{text}");
}

fn read_until(stream: &mut TcpStream, seen: &mut String, text: &str) {
    let mut buffer = [0; 4096];
    while !seen.contains(text) {
        let read = stream.read(&mut buffer).unwrap();
        assert_ne!(read, 0, "the stream ended before {text:?}: {seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
}

/// A request with exactly these headers; status, and headers and body together.
fn request(api: &str, what: &str, host: &str, headers: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(api).unwrap();
    stream.set_read_timeout(Some(support::DEADLINE)).unwrap();
    write!(stream, "{what} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let code = answer.split(' ').nth(1).expect("a status line").parse().expect("a status");
    (code, answer)
}
