//! `xtask simulate` as a person runs it: processes, reports, exit codes.

use std::{
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

fn simulate(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xtask")).arg("simulate").args(args).output().expect("it is built")
}

fn ok(args: &[&str]) -> String {
    let output = simulate(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it prints text")
}

fn report(dir: &Path) -> Value {
    let json = std::fs::read(dir.join("report.json")).expect("the report is written");
    serde_json::from_slice(&json).expect("it is JSON")
}

#[test]
fn seeds_give_the_same_traces_in_two_processes_on_all_cores_and_on_one() {
    let small = ["smoke", "block-spam", "crash-restart", "--duration", "300s", "--tls", "off"];
    let table = ok(&[&small[..], &["--twice", "--seeds", "1..4"]].concat());
    let rows: Vec<_> = table.lines().filter(|line| line.contains(" s ")).collect();
    assert_eq!(rows.len(), 9, "{table}");
    let traces: std::collections::BTreeSet<_> =
        rows.iter().filter_map(|row| row.split_whitespace().last()).collect();
    assert_eq!(traces.len(), 9, "each run has a trace of its own: {table}");
}

#[test]
fn ranges_of_seeds_are_reported_and_merged() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (one, two, all) = (place("1"), place("2"), place("all"));
    let range = |seeds, dir| ok(&["reorg", "--tls", "off", "--seeds", seeds, "--report", dir]);
    range("0..2", &one);
    range("1..3", &two);
    let table = ok(&["merge", &one, &two, "--report", &all]);
    assert_eq!(table.lines().filter(|line| line.contains("reorg")).count(), 3, "{table}");
    let merged = report(Path::new(&all));
    let seeds: Vec<_> = merged["summary"].as_array().unwrap().iter().map(|run| &run["seed"]).collect();
    assert_eq!(seeds, [0, 1, 2]);
    assert!(Path::new(&all).join("report.html").exists());
}

#[test]
fn what_is_not_met_is_named_and_told_by_the_exit_code() {
    let output = simulate(&["json-bomb", "--tls", "off", "--without", "bans"]);
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("json-bomb --seed 1: attackers are banned by whom they attack"), "{errors}");
    for usage in [&["nope"][..], &["--seeds", "3..3"], &["smoke", "--without", "walls"], &["merge"]] {
        assert_eq!(simulate(usage).status.code(), Some(2), "{usage:?}");
    }
}

#[test]
fn a_failing_run_is_shrunk_to_a_test_that_can_be_played_as_a_schedule() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("schedule");
    let failing = ["stall", "--tls", "off", "--without", "stall-timeout"];
    let output = simulate(&[&failing[..], &["--shrink"]].concat());
    let printed = String::from_utf8(output.stdout).unwrap();
    let test = printed.split_once("use std::time::Duration;").expect("a test is printed").1;
    let steps: String = test
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with(|first: char| first.is_ascii_digit()))
        .map(|line| format!("{line}\n"))
        .collect();
    assert!((1..=10).contains(&steps.lines().count()), "{printed}");
    std::fs::write(&file, steps).unwrap();
    let played = simulate(&[&failing[..], &["--schedule", file.to_str().unwrap()]].concat());
    assert_eq!(played.status.code(), Some(1));
    let told = String::from_utf8(played.stdout).unwrap();
    assert!(told.contains("NOT MET  a newcomer has the chain in time"), "{told}");
}
