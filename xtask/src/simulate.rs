//! `cargo xtask simulate`: networks of the real node in one process, on virtual time.
//!
//! What runs is the shipping code, TLS with real certificates included; only the four seams are replaced. A scenario is a
//! function over a [`World`]; it returns named [`Expectation`]s. The same seed gives the same trace.

pub mod net;
mod scenarios;
mod trace;
mod world;

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

pub use scenarios::{Play, SCENARIOS};
pub use trace::Trace;
pub use world::{BLOCK_TIME, MAX_NODES, Place, Remains, Setup, SimNode, World};

/// Options of `simulate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The scenarios to run; all of them if none is named.
    scenarios: Vec<String>,
    /// Lists the scenarios.
    #[arg(long)]
    list: bool,
    /// How many nodes, instead of the scenario's own number.
    #[arg(long)]
    nodes: Option<usize>,
    /// Decides everything that is left to chance.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Virtual time to simulate, such as 10m, instead of the scenario's own.
    #[arg(long, value_parser = parse_duration)]
    duration: Option<Duration>,
}

/// One thing that is expected of a network, and what came of it.
#[derive(Debug, Clone)]
pub struct Expectation {
    /// What is expected.
    pub name: &'static str,
    /// Whether it is so.
    pub met: bool,
    /// What was found.
    pub found: String,
}

/// A scenario.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it shows, in one line.
    pub about: &'static str,
    /// How many nodes it has by itself, and how many it needs at least.
    pub nodes: (usize, usize),
    /// How long it lasts by itself, and how long it must last at least, in seconds.
    pub seconds: (u64, u64),
    /// Plays it.
    pub play: Play,
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What was expected.
    pub expectations: Vec<Expectation>,
    /// SHA-256 over every message, see [`Trace`].
    pub trace: String,
    /// How many messages were received.
    pub messages: u64,
    /// Virtual time that passed.
    pub passed: Duration,
}

/// Runs the scenarios that were asked for and prints a table.
///
/// # Errors
/// An unknown scenario, numbers a scenario cannot use, or expectations that were not met.
pub fn run(args: &Args) -> Result<()> {
    if args.list {
        for scenario in SCENARIOS {
            println!("{:<12} {}", scenario.name, scenario.about);
        }
        return Ok(());
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["scenario", "nodes", "virtual", "wall", "expectations", "messages", "trace"]);
    let mut failures = Vec::new();
    for scenario in chosen(&args.scenarios)? {
        let setup = setup(scenario, args)?;
        let (outcome, wall) = timed(|| play(scenario, setup))?;
        let met = outcome.expectations.iter().filter(|expectation| expectation.met).count();
        table.add_row([
            scenario.name.to_owned(),
            setup.nodes.to_string(),
            format!("{} s", outcome.passed.as_secs()),
            format!("{:.1} s", wall.as_secs_f64()),
            format!("{met}/{}", outcome.expectations.len()),
            outcome.messages.to_string(),
            outcome.trace[..16].to_owned(),
        ]);
        let unmet = outcome.expectations.into_iter().filter(|expectation| !expectation.met);
        failures.extend(unmet.map(|unmet| format!("{}: {}: {}", scenario.name, unmet.name, unmet.found)));
    }
    println!("{table}");
    if failures.is_empty() {
        return Ok(());
    }
    bail!("with --seed {}, not met:\n  {}", args.seed, failures.join("\n  "))
}

#[expect(clippy::disallowed_methods, reason = "tells a person how long it took; nothing depends on it")]
fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let start = Instant::now();
    let value = work()?;
    Ok((value, start.elapsed()))
}

fn chosen(names: &[String]) -> Result<Vec<&'static Scenario>> {
    if names.is_empty() {
        return Ok(SCENARIOS.iter().collect());
    }
    let find = |name: &String| {
        let found = SCENARIOS.iter().find(|scenario| scenario.name == name);
        found.ok_or_else(|| anyhow::anyhow!("no scenario is called {name:?}; --list lists them"))
    };
    names.iter().map(find).collect()
}

fn setup(scenario: &Scenario, args: &Args) -> Result<Setup> {
    let (nodes, fewest) = (args.nodes.unwrap_or(scenario.nodes.0), scenario.nodes.1);
    ensure!(
        (fewest..=MAX_NODES).contains(&nodes),
        "{} takes {fewest} to {MAX_NODES} nodes, not {nodes}",
        scenario.name
    );
    let duration = args.duration.unwrap_or(Duration::from_secs(scenario.seconds.0));
    let shortest = Duration::from_secs(scenario.seconds.1);
    ensure!(duration >= shortest, "{} takes {shortest:?} at least, not {duration:?}", scenario.name);
    Ok(Setup { nodes, duration, seed: args.seed })
}

/// Plays one scenario on a runtime of its own, whose clock is paused.
///
/// # Errors
/// A node that does not start.
pub fn play(scenario: &Scenario, setup: Setup) -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(async {
        let mut world = World::new(setup)?;
        let expectations = (scenario.play)(&mut world).await?;
        world.finish(expectations).await
    })
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
    number.checked_mul(factor).map(Duration::from_secs).ok_or_else(|| "too long".to_owned())
}

#[cfg(test)]
mod tests;

/// The page's example, as a test.
#[cfg(doctest)]
#[doc = include_str!("../../docs/simulation.md")]
struct Page;
