//! More transactions than anybody has.

use bt2c_node::config::NodeConfig;
use bt2c_p2p::env::Clock;
use bt2c_proto::Defence;
use bt2c_sync::signed_transaction;
use serde_json::json;

use super::{apart, attackers, blocks_in, expect_attack, expect_attackers_banned, seconds};
use crate::simulate::{
    attack::{Attack, Stage},
    identity::identity,
    outcome::Expectation,
    plan::Plan,
    scenario::Scenario,
    schedule::Step,
    world::World,
};

/// Transactions that the flooder has.
const FLOOD: u64 = 400;

/// Transactions that a connection takes at once in this scenario, instead of 1,000: signing more takes time.
const BURST: u32 = 40;

/// How often it sends all of them: what is above four times the usual 1,000 at once is held against it, however low the
/// limits are.
const ROUNDS: usize = 22;

/// What one connection of the flooder may get through: the burst, and two a second for as long as it lasts.
const THROUGH: usize = 60;

/// One host sends hundreds of valid transactions to two nodes at once, again and again.
pub(in super::super) const SCENARIO: Scenario = Scenario {
    name: "transaction-flood",
    about: "thousands of transactions at once: few get through, and who goes on is banned",
    nodes: (8, 6),
    seconds: (240, 120),
    defences: &[Defence::PushLimits, Defence::Bans],
    plan: |setup, _| {
        let mut plan = Plan::new(setup);
        plan.tune = |_, config: &mut NodeConfig| {
            config.p2p.security.tx_burst = BURST.try_into().expect("it is above zero");
            config.p2p.security.tx_per_second = 2.try_into().expect("it is above zero");
        };
        plan.join(0..setup.nodes, seconds(0), seconds(0));
        attackers(&mut plan, ATTACK, apart(97, 1), seconds(30));
        // An honest wallet meanwhile.
        plan.at(seconds(40), Step::Transact(setup.nodes - 1));
        plan
    },
    judge: |world| {
        Box::pin(async {
            let most = most_transactions(world).await?;
            Ok(vec![
                Expectation::new(
                    "a flood gets no more through than the limits say",
                    most.0 <= 2 * THROUGH,
                    format!(
                        "{} of {FLOOD} on the chain or waiting at host {} (at most {})",
                        most.0,
                        most.1,
                        2 * THROUGH
                    ),
                ),
                expect_attack(world, "transactions", 200),
                expect_attackers_banned(world, "transaction-flood", 0..2),
                world.expect_transactions().await?,
                world.expect_one_tip().await,
                world.expect_height(blocks_in(world.setup.duration)).await,
                world.expect_no_honest_bans(),
            ])
        })
    },
};

/// The most transactions that a node holds, in blocks and in its pool.
async fn most_transactions(world: &World) -> anyhow::Result<(usize, usize)> {
    let mut most = (0, 0);
    for (number, node) in world.honest_nodes() {
        let waiting = node.status().await.pending_transactions;
        let included = world.included(node).await?.len();
        most = most.max((waiting + included, number));
    }
    Ok(most)
}

const ATTACK: Attack = Attack {
    name: "transaction-flood",
    play: |stage| {
        Box::pin(async move {
            let transactions = transactions(&stage);
            let Ok(me) = stage.persona(0) else { return };
            let halves = transactions.chunks(transactions.len().div_ceil(2));
            for (addr, half) in stage.honest.iter().zip(halves) {
                let Ok(mut line) = stage.dial(*addr, &me).await else { continue };
                let hello = stage.hello(&me, (0, stage.genesis.hash()), false);
                if let Ok(Some(_)) = line.greet(hello).await {
                    for transaction in std::iter::repeat_n(half, ROUNDS).flatten() {
                        if line.send("new_transaction", json!({ "transaction": transaction })).await.is_err()
                        {
                            break;
                        }
                        stage.count("transactions");
                    }
                    line.drain().await;
                }
            }
        })
    },
};

fn transactions(stage: &Stage) -> Vec<bt2c_proto::Transaction> {
    let (Ok(from), Ok(to)) = (identity(1), identity(2)) else { return Vec::new() };
    let now = stage.clock.now().as_secs();
    let one = |nonce| signed_transaction(&from, stage.genesis.hash(), to.address(), 1, 1, nonce, now);
    (0..FLOOD).map(one).collect()
}
