//! The check of implementations: passes against a node of ours, and names each of many planted faults.
//!
//! The faults are planted by a proxy that ends TLS on both sides and distorts one thing.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking, in their helpers too")]

mod fault;
mod proxy;
#[path = "../support/mod.rs"]
mod support;

use std::path::Path;

use fault::Fault;
use proxy::Proxy;
use serde_json::Value;
use support::{Running, bt2c, bt2c_in};

/// A node with a short chain, which is what most checks need.
fn node(home: &Path) -> Running {
    bt2c_in(home, &["chain", "generate", "--blocks", "8", "--txs", "2", "--network", "devnet"]).ok();
    Running::start(home, &[])
}

/// Runs the checks whose names contain one of these.
fn check(addr: &str, only: &[&str]) -> (i32, Value) {
    let mut args = vec!["conformance", addr, "--json", "--step", "5s"];
    args.extend(only.iter().flat_map(|only| ["--only", *only]));
    let outcome = bt2c(&args);
    let report = serde_json::from_str(&outcome.stdout);
    (outcome.code, report.unwrap_or_else(|error| panic!("{error}: {}", outcome.stderr)))
}

fn result<'a>(report: &'a Value, name: &str) -> &'a str {
    let rows = report["checks"].as_array().unwrap();
    let row = rows.iter().find(|row| row["name"] == name);
    row.map_or("not run", |row| row["result"].as_str().unwrap())
}

/// Plants each fault, and expects the check beside it to fail; without the fault, all of these checks pass.
fn named(faults: &[(Fault, &str)]) {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path());
    let mut checks: Vec<_> = faults.iter().map(|(_, check)| *check).collect();
    checks.dedup();
    let proxy = Proxy::start(&node, Fault::None);
    let (code, report) = check(&proxy.addr(), &checks);
    assert_eq!(code, 0, "without a fault: {report:#}");
    for (fault, name) in faults {
        fails(&node, *fault, name);
    }
}

/// Plants a fault, and expects that check to fail.
fn fails(node: &Running, fault: Fault, name: &str) {
    let proxy = Proxy::start(node, fault);
    let only = if name.starts_with("writing-") { vec![name, "hello-base"] } else { vec![name] };
    let (code, report) = check(&proxy.addr(), &only);
    assert_eq!((code, result(&report, name)), (1, "failed"), "{fault:?}: {report:#}");
}

#[test]
fn our_own_node_passes() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path());
    let (code, report) = check(&node.p2p_addr(), &[]);
    assert_eq!(code, 0, "{report:#}");
    let counts = ["passed", "failed", "skipped", "banned"].map(|result| report[result].as_u64().unwrap());
    assert!(counts[0] > 60 && counts[1..] == [0, 0, 0], "{report:#}");
    assert_eq!(report["node_id"], node.run_file()["node_id"]);

    let table = bt2c(&["conformance", &node.p2p_addr(), "--only", "ping", "--gentle"]).ok();
    assert!(table.contains("THE PROTOCOL PAGE SAYS") && table.contains("0 failed"), "{table}");
}

#[test]
fn a_ban_is_an_answer_to_violations_from_one_address() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path());
    let outcome = bt2c(&["conformance", &node.p2p_addr(), "--one-address", "--only", "violation-", "--json"]);
    let report: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let tried = ["no-certificate", "frame-over-limit", "second-hello", "first-no-hello", "range-inverted"];
    for name in tried {
        assert_eq!(result(&report, &format!("violation-{name}")), "passed", "{report:#}");
    }
    assert_eq!(result(&report, "violation-tls-1.2"), "banned", "{report:#}");
    assert_eq!((outcome.code, &report["failed"]), (0, &0.into()), "{report:#}");
    let bans = bt2c_in(dir.path(), &["bans", "--json"]).json();
    assert!(bans.as_array().unwrap().iter().any(|ban| ban["subject"] == "127.0.0.1"), "{bans}");
}

