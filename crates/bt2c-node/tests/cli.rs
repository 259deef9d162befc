//! The commands that need no running node: usage, configuration, identity, genesis.

mod support;

use support::{binary, bt2c, bt2c_in, finish};

#[test]
fn bad_usage_ends_with_two_and_help_with_zero() {
    for args in [
        &["nonsense"][..],
        &[],
        &["run", "--network", "moonnet"],
        &["run", "--listen", "nowhere"],
        &["run", "--key", "x.pem"],
        &["run", "--produce", "--key", "devnet:5"],
        &["devnet", "--block-time", "500ms"],
        &["ban", "not-a-subject"],
        &["ban", "192.0.2.1", "--for", "0s"],
        &["ban", "192.0.2.1", "--for", "36526d"],
        &["tx", "send", "--amount", "1"],
        &["chain", "generate"],
        &["genesis", "new", "--network", "testnet"],
    ] {
        let outcome = bt2c(args);
        assert_eq!(outcome.code, 2, "{args:?}: {}", outcome.stderr);
        assert!(!outcome.stderr.is_empty(), "{args:?}");
    }
    for flag in ["--listen", "--external-addr", "--api"] {
        let outcome = bt2c(&["run", flag, "8338"]);
        assert!(outcome.code == 2 && outcome.stderr.contains("127.0.0.1:"), "{}", outcome.stderr);
    }
    for args in [&["--help"][..], &["run", "--help"], &["chain", "generate", "--help"], &["--version"]] {
        assert!(!bt2c(args).ok().is_empty(), "{args:?}");
    }
}

#[test]
fn a_configuration_is_checked_with_its_line_and_the_nearest_key() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    let path = file.to_str().unwrap();
    std::fs::write(&file, "network = \"devnet\"\nmax_conections = 7\n").unwrap();
    let line = bt2c(&["config", "check", path]).failed();
    assert!(line.contains("config.toml:2:") && line.contains("\"max_connections\""), "{line}");
    std::fs::write(&file, "ping_interval = 30\n").unwrap();
    assert!(bt2c(&["config", "check", path]).failed().contains("\"30s\""));
    std::fs::write(&file, "silence_timeout = \"5s\"\n").unwrap();
    assert!(bt2c(&["config", "check", path]).failed().contains("ping_interval"));
    std::fs::write(&file, "ping_interval = \"20s\"\n").unwrap();
    assert!(bt2c(&["config", "check", path]).ok().contains("valid"));
    let checked = bt2c(&["config", "check", path, "--json"]).json();
    assert_eq!((&checked["file"], &checked["network"]), (&path.into(), &"testnet".into()));
    for (text, clue) in [
        ("log = \"info,,=\"", "log filter"),
        ("external_addr = \"0.0.0.0:8337\"", "external_addr"),
        ("external_addr = \"192.0.2.1:0\"", "external_addr"),
        ("genesis = \"/nowhere.json\"", "/nowhere.json"),
    ] {
        std::fs::write(&file, text).unwrap();
        let line = bt2c(&["config", "check", path]).failed();
        assert!(line.contains(clue), "{line}");
    }
    assert!(bt2c(&["config", "check", "/nowhere.toml"]).failed().contains("/nowhere.toml"));
}

#[test]
fn the_printed_defaults_pass_the_check() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    for network in ["mainnet", "testnet", "devnet"] {
        std::fs::write(&file, bt2c(&["config", "print-default", "--network", network]).ok()).unwrap();
        assert!(bt2c(&["config", "check", file.to_str().unwrap()]).ok().contains(network));
    }
}

#[test]
fn wrong_configuration_stops_a_start_wherever_it_comes_from() {
    let dir = tempfile::tempdir().unwrap();
    let outcome = finish(binary().args(["run", "--data-dir"]).arg(dir.path()).env("BT2C_PING_INTERVL", "3s"));
    let line = outcome.failed();
    assert!(line.contains("BT2C_PING_INTERVL") && line.contains("\"ping_interval\""), "{line}");
    std::fs::write(dir.path().join("config.toml"), "nonsense = 1\n").unwrap();
    assert!(bt2c_in(dir.path(), &["run"]).failed().contains("config.toml:1:"));
}

#[test]
fn an_identity_is_made_once_and_damage_is_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let first = bt2c_in(dir.path(), &["id", "--json"]).json();
    assert_eq!(first["peer_id"].as_str().unwrap().len(), 64);
    assert!(first["address"].as_str().unwrap().starts_with("bt2c_"));
    assert_eq!(bt2c_in(dir.path(), &["id", "--json"]).json(), first);
    let text = bt2c_in(dir.path(), &["id"]).ok();
    assert!(text.contains(first["peer_id"].as_str().unwrap()) && text.contains("expires 20"), "{text}");
    let key = dir.path().join("identity.key");
    std::fs::write(&key, "garbage").unwrap();
    assert!(bt2c_in(dir.path(), &["id"]).failed().contains("identity.key"));
    assert_eq!(std::fs::read_to_string(&key).unwrap(), "garbage");
}

