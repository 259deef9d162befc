//! `cargo xtask coverage`: which lines of the two lowest crates their own tests reach.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::layers;

/// The crates that are measured: what the wire and the defences rest on.
const CRATES: [&str; 2] = ["bt2c-proto", "bt2c-security"];

/// Whether the tool is there.
///
/// # Errors
/// cargo cannot be run.
pub fn is_installed(root: &Path) -> Result<bool> {
    let probe = cargo(root).args(["tarpaulin", "--version"]).output().context("running cargo")?;
    Ok(probe.status.success())
}

/// Runs the tests of the measured crates and prints a line for each file, and the total.
///
/// # Errors
/// The tool is missing, or the tests failed under it.
pub fn run(root: &Path) -> Result<()> {
    ensure!(
        is_installed(root)?,
        "cargo-tarpaulin is not installed: run `cargo install cargo-tarpaulin --locked`"
    );
    let directory = layers::metadata(root)?.target_directory.join("coverage");
    fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
    let log = directory.join("log.txt");
    let file = || fs::File::create(&log).with_context(|| format!("creating {}", log.display()));
    let mut tarpaulin = cargo(root);
    // LLVM's own counters, read by the tool itself: the other engine, ptrace, is not allowed everywhere.
    tarpaulin.args(["tarpaulin", "--engine", "llvm", "--skip-clean", "--out", "Json", "--timeout", "170"]);
    for name in CRATES {
        tarpaulin.args(["--packages", name, "--include-files", &format!("crates/{name}/src/*")]);
    }
    tarpaulin.arg("--target-dir").arg(&directory).arg("--output-dir").arg(&directory);
    // Half a minute of measuring the heap reaches no line that the vectors do not.
    tarpaulin.args(["--", "--skip", "parsing_takes_at_most"]);
    let output = file()?;
    let errors = output.try_clone().context("duplicating a file")?;
    let status = tarpaulin
        .env("PROPTEST_CASES", "32")
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .status()
        .context("running cargo tarpaulin")?;
    ensure!(status.success(), "cargo tarpaulin: {status}; what it said is in {}", log.display());
    let report = directory.join("tarpaulin-report.json");
    let text = fs::read_to_string(&report).with_context(|| format!("reading {}", report.display()))?;
    let report: Report = serde_json::from_str(&text).context("reading what cargo tarpaulin found")?;
    print!("{}", report.table(root));
    Ok(())
}

fn cargo(root: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root);
    cargo
}

/// What the tool writes.
#[derive(Debug, Deserialize)]
struct Report {
    files: Vec<File>,
}

#[derive(Debug, Deserialize)]
struct File {
    /// Its parts, the root first.
    path: Vec<String>,
    covered: u32,
    coverable: u32,
    traces: Vec<Trace>,
}

#[derive(Debug, Deserialize)]
struct Trace {
    line: u32,
    stats: Stats,
}

#[derive(Debug, Deserialize)]
struct Stats {
    #[serde(rename = "Line")]
    hits: u64,
}

impl Report {
    /// A line for each file, with the lines that no test reaches, and the total.
    fn table(&self, root: &Path) -> String {
        let mut table = String::new();
        let mut row = |name: &str, covered: u32, coverable: u32, missed: &str| {
            let share = f64::from(covered) / f64::from(coverable.max(1)) * 100.0;
            table += &format!("{name:<48} {covered:>5} of {coverable:>5} {share:>6.1} %  {missed}");
            table.truncate(table.trim_end().len());
            table.push('\n');
        };
        for file in self.files.iter().filter(|file| file.coverable > 0) {
            let path: PathBuf = file.path.iter().collect();
            let path = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            let missed = file.traces.iter().filter(|trace| trace.stats.hits == 0);
            let missed: Vec<_> = missed.map(|trace| trace.line.to_string()).collect();
            row(&path, file.covered, file.coverable, &missed.join(" "));
        }
        let sum = |count: fn(&File) -> u32| self.files.iter().map(count).sum();
        row("total", sum(|file| file.covered), sum(|file| file.coverable), "");
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_files_missed_lines_and_the_total() {
        let json = r#"{"files": [
            {"path": ["/", "w", "a.rs"], "content": "", "covered": 2, "coverable": 3, "traces": [
                {"line": 7, "address": [], "length": 0, "stats": {"Line": 0}},
                {"line": 8, "address": [], "length": 0, "stats": {"Line": 12}}]},
            {"path": ["/", "w", "b.rs"], "content": "", "covered": 1, "coverable": 1, "traces": []},
            {"path": ["/", "w", "tests.rs"], "content": "", "covered": 0, "coverable": 0, "traces": []}]}"#;
        let table = serde_json::from_str::<Report>(json).unwrap().table(Path::new("/w"));
        let lines: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["a.rs", "2", "of", "3", "66.7", "%", "7"]);
        assert_eq!(lines[1], ["b.rs", "1", "of", "1", "100.0", "%"]);
        assert_eq!(lines[2], ["total", "3", "of", "4", "75.0", "%"]);
    }
}
