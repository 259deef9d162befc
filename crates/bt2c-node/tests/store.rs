//! The store of a real process: killed again and again, damaged, pruned, on a full disk.

mod support;

use std::{
    fs::{self, OpenOptions},
    hash::{BuildHasher, RandomState},
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::Value;
use support::{Outcome, Running, binary, bt2c_in, finish};

/// Files of blocks as small as they may be, so that a short chain has several.
const SMALL: (&str, &str) = ("BT2C_SEGMENT_BYTES", "65536");

fn small(home: &Path, args: &[&str]) -> Outcome {
    finish(binary().env(SMALL.0, SMALL.1).args(args).arg("--data-dir").arg(home))
}

/// Makes a chain in `home` and gives its lines, genesis block first.
fn chain_of(home: &Path, blocks: u64) -> Vec<String> {
    small(home, &["chain", "generate", "--blocks", &blocks.to_string()]).ok();
    let text = small(home, &["chain", "export", "-"]).ok();
    text.lines().map(|line| format!("{line}\n")).collect()
}

fn hash_of(line: &str) -> Value {
    serde_json::from_str::<Value>(line).expect("a block")["hash"].clone()
}

/// Begins a chain that has the genesis block alone.
fn begin(home: &Path, genesis: &str) {
    fs::create_dir_all(home).expect("it can be made");
    let file = home.join("genesis.jsonl");
    fs::write(&file, genesis).expect("it can be written");
    bt2c_in(home, &["chain", "import", file.to_str().expect("a plain path")]).ok();
}

/// Bytes of blocks on disk.
fn body_bytes(home: &Path) -> u64 {
    let chain = fs::read_dir(home.join("chain")).expect("there is a chain");
    let segments = chain.map(|entry| entry.expect("it can be listed").path());
    let segments = segments.filter(|path| path.extension().is_some_and(|extension| extension == "seg"));
    segments.filter_map(|path| fs::metadata(path).ok()).map(|metadata| metadata.len()).sum()
}

/// Kills a process when it has begun to store for this many times, or has all these bytes; says whether it was still
/// running.
fn kill_when_it_stores(process: &mut Child, home: &Path, times: u32, all: u64) -> bool {
    let (mut seen, mut left, start) = (body_bytes(home), times, now());
    while left > 0 && seen < all && process.try_wait().expect("it is our child").is_none() {
        let bytes = body_bytes(home);
        left -= u32::from(bytes > seen);
        seen = bytes;
        assert!(now() - start < support::DEADLINE, "{seen} bytes stored, and no more come");
        std::thread::yield_now();
    }
    process.kill().expect("it is our child");
    process.wait().expect("it ends").code().is_none()
}

#[expect(clippy::disallowed_methods, reason = "a real process is waited for")]
fn now() -> Instant {
    Instant::now()
}

fn import_and_kill(home: &Path, lines: &[String], times: u32) -> bool {
    let mut import = binary()
        .args(["chain", "import", "-", "--data-dir"])
        .arg(home)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    let mut input = import.stdin.take().expect("it is piped");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // The pipe breaks when the process is killed.
            let _ = lines.iter().try_for_each(|line| input.write_all(line.as_bytes()));
        });
        kill_when_it_stores(&mut import, home, times, u64::MAX)
    })
}

/// Kills fifty processes that store a chain of these blocks: `kill` starts one, given what it lacks, ends it when it has
/// begun to store so many times, and says whether it still ran. Returns the directories, the last of them with a part.
fn fifty_kills(dir: &Path, lines: &[String], kill: impl Fn(&Path, &[String], u32) -> bool) -> Vec<PathBuf> {
    let seed = RandomState::new().hash_one("kills");
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut homes, mut height) = (Vec::new(), lines.len());
    let (mut half_way, mut half_written) = (0, 0);
    for round in 0..50 {
        if height + 1 >= lines.len() {
            height = 0;
            homes.push(dir.join(homes.len().to_string()));
            begin(&homes[homes.len() - 1], &lines[0]);
        }
        let home = &homes[homes.len() - 1];
        let before = body_bytes(home);
        let killed = kill(home, &lines[height + 1..], rng.random_range(0..=3));
        let written = body_bytes(home) > before;
        let info = bt2c_in(home, &["chain", "info", "--json"]).json();
        let found =
            info["height"].as_u64().and_then(|height| usize::try_from(height).ok()).expect("a height");
        assert!(found >= height, "round {round}: {found}, and {height} was there");
        assert_eq!(info["tip_hash"], hash_of(&lines[found]), "round {round}");
        half_way += usize::from(killed && found > height);
        half_written += usize::from(killed && written && found == height);
        height = found;
    }
    println!("{} chains; {half_way} killed half-way, {half_written} in their first batch", homes.len());
    assert!(half_way + half_written >= 20, "only {half_way} and {half_written}");
    homes
}

