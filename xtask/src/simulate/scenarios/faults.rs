//! Honest networks in which things break.

use rand::RngExt;

use super::{blocks_in, seconds};
use crate::simulate::{
    outcome::Expectation,
    plan::Plan,
    scenario::Scenario,
    schedule::Step,
    world::{BLOCK_TIME, World},
};
use bt2c_p2p::env::DiskFault;

/// Two thirds join at the start. Then, for the whole time, someone who does not propose crashes every twenty seconds;
/// half of them come back half a minute later, the others are replaced by newcomers while there are any left.
pub(super) const CHURN: Scenario = Scenario {
    name: "churn",
    about: "nodes crash, come back and are replaced by new ones; the others do not mind",
    nodes: (24, 12),
    seconds: (900, 300),
    defences: &[],
    plan: |setup, rng| {
        let mut plan = Plan::new(setup);
        let mut newcomers: Vec<_> = (setup.nodes - setup.nodes / 3..setup.nodes).collect();
        let mut up: Vec<_> = (0..setup.nodes - newcomers.len()).collect();
        plan.join(up.iter().copied(), seconds(0), seconds(0));
        let mut at = seconds(60);
        while at + seconds(120) < setup.duration {
            let gone = up.swap_remove(rng.random_range(4..up.len()));
            plan.at(at, Step::Crash(gone));
            at += seconds(20);
            match newcomers.pop_if(|_| rng.random()) {
                Some(newcomer) => {
                    plan.at(at, Step::Join(newcomer));
                    up.push(newcomer);
                }
                None => {
                    plan.at(at + seconds(10), Step::Restart(gone));
                    up.push(gone);
                }
            }
        }
        plan
    },
    judge: |world| {
        Box::pin(async {
            Ok(vec![
                world.expect_peers(3).await,
                world.expect_one_tip().await,
                world.expect_height(blocks_in(world.setup.duration)).await,
                world.expect_no_losses(),
                world.expect_no_honest_bans(),
            ])
        })
    },
};

/// A network at rest is cut so that two of the four proposers are on each side, for a third of the time.
pub(super) const PARTITION: Scenario = Scenario {
    name: "partition",
    about: "the network splits in halves that both go on, and heals to one tip by reorganisation",
    nodes: (12, 4),
    seconds: (900, 600),
    defences: &[],
    plan: |setup, _| {
        let mut plan = Plan::new(setup);
        plan.join(0..setup.nodes, seconds(0), seconds(0));
        split(&mut plan, setup.duration / 3, setup.duration * 2 / 3);
        plan
    },
    judge: |world| {
        Box::pin(async {
            let third = world.setup.duration / 3;
            Ok(vec![
                expect_two_branches(world, third, third * 2),
                expect_reorganisation(world),
                world.expect_one_tip().await,
                world.expect_height(blocks_in(third) * 2).await,
                world.expect_no_honest_bans(),
            ])
        })
    },
};

/// Hosts with even numbers on one side, those with odd ones on the other.
fn split(plan: &mut Plan, from: std::time::Duration, until: std::time::Duration) {
    let side = |parity: usize| (parity..plan.hosts.len()).step_by(2).collect();
    let cut = Step::Cut(side(0), side(1));
    plan.at(from, cut);
    plan.at(until, Step::Heal);
}

fn expect_two_branches(world: &World, from: std::time::Duration, until: std::time::Duration) -> Expectation {
    let history = world.record.history();
    let tip = |host, at| {
        history.tip_at(host, at).map_or((0, String::new()), |(height, hash)| (height.get(), hash.short()))
    };
    let (start, a, b) = (tip(0, from).0, tip(0, until), tip(1, until));
    let met = a.1 != b.1 && a.0 > start && b.0 > start;
    let found = format!("from {start} to {} {} and {} {}", a.0, a.1, b.0, b.1);
    Expectation::new("both sides go on while they are apart", met, found)
}

fn expect_reorganisation(world: &World) -> Expectation {
    let count = world.reorganisations();
    Expectation::new("one side gives way by reorganisation", count > 0, format!("{count} reorganisations"))
}

/// As in `partition`, and wallets on both sides send transactions: those of the branch that gives way must not be lost.
pub(super) const REORG: Scenario = Scenario {
    name: "reorg",
    about: "a branch with transactions gives way to a longer one; the transactions come onto that",
    nodes: (8, 6),
    seconds: (600, 360),
    defences: &[],
    plan: |setup, rng| {
        let mut plan = Plan::new(setup);
        plan.join(0..setup.nodes, seconds(0), seconds(0));
        split(&mut plan, seconds(60), seconds(180));
        // Each side has both its own transactions and its own proposers.
        for host in 0..6 {
            plan.at(seconds(70 + rng.random_range(0..60)), Step::Transact(host));
        }
        plan
    },
    judge: |world| {
        Box::pin(async {
            Ok(vec![
                expect_two_branches(world, seconds(60), seconds(180)),
                expect_reorganisation(world),
                world.expect_transactions().await?,
                world.expect_one_tip().await,
                world.expect_height(blocks_in(world.setup.duration - seconds(120))).await,
                world.expect_no_honest_bans(),
            ])
        })
    },
};

