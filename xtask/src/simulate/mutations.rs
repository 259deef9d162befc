//! Whether each defence is worth having: attacks with all of them, and without each.

use std::num::NonZeroUsize;

use anyhow::{Result, bail};
use comfy_table::{Table, presets};

use super::{
    jobs::{Job, Played, play_all},
    plan::Setup,
    scenarios::SCENARIOS,
};

/// Plays every scenario that names defences, with all and without each, and prints the matrix.
///
/// # Errors
/// If one fails with all defences, or does not fail without one.
pub(super) fn run(seed: u64, at_once: NonZeroUsize) -> Result<()> {
    let mut jobs = Vec::new();
    for scenario in SCENARIOS.iter().filter(|scenario| !scenario.defences.is_empty()) {
        let own = scenario.setup(seed);
        jobs.push(Job { scenario, setup: own.clone(), cores: None });
        let without =
            scenario.defences.iter().map(|defence| Setup { without: Some(*defence), ..own.clone() });
        jobs.extend(without.map(|setup| Job { scenario, setup, cores: None }));
    }
    let played = play_all(&jobs, at_once)?;
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["attack", "without", "outcome", "what is not met"]);
    let mut wrong = Vec::new();
    for (job, Played { summary, .. }) in jobs.iter().zip(&played) {
        let failed = !summary.failed.is_empty();
        let unmet: Vec<_> = summary.failed.iter().map(|failed| failed.name.as_str()).collect();
        let defence = job.setup.without.map_or("-", |defence| defence.name());
        let outcome = if failed { "fails" } else { "holds" };
        table.add_row([job.scenario.name, defence, outcome, &unmet.join("; ")]);
        match job.setup.without {
            None if failed => wrong.push(format!("{} fails with every defence", job.scenario.name)),
            Some(defence) if !failed => wrong.push(format!("{} holds without {defence}", job.scenario.name)),
            _ => {}
        }
    }
    println!("{table}");
    if wrong.is_empty() { Ok(()) } else { bail!("with --seed {seed}: {}", wrong.join("; ")) }
}
