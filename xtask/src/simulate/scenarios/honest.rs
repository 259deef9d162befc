//! Networks in which nobody means harm and nothing breaks.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;
use bt2c_node::config::NodeConfig;
use bt2c_proto::Defence;
use rand::RngExt;

use super::{blocks_in, newcomer, reached, seconds};
use crate::simulate::{
    net::{Bandwidth, Link, Nat},
    outcome::Expectation,
    plan::Plan,
    scenario::Scenario,
    schedule::Step,
    world::{BLOCK_TIME, ChainPlan, World},
};

/// The proposers begin; all others but one join at random moments of the first minute; at half-time one of them sends a
/// transaction; the last one joins late and has to catch up.
pub(super) const SMOKE: Scenario = Scenario {
    name: "smoke",
    about: "nodes join over a minute, sync, relay a transaction, and end on one tip",
    nodes: (20, 5),
    seconds: (300, 120),
    defences: &[],
    plan: |setup, rng| {
        let mut plan = Plan::new(setup);
        let last = setup.nodes - 1;
        plan.join(0..4, seconds(0), seconds(0));
        for host in 4..last {
            plan.join([host], seconds(60).mul_f64(rng.random()), seconds(0));
        }
        plan.at(setup.duration / 2, Step::Transact(last - 1));
        plan.join([last], setup.duration / 2, seconds(0));
        plan
    },
    judge: |world| Box::pin(judge_spread(world)),
};

/// Ten nodes are there; all others join within a minute. Three of the ten are everyone's seeds, and have not half the
/// slots for that.
pub(super) const FLASH_CROWD: Scenario = Scenario {
    name: "flash-crowd",
    about: "200 nodes join ten within a minute",
    nodes: (210, 20),
    seconds: (240, 180),
    defences: &[Defence::InboundEviction],
    plan: |setup, rng| {
        let mut plan = Plan::new(setup);
        plan.join(0..10, seconds(0), seconds(1));
        for host in 10..setup.nodes {
            plan.hosts[host].seeds = vec![0, 1, 2];
            plan.join([host], seconds(60) + seconds(60).mul_f64(rng.random()), seconds(0));
        }
        plan.at(seconds(150), Step::Transact(9));
        plan
    },
    judge: |world| Box::pin(judge_spread(world)),
};

/// The proposers are on cable; of the others every second is on DSL, every second on a mobile link.
pub(super) const SLOW_LINKS: Scenario = Scenario {
    name: "slow-links",
    about: "most nodes are on DSL and mobile links that lose a good part of what they carry",
    nodes: (20, 5),
    seconds: (600, 120),
    defences: &[],
    plan: |setup, _| {
        let mut plan = Plan::new(setup);
        slow(&mut plan);
        plan.join(0..setup.nodes, seconds(0), seconds(2));
        plan.at(seconds(2) * u32::try_from(setup.nodes).unwrap_or(0), Step::Transact(setup.nodes - 1));
        plan
    },
    judge: |world| Box::pin(judge_spread(world)),
};

/// What is expected where everyone is to meet and everything is to reach everyone.
async fn judge_spread(world: &World) -> Result<Vec<Expectation>> {
    Ok(vec![
        world.expect_peers(3).await,
        world.expect_one_tip().await,
        world.expect_height(blocks_in(world.setup.duration)).await,
        world.expect_transactions().await?,
        world.expect_no_honest_bans(),
    ])
}

fn slow(plan: &mut Plan) {
    for (number, host) in plan.hosts.iter_mut().enumerate() {
        host.link = match number {
            0..4 => Link::CABLE,
            _ if number % 2 == 0 => Link::DSL,
            _ => Link::MOBILE,
        };
    }
}

/// Blocks that there are when [`LONG_SYNC`] begins.
const LONG: u64 = 2_000;

/// How long a newcomer may take for them. 700 kB over 20 Mbit/s are no matter; what counts is that a base peer is asked
/// once in two seconds.
const LONG_TIME: u64 = 90;

/// All but the last three nodes have a long chain; the others come with nothing. Everyone is on 20 Mbit/s.
pub(super) const LONG_SYNC: Scenario = Scenario {
    name: "long-sync",
    about: "three newcomers fetch a chain of 2,000 blocks over 20 Mbit/s while it goes on",
    nodes: (8, 6),
    seconds: (240, 150),
    defences: &[],
    plan: |setup, _| {
        let mut plan = Plan::new(setup);
        plan.chain = ChainPlan { blocks: LONG, transactions: 1, branch: None };
        for host in &mut plan.hosts {
            host.has_chain = true;
            host.link = Link { up: Bandwidth::mbit(20), down: Bandwidth::mbit(20), ..host.link };
        }
        let old = setup.nodes - 3;
        plan.join(0..old, seconds(0), seconds(1));
        for host in old..setup.nodes {
            newcomer(&mut plan, host, seconds(30), vec![0, 1]);
        }
        plan
    },
    judge: |world| {
        Box::pin(async {
            let newcomers = world.setup.nodes - 3..world.setup.nodes;
            let times: Vec<_> = newcomers.map(|host| reached(world, host, LONG, seconds(30))).collect();
            let in_time = times.iter().all(|time| time.is_ok_and(|time| time <= seconds(LONG_TIME)));
            let found = format!("{times:?} (at most {LONG_TIME} s)");
            Ok(vec![
                Expectation::new("newcomers have the whole chain in time", in_time, found),
                world.expect_one_tip().await,
                world.expect_height(LONG + blocks_in(world.setup.duration)).await,
                world.expect_no_honest_bans(),
            ])
        })
    },
};

/// Slow and lossy links; every third node is one of five behind a router that lets nobody in; hardly a transaction.
pub(super) const HONEST_SOAK: Scenario = Scenario {
    name: "honest-soak",
    about: "slow, lossy, empty blocks, many behind one NAT: nobody bans anybody",
    nodes: (20, 10),
    seconds: (1800, 600),
    defences: &[],
    plan: |setup, rng| {
        let mut plan = Plan::new(setup);
        slow(&mut plan);
        // Whoever shares an address shares its limits.
        plan.tune = |_, config: &mut NodeConfig| config.p2p.ping_interval = seconds(20);
        for number in (4..setup.nodes).filter(|number| number % 3 == 0) {
            let [.., high, low] = (number / 15).to_be_bytes();
            let public = IpAddr::V4(Ipv4Addr::new(60 + high, low, 0, 1));
            plan.hosts[number].ip =
                IpAddr::V4(Ipv4Addr::new(10, high, low, u8::try_from(number % 256).unwrap_or(0)));
            plan.hosts[number].nat = Nat::Restricted { public };
        }
        for host in 0..setup.nodes {
            plan.join([host], seconds(60).mul_f64(rng.random()), seconds(0));
        }
        // Some go and come back, as people do.
        for _ in 0..setup.nodes / 4 {
            let host = rng.random_range(4..setup.nodes);
            let at = setup.duration.mul_f64(rng.random_range(0.2..0.8));
            plan.at(at, Step::Leave(host));
            plan.at(at + seconds(rng.random_range(5..120)), Step::Join(host));
        }
        plan
    },
    judge: |world| {
        Box::pin(async {
            let bans = world.record.history().bans.len();
            Ok(vec![
                Expectation::new("nobody bans anybody", bans == 0, format!("{bans} bans")),
                world.expect_one_tip().await,
                world.expect_height(blocks_in(world.setup.duration) - BLOCK_TIME.as_secs()).await,
                world.expect_peers(2).await,
            ])
        })
    },
};
