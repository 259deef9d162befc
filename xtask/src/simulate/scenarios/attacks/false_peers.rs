//! Peers that look like nodes with a chain, and do not give it: by silence, by empty answers, by heights that nobody has.

use bt2c_proto::{BlockHash, Defence};
use serde_json::Value;

use super::{apart, attackers, blocks_in, expect_attack, newcomer, reached, seconds};
use crate::simulate::{
    attack::{Attack, Behaviour, Stage, serve},
    outcome::Expectation,
    plan::{Plan, Setup},
    scenario::Scenario,
    world::{ChainPlan, World},
};

/// Blocks that there are at the start.
const CHAIN: u64 = 400;

/// When the newcomer joins.
const JOINS: u64 = 30;

/// How long it may take for the chain: alone with honest peers it takes about ten seconds.
const IN_TIME: u64 = 120;

/// Six false peers; a newcomer that knows them as seeds, besides an honest node.
fn plan(setup: &Setup, attack: Attack) -> Plan {
    let mut plan = Plan::new(setup);
    plan.chain = ChainPlan { blocks: CHAIN, transactions: 0, branch: None };
    plan.hosts.iter_mut().for_each(|host| host.has_chain = true);
    let last = setup.nodes - 1;
    plan.join(0..last, seconds(0), seconds(0));
    let liars = attackers(&mut plan, attack, apart(93, 6), seconds(5));
    newcomer(&mut plan, last, seconds(JOINS), [vec![0], liars].concat());
    plan
}

async fn judge(world: &World) -> Vec<Expectation> {
    let time = reached(world, world.setup.nodes - 1, CHAIN, seconds(JOINS));
    let met = time.is_ok_and(|time| time <= seconds(IN_TIME));
    vec![
        Expectation::new("a newcomer has the chain in time", met, format!("{time:?} (at most {IN_TIME} s)")),
        expect_attack(world, "asked", 1),
        world.expect_one_tip().await,
        world.expect_height(CHAIN + blocks_in(world.setup.duration)).await,
        world.expect_no_honest_bans(),
    ]
}

/// They claim the chain's tip, show it, and never answer a question for more.
pub(in super::super) const STALL: Scenario = Scenario {
    name: "stall",
    about: "peers that show the tip of the chain never answer when they are asked for the rest",
    nodes: (7, 6),
    seconds: (240, 200),
    defences: &[Defence::StallTimeout],
    plan: |setup, _| plan(setup, Attack { name: "stall", play: |stage| Box::pin(false_node(stage, Silent)) }),
    judge: |world| Box::pin(async { Ok(judge(world).await) }),
};

/// They claim a little more than the chain, so that they look best, and answer every question with nothing.
pub(in super::super) const WITHHOLD: Scenario = Scenario {
    name: "withhold",
    about: "peers that claim a slightly longer chain have none of its blocks when they are asked",
    nodes: (7, 6),
    seconds: (240, 200),
    defences: &[Defence::ClaimDoubt],
    plan: |setup, _| {
        plan(setup, Attack { name: "withhold", play: |stage| Box::pin(false_node(stage, Empty)) })
    },
    judge: |world| Box::pin(async { Ok(judge(world).await) }),
};

/// They claim a thousand million blocks.
pub(in super::super) const FALSE_HEIGHT: Scenario = Scenario {
    name: "false-height",
    about: "peers claim a thousand million blocks, so that nobody else's chain looks worth following",
    nodes: (7, 6),
    seconds: (240, 200),
    defences: &[Defence::HeightProof],
    plan: |setup, _| {
        plan(setup, Attack { name: "false-height", play: |stage| Box::pin(false_node(stage, TooHigh)) })
    },
    judge: |world| Box::pin(async { Ok(judge(world).await) }),
};

async fn false_node(stage: Stage, behaviour: impl Behaviour) {
    let honest = stage.honest.clone();
    serve(stage, behaviour, honest, seconds(5)).await;
}

struct Silent;

impl Behaviour for Silent {
    fn tip(&self, stage: &Stage) -> (u64, BlockHash) {
        stage.tip
    }

    fn blocks(&self, stage: &Stage, start: u64, end: u64) -> Option<Vec<Value>> {
        proof(stage, start, end)
    }
}

/// The tip, to whoever asks for just that.
fn proof(stage: &Stage, start: u64, end: u64) -> Option<Vec<Value>> {
    if (start, end) == (stage.tip.0, stage.tip.0) {
        return Some(vec![stage.tip_block.clone()]);
    }
    stage.count("asked");
    None
}

struct Empty;

impl Behaviour for Empty {
    fn tip(&self, stage: &Stage) -> (u64, BlockHash) {
        (stage.tip.0 + 50, BlockHash::from_bytes([7; 32]))
    }

    fn blocks(&self, stage: &Stage, _: u64, _: u64) -> Option<Vec<Value>> {
        stage.count("asked");
        Some(Vec::new())
    }
}

struct TooHigh;

impl Behaviour for TooHigh {
    fn tip(&self, _: &Stage) -> (u64, BlockHash) {
        (1_000_000_000, BlockHash::from_bytes([7; 32]))
    }

    fn blocks(&self, stage: &Stage, _: u64, _: u64) -> Option<Vec<Value>> {
        stage.count("asked");
        None
    }
}
