//! Blocks that nobody should have made.

use bt2c_p2p::env::Clock;
use bt2c_proto::{BlockHash, Defence, Height};
use bt2c_sync::{BlockRef, sealed_block};
use serde_json::{Value, json};

use super::{apart, attackers, blocks_in, expect_attack, seconds};
use crate::simulate::{
    attack::{Attack, Stage},
    outcome::Expectation,
    plan::Plan,
    scenario::Scenario,
    world::BLOCK_TIME,
};

/// Attackers, one a node from the fifth on.
const SPAMMERS: u8 = 3;

/// Whom the first spammer attacks; each further one attacks the next.
const FIRST: usize = 4;

/// Each spammer pushes to one node blocks on its tip that are sealed by somebody who does not propose, or whose seal is of
/// another block. A node that passed one on unseen would be banned in its place.
pub(in super::super) const SCENARIO: Scenario = Scenario {
    name: "block-spam",
    about: "invalid blocks are pushed: whoever sends one is banned, and nobody passes one on",
    nodes: (10, 8),
    seconds: (240, 120),
    defences: &[Defence::Bans],
    plan: |setup, _| {
        let mut plan = Plan::new(setup);
        plan.join(0..setup.nodes, seconds(0), seconds(0));
        attackers(&mut plan, ATTACK, apart(96, SPAMMERS), seconds(40));
        plan
    },
    judge: |world| {
        Box::pin(async {
            let victims = FIRST..FIRST + usize::from(SPAMMERS);
            let history = world.record.history();
            let banned =
                victims.clone().filter(|host| history.bans.iter().any(|(_, by, _)| by == host)).count();
            drop(history);
            Ok(vec![
                Expectation::new(
                    "each victim bans its spammer",
                    banned == victims.len(),
                    format!("{banned} of {}", victims.len()),
                ),
                expect_attack(world, "blocks", 3),
                world.expect_one_tip().await,
                world.expect_height(blocks_in(world.setup.duration)).await,
                world.expect_peers(3).await,
                world.expect_no_honest_bans(),
            ])
        })
    },
};

const ATTACK: Attack = Attack {
    name: "block-spam",
    play: |stage| {
        Box::pin(async move {
            let Ok(me) = stage.persona(0) else { return };
            // Attackers have the numbers after those of the honest nodes.
            let target = FIRST + stage.number - stage.honest.len();
            let Some(addr) = stage.honest.get(target).copied() else { return };
            for round in 0_u64.. {
                if let Ok(mut line) = stage.dial(addr, &me).await
                    && let Ok(Some(theirs)) =
                        line.greet(stage.hello(&me, (0, stage.genesis.hash()), false)).await
                    && let Some(block) = forged(&stage, &me, &theirs, round % 2 == 1)
                    && line.send("new_block", json!({ "block": block })).await.is_ok()
                {
                    stage.count("blocks");
                    line.drain().await;
                }
                stage.wait(seconds(5)).await;
            }
        })
    },
};

/// A block on the tip that a hello tells: sealed by the attacker, who proposes nothing; or with the seal damaged.
fn forged(stage: &Stage, me: &bt2c_security::Credentials, theirs: &Value, damaged: bool) -> Option<Value> {
    let height = Height::new(theirs["block_height"].as_u64()?);
    let hash: BlockHash = theirs["last_block_hash"].as_str()?.parse().ok()?;
    let now = stage.clock.now().as_secs();
    let slot = now - now % BLOCK_TIME.as_secs();
    let parent = BlockRef { height, hash, parent: hash, timestamp: slot - BLOCK_TIME.as_secs() };
    let mut block = serde_json::to_value(sealed_block(&parent, slot, me.identity(), Vec::new())).ok()?;
    if damaged {
        block["timestamp"] = (slot + 1).into();
    }
    Some(block)
}