#[test]
fn a_genesis_is_made_from_public_keys_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    let mut keys = Vec::new();
    for home in [&a, &b] {
        let file = home.with_extension("pub");
        std::fs::write(&file, bt2c_in(home, &["id", "--public-key"]).ok()).unwrap();
        keys.push(file.display().to_string());
    }
    let file = dir.path().join("genesis.json");
    let path = file.to_str().unwrap();
    let second = format!("{}:3", keys[1]);
    let new = ["genesis", "new", "--network", "testnet", "--time", "1767225600", "--out", path];
    let made = bt2c(&[&new[..], &["--validator", &keys[0], "--validator", &second]].concat()).ok();
    let shown = bt2c_in(&a, &["genesis", "show", "--genesis", path, "--json"]).json();
    assert_eq!((&shown["network"], &shown["block_time_ms"]), (&"testnet".into(), &300_000.into()));
    assert_eq!((&shown["timestamp"], &shown["validators"][1]["weight"]), (&1_767_225_600.into(), &3.into()));
    assert!(made.contains(shown["hash"].as_str().unwrap()));
    let other = ["genesis", "new", "--network", "testnet", "--validator", &keys[0], "--out", path];
    let before = std::fs::read(&file).unwrap();
    assert!(bt2c(&other).failed().contains("--force"));
    assert_eq!(std::fs::read(&file).unwrap(), before);
    let replaced = bt2c(&[&other[..], &["--force", "--json"]].concat()).json();
    assert_eq!((&replaced["file"], &replaced["network"]), (&path.into(), &"testnet".into()));
    assert_ne!(std::fs::read(&file).unwrap(), before);
    std::fs::write(&file, before).unwrap();
    let table = bt2c_in(&a, &["genesis", "show", "--genesis", path]).ok();
    assert!(table.contains("5m") && table.contains("2026-01-01 00:00:00 UTC"), "{table}");
    assert!(
        bt2c(&["genesis", "new", "--network", "testnet", "--validator", path])
            .failed()
            .contains("no public key")
    );
}

#[test]
fn the_devnet_is_built_in_and_its_keys_stay_there() {
    let dir = tempfile::tempdir().unwrap();
    let shown = bt2c_in(dir.path(), &["genesis", "show", "--network", "devnet", "--json"]).json();
    assert_eq!(shown["validators"].as_array().unwrap().len(), 4);
    let file = dir.path().join("stolen.json");
    let stolen = shown.to_string().replace("devnet", "mainnet").replace(shown["hash"].as_str().unwrap(), "");
    let stolen = stolen.replace(",\"hash\":\"\"", "").replace("\"hash\":\"\",", "");
    std::fs::write(&file, stolen).unwrap();
    let args = ["genesis", "show", "--network", "mainnet", "--genesis", file.to_str().unwrap()];
    assert!(bt2c_in(dir.path(), &args).failed().contains("published devnet keys"));
    for network in ["mainnet", "testnet"] {
        let line = bt2c_in(dir.path(), &["run", "--network", network]).failed();
        assert!(line.contains("--genesis") && line.contains("genesis new"), "{line}");
    }
    assert!(bt2c_in(dir.path(), &["run"]).failed().contains("testnet, the network unless --network names"));
}

#[test]
fn commands_for_a_running_node_say_that_there_is_none() {
    let dir = tempfile::tempdir().unwrap();
    for args in [&["status"][..], &["peers"], &["bans"], &["connect", "127.0.0.1:1"], &["ban", "192.0.2.1"]] {
        let line = bt2c_in(dir.path(), args).failed();
        assert!(line.contains("no node is running") && line.contains("bt2c-node run"), "{line}");
    }
    let line = bt2c(&["status", "--api", "127.0.0.1:1"]).failed();
    assert!(line.contains("no node answers at 127.0.0.1:1"), "{line}");
}

#[test]
fn errors_tell_each_cause_once() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let run = ["run", "--network", "devnet", "--api", "off"];
    let damaged = tempfile::tempdir().unwrap();
    std::fs::write(damaged.path().join("bans.json"), "garbage").unwrap();
    for (line, clue) in [
        (bt2c(&["config", "check", "/nowhere.toml"]), "/nowhere.toml"),
        (bt2c_in(dir.path(), &[&run[..], &["--config", "/nowhere.toml"]].concat()), "/nowhere.toml"),
        (bt2c_in(dir.path(), &[&run[..], &["--listen", &addr]].concat()), "--listen"),
        (bt2c_in(damaged.path(), &[&run[..], &["--listen", "127.0.0.1:0"]].concat()), "bans.json"),
        (bt2c_in(dir.path(), &[&run[..], &["--genesis", "/nowhere.json"]].concat()), "/nowhere.json"),
    ] {
        let line = line.failed();
        assert!(line.contains(clue), "{line}");
        let mut parts: Vec<_> = line.trim_end().split(": ").collect();
        parts.sort_unstable();
        let all = parts.len();
        parts.dedup();
        assert_eq!(parts.len(), all, "something is told twice: {line}");
    }
}

#[test]
fn keys_that_others_can_read_and_published_keys_elsewhere_are_refused() {
    use std::os::unix::fs::PermissionsExt;

    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    bt2c_in(&home, &["id"]).ok();
    let key = dir.path().join("key.pem");
    std::fs::copy(home.join("identity.key"), &key).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let run = ["run", "--network", "devnet", "--listen", "127.0.0.1:0", "--api", "off", "--produce", "--key"];
    let line = bt2c_in(&home, &[&run[..], &[key.to_str().unwrap()]].concat()).failed();
    assert!(line.contains("key.pem") && line.contains("chmod 600"), "{line}");

    let (public, genesis) = (dir.path().join("a.pub"), dir.path().join("genesis.json"));
    std::fs::write(&public, bt2c_in(&home, &["id", "--public-key"]).ok()).unwrap();
    let new = ["genesis", "new", "--network", "testnet", "--validator", public.to_str().unwrap(), "--out"];
    bt2c(&[&new[..], &[genesis.to_str().unwrap()]].concat()).ok();
    let run =
        ["run", "--listen", "127.0.0.1:0", "--api", "off", "--produce", "--key", "devnet:1", "--genesis"];
    let other = dir.path().join("other");
    let line = bt2c_in(&other, &[&run[..], &[genesis.to_str().unwrap()]].concat()).failed();
    assert!(line.contains("published") && line.contains("testnet"), "{line}");
}