fn assert_whole(home: &Path, lines: &[String]) {
    let verified = bt2c_in(home, &["chain", "verify", "--json"]).json();
    let tip = lines.len() - 1;
    assert_eq!((&verified["height"], &verified["tip_hash"]), (&tip.into(), &hash_of(&lines[tip])));
}

#[test]
fn fifty_kills_lose_nothing_that_was_stored() {
    let dir = tempfile::tempdir().unwrap();
    let lines = chain_of(&dir.path().join("source"), 4000);
    let whole = dir.path().join("whole.jsonl");
    fs::write(&whole, lines.concat()).unwrap();
    for home in fifty_kills(dir.path(), &lines, import_and_kill) {
        bt2c_in(&home, &["chain", "import", whole.to_str().unwrap()]).ok();
        assert_whole(&home, &lines);
    }
}

#[test]
fn a_node_killed_fifty_times_syncs_on_and_ends_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    let lines = chain_of(&source, 4000);
    let all = body_bytes(&source);
    let source = Running::start(&source, &[]);
    let connect = ["--connect", &source.p2p_addr()];
    let homes = fifty_kills(dir.path(), &lines, |home, _, times| {
        kill_when_it_stores(&mut Running::start(home, &connect).child, home, times, all)
    });
    for home in homes {
        let node = Running::start(&home, &connect);
        node.wait_until("/status", |status| status["height"] == 4000);
        assert_eq!(node.terminate().code(), Some(0));
        assert_whole(&home, &lines);
    }
}

/// A segment's records: where each begins, and the block's height and hash.
fn records(path: &Path) -> Vec<(u64, Value, Value)> {
    let bytes = fs::read(path).expect("the segment is there");
    let (mut at, mut records) = (0, Vec::new());
    while at < bytes.len() {
        let len = u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let end = at + 8 + usize::try_from(len).expect("it fits");
        let block: Value = serde_json::from_slice(&bytes[at + 8..end]).expect("a block");
        records.push((at as u64, block["height"].clone(), block["hash"].clone()));
        at = end;
    }
    records
}

#[test]
fn a_broken_byte_anywhere_is_named_by_its_block_file_and_place() {
    let dir = tempfile::tempdir().unwrap();
    let seed = RandomState::new().hash_one("damage");
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    chain_of(dir.path(), 200);
    let mut segments: Vec<_> =
        fs::read_dir(dir.path().join("chain")).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    segments.sort();
    assert!(segments.len() > 1);
    for path in &segments {
        let (records, len) = (records(path), fs::metadata(path).unwrap().len());
        for at in [0, len - 1, rng.random_range(0..len)] {
            let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 4], at).unwrap();
            let line = small(dir.path(), &["chain", "verify"]).failed();
            let (offset, height, hash) = records.iter().rfind(|(offset, ..)| *offset <= at).unwrap();
            let named = format!("block {height} {}", hash.as_str().unwrap());
            let place = format!("{} at byte {offset}", path.display());
            assert!(line.contains(&named) && line.contains(&place), "byte {at}: {line}");
            file.write_all_at(&byte, at).unwrap();
        }
    }
    assert!(small(dir.path(), &["chain", "verify"]).ok().contains("every block is valid"));
}

#[test]
fn a_running_node_reads_its_chain_again_beside_its_peers_and_names_what_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    let lines = chain_of(&a, 1200);
    let source = Running::start(&a, &[]);
    let node = Running::start(&b, &["--connect", &source.p2p_addr()]);
    node.wait_until("/status", |status| status["height"] == 1200);
    let peer = &source.get("/status")["peer_id"];
    let view = bt2c_in(&b, &["verify", "--json"]).json();
    assert_eq!((&view["height"], &view["tip_hash"]), (&1200.into(), &hash_of(&lines[1200])));
    assert_eq!(view["agreeing"], serde_json::json!([peer]), "{view}");
    assert_eq!((&view["ahead"], &view["differing"]), (&serde_json::json!([]), &serde_json::json!([])));
    assert!(bt2c_in(&b, &["verify"]).ok().contains("every block is whole up to"));
    // As a failing disk would, under the running node.
    let path = b.join("chain/blocks-000000.seg");
    let (offset, height, hash) = records(&path).swap_remove(700);
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset + 100).unwrap();
    file.write_all_at(&[byte[0] ^ 4], offset + 100).unwrap();
    let line = bt2c_in(&b, &["verify"]).failed();
    assert!(line.contains(&format!("block {height} {}", hash.as_str().unwrap())), "{line}");
    assert!(line.contains(&format!("{} at byte {offset}", path.display())), "{line}");
}