#[test]
fn another_genesis_than_the_one_named_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(dir.path());
    let args = ["conformance", &node.p2p_addr(), "--json", "--genesis", &"5a".repeat(32), "--gentle"];
    let outcome = bt2c(&args);
    let report: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!((outcome.code, result(&report, "hello-exchange")), (1, "failed"), "{report:#}");
    assert_eq!(result(&report, "ping"), "not run", "nothing can be checked without a hello");
}

#[test]
fn where_nobody_listens_and_bad_usage_are_told_apart() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    assert!(bt2c(&["conformance", &free]).failed().contains("nothing answers"));
    for bad in [&[][..], &["nowhere"], &[&free, "--step", "soon"], &[&free, "--only", "pang"]] {
        assert_eq!(bt2c(&[&["conformance"], bad].concat()).code, 2, "{bad:?}");
    }
}

#[test]
fn faults_in_tls_are_named() {
    named(&[
        (Fault::AnyAlpn, "violation-alpn"),
        (Fault::NoClientCertificate, "tls-mutual"),
        (Fault::NoClientCertificate, "violation-no-certificate"),
        (Fault::Organisation, "certificate-organisation"),
        (Fault::TwoCertificates, "certificate-alone"),
        (Fault::OtherLabel, "certificate-label"),
        (Fault::Expired, "certificate-dates"),
        (Fault::Tickets, "tls-no-tickets"),
        (Fault::OldTls, "violation-tls-1.2"),
    ]);
}

#[test]
fn faults_in_hello_and_form_are_named() {
    named(&[
        (Fault::SpeaksFirst, "hello-dialer-first"),
        (Fault::OtherTip, "hello-tip"),
        (Fault::NoSender, "writing-envelope"),
        (Fault::OtherSender, "writing-envelope"),
        (Fault::FloatTimestamp, "writing-form"),
        (Fault::WhiteSpace, "writing-form"),
        (Fault::ThrottledToAll, "writing-types"),
    ]);
}

#[test]
fn faults_in_answers_are_named() {
    named(&[
        (Fault::OtherPong, "ping"),
        (Fault::LongFrame, "ping"),
        (Fault::FloatPong, "ping"),
        (Fault::TooManyPeers, "peers-count"),
        (Fault::NamedPeers, "peers-entries"),
        (Fault::ReversedBlocks, "blocks-range"),
        (Fault::OtherRoot, "blocks-range"),
        (Fault::LostTransaction, "blocks-content"),
        (Fault::RepeatedTip, "blocks-beyond-the-tip"),
        (Fault::LosesQuestions, "requests-not-lost"),
        (Fault::EndsOnUnknownType, "reading-unknown-types"),
        (Fault::EndsOnUnknownField, "reading-pings"),
        (Fault::WantsSender, "reading-pings"),
    ]);
}

#[test]
fn faults_beyond_the_base_protocol_are_named() {
    named(&[
        (Fault::OtherStream, "stream-whole"),
        (Fault::EndlessStream, "stream-whole"),
        (Fault::NeverCancels, "stream-cancel"),
        (Fault::HeadersFromTwo, "headers-from-genesis"),
        (Fault::TooManyHeaders, "headers-count"),
    ]);
}

#[test]
fn faults_in_refusals_are_named() {
    named(&[
        (Fault::BansStrangers, "refused-network"),
        (Fault::OtherCode, "refused-genesis"),
        (Fault::KeepsLongFrame, "violation-frame-over-limit"),
        (Fault::KeepsSecondHello, "violation-second-hello"),
        (Fault::KeepsInvertedRange, "violation-range-inverted"),
    ]);
}

#[test]
fn endless_patience_with_silence_is_named() {
    // That the check passes without the fault shows where our own node passes everything.
    let dir = tempfile::tempdir().unwrap();
    fails(&Running::start(dir.path(), &[]), Fault::Patient, "violation-silence");
}
