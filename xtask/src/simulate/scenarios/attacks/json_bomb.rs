//! Messages made to cost more than they weigh.

use bt2c_proto::{Defence, limits::FRAME_LIMIT};

use super::{apart, attackers, blocks_in, expect_attack, expect_attackers_banned, seconds};
use crate::simulate::{
    attack::{Attack, Stage},
    outcome::Expectation,
    plan::Plan,
    scenario::Scenario,
};

/// How many nodes are attacked: all but these are only watched.
const VICTIMS: usize = 4;

/// Three attackers send one bomb after the other to the first nodes, and come back whenever they are thrown out.
pub(in super::super) const SCENARIO: Scenario = Scenario {
    name: "json-bomb",
    about: "deep, long, doubled and endless JSON: each is refused, and whoever goes on is banned",
    nodes: (8, 6),
    seconds: (300, 200),
    defences: &[Defence::Bans],
    plan: |setup, _| {
        let mut plan = Plan::new(setup);
        plan.join(0..setup.nodes, seconds(0), seconds(0));
        attackers(&mut plan, ATTACK, apart(95, 3), seconds(30));
        plan
    },
    judge: |world| {
        Box::pin(async {
            let counts = world.counts.lock().clone();
            let sent = counts.get("bombs").copied().unwrap_or(0);
            let survived = counts.get("survived").copied().unwrap_or(0);
            Ok(vec![
                expect_attackers_banned(world, "json-bomb", 0..VICTIMS),
                Expectation::new(
                    "each bomb ends its connection",
                    survived == 0,
                    format!("{survived} of {sent} were answered"),
                ),
                expect_attack(world, "bombs", 10),
                world.expect_one_tip().await,
                world.expect_height(blocks_in(world.setup.duration)).await,
                world.expect_peers(3).await,
                world.expect_no_honest_bans(),
            ])
        })
    },
};

const ATTACK: Attack = Attack {
    name: "json-bomb",
    play: |stage| {
        Box::pin(async move {
            let bombs = bombs();
            let Ok(me) = stage.persona(0) else { return };
            for round in 0.. {
                for addr in stage.honest.iter().take(VICTIMS) {
                    // Five are a ban: each attacker begins elsewhere, so that all are thrown.
                    let bomb = &bombs[(round + 2 * stage.number) % bombs.len()];
                    let Ok(mut line) = stage.dial(*addr, &me).await else { continue };
                    let hello = stage.hello(&me, (0, stage.genesis.hash()), false);
                    if let Ok(Some(_)) = line.greet(hello).await
                        && line.frame(bomb).await.is_ok()
                    {
                        stage.count("bombs");
                        if answers(&stage, &mut line).await {
                            stage.count("survived");
                        }
                    }
                }
                stage.wait(seconds(5)).await;
            }
        })
    },
};

/// Whether the node still talks.
async fn answers(stage: &Stage, line: &mut crate::simulate::attack::Line) -> bool {
    let now = bt2c_p2p::env::Clock::now(&stage.clock).as_secs();
    if line.send("ping", serde_json::json!({ "timestamp": now })).await.is_err() {
        return false;
    }
    while let Ok(Some((kind, _))) = line.read().await {
        if kind == "pong" {
            return true;
        }
    }
    false
}

fn bombs() -> Vec<Vec<u8>> {
    let fill = |start: &str, part: &str, end: &str| {
        let count = (FRAME_LIMIT - start.len() - end.len()) / part.len();
        [start, &part.repeat(count), end].concat().into_bytes()
    };
    vec![
        fill(r#"{"type":"ping","data":"#, "[", ""),
        fill(r#"{"type":"ping","data":{"timestamp":1,"x":"#, r#"{"x":"#, ""),
        fill(r#"{"type":"ping","data":{"timestamp":1,"x":""#, "x", r#""}}"#),
        fill(r#"{"type":"get_peers","data":{"count":1"#, "0", "}}"),
        fill(r#"{"type":"get_blocks","data":{"start_height":1,"end_height":2"#, r#","end_height":2"#, "}}"),
        fill(r#"{"type":"new_transaction","data":{"transaction":{"sender":""#, r"\u0000", r#""}}}"#),
        vec![0xff; FRAME_LIMIT],
    ]
}
