//! The scenarios.

use std::{future::Future, pin::Pin, time::Duration};

use anyhow::Result;
use rand::RngExt;

use super::{
    Expectation, Scenario,
    net::Link,
    world::{BLOCK_TIME, Place, World},
};

/// A scenario's function.
pub type Play = for<'a> fn(&'a mut World) -> Pin<Box<dyn Future<Output = Result<Vec<Expectation>>> + 'a>>;

/// Every scenario.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "smoke",
        about: "nodes join over a minute, sync, relay a transaction, and end on one tip",
        nodes: (20, 5),
        seconds: (300, 120),
        play: |world| Box::pin(smoke(world)),
    },
    Scenario {
        name: "partition",
        about: "the network splits in halves that both go on, and heals to one tip by reorganisation",
        nodes: (12, 4),
        seconds: (900, 600),
        play: |world| Box::pin(partition(world)),
    },
    Scenario {
        name: "churn",
        about: "nodes crash, come back and are replaced by new ones; the others do not mind",
        nodes: (24, 12),
        seconds: (900, 300),
        play: |world| Box::pin(churn(world)),
    },
    Scenario {
        name: "crash-restart",
        about: "every node in turn, proposers too, crashes and starts again on what its disk holds",
        nodes: (8, 5),
        seconds: (600, 300),
        play: |world| Box::pin(crash_restart(world)),
    },
    Scenario {
        name: "slow-links",
        about: "most nodes are on DSL and mobile links that lose a good part of what they carry",
        nodes: (20, 5),
        seconds: (600, 120),
        play: |world| Box::pin(slow_links(world)),
    },
    Scenario {
        name: "clock-skew",
        about: "clocks differ by up to a second and a half; one is half a minute behind, one ten minutes ahead",
        nodes: (12, 7),
        seconds: (600, 120),
        play: |world| Box::pin(clock_skew(world)),
    },
];

/// Blocks that a network makes in this time at least, if nothing stands in its way.
fn blocks_in(time: Duration) -> u64 {
    u64::try_from(time.as_millis() / BLOCK_TIME.as_millis()).unwrap_or(u64::MAX) * 8 / 10
}

/// The proposers begin; all others but one join at random moments of the first minute; at half-time one of them sends a
/// transaction; the last one joins late and has to catch up.
async fn smoke(world: &mut World) -> Result<Vec<Expectation>> {
    let (nodes, duration) = (world.setup.nodes, world.setup.duration);
    for _ in 0..4 {
        world.join().await?;
    }
    let mut moments: Vec<u64> = (5..nodes).map(|_| world.rng.random_range(0..60_000)).collect();
    moments.sort_unstable();
    for moment in moments {
        world.wait(Duration::from_millis(moment).saturating_sub(world.passed())).await;
        world.join().await?;
    }
    world.wait((duration / 2).saturating_sub(world.passed())).await;
    let transaction = world.transaction(1);
    let hash = transaction.hash;
    let taken = world.nodes[world.nodes.len() - 1].node.broadcast_transaction(transaction).await;
    world.join().await?;
    world.wait(duration.saturating_sub(world.passed())).await;
    world.settle().await;
    let holders = world.nodes_with(hash).await?;
    Ok(vec![
        world.expect_peers(3).await,
        world.expect_one_tip(blocks_in(duration)).await,
        Expectation {
            name: "a transaction is on every node's chain",
            met: holders == nodes,
            found: format!("{holders} of {nodes}, sent with {taken:?}"),
        },
        world.expect_no_bans(),
    ])
}

/// A network at rest is cut so that two of the four proposers are on each side, for a third of the time.
async fn partition(world: &mut World) -> Result<Vec<Expectation>> {
    let third = world.setup.duration / 3;
    for _ in 0..world.setup.nodes {
        world.join().await?;
    }
    world.wait(third).await;
    let ips: Vec<_> = world.nodes.iter().map(|sim| sim.ip).collect();
    let side = |parity: usize| -> Vec<_> { ips.iter().skip(parity).step_by(2).copied().collect() };
    world.net.cut(&side(0), &side(1));
    let before = world.tips().await;
    world.wait(third).await;
    let apart = world.tips().await;
    world.net.heal();
    world.wait(third).await;
    world.settle().await;
    let (a, b) = (&apart[0], &apart[1]);
    let lowest = before.iter().map(|(height, _)| height.get()).min().unwrap_or(0);
    Ok(vec![
        Expectation {
            name: "both sides go on while they are apart",
            met: a.1 != b.1 && a.0.get() > lowest && b.0.get() > lowest,
            found: format!("from {lowest} to {} {} and {} {}", a.0, a.1, b.0, b.1),
        },
        Expectation {
            name: "one side gives way by reorganisation",
            met: world.reorganisations() > 0,
            found: format!("{} reorganisations", world.reorganisations()),
        },
        world.expect_one_tip(blocks_in(third) * 2).await,
        world.expect_no_bans(),
    ])
}

