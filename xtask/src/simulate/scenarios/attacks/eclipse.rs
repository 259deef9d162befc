//! Somebody wants to be all that a node sees of the network.

use bt2c_node::config::NodeConfig;
use bt2c_p2p::Direction;
use bt2c_proto::Defence;

use super::{attackers, blocks_in, expect_attack, is_attackers, one_slash16, seconds};
use crate::simulate::{
    attack::{Attack, Behaviour, Stage, serve},
    outcome::Expectation,
    plan::Plan,
    scenario::Scenario,
    schedule::Step,
    world::World,
};

/// When the newcomer joins.
const JOINS: u64 = 300;

/// Attackers in each of their two netgroups.
const EACH: u8 = 32;

/// Attackers in two /16 surround the last node: they connect to it, name each other to whoever asks, and wait for it to
/// restart. Then somebody joins who knows nobody else than that node.
pub(in super::super) const SCENARIO: Scenario = Scenario {
    name: "eclipse",
    about: "64 attackers in two netgroups want to be all that one node sees",
    nodes: (12, 10),
    seconds: (480, 400),
    defences: &[Defence::OutboundGroups, Defence::InboundEviction],
    plan: |setup, _| {
        let mut plan = Plan::new(setup);
        plan.tune = |_, config: &mut NodeConfig| config.p2p.max_connections = 40;
        let (victim, newcomer) = (setup.nodes - 1, setup.nodes - 2);
        plan.join(0..newcomer, seconds(0), seconds(0));
        plan.join([victim], seconds(5), seconds(0));
        attackers(&mut plan, ATTACK, one_slash16(1, EACH), seconds(10));
        attackers(&mut plan, ATTACK, one_slash16(2, EACH), seconds(10));
        plan.at(seconds(200), Step::Crash(victim));
        plan.at(seconds(203), Step::Restart(victim));
        plan.hosts[newcomer].seeds = vec![victim];
        plan.join([newcomer], seconds(JOINS), seconds(0));
        // All that it knows it has from a node that is surrounded: what becomes of it is another story.
        plan.at(seconds(JOINS + 60), Step::Leave(newcomer));
        plan
    },
    judge: |world| {
        Box::pin(async {
            let victim = world.setup.nodes - 1;
            let (out, of) = outbound(world, victim).await;
            Ok(vec![
                Expectation::new(
                    "attackers have one outbound slot for each of their netgroups",
                    out <= 2 && of > 0,
                    format!("{out} of {of}"),
                ),
                expect_attack(world, "connections", 60),
                newcomer_gets_in(world),
                world.expect_peers(3).await,
                world.expect_one_tip().await,
                world.expect_height(blocks_in(world.setup.duration)).await,
                world.expect_no_honest_bans(),
            ])
        })
    },
};

/// Expects that whoever knows only the victim is let in by it, though attackers hold all its slots.
fn newcomer_gets_in(world: &World) -> Expectation {
    let (victim, newcomer) = (world.hosts[world.setup.nodes - 1].peer_id, world.setup.nodes - 2);
    let history = world.record.history();
    let mut met = history
        .peers
        .iter()
        .filter(|(_, host, peer, gone)| *host == newcomer && *peer == victim && gone.is_none());
    let time = met.next().map(|(at, ..)| at.saturating_sub(seconds(JOINS)));
    let in_time = time.is_some_and(|time| time <= seconds(30));
    Expectation::new("a newcomer is let in by a full node", in_time, format!("after {time:?} (at most 30 s)"))
}

/// How many of a node's outbound peers are attackers, and how many there are.
async fn outbound(world: &World, host: usize) -> (usize, usize) {
    let Some(node) = world.hosts[host].node() else { return (0, 0) };
    let peers = node.handle().p2p().peers().await;
    let peers: Vec<_> =
        peers.iter().map(|info| &info.peer).filter(|peer| peer.direction() == Direction::Outbound).collect();
    (peers.iter().filter(|peer| is_attackers(world, peer.addr())).count(), peers.len())
}

const ATTACK: Attack = Attack {
    name: "eclipse",
    play: |stage| {
        Box::pin(async move {
            let victim = stage.honest.last().copied();
            serve(stage, Surround, victim.into_iter().collect(), seconds(15)).await;
        })
    },
};

struct Surround;

impl Behaviour for Surround {
    fn peers(&self, stage: &Stage, count: u64) -> Option<Vec<String>> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        Some(stage.accomplices.iter().take(count).map(ToString::to_string).collect())
    }
}
