//! `cargo xtask fuzz`: the targets of `tests/fuzz` under libFuzzer.
//!
//! The stable toolchain suffices: coverage comes from LLVM's own pass, asked for by name. Nothing here is unsafe code, so
//! no sanitizer is needed on top; arithmetic that overflows panics.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use crate::layers;

/// What to fuzz, and for how long.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Targets; all of them if none is named.
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// How long each runs.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Only runs this one input, to see again what it does.
    #[arg(long, value_name = "FILE", requires = "targets")]
    input: Option<PathBuf>,
    /// Afterwards adds what reached new code to the committed corpus.
    #[arg(long, conflicts_with = "input")]
    merge: bool,
}

/// Builds the fuzzer and runs each target, one after another.
///
/// # Errors
/// Inputs that do not hold, each of which was told with how to see it again; or what kept the fuzzer from running.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    let corpora = root.join(CORPORA);
    let known = names(&corpora)?;
    for target in &args.targets {
        ensure!(known.contains(target), "there is no target {target}: use one of {}", known.join(", "));
    }
    let targets = if args.targets.is_empty() { &known } else { &args.targets };
    let fuzzer = Fuzzer::build(root)?;
    if let Some(input) = &args.input {
        for target in targets {
            ensure!(fuzzer.command(target).arg(input).status()?.success(), "{target} does not hold");
        }
        return Ok(());
    }
    let mut failed = Vec::new();
    println!("{:<14} {:>12} {:>9} {:>8}", "target", "runs", "coverage", "inputs");
    for target in targets {
        if !fuzzer.fuzz(target, &corpora.join(target), args.seconds)? {
            failed.push(target.as_str());
        } else if args.merge {
            fuzzer.merge(target, &corpora.join(target))?;
        }
    }
    ensure!(failed.is_empty(), "does not hold: {}", failed.join(", "));
    Ok(())
}

/// The targets: each has a committed corpus, which `cargo test -p bt2c-fuzz` sees to.
fn names(corpora: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(corpora).with_context(|| format!("reading {}", corpora.display()))?;
    let mut names = entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// The fuzzer's binary, and where it keeps what it finds.
struct Fuzzer {
    binary: PathBuf,
    /// In the target directory: inputs that were found, and those that do not hold.
    found: PathBuf,
    dictionary: PathBuf,
}

impl Fuzzer {
    /// Builds with coverage, in a target directory of its own. A target is named so that flags do not reach build scripts.
    fn build(root: &Path) -> Result<Self> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let directory = layers::metadata(root)?.target_directory.join("fuzz");
        let host = host()?;
        let status = Command::new(cargo)
            .args(["build", "--package", "bt2c-fuzz", "--features", "libfuzzer", "--profile", "fuzz"])
            .args(["--target", &host, "--target-dir"])
            .arg(&directory)
            .env("RUSTFLAGS", COVERAGE.join(" "))
            .current_dir(root)
            .status()
            .context("running cargo build")?;
        ensure!(status.success(), "the fuzzer was not built: it needs a C++ compiler beside Rust");
        Ok(Self {
            binary: directory.join(host).join("fuzz").join("bt2c-fuzz"),
            found: directory.join("found"),
            dictionary: root.join("tests/fuzz/wire.dict"),
        })
    }

    fn command(&self, target: &str) -> Command {
        let mut command = Command::new(&self.binary);
        command.env("BT2C_FUZZ_TARGET", target);
        command
    }

    /// Runs a target from its corpus on; whether everything held.
    fn fuzz(&self, target: &str, corpus: &Path, seconds: u32) -> Result<bool> {
        let found = self.found.join(target);
        fs::create_dir_all(&found).with_context(|| format!("creating {}", found.display()))?;
        let artifacts = self.found.join(format!("{target}-fails-"));
        let output = self
            .command(target)
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-artifact_prefix={}", artifacts.display()))
            .arg(format!("-dict={}", self.dictionary.display()))
            .args(["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"])
            .args([&found, corpus])
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("running {}", self.binary.display()))?;
        let log = String::from_utf8_lossy(&output.stderr);
        let told = Told::read(&log);
        println!("{target:<14} {:>12} {:>9} {:>8}", told.runs, told.coverage, told.inputs);
        if !output.status.success() {
            let lines: Vec<_> = log.lines().collect();
            println!("{}", lines[lines.len().saturating_sub(40)..].join("\n"));
            match told.artifact {
                Some(path) => println!(
                    "{target} does not hold for {path}\nto see it again: cargo xtask fuzz {target} --input {path}\n\
                     to keep it found: put it into {}, where `cargo test -p bt2c-fuzz` runs it",
                    corpus.display()
                ),
                None => bail!("the fuzzer of {target} ended with {}", output.status),
            }
        }
        Ok(output.status.success())
    }

    /// Adds to the committed corpus what reached code that nothing in it reaches.
    fn merge(&self, target: &str, corpus: &Path) -> Result<()> {
        let mut merge = self.command(target);
        merge.arg("-merge=1").args([corpus, &self.found.join(target)]).stderr(Stdio::null());
        ensure!(merge.status()?.success(), "merging the corpus of {target} failed");
        Ok(())
    }
}

/// What libFuzzer says at the end.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told<'a> {
    runs: &'a str,
    /// Edges of the control flow that were reached.
    coverage: &'a str,
    /// Inputs of which each reaches something that the others do not.
    inputs: &'a str,
    artifact: Option<&'a str>,
}

impl<'a> Told<'a> {
    fn read(log: &'a str) -> Self {
        let mut told = Self { runs: "-", coverage: "-", inputs: "-", artifact: None };
        for line in log.lines() {
            if let Some(runs) = line.strip_prefix("stat::number_of_executed_units:") {
                told.runs = runs.trim();
            } else if let Some((_, path)) = line.split_once("Test unit written to ") {
                told.artifact = Some(path.trim());
            }
            let mut words = line.split_whitespace();
            while let Some(word) = words.next() {
                match word {
                    "cov:" => told.coverage = words.next().unwrap_or("-"),
                    "corp:" => {
                        told.inputs = words.next().and_then(|corp| corp.split('/').next()).unwrap_or("-")
                    }
                    _ => {}
                }
            }
        }
        told
    }
}

/// The machine that this runs on, as rustc calls it.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("running rustc")?;
    let told = String::from_utf8(output.stdout).context("reading what rustc says")?;
    let host = told.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    Ok(host.to_owned())
}

/// Committed inputs, a directory for each target.
const CORPORA: &str = "tests/fuzz/corpus";

/// Counts edges and shows comparisons to the fuzzer [LLVM's SanitizerCoverage].
const COVERAGE: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_fuzzer_says_is_understood() {
        let log = "#2\tINITED cov: 10 ft: 11 corp: 1/1b exec/s: 0\n\
                   #512\tDONE   cov: 123 ft: 456 corp: 7/99b lim: 4 exec/s: 51 rss: 30Mb\n\
                   stat::number_of_executed_units: 512\n";
        let told = Told::read(log);
        assert_eq!(told, Told { runs: "512", coverage: "123", inputs: "7", artifact: None });
        let crash = "artifact_prefix='/t/frame-fails-'; Test unit written to /t/frame-fails-crash-1\n";
        assert_eq!(Told::read(crash).artifact, Some("/t/frame-fails-crash-1"));
    }

    #[test]
    fn every_corpus_is_a_target() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let names = names(&root.join(CORPORA)).unwrap();
        assert!(names.contains(&"frame".to_owned()) && names.len() > 5, "{names:?}");
    }
}
