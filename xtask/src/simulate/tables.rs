//! What is printed of runs, and how their reports are put together.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};
use comfy_table::Table;

use crate::table::new_table;

use super::{
    jobs::Played,
    outcome::Outcome,
    report::{Report, Run, Summary},
};

/// Up to so many runs each has a line of the table, and is in the report in full.
const FEW: usize = 40;

/// Of more runs, this many that failed are in the report in full.
const FAILED_IN_FULL: usize = 20;

/// The report of runs that were played.
pub(super) fn report(command: String, played: Vec<Played>) -> Report {
    let (summary, runs) = played.into_iter().map(|played| (played.summary, played.run)).unzip();
    assemble(command, summary, runs)
}

/// Joins reports. A run that several of them hold counts once.
pub(super) fn merge(command: String, reports: Vec<Report>) -> Result<Report> {
    let mut known: BTreeMap<_, (Summary, Option<Run>)> = BTreeMap::new();
    for report in reports {
        for mut summary in report.summary {
            let run = summary.run.take().and_then(|place| report.runs.get(place).cloned());
            let key = (
                summary.scenario.clone(),
                summary.nodes,
                summary.virtual_s,
                (summary.without.clone(), summary.tls, summary.settings.clone()),
                summary.seed,
            );
            match known.get(&key) {
                Some((other, _)) => ensure!(
                    other.trace == summary.trace,
                    "{} with seed {} has two traces, {} and {}: they were played by different programs, or it is not reproducible",
                    summary.scenario,
                    summary.seed,
                    short(&other.trace),
                    short(&summary.trace)
                ),
                None => drop(known.insert(key, (summary, run))),
            }
        }
    }
    let (summary, runs): (Vec<_>, Vec<_>) = known.into_values().unzip();
    let runs = runs.into_iter().map(Option::unwrap_or_default).collect();
    Ok(assemble(command, summary, runs))
}

fn assemble(command: String, mut summary: Vec<Summary>, all: Vec<Run>) -> Report {
    let few = summary.len() <= FEW;
    let mut runs = Vec::new();
    for (summary, run) in summary.iter_mut().zip(all) {
        let wanted = few || !summary.failed.is_empty() && runs.len() < FAILED_IN_FULL;
        // A report that was merged may hold the line of a run and not the run.
        if wanted && !run.scenario.is_empty() {
            summary.run = Some(runs.len());
            runs.push(run);
        }
    }
    Report { version: Report::VERSION, command, summary, runs }
}

/// Prints the table of a report, its known gaps, and what was not met.
///
/// # Errors
/// If anything was not met.
pub(super) fn print(report: &Report) -> Result<()> {
    let summary = &report.summary;
    println!("{}", if summary.len() <= FEW { table(summary) } else { table_by_scenario(summary) });
    let mut gaps: BTreeMap<_, _> = BTreeMap::new();
    for summary in summary {
        gaps.extend(summary.gaps.iter().map(|gap| ((&summary.scenario, &gap.name), &gap.found)));
    }
    if !gaps.is_empty() {
        println!("\nknown gaps:");
        gaps.iter().for_each(|((scenario, name), found)| println!("  {scenario}: {name}: {found}"));
    }
    let failures: Vec<_> = summary
        .iter()
        .flat_map(|summary| summary.failed.iter().map(move |failed| (summary, failed)))
        .map(|(summary, failed)| {
            format!("{} --seed {}: {}: {}", summary.scenario, summary.seed, failed.name, failed.found)
        })
        .collect();
    if failures.is_empty() { Ok(()) } else { bail!("not met:\n  {}", failures.join("\n  ")) }
}

fn table(summary: &[Summary]) -> Table {
    let header =
        ["scenario", "seed", "nodes", "virtual", "wall", "memory", "expectations", "messages", "trace"];
    let mut table = new_table(&header, 1);
    for run in summary {
        table.add_row([
            run.scenario.clone(),
            run.seed.to_string(),
            run.nodes.to_string(),
            format!("{} s", run.virtual_s),
            format!("{:.1} s", run.wall_s),
            memory(run.memory_mb),
            format!("{}/{}", run.met, run.of),
            run.messages.to_string(),
            short(&run.trace).to_owned(),
        ]);
    }
    table
}

fn table_by_scenario(summary: &[Summary]) -> Table {
    let mut table = new_table(&["scenario", "runs", "failed", "wall each", "memory", "seeds that failed"], 1);
    let mut scenarios: BTreeMap<&str, Vec<&Summary>> = BTreeMap::new();
    for run in summary {
        scenarios.entry(&run.scenario).or_default().push(run);
    }
    for (scenario, runs) in scenarios {
        let failed: Vec<_> = runs.iter().filter(|run| !run.failed.is_empty()).collect();
        let mut walls: Vec<_> = runs.iter().map(|run| run.wall_s).collect();
        walls.sort_by(f64::total_cmp);
        let seeds: Vec<_> = failed.iter().take(10).map(|run| run.seed.to_string()).collect();
        let more = if failed.len() > seeds.len() { " …" } else { "" };
        table.add_row([
            scenario.to_owned(),
            runs.len().to_string(),
            failed.len().to_string(),
            format!("{:.1} s", walls[walls.len() / 2]),
            memory(runs.iter().filter_map(|run| run.memory_mb).max()),
            format!("{}{more}", seeds.join(" ")),
        ]);
    }
    table
}

fn memory(mib: Option<u64>) -> String {
    mib.map_or("-".to_owned(), |mib| format!("{mib} MiB"))
}

/// Enough of a hash to tell it from others.
pub(super) fn short(hash: &str) -> &str {
    hash.get(..16).unwrap_or(hash)
}

/// Prints the expectations of one run.
///
/// # Errors
/// If any is not met.
pub(super) fn print_outcome(outcome: &Outcome) -> Result<()> {
    for expectation in &outcome.expectations {
        let verdict = if expectation.met { "met" } else { "NOT MET" };
        println!("{verdict:<8} {}: {}", expectation.name, expectation.found);
    }
    println!("trace    {}", short(&outcome.trace));
    let unmet = outcome.unmet().count();
    if unmet == 0 { Ok(()) } else { bail!("{unmet} expectations are not met") }
}
