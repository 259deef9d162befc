//! Scenarios: what is played, and what is expected of it.

use std::{cell::Cell, future::Future, panic, pin::Pin, sync::Once, time::Duration};

use anyhow::{Result, ensure};
use bt2c_proto::Defence;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{
    identity::MAX_IDENTITIES,
    outcome::{Expectation, Outcome},
    plan::{Plan, Setup},
    schedule::Schedule,
    world::World,
};

/// Judges a run when it is over.
pub type Judge = for<'a> fn(&'a World) -> Pin<Box<dyn Future<Output = Result<Vec<Expectation>>> + 'a>>;

/// A scenario.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it shows, in one line.
    pub about: &'static str,
    /// How many honest nodes it has by itself, and how many it needs at least.
    pub nodes: (usize, usize),
    /// How long it lasts by itself, and how long it must last at least, in seconds.
    pub seconds: (u64, u64),
    /// The defences without which it must fail.
    pub defences: &'static [Defence],
    /// Says what is there and what happens.
    pub plan: fn(&Setup, &mut ChaCha8Rng) -> Plan,
    /// Judges it when it is over.
    pub judge: Judge,
}

impl Scenario {
    /// Its own set-up, with this seed.
    pub const fn setup(&self, seed: u64) -> Setup {
        Setup::new(self.nodes.0, Duration::from_secs(self.seconds.0), seed)
    }

    /// Checks the numbers of a set-up.
    ///
    /// # Errors
    /// Names the first that does not fit.
    pub fn check(&self, setup: &Setup) -> Result<()> {
        let (fewest, most, nodes) = (self.nodes.1, MAX_IDENTITIES / 2, setup.nodes);
        ensure!(
            (fewest..=most).contains(&nodes),
            "{} takes {fewest} to {most} nodes, not {nodes}",
            self.name
        );
        let (shortest, duration) = (Duration::from_secs(self.seconds.1), setup.duration);
        ensure!(duration >= shortest, "{} takes {shortest:?} at least, not {duration:?}", self.name);
        Ok(())
    }

    /// What is there and what happens, for a set-up.
    pub fn plan(&self, setup: &Setup) -> Plan {
        (self.plan)(setup, &mut ChaCha8Rng::seed_from_u64(setup.seed))
    }
}

/// Plays a scenario.
///
/// # Errors
/// Numbers that the scenario cannot use, or a node that does not start.
pub fn play(scenario: &Scenario, setup: Setup) -> Result<Outcome> {
    scenario.check(&setup)?;
    let plan = scenario.plan(&setup);
    play_plan(scenario.judge, setup, plan)
}

/// Plays a scenario with a schedule other than its own: one that was cut down by `--shrink`, or written by hand.
///
/// # Errors
/// As [`play`], and a schedule that cannot be read.
pub fn replay(scenario: &Scenario, setup: Setup, schedule: &str) -> Result<Outcome> {
    let schedule: Schedule = schedule.parse()?;
    let plan = Plan { schedule, ..scenario.plan(&setup) };
    play_plan(scenario.judge, setup, plan)
}

/// How many panics there were on this thread, which is where a whole network runs. A task that panics ends quietly.
fn panics() -> u64 {
    thread_local!(static PANICS: Cell<u64> = const { Cell::new(0) });
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let told = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            told(info);
        }));
    });
    PANICS.get()
}

/// Plays any plan on a runtime of its own, whose clock is paused.
///
/// # Errors
/// As [`play`].
pub fn play_plan(judge: Judge, setup: Setup, plan: Plan) -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(async {
        let before = panics();
        let mut world = World::new(setup, plan)?;
        world.run().await?;
        let mut expectations = judge(&world).await?;
        expectations.push(world.expect_starts());
        expectations.push(world.expect_reasons().await);
        let count = panics() - before;
        expectations.push(Expectation::new("nothing panics", count == 0, format!("{count} panics")));
        Ok(world.finish(expectations).await)
    })
}
