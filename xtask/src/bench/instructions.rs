//! The gate without a clock: how many instructions fixed pieces of work take, compared with committed figures.
//!
//! Callgrind runs a program on a processor of its own making, which shows the program neither AVX-512 nor SHA extensions, so
//! that every x86-64 machine with AVX2 takes the same paths through the cryptography; repeated runs differ by a few millionths.
//! Other machines take other paths, and are not compared.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};

use super::{figures, fixed, measured::Work};

/// Options of the gate.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// Counts the instructions of fixed pieces of work with callgrind and compares them with xtask/bench/instructions.json.
    #[arg(long)]
    instructions: bool,
    /// Writes the counts into that file instead of comparing.
    #[arg(long, requires = "instructions")]
    renew: bool,
    /// Fails where nothing can be counted, for want of valgrind or on another kind of machine; otherwise that is told.
    #[arg(long, requires = "instructions")]
    require: bool,
}

impl Args {
    pub(super) const fn asked(&self) -> bool {
        self.instructions
    }
}

/// The committed figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Figures {
    /// The compiler that made what was counted.
    rustc: String,
    /// Instructions of each piece of work, by its name.
    instructions: BTreeMap<String, u64>,
}

/// Where the figures are.
const FIGURES: &str = "xtask/bench/instructions.json";

/// How far a count may be from its figure, up or down, in thousandths.
const TOLERANCE: u64 = 30;

/// The function in which instructions are counted; see [`super::measured`].
const COUNTED: &str = "--toggle-collect=*bt2c_measured_part*";

/// Counts, and compares or renews.
pub(super) fn run(root: &Path, args: &Args) -> Result<()> {
    if let Some(reason) = hindrance() {
        ensure!(!args.require, "{reason}");
        println!("left out: {reason}");
        return Ok(());
    }
    let now = Figures { rustc: rustc()?, instructions: count(root)? };
    let path = root.join(FIGURES);
    if args.renew {
        let mut json = serde_json::to_string_pretty(&now)?;
        json.push('\n');
        fs::write(&path, json).with_context(|| format!("cannot write {FIGURES}"))?;
    }
    let committed = fs::read(&path).with_context(|| format!("cannot read {FIGURES}"))?;
    let committed: Figures =
        serde_json::from_slice(&committed).with_context(|| format!("reading {FIGURES}"))?;
    compare(&committed, &now)
}

/// Why nothing can be counted here.
fn hindrance() -> Option<String> {
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if !cfg!(target_arch = "x86_64") || !flags.split_ascii_whitespace().any(|flag| flag == "avx2") {
        return Some("instructions are only compared on x86-64 with AVX2".to_owned());
    }
    let found = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        return Some("valgrind is not installed (apt-get install valgrind)".to_owned());
    }
    None
}

fn rustc() -> Result<String> {
    let output = Command::new("rustc").arg("--version").output().context("running rustc")?;
    let told = String::from_utf8(output.stdout).context("reading what rustc says")?;
    Ok(told.trim().to_owned())
}

/// The instructions of every piece of work, two at a time.
fn count(root: &Path) -> Result<BTreeMap<String, u64>> {
    let dir = figures::directory(root)?.join("instructions");
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let chain = dir.join("chain.jsonl");
    fixed::write(&chain)?;
    let one = |work: &Work| -> Result<(String, u64)> {
        let value = work.to_possible_value().context("every piece of work has a name")?;
        let name = value.get_name().to_owned();
        let counted = count_one(&name, &chain, &dir.join(format!("{name}.callgrind")))?;
        Ok((name, counted))
    };
    thread::scope(|scope| {
        let started: Vec<_> =
            Work::value_variants().iter().map(|work| scope.spawn(move || one(work))).collect();
        started.into_iter().map(|thread| thread.join().expect("counting does not panic")).collect()
    })
}

