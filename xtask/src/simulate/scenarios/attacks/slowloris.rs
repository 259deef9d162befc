//! Connections that begin and do not get on.

use std::{net::SocketAddr, time::Duration};

use bt2c_proto::Defence;
use tokio::task::JoinSet;

use super::{apart, attackers, blocks_in, expect_attack, one_slash16, seconds};
use crate::simulate::{
    attack::{Attack, Stage},
    outcome::Expectation,
    plan::Plan,
    scenario::Scenario,
};

/// A frame of a million bytes has 30 s and one second for each 8 KiB; then the time for the news to arrive.
const FRAME_TIME: Duration = Duration::from_secs(30 + 122 + 5);

/// Twenty hosts open two connections each to every node and say nothing, again whenever one is closed; two others are
/// let in and then send a frame byte by byte. A node joins in the midst of it.
pub(in super::super) const SCENARIO: Scenario = Scenario {
    name: "slowloris",
    about: "half-open connections and frames that never end, while a node wants to join",
    nodes: (8, 6),
    seconds: (300, 280),
    defences: &[Defence::HandshakeDeadline, Defence::FrameDeadline],
    plan: |setup, _| {
        let mut plan = Plan::new(setup);
        let last = setup.nodes - 1;
        plan.join(0..last, seconds(0), seconds(0));
        attackers(&mut plan, HALF_OPEN, one_slash16(3, 20), seconds(20));
        attackers(&mut plan, TRICKLE, apart(94, 2), seconds(20));
        plan.join([last], seconds(60), seconds(0));
        plan
    },
    judge: |world| {
        Box::pin(async {
            let (newcomer, joined) = (world.setup.nodes - 1, seconds(60));
            let history = world.record.history();
            let mut ups =
                history.peers.iter().filter(|(_, host, _, gone)| *host == newcomer && gone.is_none());
            let third = ups.nth(2).map(|(at, ..)| at.saturating_sub(joined));
            drop(history);
            let counts = world.counts.lock().clone();
            let count = |what: &str| counts.get(what).copied().unwrap_or(0);
            let cut = count("cut off in time");
            let endless = count("trickled on");
            Ok(vec![
                Expectation::new(
                    "a newcomer has three peers within a minute",
                    third.is_some_and(|time| time <= seconds(60)),
                    format!("after {third:?}"),
                ),
                Expectation::new(
                    "a frame that does not end is cut off",
                    endless == 0,
                    format!("{cut} in time, {endless} went on"),
                ),
                expect_attack(world, "half-open", 100),
                expect_attack(world, "trickles", 4),
                world.expect_peers(3).await,
                world.expect_one_tip().await,
                world.expect_height(blocks_in(world.setup.duration)).await,
                world.expect_no_honest_bans(),
            ])
        })
    },
};

const HALF_OPEN: Attack = Attack {
    name: "half-open",
    play: |stage| {
        Box::pin(async move {
            let mut tasks = JoinSet::new();
            for addr in stage.honest.iter().flat_map(|addr| [*addr; 2]) {
                let stage = stage.clone();
                tasks.spawn(async move {
                    loop {
                        if let Ok(mut stream) = stage.connect(addr).await {
                            stage.count("half-open");
                            let mut end = [0];
                            let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut end).await;
                        }
                        stage.wait(seconds(2)).await;
                    }
                });
            }
            while tasks.join_next().await.is_some() {}
        })
    },
};

const TRICKLE: Attack = Attack {
    name: "trickle",
    play: |stage| {
        Box::pin(async move {
            let mut tasks = JoinSet::new();
            for addr in stage.honest.iter().copied().take(4) {
                tasks.spawn(trickle(stage.clone(), addr));
            }
            while tasks.join_next().await.is_some() {}
        })
    },
};

/// Begins a large frame and sends a byte every ten seconds.
#[expect(clippy::disallowed_methods, reason = "virtual time")]
async fn trickle(stage: Stage, addr: SocketAddr) {
    let Ok(me) = stage.persona(0) else { return };
    loop {
        if let Ok(mut line) = stage.dial(addr, &me).await
            && let Ok(Some(_)) = line.greet(stage.hello(&me, (0, stage.genesis.hash()), false)).await
            && line.raw(&1_000_000_u32.to_be_bytes()).await.is_ok()
        {
            stage.count("trickles");
            let started = tokio::time::Instant::now();
            let mut late = false;
            while line.raw(b" ").await.is_ok() {
                if !late && started.elapsed() > FRAME_TIME {
                    late = true;
                    stage.count("trickled on");
                }
                stage.wait(seconds(10)).await;
            }
            if !late {
                stage.count("cut off in time");
            }
        }
        stage.wait(seconds(20)).await;
    }
}
