//! Stored chains: made, checked, moved between directories, and synced over TLS, also across a kill.

mod support;

use std::path::Path;

use serde_json::Value;
use support::{Running, binary, bt2c_in, finish};

fn info(home: &Path) -> Value {
    bt2c_in(home, &["chain", "info", "--json"]).json()
}

/// Breaks a bit in the middle of the stored blocks.
fn damage_a_block(home: &Path) {
    let path = home.join("chain/blocks-000000.seg");
    let mut bytes = std::fs::read(&path).expect("the first segment exists");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).expect("it can be written");
}

#[test]
fn a_generated_chain_is_valid_and_moves_as_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    assert!(bt2c_in(&a, &["chain", "info"]).failed().contains("no chain"));
    bt2c_in(&a, &["chain", "generate", "--blocks", "20", "--txs", "3"]).ok();
    let generated = bt2c_in(&a, &["chain", "generate", "--blocks", "5", "--json"]).json();
    let made = info(&a);
    assert_eq!((&generated["height"], &generated["tip_hash"]), (&made["height"], &made["tip_hash"]));
    assert_eq!((&made["height"], &made["network"]), (&25.into(), &"devnet".into()));
    let verified = bt2c_in(&a, &["chain", "verify", "--json"]).json();
    assert_eq!((&verified["tip_hash"], &verified["transactions"]), (&made["tip_hash"], &60.into()));
    assert!(bt2c_in(&a, &["chain", "verify"]).ok().contains("every block is valid"));

    let file = dir.path().join("blocks.jsonl");
    let path = file.to_str().unwrap();
    assert!(bt2c_in(&a, &["chain", "export", path]).ok().contains("26 blocks"));
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().count(), 26);
    assert_eq!(bt2c_in(&a, &["chain", "export", "-"]).ok(), text);
    assert_eq!(bt2c_in(&a, &["chain", "export", path, "--json"]).json()["blocks"], 26);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    damage_a_block(&a);
    bt2c_in(&a, &["chain", "export", path]).failed();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text, "a failed export spares the last one");
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.iter().all(|path| path.is_dir() || *path == file), "{left:?}");
    assert!(bt2c_in(&b, &["chain", "import", path]).ok().contains("25 blocks stored, 1 were known"));
    assert_eq!(info(&b)["tip_hash"], made["tip_hash"]);
    assert!(bt2c_in(&b, &["chain", "import", path]).ok().contains("0 blocks stored, 26 were known"));
    let again = bt2c_in(&b, &["chain", "import", path, "--json"]).json();
    assert_eq!((&again["known"], &again["tip_hash"]), (&26.into(), &made["tip_hash"]));
}

#[test]
fn a_damaged_or_foreign_file_is_refused_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    let file = dir.path().join("blocks.jsonl");
    let path = file.to_str().unwrap();
    bt2c_in(&a, &["chain", "generate", "--blocks", "3"]).ok();
    bt2c_in(&a, &["chain", "export", path]).ok();
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    std::fs::write(&file, [lines[0], lines[1], lines[3]].join("\n")).unwrap();
    assert!(bt2c_in(&b, &["chain", "import", path]).failed().contains("line 3"));
    std::fs::write(&file, format!("{}\nnonsense\n", lines[0])).unwrap();
    assert!(bt2c_in(&b, &["chain", "import", path]).failed().contains("line 2"));
    assert!(bt2c_in(&b, &["chain", "generate", "--blocks", "99999999999"]).failed().contains("slots"));
}

#[test]
fn a_running_node_keeps_its_chain_to_itself_and_another_network_out() {
    let dir = tempfile::tempdir().unwrap();
    let node = Running::start(dir.path(), &[]);
    for action in [&["generate", "--blocks", "1"][..], &["info"], &["verify"]] {
        let line = bt2c_in(dir.path(), &[&["chain"], action].concat()).failed();
        assert!(line.contains("in use"), "{line}");
    }
    node.terminate();
    let line = bt2c_in(dir.path(), &["run", "--network", "testnet"]).failed();
    assert!(line.contains("belongs to devnet"), "{line}");
    let run = finish(binary().args(["chain", "info", "--network", "mainnet", "--data-dir"]).arg(dir.path()));
    assert!(run.failed().contains("belongs to devnet"));
}

#[test]
fn a_checkpoint_is_synced_to_and_a_wrong_one_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    bt2c_in(&a, &["chain", "generate", "--blocks", "300", "--txs", "1"]).ok();
    let made = info(&a);
    let (hash, source) = (made["tip_hash"].as_str().unwrap(), Running::start(&a, &[]));
    let right = format!("300:{hash}");
    let flags = ["--connect", &source.p2p_addr(), "--checkpoint", &right];
    let node = Running::start(&b, &flags);
    node.wait_until("/status", |status| status["tip_hash"] == made["tip_hash"]);
    node.terminate();
    assert_eq!(bt2c_in(&b, &["chain", "verify", "--json"]).json()["tip_hash"], made["tip_hash"]);
    let wrong = format!("299:{hash}");
    let run = ["run", "--network", "devnet", "--listen", "127.0.0.1:0", "--api", "off", "--checkpoint"];
    let line = bt2c_in(&b, &[&run[..], &[&wrong]].concat()).failed();
    assert!(line.contains(&wrong) && line.contains("contradicts the stored chain"), "{line}");
    let line =
        bt2c_in(&b, &[&run[..], &[&wrong, "--checkpoint", &format!("299:{}", "0".repeat(64))]].concat());
    assert!(line.failed().contains("two hashes at height 299"));
}
