//! Cutting a failing schedule down to what it takes to fail.

use anyhow::{Result, ensure};

use super::{
    plan::{Plan, Setup},
    scenario::{Scenario, play_plan},
    schedule::{Schedule, Timed},
};

/// Most runs that a search takes.
const MAX_RUNS: usize = 500;

/// A schedule that still fails, and what it fails.
#[derive(Debug)]
pub struct Shrunk {
    /// The steps that are left.
    pub schedule: Schedule,
    /// The expectation that is not met.
    pub expectation: String,
    /// What was found.
    pub found: String,
    /// How many schedules were tried.
    pub runs: usize,
}

/// Removes hosts and steps from a failing scenario's schedule for as long as the same expectation is not met. Meant for
/// expectations that something bad does not happen; one that something does happen is also failed by less happening.
/// `progress` is told how many steps are left, and of how many tries.
///
/// # Errors
/// If the scenario meets all expectations.
pub fn shrink(scenario: &Scenario, setup: &Setup, progress: impl FnMut(usize, usize)) -> Result<Shrunk> {
    let plan = scenario.plan(setup);
    let first = play_plan(scenario.judge, setup.clone(), plan.clone())?;
    let unmet = first.unmet().next().cloned();
    ensure!(
        unmet.is_some(),
        "{} with seed {} meets every expectation: nothing to shrink",
        scenario.name,
        setup.seed
    );
    let unmet = unmet.expect("checked just now");
    let steps = plan.schedule.steps().to_vec();
    let mut search =
        Search { scenario, setup, plan, expectation: unmet.name, found: unmet.found, runs: 1, progress };
    let mut steps = search.without_hosts(steps);
    loop {
        let before = steps.len();
        steps = search.without_steps(steps);
        if steps.len() == before || search.runs >= MAX_RUNS {
            break;
        }
        steps = search.without_hosts(steps);
    }
    let Search { expectation, found, runs, .. } = search;
    Ok(Shrunk { schedule: steps.into_iter().collect(), expectation, found, runs })
}

struct Search<'a, P> {
    scenario: &'a Scenario,
    setup: &'a Setup,
    plan: Plan,
    expectation: String,
    found: String,
    runs: usize,
    progress: P,
}

impl<P: FnMut(usize, usize)> Search<'_, P> {
    /// Whether these steps fail the same expectation.
    fn fails(&mut self, steps: &[Timed]) -> bool {
        if self.runs >= MAX_RUNS || steps.is_empty() {
            return false;
        }
        self.runs += 1;
        let plan = Plan { schedule: steps.iter().cloned().collect(), ..self.plan.clone() };
        let outcome = play_plan(self.scenario.judge, self.setup.clone(), plan);
        let unmet = outcome.ok().and_then(|outcome| {
            outcome.expectations.into_iter().find(|other| !other.met && other.name == self.expectation)
        });
        if let Some(unmet) = unmet {
            self.found = unmet.found;
            (self.progress)(steps.len(), self.runs);
            return true;
        }
        false
    }

    /// Takes hosts out with all that happens to them: in halves, quarters and so on, then each on its own.
    fn without_hosts(&mut self, mut steps: Vec<Timed>) -> Vec<Timed> {
        let mut hosts: Vec<_> = (0..self.plan.hosts.len()).rev().collect();
        let mut size = hosts.len().div_ceil(2);
        while size > 0 {
            let mut at = 0;
            while at < hosts.len() {
                let gone = &hosts[at..hosts.len().min(at + size)];
                let rest: Vec<_> = steps
                    .iter()
                    .filter_map(|timed| Some(Timed { at: timed.at, step: timed.step.without(gone)? }))
                    .collect();
                if rest.len() < steps.len() && self.fails(&rest) {
                    steps = rest;
                    hosts.drain(at..hosts.len().min(at + size));
                } else {
                    at += size;
                }
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
        steps
    }

    /// Takes steps out, likewise.
    fn without_steps(&mut self, mut steps: Vec<Timed>) -> Vec<Timed> {
        let mut size = steps.len().div_ceil(2);
        while size > 0 {
            let mut at = 0;
            while at < steps.len() {
                let mut rest = steps.clone();
                rest.drain(at..steps.len().min(at + size));
                if self.fails(&rest) {
                    steps = rest;
                } else {
                    at += size;
                }
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
        steps
    }
}

impl Shrunk {
    /// A test that plays what is left, to be put into `xtask/tests/`.
    pub fn test(&self, scenario: &Scenario, setup: &Setup) -> String {
        let words = |text: &str| -> String {
            let word = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
            text.chars().map(word).collect()
        };
        let name = format!("{}_{}_seed_{}", words(scenario.name), words(&self.expectation), setup.seed);
        let mut fields =
            format!("nodes: {}, duration: Duration::from_secs({})", setup.nodes, setup.duration.as_secs());
        if !setup.tls {
            fields.push_str(", tls: false");
        }
        if let Some(defence) = setup.without {
            fields.push_str(&format!(", without: Some(\"{defence}\".parse().unwrap())"));
        }
        if !setup.settings.is_empty() {
            let settings: Vec<_> = setup
                .settings
                .iter()
                .map(|(key, value)| format!("({key:?}.into(), {value:?}.into())"))
                .collect();
            fields.push_str(&format!(", settings: vec![{}]", settings.join(", ")));
        }
        let steps: String =
            self.schedule.to_string().lines().map(|line| format!("        {line}\n")).collect();
        format!(
            "use std::time::Duration;\n\nuse xtask::simulate::{{Setup, replay, scenario}};\n\n\
             /// Found: {found}\n#[test]\nfn {name}() {{\n    let scenario = scenario({scenario:?}).unwrap();\n    \
             let setup = Setup {{ {fields}, ..scenario.setup({seed}) }};\n    \
             let outcome = replay(scenario, setup, \"\n{steps}    \").unwrap();\n    \
             let unmet: Vec<_> = outcome.unmet().filter(|unmet| unmet.name == {expectation:?}).collect();\n    \
             assert!(unmet.is_empty(), \"{{unmet:#?}}\");\n}}\n",
            found = self.found.replace('\n', " "),
            scenario = scenario.name,
            seed = setup.seed,
            expectation = self.expectation,
        )
    }
}