#[test]
fn old_blocks_go_when_asked_and_the_rest_is_served_checked_and_exported() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    let lines = chain_of(&a, 400);
    assert!(small(&a, &["chain", "verify"]).ok().contains("every block is valid"));
    let pruned = small(&a, &["chain", "prune", "--keep", "128KiB", "--json"]).json();
    let first = pruned["first_block"].as_u64().unwrap();
    assert!(pruned["removed_files"].as_u64().unwrap() > 0 && first > 100 && first <= 300, "{pruned}");
    assert_eq!(small(&a, &["chain", "info", "--json"]).json()["first_block"], first);
    let verified = small(&a, &["chain", "verify"]).ok();
    assert!(verified.contains(&format!("every block from {first} on")), "{verified}");

    let file = dir.path().join("blocks.jsonl");
    let path = file.to_str().unwrap();
    let exported = small(&a, &["chain", "export", path]).ok();
    assert!(exported.contains(&format!("from {first} on")), "{exported}");
    assert_eq!(fs::read_to_string(&file).unwrap(), lines[usize::try_from(first).unwrap()..].concat());
    assert!(bt2c_in(&b, &["chain", "import", path]).failed().contains("line 1"));

    // The index is lost: it is made anew from what is left.
    fs::remove_file(a.join("chain/index.redb")).unwrap();
    let info = small(&a, &["chain", "info", "--json"]).json();
    assert_eq!((&info["height"], &info["first_block"]), (&400.into(), &first.into()));

    let node = Running::start(&a, &[]);
    let status = node.get("/status");
    assert_eq!((&status["height"], &status["first_block"]), (&400.into(), &first.into()));
    for gone in ["/blocks/1".to_owned(), format!("/blocks/{}", hash_of(&lines[1]).as_str().unwrap())] {
        let url = format!("http://{}{gone}", node.api_addr());
        let answer = ureq::get(&url).call();
        assert!(matches!(answer, Err(ureq::Error::StatusCode(410))), "{gone}: {answer:?}");
    }
    assert_eq!(
        node.get(&format!("/blocks/{first}"))["hash"],
        hash_of(&lines[usize::try_from(first).unwrap()])
    );
    assert_eq!(node.terminate().code(), Some(0));
}

#[test]
fn a_fresh_node_says_that_its_only_peer_has_pruned_what_it_lacks_and_syncs_from_another() {
    let dir = tempfile::tempdir().unwrap();
    let (pruned, whole, fresh) =
        (dir.path().join("pruned"), dir.path().join("whole"), dir.path().join("fresh"));
    let lines = chain_of(&pruned, 400);
    small(&pruned, &["chain", "prune", "--keep", "128KiB"]).ok();
    let file = dir.path().join("blocks.jsonl");
    fs::write(&file, lines.concat()).unwrap();
    bt2c_in(&whole, &["chain", "import", file.to_str().unwrap()]).ok();
    let (pruned, whole) = (Running::start(&pruned, &[]), Running::start(&whole, &[]));
    let node = Running::start(&fresh, &["--connect", &pruned.p2p_addr()]);
    node.wait_until("/status", |status| status["slowed_by"] == "peers" && status["syncing"] == true);
    assert_eq!(node.get("/status")["height"], 0);
    bt2c_in(&fresh, &["connect", &whole.p2p_addr()]).ok();
    node.wait_until("/status", |status| status["height"] == 400 && status["syncing"] == false);
    assert_eq!(node.get("/bans"), serde_json::json!([]));
}