/// Two thirds join at the start. Then, for the whole time, someone who does not propose crashes every twenty seconds;
/// half of them come back half a minute later, the others are replaced by newcomers while there are any left.
async fn churn(world: &mut World) -> Result<Vec<Expectation>> {
    let (nodes, duration) = (world.setup.nodes, world.setup.duration);
    let mut newcomers = nodes / 3;
    for _ in newcomers..nodes {
        world.join().await?;
    }
    world.wait(Duration::from_secs(60)).await;
    let mut crashes = 0;
    while world.passed() + Duration::from_secs(120) < duration {
        let position = world.rng.random_range(4..world.nodes.len());
        let rest = world.crash(position).await;
        crashes += 1;
        world.wait(Duration::from_secs(20)).await;
        if newcomers > 0 && world.rng.random() {
            newcomers -= 1;
            world.join().await?;
        } else {
            world.wait(Duration::from_secs(10)).await;
            world.restart(rest).await?;
        }
    }
    world.wait(duration.saturating_sub(world.passed())).await;
    world.settle().await;
    Ok(vec![
        Expectation { name: "nodes came and went", met: crashes > 2, found: format!("{crashes} crashes") },
        world.expect_peers(3).await,
        world.expect_one_tip(blocks_in(duration)).await,
        world.expect_no_bans(),
    ])
}

/// One after the other is killed in the midst of its work, is away for a block and a half, and comes back.
async fn crash_restart(world: &mut World) -> Result<Vec<Expectation>> {
    for _ in 0..world.setup.nodes {
        world.join().await?;
    }
    world.wait(Duration::from_secs(60)).await;
    let mut lost = Vec::new();
    for _ in 0..world.setup.nodes {
        // A restarted node goes to the end, so the first is always the one whose turn it is.
        let before = world.nodes[0].node.status().await;
        let rest = world.crash(0).await;
        world.wait(BLOCK_TIME * 3 / 2).await;
        world.restart(rest).await?;
        let after = world.nodes[world.nodes.len() - 1].node.status().await.height;
        if after < before.height {
            lost.push(format!("{} came back at {after}, was at {}", before.node_id, before.height));
        }
    }
    world.wait(world.setup.duration.saturating_sub(world.passed())).await;
    world.settle().await;
    let elsewhere = BLOCK_TIME * 2 * u32::try_from(world.setup.nodes).unwrap_or(u32::MAX);
    Ok(vec![
        Expectation { name: "no stored block is lost", met: lost.is_empty(), found: lost.join("; ") },
        world.expect_peers(3).await,
        world.expect_one_tip(blocks_in(world.setup.duration.saturating_sub(elsewhere))).await,
        world.expect_no_bans(),
    ])
}

/// The proposers are on cable; of the others every second is on DSL, every second on a mobile link.
async fn slow_links(world: &mut World) -> Result<Vec<Expectation>> {
    for index in 0..world.setup.nodes {
        let link = match index {
            0..4 => Link::CABLE,
            _ if index % 2 == 0 => Link::DSL,
            _ => Link::MOBILE,
        };
        world.join_at(Place { link, ..Place::default() }).await?;
        world.wait(Duration::from_secs(2)).await;
    }
    let transaction = world.transaction(1);
    let hash = transaction.hash;
    let taken = world.nodes[world.nodes.len() - 1].node.broadcast_transaction(transaction).await;
    world.wait(world.setup.duration.saturating_sub(world.passed())).await;
    world.settle().await;
    let holders = world.nodes_with(hash).await?;
    Ok(vec![
        world.expect_peers(3).await,
        world.expect_one_tip(blocks_in(world.setup.duration)).await,
        Expectation {
            name: "a transaction is on every node's chain",
            met: holders == world.setup.nodes,
            found: format!("{holders} of {}, sent with {taken:?}", world.setup.nodes),
        },
        world.expect_no_bans(),
    ])
}

/// The proposers' clocks are within what a block's timestamp may be ahead; of the others one is half a minute behind, so
/// that every block comes too early for it, and one ten minutes ahead.
async fn clock_skew(world: &mut World) -> Result<Vec<Expectation>> {
    for index in 0..world.setup.nodes {
        let skew_ms = match index {
            4 => -30_000,
            5 => 600_000,
            _ => world.rng.random_range(-750..=750),
        };
        world.join_at(Place { skew_ms, ..Place::default() }).await?;
    }
    world.wait(world.setup.duration).await;
    world.settle().await;
    world.wait(Duration::from_secs(30)).await;
    Ok(vec![
        world.expect_peers(3).await,
        world.expect_one_tip(blocks_in(world.setup.duration)).await,
        world.expect_no_bans(),
    ])
}