/// The proposers' clocks are within what a block's timestamp may be ahead; of the others one is half a minute behind, so
/// that every block comes too early for it, one ten minutes ahead, and all drift.
pub(super) const CLOCK_SKEW: Scenario = Scenario {
    name: "clock-skew",
    about: "clocks differ and drift; one is half a minute behind, one ten minutes ahead",
    nodes: (12, 7),
    seconds: (600, 120),
    defences: &[],
    plan: |setup, rng| {
        let mut plan = Plan::new(setup);
        for (number, host) in plan.hosts.iter_mut().enumerate() {
            // A bad quartz is off by 100 millionths.
            host.drift_ppm = rng.random_range(-100..=100);
            host.skew_ms = match number {
                4 => -30_000,
                5 => 600_000,
                _ => rng.random_range(-750..=750),
            };
        }
        plan.join(0..setup.nodes, seconds(0), seconds(0));
        plan
    },
    judge: |world| {
        Box::pin(async {
            // For the one that is half a minute behind the last blocks are due only now.
            tokio::time::sleep(seconds(30)).await;
            Ok(vec![
                world.expect_peers(3).await,
                world.expect_one_tip().await,
                world.expect_height(blocks_in(world.setup.duration)).await,
                world.expect_no_honest_bans(),
            ])
        })
    },
};

/// One after the other is killed in the midst of its work, or loses its power, is away for a block and a half, and comes
/// back.
pub(super) const CRASH_RESTART: Scenario = Scenario {
    name: "crash-restart",
    about: "every node in turn, proposers too, crashes or loses power and starts again on what its disk holds",
    nodes: (8, 5),
    seconds: (600, 300),
    defences: &[],
    plan: |setup, rng| {
        let mut plan = Plan::new(setup);
        plan.join(0..setup.nodes, seconds(0), seconds(0));
        let mut at = seconds(60);
        for host in 0..setup.nodes {
            // At any moment of a slot, also in the midst of a write.
            at += seconds(5).mul_f64(rng.random());
            plan.at(at, if rng.random() { Step::Crash(host) } else { Step::PowerLoss(host) });
            at += BLOCK_TIME * 3 / 2;
            plan.at(at, Step::Restart(host));
        }
        plan
    },
    judge: |world| {
        Box::pin(async {
            let elsewhere = BLOCK_TIME * 2 * u32::try_from(world.setup.nodes).unwrap_or(u32::MAX);
            Ok(vec![
                world.expect_no_losses(),
                world.expect_peers(3).await,
                world.expect_one_tip().await,
                world.expect_height(blocks_in(world.setup.duration.saturating_sub(elsewhere))).await,
                world.expect_no_honest_bans(),
            ])
        })
    },
};

/// Two nodes' disks fill up and are given room again; one's does not take what is written, and its machine then loses
/// power.
pub(super) const DISK_FULL: Scenario = Scenario {
    name: "disk-full",
    about: "disks are full or take nothing for a while: nodes go on with what they have, and catch up",
    nodes: (10, 7),
    seconds: (480, 400),
    defences: &[],
    plan: |setup, rng| {
        let mut plan = Plan::new(setup);
        plan.join(0..setup.nodes, seconds(0), seconds(0));
        let [proposer, full, sick] = [rng.random_range(1..4), 4, 5];
        for host in [proposer, full] {
            plan.at(seconds(60 + rng.random_range(0..20)), Step::Disk(host, Some(DiskFault::Full)));
            plan.at(seconds(180), Step::Disk(host, None));
        }
        plan.at(seconds(70), Step::Disk(sick, Some(DiskFault::FailedSync)));
        plan.at(seconds(150) + seconds(10).mul_f64(rng.random()), Step::PowerLoss(sick));
        plan.at(seconds(200), Step::Restart(sick));
        plan
    },
    judge: |world| {
        Box::pin(async {
            let history = world.record.history();
            let failures = |host| {
                history
                    .warnings
                    .iter()
                    .filter(|(_, whose, what)| *whose == host && what == "store_failed")
                    .count()
            };
            let told = failures(4) > 0 && failures(5) > 0;
            let found = format!("{} by host 4, {} by host 5", failures(4), failures(5));
            // Between the fault and its end a node keeps its peers: it serves what it has.
            let during = seconds(80)..seconds(150);
            let lost = history.peers.iter().filter(|(at, host, _, gone)| {
                during.contains(at)
                    && [4, 5].contains(host)
                    && gone.as_ref().is_some_and(|why| !why.contains("pruned"))
            });
            let lost: Vec<_> = lost
                .map(|(at, host, _, why)| format!("host {host} at {} s: {why:?}", at.as_secs()))
                .collect();
            drop(history);
            Ok(vec![
                Expectation::new("nodes say that they cannot store", told, found),
                Expectation::new("they keep their peers meanwhile", lost.is_empty(), lost.join("; ")),
                world.expect_no_losses(),
                world.expect_one_tip().await,
                world.expect_height(blocks_in(world.setup.duration) / 2).await,
                world.expect_peers(3).await,
                world.expect_no_honest_bans(),
            ])
        })
    },
};
