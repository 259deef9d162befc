//! Playing many runs: each in a process of its own, as many at once as there are cores.

use std::{
    env, fs,
    io::Write,
    num::NonZeroUsize,
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

use super::{
    outcome::Expectation,
    plan::Setup,
    report::{Finding, Run, Summary},
    scenario::{Scenario, play},
};

/// A run to be played.
#[derive(Debug, Clone)]
pub struct Job {
    /// What.
    pub scenario: &'static Scenario,
    /// With what.
    pub setup: Setup,
    /// On how many of this machine's cores, at most; all of them if not given. Nothing may depend on it.
    pub cores: Option<NonZeroUsize>,
}

/// What came of a job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Played {
    /// In a line.
    pub summary: Summary,
    /// In full.
    pub run: Run,
}

impl Played {
    /// Adds an expectation, as it came out.
    pub(super) fn add(&mut self, expectation: Expectation) {
        let finding = Finding { name: expectation.name.clone(), found: expectation.found.clone() };
        self.summary.of += 1;
        self.summary.met += usize::from(expectation.met);
        match expectation {
            Expectation { met: false, .. } => self.summary.failed.push(finding),
            Expectation { gap: true, .. } => self.summary.gaps.push(finding),
            _ => {}
        }
        self.run.expectations.push(expectation);
    }
}

impl Job {
    /// Plays it here and now.
    ///
    /// # Errors
    /// As [`play`].
    pub fn play(&self) -> Result<Played> {
        let (outcome, wall) = timed(|| play(self.scenario, self.setup.clone()))?;
        let summary = Summary {
            virtual_s: outcome.passed.as_secs(),
            wall_s: wall.as_secs_f64(),
            memory_mb: peak_memory(),
            messages: outcome.messages,
            trace: outcome.trace.clone(),
            ..self.summary()
        };
        let (scenario, about) = (self.scenario.name.to_owned(), self.scenario.about.to_owned());
        let mut played = Played { summary, run: Run { scenario, about, ..outcome.run } };
        outcome.expectations.into_iter().for_each(|expectation| played.add(expectation));
        Ok(played)
    }

    /// What is known of a run before it is played.
    fn summary(&self) -> Summary {
        Summary {
            scenario: self.scenario.name.to_owned(),
            seed: self.setup.seed,
            nodes: self.setup.nodes,
            tls: self.setup.tls,
            settings: self.setup.settings.clone(),
            without: self.setup.without.map(|defence| defence.to_string()),
            ..Summary::default()
        }
    }

    /// What is told of a run that could not be played.
    fn failed(&self, error: &anyhow::Error) -> Played {
        let mut played = Played { summary: self.summary(), run: Run::default() };
        played.add(Expectation::new("it can be played", false, format!("{error:#}")));
        played
    }

    /// Plays it in a process of its own, which is this program.
    fn play_apart(&self) -> Result<Played> {
        let setup = &self.setup;
        let mut command = Command::new(env::current_exe().context("finding this program")?);
        command.args(["simulate", self.scenario.name, "--worker"]);
        command.args(["--nodes", &setup.nodes.to_string(), "--seed", &setup.seed.to_string()]);
        command.args(["--duration", &format!("{}s", setup.duration.as_secs())]);
        command.args(["--tls", if setup.tls { "on" } else { "off" }]);
        for (key, value) in &setup.settings {
            command.args(["--set", &format!("{key}={value}")]);
        }
        if let Some(cores) = self.cores {
            command.args(["--cores", &cores.to_string()]);
        }
        if let Some(defence) = setup.without {
            command.args(["--without", defence.name()]);
        }
        let output = command.stdin(Stdio::null()).output().context("starting a run")?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            bail!("{} with seed {}: {}: {}", self.scenario.name, setup.seed, output.status, errors.trim());
        }
        let line = output.stdout.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty());
        serde_json::from_slice(line.unwrap_or_default()).context("reading what a run printed")
    }
}

/// What a worker prints: its job's outcome on one line.
pub(super) fn work(job: &Job) -> Result<()> {
    if let Some(cores) = job.cores {
        stay_on(cores)?;
    }
    let mut line = serde_json::to_vec(&job.play()?)?;
    line.push(b'\n');
    Ok(std::io::stdout().write_all(&line)?)
}

/// Plays jobs and returns what came of them, in their order. More than one are played in processes, `at_once` at a time;
/// a terminal is shown how far they are.
///
/// # Errors
/// Of a single job, that it could not be played; of one among several that is an expectation that is not met.
pub(super) fn play_all(jobs: &[Job], at_once: NonZeroUsize) -> Result<Vec<Played>> {
    if let [job] = jobs {
        return Ok(vec![job.play()?]);
    }
    let bar = ProgressBar::new(jobs.len() as u64);
    bar.set_style(ProgressStyle::with_template("{wide_bar} {pos}/{len} runs, {eta} left")?);
    let (next, played) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..at_once.get().min(jobs.len()) {
            scope.spawn(|| {
                while let number = next.fetch_add(1, Ordering::Relaxed)
                    && let Some(job) = jobs.get(number)
                {
                    let outcome = job.play_apart().unwrap_or_else(|error| job.failed(&error));
                    played.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((number, outcome));
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    let mut played = played.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    played.sort_by_key(|(number, _)| *number);
    Ok(played.into_iter().map(|(_, outcome)| outcome).collect())
}

#[expect(clippy::disallowed_methods, reason = "tells a person how long it took; nothing depends on it")]
fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let start = Instant::now();
    let value = work()?;
    Ok((value, start.elapsed()))
}

/// Keeps this process on the first of the cores that it may run on.
#[cfg(target_os = "linux")]
fn stay_on(cores: NonZeroUsize) -> Result<()> {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let (all, mut some) = (sched_getaffinity(None)?, CpuSet::new());
    (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core)).take(cores.get()).for_each(|core| some.set(core));
    Ok(sched_setaffinity(None, &some)?)
}

/// Other systems let a process run where they like.
#[cfg(not(target_os = "linux"))]
fn stay_on(_: NonZeroUsize) -> Result<()> {
    Ok(())
}

/// The most memory that this process has had so far, in MiB, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}