#[test]
fn a_running_node_prunes_as_it_is_configured() {
    let dir = tempfile::tempdir().unwrap();
    chain_of(dir.path(), 400);
    let mut command = Running::command(dir.path());
    command.env(SMALL.0, SMALL.1).env("BT2C_PRUNE_BYTES", "131072");
    let node = Running::spawn(&mut command, dir.path());
    assert!(node.get("/status")["first_block"].as_u64().unwrap() > 100);
    drop(node);
    let too_little = finish(command.env("BT2C_PRUNE_BYTES", "100000")).failed();
    assert!(too_little.contains("prune_bytes 100000 is below"), "{too_little}");
}

/// A command that runs a script with a file system of its own, its arguments the binary and `args`.
fn with_mounts(script: &str, args: &[&Path]) -> Command {
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-ec", script, "sh", env!("CARGO_BIN_EXE_bt2c-node")]).args(args);
    command
}

/// Whether this machine lets us have a small file system, for which a namespace of one's own is needed.
fn can_mount(dir: &Path) -> bool {
    let tried = with_mounts(r#"mount -t tmpfs -o size=1m tmpfs "$2""#, &[dir]).output();
    let can = tried.is_ok_and(|output| output.status.success());
    if !can {
        println!("not tried: no file system can be mounted here");
    }
    can
}

#[test]
fn a_node_on_a_full_disk_shows_it_serves_on_and_goes_on_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    fs::create_dir_all(b.join("chain")).unwrap();
    if !can_mount(&b) {
        return;
    }
    let lines = chain_of(&a, 6000);
    let source = Running::start(&a, &[]);
    let (room, addr) = (dir.path().join("room"), source.p2p_addr());
    let script = r#"
        mount -t tmpfs -o size=3m tmpfs "$2/chain"
        (until [ -e "$3" ]; do sleep 0.1; done; mount -o remount,size=100m "$2/chain") &
        exec "$1" run --network devnet --listen 127.0.0.1:0 --api 127.0.0.1:0 --data-dir "$2" --connect "$4"
    "#;
    let node = Running::spawn(&mut with_mounts(script, &[&b, &room, Path::new(&addr)]), &b);
    let line = node.wait_for("blocks cannot be stored");
    assert!(line.contains("No space left on device"), "{line}");
    node.wait_until("/status", |status| status["store_error"].is_string());
    assert!(bt2c_in(&b, &["status"]).ok().contains("cannot store"));
    let height = node.get("/status")["height"].as_u64().unwrap();
    assert!(height > 0 && height < 6000, "{height}");
    for held in [1, height] {
        let hash = hash_of(&lines[usize::try_from(held).unwrap()]);
        assert_eq!(node.get(&format!("/blocks/{held}"))["hash"], hash);
    }
    fs::write(&room, "").unwrap();
    node.wait_until("/status", |status| status["height"] == 6000);
    assert!(node.get("/status").get("store_error").is_none());
    assert_eq!(node.terminate().code(), Some(0));
}

#[test]
fn an_import_on_a_full_disk_says_what_to_do_and_goes_on_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let (source, home) = (dir.path().join("source"), dir.path().join("home"));
    fs::create_dir(&home).unwrap();
    if !can_mount(&home) {
        return;
    }
    let lines = chain_of(&source, 6000);
    let file = dir.path().join("blocks.jsonl");
    fs::write(&file, lines.concat()).unwrap();
    let script = r#"
        mount -t tmpfs -o size=4m tmpfs "$2"
        if "$1" chain import "$3" --data-dir "$2"; then exit 3; fi
        "$1" chain verify --json --data-dir "$2"
        mount -o remount,size=100m "$2"
        "$1" chain import "$3" --data-dir "$2"
        "$1" chain verify --json --data-dir "$2"
    "#;
    let run = finish(&mut with_mounts(script, &[&home, &file]));
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    for part in ["import of", "No space left on device", "make room and start the import again", "block"] {
        assert!(run.stderr.contains(part), "no {part:?}: {}", run.stderr);
    }
    let (half, rest) = run.stdout.split_once("}\n").unwrap();
    let half: Value = serde_json::from_str(&format!("{half}}}")).unwrap();
    let height = half["height"].as_u64().unwrap();
    assert!(height > 0 && height < 6000, "{height}");
    assert!(rest.contains(&format!("{} blocks stored", grouped(6000 - height))), "{rest}");
    assert!(rest.contains(&format!("{} were known", grouped(height + 1))), "{rest}");
    assert!(rest.contains("\"height\": 6000"), "{rest}");
}

/// As the program writes numbers.
fn grouped(number: u64) -> String {
    if number < 1000 { number.to_string() } else { format!("{} {:03}", number / 1000, number % 1000) }
}
