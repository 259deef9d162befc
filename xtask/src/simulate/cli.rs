//! The command line of `simulate`.

use std::{fs, num::NonZeroUsize, ops::Range, path::PathBuf, thread, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use bt2c_proto::Defence;

use super::{
    jobs::{self, Job, Played, play_all},
    mutations,
    outcome::Expectation,
    plan::Setup,
    report::Report,
    scenario::{Scenario, replay},
    scenarios::{SCENARIOS, scenario},
    shrink::shrink,
    tables,
};

/// Options of `simulate`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// The scenarios to play; all of them if none is named.
    #[arg(value_name = "SCENARIO", value_parser = parse_scenario)]
    scenarios: Vec<&'static Scenario>,
    /// Lists the scenarios.
    #[arg(long)]
    list: bool,
    /// How many honest nodes, instead of the scenario's own number.
    #[arg(long, value_name = "N")]
    nodes: Option<usize>,
    /// Decides everything that is left to chance.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Plays every seed from A up to B, B not included, on all cores.
    #[arg(long, value_name = "A..B", value_parser = parse_seeds, conflicts_with = "seed")]
    seeds: Option<Range<u64>>,
    /// Virtual time to simulate, such as 10m, instead of the scenario's own.
    #[arg(long, value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Whether connections are encrypted, or each end declares its certificate.
    #[arg(long, value_enum, default_value_t = Tls::On)]
    tls: Tls,
    /// Writes report.json and report.html into a directory.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Sets a key of every node's configuration; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_setting)]
    set: Vec<(String, String)>,
    /// Switches one defence of every node off.
    #[arg(long, value_name = "DEFENCE")]
    without: Option<Defence>,
    /// Cuts the schedule of the first run that fails down, and prints what is left as a test.
    #[arg(long)]
    shrink: bool,
    /// Plays the steps of a file instead of the scenario's own.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seeds", "shrink", "report"])]
    schedule: Option<PathBuf>,
    /// How many runs at once; as many as there are cores if not given.
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Plays each run twice, in two processes, the second on one core, and compares the traces.
    #[arg(long, conflicts_with_all = ["schedule", "shrink"])]
    twice: bool,
    /// Stays on so many cores.
    #[arg(long, hide = true)]
    cores: Option<NonZeroUsize>,
    /// Plays one run and prints what came of it as JSON.
    #[arg(long, hide = true)]
    worker: bool,
}

const EXAMPLES: &str = "Examples:\n  cargo xtask simulate --list\n  cargo xtask simulate partition --nodes 20 --seed 7 \
    --report /tmp/report\n  cargo xtask simulate stall --without stall-timeout\n  cargo xtask simulate --seeds 0..100\n  \
    cargo xtask simulate merge DIR... --report all";