fn count_one(name: &str, chain: &Path, out: &Path) -> Result<u64> {
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--quiet", COUNTED])
        .arg(format!("--callgrind-out-file={}", out.display()));
    command.arg(std::env::current_exe().context("finding this program")?);
    command.args(["bench", "measured", name]).arg(chain);
    // What would change how a program is loaded or what it writes.
    for variable in
        ["RUST_LOG", "RUST_BACKTRACE", "LD_PRELOAD", "LD_BIND_NOW", "GLIBC_TUNABLES", "OPENSSL_ia32cap"]
    {
        command.env_remove(variable);
    }
    let output = command.stdin(Stdio::null()).output().context("running valgrind")?;
    ensure!(
        output.status.success(),
        "{name} under callgrind: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let profile = fs::read_to_string(out).with_context(|| format!("cannot read {}", out.display()))?;
    total(&profile).with_context(|| format!("{} has no total", out.display()))
}

/// The number of instructions in a profile of callgrind.
fn total(profile: &str) -> Option<u64> {
    let total = profile.lines().find_map(|line| line.strip_prefix("totals:"))?;
    total.trim().parse().ok().filter(|total| *total > 0)
}

/// Prints both and says whether they are near enough to each other.
fn compare(committed: &Figures, now: &Figures) -> Result<()> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["instructions of", "committed", "now", "change"]);
    let mut beyond = Vec::new();
    for (name, &count) in &now.instructions {
        let figure = committed.instructions.get(name).copied().unwrap_or(0);
        let change = change(figure, count);
        table.add_row([name.clone(), figure.to_string(), count.to_string(), change.clone()]);
        if figure.abs_diff(count) > figure / 1000 * TOLERANCE {
            beyond.push(format!("{name} {change}"));
        }
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
    if beyond.is_empty() {
        return Ok(());
    }
    let compiler = match committed.rustc == now.rustc {
        true => String::new(),
        false => format!(" (the figures are of {}, this is {})", committed.rustc, now.rustc),
    };
    bail!(
        "beyond {} %: {}{compiler}. If that is meant, renew {FIGURES} in the same commit: \
         cargo xtask bench --instructions --renew. What costs: callgrind_annotate target/bench/instructions/NAME.callgrind",
        TOLERANCE / 10,
        beyond.join(", ")
    )
}

/// A change in hundredths of a per cent, as people write it.
fn change(figure: u64, count: u64) -> String {
    if figure == 0 {
        return "new".to_owned();
    }
    let sign = if count < figure { '-' } else { '+' };
    let hundredths = u128::from(figure.abs_diff(count)) * 10_000 / u128::from(figure);
    format!("{sign}{}.{:02} %", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(count: u64) -> Figures {
        Figures { rustc: "rustc 1".into(), instructions: [("parse".to_owned(), count)].into() }
    }

    #[test]
    fn three_per_cent_pass_and_more_do_not_either_way() {
        let committed = figures(100_000_000);
        for near in [97_000_000, 100_000_000, 103_000_000] {
            compare(&committed, &figures(near)).unwrap();
        }
        for (far, told) in [(103_100_000, "parse +3.10 %"), (96_900_000, "parse -3.10 %")] {
            let error = compare(&committed, &figures(far)).unwrap_err().to_string();
            assert!(error.contains(told) && error.contains("--renew"), "{error}");
        }
    }

    #[test]
    fn work_without_a_figure_and_another_compiler_are_told() {
        let mut committed = figures(5);
        committed.instructions.clear();
        committed.rustc = "rustc 0".into();
        let error = compare(&committed, &figures(5)).unwrap_err().to_string();
        assert!(error.contains("parse new") && error.contains("of rustc 0, this is rustc 1"), "{error}");
    }

    #[test]
    fn the_total_of_a_profile_is_found() {
        assert_eq!(total("version: 1\nfn=(1) x\n1 5\n\ntotals: 1234\n"), Some(1234));
        assert_eq!(total("totals: 0\n"), None);
    }

    #[test]
    fn every_piece_of_work_has_a_committed_figure() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let committed: Figures = serde_json::from_slice(&fs::read(root.join(FIGURES)).unwrap()).unwrap();
        let names =
            Work::value_variants().iter().map(|work| work.to_possible_value().unwrap().get_name().to_owned());
        assert_eq!(committed.instructions.keys().cloned().collect::<Vec<_>>(), {
            let mut names: Vec<String> = names.collect();
            names.sort_unstable();
            names
        });
    }
}
