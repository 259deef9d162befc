//! The scenarios.

mod any_limits;
mod attacks;
mod faults;
mod honest;

use std::time::Duration;

use super::{
    plan::Plan,
    scenario::Scenario,
    world::{BLOCK_TIME, World},
};

/// Every scenario: honest networks first, then faults, then attacks.
pub static SCENARIOS: &[Scenario] = &[
    honest::SMOKE,
    honest::FLASH_CROWD,
    honest::SLOW_LINKS,
    honest::LONG_SYNC,
    honest::HONEST_SOAK,
    any_limits::SCENARIO,
    faults::CHURN,
    faults::PARTITION,
    faults::REORG,
    faults::CLOCK_SKEW,
    faults::CRASH_RESTART,
    faults::DISK_FULL,
    attacks::eclipse::SCENARIO,
    attacks::sybil::SCENARIO,
    attacks::address_poison::SCENARIO,
    attacks::false_peers::STALL,
    attacks::false_peers::WITHHOLD,
    attacks::false_peers::FALSE_HEIGHT,
    attacks::hostile_sync::SCENARIO,
    attacks::slowloris::SCENARIO,
    attacks::handshake_flood::SCENARIO,
    attacks::json_bomb::SCENARIO,
    attacks::block_spam::SCENARIO,
    attacks::transaction_flood::SCENARIO,
    attacks::ban_evasion::SCENARIO,
];

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Blocks that a network makes in this time at least, if nothing stands in its way.
fn blocks_in(time: Duration) -> u64 {
    u64::try_from(time.as_millis() / BLOCK_TIME.as_millis()).unwrap_or(u64::MAX) * 8 / 10
}

/// Lets a host's node join late, with an empty disk and these hosts as seeds.
fn newcomer(plan: &mut Plan, host: usize, at: Duration, seeds: Vec<usize>) {
    plan.hosts[host].seeds = seeds;
    plan.hosts[host].has_chain = false;
    plan.join([host], at, Duration::ZERO);
}

/// When a host's node came to a height at first, counted from a moment; what it has now if it never did.
fn reached(world: &World, host: usize, height: u64, since: Duration) -> Result<Duration, u64> {
    let history = world.record.history();
    let own = || history.tips.iter().filter(|(_, whose, ..)| *whose == host);
    let first = own().find(|(_, _, tip, _)| tip.get() >= height);
    let latest = || own().next_back().map_or(0, |(_, _, tip, _)| tip.get());
    first.map(|(at, ..)| at.saturating_sub(since)).ok_or_else(latest)
}

/// The scenario of that name.
pub fn scenario(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}
