//! Blocks that nobody should have made.

use bt2c_p2p::env::Clock;
use bt2c_proto::{Blob, Block, BlockHeader, Defence, HeaderContent, Height, merkle_root};
use bt2c_security::Credentials;
use bt2c_sync::ValidatorSchedule;
use serde_json::{Value, json};

use super::{apart, attackers, blocks_in, expect_attack, seconds};
use crate::simulate::{
    attack::{Attack, Stage},
    outcome::Expectation,
    plan::Plan,
    scenario::Scenario,
    world::BLOCK_TIME,
};

/// Attackers, one a node from the fifth on; every second borrows the name of whoever proposes.
const SPAMMERS: u8 = 4;

/// Whom the first spammer attacks; each further one attacks the next.
const FIRST: usize = 4;

/// Each spammer pushes to one node blocks on its tip that are sealed by somebody who does not propose, or in the name of
/// whoever does. A node that passed one on unseen would be banned in its place.
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
                expect_attack(world, "blocks", u64::from(SPAMMERS)),
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
            loop {
                if let Ok(mut line) = stage.dial(addr, &me).await
                    && let Ok(Some(theirs)) =
                        line.greet(stage.hello(&me, (0, stage.genesis.hash()), false)).await
                    && let Some(block) = forged(&stage, &me, &theirs, stage.number % 2 == 1)
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

/// A block on the tip that a hello tells: sealed by the attacker, who proposes nothing; or in the name of whoever proposes,
/// which only the seal itself shows to be false.
fn forged(stage: &Stage, me: &Credentials, theirs: &Value, borrowed: bool) -> Option<Block> {
    let now = stage.clock.now().as_secs();
    let timestamp = now - now % BLOCK_TIME.as_secs();
    let schedule = ValidatorSchedule::new(stage.genesis.clone()).ok()?;
    let proposer = schedule.proposer(schedule.slot_at(timestamp)?);
    let content = HeaderContent {
        height: Height::new(theirs["block_height"].as_u64()? + 1),
        timestamp,
        previous_hash: theirs["last_block_hash"].as_str()?.parse().ok()?,
        merkle_root: merkle_root(&[]),
        validator: Some(if borrowed { proposer } else { me.identity().address() }),
    };
    let seal = me.identity().sign(content.hash().as_bytes());
    let header = BlockHeader::new(content, Blob::try_from(seal.as_slice()).ok()?);
    Some(Block { header, transactions: Vec::new() })
}
