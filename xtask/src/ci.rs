//! `cargo xtask ci`: everything that must hold before a change lands.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use crate::{coverage, layers, siege, vectors};

/// Which steps to run.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Leaves a step out; may be given several times.
    #[arg(long, value_enum, value_name = "STEP")]
    skip: Vec<Step>,
}

/// The steps, in the order in which they run: what is quick to fail comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Step {
    /// Formatting.
    Fmt,
    /// Lints, warnings denied.
    Clippy,
    /// Documentation, warnings denied.
    Doc,
    /// All tests.
    Test,
    /// The order of the crates, and the purity of the cores.
    Layers,
    /// The golden vectors.
    Vectors,
    /// Every scenario twice, every attack without each of its defences, and the sweep of docs/simulation.md.
    Simulate,
    /// The Python peer against a real node.
    Interop,
    /// A minute of 200 hostile connections against a real node.
    Siege,
    /// The TLS of a real node, scanned from outside.
    TlsScan,
    /// How many instructions fixed pieces of work take, against committed figures, where valgrind is installed.
    Instructions,
    /// Every fuzz target for some seconds.
    Fuzz,
    /// Which lines the tests of bt2c-proto and bt2c-security reach, where cargo-tarpaulin is installed.
    Coverage,
    /// Licences, bans and sources of dependencies.
    Deny,
}

/// Runs the steps in order, telling each with its duration.
///
/// # Errors
/// The first step that failed.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    let workshop = Workshop { root: root.to_owned() };
    for step in Step::value_variants() {
        let name = step.to_possible_value().context("every step has a name")?.get_name().to_owned();
        if args.skip.contains(step) {
            println!("== {name}: skipped");
            continue;
        }
        println!("== {name}");
        #[expect(clippy::disallowed_methods, reason = "a person wants to know how long a step really took")]
        let start = Instant::now();
        workshop.run(*step).with_context(|| format!("step {name} failed"))?;
        println!("== {name}: ok, {:.1} s", start.elapsed().as_secs_f64());
    }
    Ok(())
}

struct Workshop {
    root: PathBuf,
}

impl Workshop {
    fn run(&self, step: Step) -> Result<()> {
        match step {
            Step::Fmt => self.cargo(&["fmt", "--all", "--check"]),
            Step::Clippy => {
                self.cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])
            }
            Step::Doc => {
                let mut doc = self.command(cargo());
                doc.args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "--deny warnings");
                succeed(doc)
            }
            Step::Test => self.cargo(&["test", "--workspace"]),
            Step::Layers => layers::run(&self.root),
            Step::Vectors => vectors::run(&self.root, false),
            Step::Simulate => self.simulate(),
            Step::Interop => self.interop(),
            Step::Siege => siege::run(&self.root, &siege::Args::default()),
            Step::TlsScan => self.tls_scan(),
            Step::Instructions => self.cargo(&[
                "run",
                "--quiet",
                "--release",
                "--package",
                "xtask",
                "--",
                "bench",
                "--instructions",
            ]),
            Step::Fuzz => self.cargo(&["xtask", "fuzz", "--seconds", "8"]),
            Step::Coverage => self.coverage(),
            Step::Deny => self.deny(),
        }
    }

    /// In the build of the tests: it is half as fast as a release, and need not be made.
    fn simulate(&self) -> Result<()> {
        self.cargo(&["xtask", "simulate", "--twice", "--tls", "off"])?;
        self.cargo(&["xtask", "simulate", "smoke", "partition", "json-bomb", "--twice", "--seeds", "2..5"])?;
        self.cargo(&["xtask", "simulate", "mutations"])?;
        let page =
            fs::read_to_string(self.root.join("docs/simulation.md")).context("reading docs/simulation.md")?;
        let script = sweep(&page).context("docs/simulation.md has no sweep to run")?;
        let mut bash = self.command("bash");
        bash.args(["-euo", "pipefail", "-c", script]);
        succeed(bash)
    }

    /// The Python peer first against itself, which takes seconds, then against a node built from this very source.
    fn interop(&self) -> Result<()> {
        let node = self.node()?;
        let mut selftest = self.command("python3");
        selftest.arg("tests/interop/selftest.py");
        succeed(selftest)?;
        let mut run = self.command("python3");
        run.arg("tests/interop/run.py").arg("--node").arg(node);
        succeed(run)
    }

    fn tls_scan(&self) -> Result<()> {
        let mut scan = self.command("python3");
        scan.arg("tests/tls-scan/run.py").arg("--node").arg(self.node()?);
        succeed(scan)
    }

    /// A node built from this very source.
    fn node(&self) -> Result<PathBuf> {
        self.cargo(&["build", "--package", "bt2c-node"])?;
        Ok(layers::metadata(&self.root)?.target_directory.join("debug").join("bt2c-node"))
    }

    /// For people to read, so it fails nothing where the tool does not install.
    fn coverage(&self) -> Result<()> {
        if coverage::is_installed(&self.root)? {
            return coverage::run(&self.root);
        }
        println!("left out: cargo-tarpaulin is not installed");
        Ok(())
    }

    /// Advisories are left out: their database is a repository of its own, which a build machine may not reach.
    fn deny(&self) -> Result<()> {
        let mut probe = self.command(cargo());
        let installed = probe.args(["deny", "--version"]).output().context("running cargo")?.status.success();
        ensure!(installed, "cargo-deny is not installed: run `cargo install cargo-deny --locked`");
        self.cargo(&["deny", "--workspace", "check", "bans", "licenses", "sources"])
    }

    fn cargo(&self, args: &[&str]) -> Result<()> {
        run_cargo(&self.root, args)
    }

    fn command(&self, program: impl Into<OsString>) -> Command {
        command(&self.root, program)
    }
}

/// Runs cargo in the workspace.
pub(crate) fn run_cargo(root: &Path, args: &[&str]) -> Result<()> {
    let mut command = command(root, cargo());
    command.args(args);
    succeed(command)
}

/// A command that runs in the workspace.
pub(crate) fn command(root: &Path, program: impl Into<OsString>) -> Command {
    let mut command = Command::new(program.into());
    command.current_dir(root);
    command
}

/// The script of a page that it says we run.
fn sweep(page: &str) -> Option<&str> {
    let (_, marked) = page.split_once("<!-- run by cargo xtask ci -->\n```sh\n")?;
    marked.split_once("```").map(|(script, _)| script)
}

/// The cargo that runs us, so that all steps use one toolchain.
pub(crate) fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Runs a command to its end, which must be a good one.
pub(crate) fn succeed(mut command: Command) -> Result<()> {
    let line = format!("{command:?}").replace('"', "");
    let status = command.status().with_context(|| format!("cannot run {line}"))?;
    if !status.success() {
        bail!("{line}: {status}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_a_sweep_to_run() {
        let script = sweep(include_str!("../../docs/simulation.md")).unwrap();
        assert!(script.contains("parallel --jobs") && script.contains("simulate merge"), "{script}");
    }

    #[test]
    fn a_step_that_fails_is_told_with_its_command() {
        let mut command = Command::new("cargo");
        command.arg("no-such-subcommand-anywhere");
        let error = succeed(command).unwrap_err().to_string();
        assert!(error.starts_with("cargo no-such-subcommand-anywhere: exit status"), "{error}");
    }
}