#[derive(Debug, Clone, clap::Subcommand)]
enum Command {
    /// Plays each attack with every defence, and again without each of its defences, which must fail.
    Mutations {
        /// Decides everything that is left to chance.
        #[arg(long, value_name = "S", default_value_t = 1)]
        seed: u64,
    },
    /// Joins the reports of seed ranges that were played anywhere.
    Merge {
        /// Directories with a report.json each.
        #[arg(required = true, value_name = "DIR")]
        dirs: Vec<PathBuf>,
        /// Writes the joined report into a directory.
        #[arg(long, value_name = "DIR")]
        report: Option<PathBuf>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Tls {
    On,
    Off,
}

/// Plays what was asked for and prints a table.
///
/// # Errors
/// Numbers a scenario cannot use, or expectations that were not met.
pub fn run(args: &Args) -> Result<()> {
    let at_once = args.jobs.or_else(|| thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);
    match &args.command {
        Some(Command::Mutations { seed }) => mutations::run(*seed, at_once),
        Some(Command::Merge { dirs, report }) => merge(dirs, report.as_ref()),
        None if args.list => {
            for scenario in SCENARIOS {
                println!("{:<18} {}", scenario.name, scenario.about);
            }
            Ok(())
        }
        None => play_chosen(args, at_once),
    }
}

fn play_chosen(args: &Args, at_once: NonZeroUsize) -> Result<()> {
    let jobs = jobs(args)?;
    if args.worker {
        let [job] = &jobs[..] else { bail!("a worker plays one run") };
        return jobs::work(job);
    }
    if let Some(file) = &args.schedule {
        let [job] = &jobs[..] else { bail!("--schedule takes one scenario") };
        let steps = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        return tables::print_outcome(&replay(job.scenario, job.setup.clone(), &steps)?);
    }
    let played = if args.twice { play_twice(&jobs, at_once)? } else { play_all(&jobs, at_once)? };
    let report = tables::report(command_line(), played);
    if let Some(dir) = &args.report {
        report.write(dir)?;
    }
    let result = tables::print(&report);
    if args.shrink && result.is_err() {
        let failed = report.summary.iter().find(|summary| !summary.failed.is_empty());
        let job = failed.and_then(|failed| {
            jobs.iter().find(|job| job.scenario.name == failed.scenario && job.setup.seed == failed.seed)
        });
        print_shrunk(job.context("what failed was played")?)?;
    }
    result
}

/// Plays everything twice. Two traces of one seed are an expectation that is not met.
fn play_twice(jobs: &[Job], at_once: NonZeroUsize) -> Result<Vec<Played>> {
    let again = jobs.iter().map(|job| Job { cores: Some(NonZeroUsize::MIN), ..job.clone() });
    let both: Vec<_> = jobs.iter().cloned().chain(again).collect();
    let mut played = play_all(&both, at_once)?;
    let again = played.split_off(jobs.len());
    for (first, second) in played.iter_mut().zip(again) {
        let (one, other) = (tables::short(&first.summary.trace), tables::short(&second.summary.trace));
        let name = "the same seed gives the same trace";
        let twice =
            Expectation::new(name, first.summary.trace == second.summary.trace, format!("{one} and {other}"));
        first.add(twice);
    }
    Ok(played)
}

fn print_shrunk(job: &Job) -> Result<()> {
    let spinner = indicatif::ProgressBar::new_spinner();
    let shrunk = shrink(job.scenario, &job.setup, |left, runs| {
        spinner.set_message(format!("{left} steps left after {runs} runs"));
        spinner.tick();
    })?;
    spinner.finish_and_clear();
    let steps = shrunk.schedule.steps().len();
    println!("\n{steps} steps are enough for it ({} runs). As a test:\n", shrunk.runs);
    println!("{}", shrunk.test(job.scenario, &job.setup));
    Ok(())
}

fn merge(dirs: &[PathBuf], into: Option<&PathBuf>) -> Result<()> {
    let reports = dirs.iter().map(|dir| Report::read(dir)).collect::<Result<Vec<_>>>()?;
    let merged = tables::merge(command_line(), reports)?;
    if let Some(dir) = into {
        merged.write(dir)?;
    }
    tables::print(&merged)
}

fn command_line() -> String {
    std::env::args().skip(1).collect::<Vec<_>>().join(" ")
}

fn jobs(args: &Args) -> Result<Vec<Job>> {
    let scenarios =
        if args.scenarios.is_empty() { SCENARIOS.iter().collect() } else { args.scenarios.clone() };
    let seeds: Vec<u64> = args.seeds.clone().map_or_else(|| vec![args.seed], Iterator::collect);
    let mut jobs = Vec::new();
    for scenario in scenarios {
        for &seed in &seeds {
            let own = scenario.setup(seed);
            let setup = Setup {
                nodes: args.nodes.unwrap_or(own.nodes),
                duration: args.duration.unwrap_or(own.duration),
                tls: args.tls == Tls::On,
                without: args.without,
                settings: args.set.clone(),
                ..own
            };
            scenario.check(&setup)?;
            jobs.push(Job { scenario, setup, cores: args.cores });
        }
    }
    ensure!(!jobs.is_empty(), "no seed to play");
    Ok(jobs)
}

/// Seeds in one sweep of one machine.
const MAX_SEEDS: u64 = 100_000;

/// The longest run: 30 days.
const MAX_SECONDS: u64 = 30 * 24 * 60 * 60;

fn parse_scenario(name: &str) -> Result<&'static Scenario, String> {
    scenario(name).ok_or_else(|| "no scenario has that name; --list lists them".to_owned())
}

fn parse_seeds(text: &str) -> Result<Range<u64>, String> {
    let range = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    let usable = |range: &Range<u64>| !range.is_empty() && range.end - range.start <= MAX_SEEDS;
    range
        .filter(usable)
        .ok_or_else(|| format!("expected A..B with A below B, such as 0..100, and at most {MAX_SEEDS} seeds"))
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE, such as max_connections=20")?;
    bt2c_node::config::NodeConfig::default().set(key, value).map_err(|error| error.to_string())?;
    Ok((key.to_owned(), value.to_owned()))
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("expected a number and s, m or h, such as 10m".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| "expected a number before the unit".to_owned())?;
    let seconds = number.checked_mul(factor).filter(|seconds| *seconds <= MAX_SECONDS);
    seconds.map(Duration::from_secs).ok_or_else(|| "longer than 30 days".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn refused(words: &[&str]) -> String {
        let parsed = Line::try_parse_from([&["simulate"], words].concat());
        match parsed {
            Ok(line) => run(&line.args).unwrap_err().to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn bad_numbers_and_names_are_refused_with_what_is_possible() {
        for (words, told) in [
            (&["nope"][..], "--list"),
            (&["smoke", "--nodes", "1"], "5 to 2048"),
            (&["smoke", "--duration", "10s"], "120s at least"),
            (&["smoke", "--seeds", "7"], "0..100"),
            (&["smoke", "--seeds", "7..7"], "0..100"),
            (&["smoke", "--seeds", "0..2", "--seed", "1"], "cannot be used with"),
            (&["smoke", "--without", "walls"], "outbound-groups"),
            (&["smoke", "--set", "max_conections=1"], "max_connections"),
            (&["smoke", "--set", "max_connections"], "KEY=VALUE"),
            (&["smoke", "--duration", "1.5s"], "10m"),
            (&["smoke", "--seeds", "0..18446744073709551615"], "100000 seeds"),
            (&["smoke", "--duration", "721h"], "30 days"),
            (&["slow-links", "--nodes", "400"], "a longer --duration"),
            (&["merge"], "required"),
            (&["merge", "/nowhere/at/all"], "report.json"),
        ] {
            let error = refused(words);
            assert!(error.contains(told), "{words:?}: {error}");
        }
    }
}
