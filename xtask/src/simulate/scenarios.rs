//! The scenarios.

use std::{future::Future, pin::Pin, time::Duration};

use anyhow::Result;
use rand::RngExt;

use super::{
    Expectation, Scenario,
    world::{BLOCK_TIME, World},
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
