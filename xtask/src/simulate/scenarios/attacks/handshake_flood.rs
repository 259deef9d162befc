//! Connections for nothing but the work of a handshake.

use std::{net::SocketAddr, time::Duration};

use bt2c_proto::Defence;

use super::{attackers, blocks_in, expect_attack, one_slash16, seconds};
use crate::simulate::{
    attack::{Attack, Stage},
    outcome::Expectation,
    plan::Plan,
    scenario::Scenario,
};

/// When it begins, and for how many seconds it goes on.
const FROM: u64 = 20;
const FOR: u64 = 60;

/// What a netgroup may begin in that time: 50 at once, 10 a second (`SecurityConfig`).
const BUDGET: u64 = 50 + FOR * 10;

/// Sixty machines of one /16 let one node do a handshake each every 700 ms and what the way takes, which is nearly as often
/// as an IP may come, and are refused as soon as it has cost the node its signature. A node joins in the midst of it.
pub(in super::super) const SCENARIO: Scenario = Scenario {
    name: "handshake-flood",
    about: "one /16 opens fifty connections a second for the work of their handshakes, while a node wants to join",
    nodes: (6, 6),
    seconds: (180, 150),
    defences: &[Defence::HandshakeBudget],
    plan: |setup, _| {
        let mut plan = Plan::new(setup);
        let last = setup.nodes - 1;
        plan.join(0..last, seconds(0), seconds(0));
        attackers(&mut plan, ATTACK, one_slash16(7, 60), seconds(FROM));
        plan.join([last], seconds(FROM + FOR / 2), seconds(0));
        plan
    },
    judge: |world| {
        Box::pin(async {
            let done = world.counts.lock().get(DONE).copied().unwrap_or(0);
            Ok(vec![
                Expectation::new(
                    "one /16 has no more handshakes than its budget",
                    done <= BUDGET,
                    format!("{done} (at most {BUDGET})"),
                ),
                expect_attack(world, TRIED, 2 * BUDGET),
                expect_attack(world, DONE, BUDGET / 2),
                // The newcomer's too.
                world.expect_peers(3).await,
                world.expect_one_tip().await,
                world.expect_height(blocks_in(world.setup.duration)).await,
                world.expect_no_honest_bans(),
            ])
        })
    },
};

const TRIED: &str = "connections";
const DONE: &str = "handshakes";

const ATTACK: Attack = Attack {
    name: "handshake-flood",
    play: |stage| {
        Box::pin(async move {
            let (Ok(me), Some(victim)) = (stage.persona(0), stage.honest.first().copied()) else { return };
            let flood = async {
                loop {
                    stage.count(TRIED);
                    handshake(&stage, victim, &me).await;
                    stage.wait(Duration::from_millis(700)).await;
                }
            };
            let _: Result<(), _> = tokio::time::timeout(seconds(FOR), flood).await;
        })
    },
};

/// A handshake, with a hello that is refused: the answer shows that the node did its part.
async fn handshake(stage: &Stage, victim: SocketAddr, me: &bt2c_security::Credentials) {
    let mut hello = stage.hello(me, (0, stage.genesis.hash()), false);
    hello["network"] = "elsewhere".into();
    let Ok(mut line) = stage.dial(victim, me).await else { return };
    if line.send("hello", hello).await.is_ok() && matches!(line.read().await, Ok(Some(_))) {
        stage.count(DONE);
    }
}
