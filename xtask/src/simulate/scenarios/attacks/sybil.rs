//! Somebody with one network and any number of identities.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bt2c_node::config::NodeConfig;
use bt2c_p2p::Direction;
use bt2c_proto::Defence;
use tokio::task::JoinSet;

use super::{attackers, blocks_in, expect_attack, is_attackers, seconds};
use crate::simulate::{
    attack::{Attack, Stage},
    outcome::Expectation,
    plan::Plan,
    scenario::Scenario,
};

/// Two dozen machines in one /24 open four connections each to every node, under an identity of its own each.
pub(in super::super) const SCENARIO: Scenario = Scenario {
    name: "sybil",
    about: "one /24 takes as many slots as it gets, under a new identity each time",
    nodes: (8, 6),
    seconds: (240, 180),
    defences: &[Defence::InboundGroups],
    plan: |setup, _| {
        let mut plan = Plan::new(setup);
        plan.tune = |_, config: &mut NodeConfig| config.p2p.max_connections = 40;
        let last = setup.nodes - 1;
        plan.join(0..last, seconds(0), seconds(0));
        let ips = (1..=24).map(|number| IpAddr::V4(Ipv4Addr::new(90, 1, 1, number)));
        attackers(&mut plan, ATTACK, ips, seconds(10));
        plan.join([last], seconds(90), seconds(0));
        plan
    },
    judge: |world| {
        Box::pin(async {
            let mut most = (0, 0);
            for (number, node) in world.honest_nodes() {
                let peers = node.handle().p2p().peers().await;
                let inbound = peers.iter().filter(|info| info.peer.direction() == Direction::Inbound);
                let sybils = inbound.filter(|info| is_attackers(world, info.peer.addr())).count();
                most = most.max((sybils, number));
            }
            Ok(vec![
                Expectation::new(
                    "one /24 has at most ten slots of a node",
                    most.0 <= 10,
                    format!("{} at host {}", most.0, most.1),
                ),
                expect_attack(world, "slots", 10),
                // The newcomer's too.
                world.expect_peers(3).await,
                world.expect_one_tip().await,
                world.expect_height(blocks_in(world.setup.duration)).await,
                world.expect_no_honest_bans(),
            ])
        })
    },
};

const ATTACK: Attack = Attack {
    name: "sybil",
    play: |stage| {
        Box::pin(async move {
            let mut tasks = JoinSet::new();
            for persona in 0..4 {
                for addr in stage.honest.clone() {
                    tasks.spawn(keep(stage.clone(), persona, addr));
                }
            }
            while tasks.join_next().await.is_some() {}
        })
    },
};

/// Holds a slot, as long as it is let.
async fn keep(stage: Stage, persona: usize, addr: SocketAddr) {
    let Ok(me) = stage.persona(persona) else { return };
    loop {
        if let Ok(mut line) = stage.dial(addr, &me).await
            && let Ok(Some(_)) = line.greet(stage.hello(&me, (0, stage.genesis.hash()), false)).await
        {
            stage.count("slots");
            while let Ok(Some((kind, data))) = line.read().await {
                if kind == "ping" && line.send("pong", data).await.is_err() {
                    break;
                }
            }
        }
        stage.wait(seconds(20)).await;
    }
}
