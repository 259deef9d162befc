//! One honest peer among eight: what the other seven cost a newcomer that fetches a long chain.

use std::time::Duration;

use bt2c_proto::{BlockHash, Defence, Height};
use serde_json::Value;

use super::{apart, attackers, expect_attack, newcomer, reached, seconds};
use crate::simulate::{
    attack::{Attack, Behaviour, Stage, serve},
    net::{Bandwidth, Link},
    outcome::Expectation,
    plan::{Plan, Role, Setup},
    scenario::Scenario,
    world::{ChainPlan, World},
};

/// Blocks that there are.
const CHAIN: u64 = 10_000;

/// When the node joins that has only the honest peer, and when it leaves again.
const ALONE: (u64, u64) = (10, 190);

/// When the node joins that has the others too.
const AMONG: u64 = 200;

/// How many times as long as alone it may take.
const RATIO: u32 = 3;

/// Blocks in a part of a stream.
const PART: u64 = 250;

/// Every kind of false peer.
const LIARS: [Attack; 7] = [
    Attack { name: "silent", play: |stage| Box::pin(liar(stage, Kind::Silent)) },
    Attack { name: "other-bodies", play: |stage| Box::pin(liar(stage, Kind::OtherBodies)) },
    Attack { name: "withholding", play: |stage| Box::pin(liar(stage, Kind::Withholding)) },
    Attack { name: "other-branch", play: |stage| Box::pin(liar(stage, Kind::OtherBranch)) },
    Attack { name: "too-high", play: |stage| Box::pin(liar(stage, Kind::TooHigh)) },
    Attack { name: "trickling", play: |stage| Box::pin(liar(stage, Kind::Trickling)) },
    Attack { name: "all-but-one", play: |stage| Box::pin(liar(stage, Kind::AllButOne)) },
];

pub(in super::super) const SCENARIO: Scenario = Scenario {
    name: "hostile-sync",
    about: "of eight peers seven stall, lie, withhold or have another branch; 10,000 blocks over 20 Mbit/s",
    nodes: (3, 3),
    seconds: (300, 260),
    defences: &[Defence::StallTimeout, Defence::HeightProof],
    plan: |setup, _| plan(setup),
    judge: |world| Box::pin(async { Ok(judge(world).await) }),
};

fn plan(setup: &Setup) -> Plan {
    let mut plan = Plan::new(setup);
    plan.chain = ChainPlan { blocks: CHAIN, transactions: 0, branch: Some((300, 250)) };
    plan.hosts[0].has_chain = true;
    plan.join([0], seconds(0), seconds(0));
    newcomer(&mut plan, 1, seconds(ALONE.0), vec![0]);
    plan.at(seconds(ALONE.1), crate::simulate::schedule::Step::Leave(1));
    let mut seeds = vec![0];
    for (number, attack) in (0..).zip(LIARS) {
        seeds.extend(attackers(&mut plan, attack, apart(93 + number, 1), seconds(ALONE.1 + 5)));
    }
    newcomer(&mut plan, 2, seconds(AMONG), seeds);
    for host in &mut plan.hosts {
        host.link = Link { up: Bandwidth::mbit(20), down: Bandwidth::mbit(20), ..host.link };
        // Nobody adds to the chain: it is a matter of time alone.
        if host.is_honest() {
            host.role = Role::Node;
        }
    }
    plan
}

async fn judge(world: &World) -> Vec<Expectation> {
    let alone = reached(world, 1, CHAIN, seconds(ALONE.0));
    let among = reached(world, 2, CHAIN, seconds(AMONG));
    let met = match (alone, among) {
        (Ok(alone), Ok(among)) => among <= alone * RATIO,
        _ => false,
    };
    let found = format!("{among:?}, alone {alone:?} (at most {RATIO} times as long)");
    vec![
        Expectation::new("seven false peers cost little time", met, found),
        expect_attack(world, "silent", 1),
        expect_attack(world, "asked", 3),
        world.expect_one_tip().await,
        world.expect_no_honest_bans(),
        expect_no_honest_blame(world).await,
    ]
}

/// Expects that no honest node was charged with anything but being late.
async fn expect_no_honest_blame(world: &World) -> Expectation {
    let mut charged = Vec::new();
    for (number, node) in world.honest_nodes() {
        for decision in node.handle().p2p().decisions().await {
            let honest = world.plan.honest().any(|host| {
                let ip = world.plan.hosts[host].ip.to_string();
                decision.about.iter().any(|about| about.to_string() == ip)
            });
            if honest && decision.kind == bt2c_p2p::DecisionKind::Charged && decision.rule != "stall" {
                charged.push(format!("host {number}: {:?} for {}", decision.about, decision.rule));
            }
        }
    }
    let found = charged.first().cloned().unwrap_or_else(|| "nobody".to_owned());
    Expectation::new("no honest node is blamed", charged.is_empty(), found)
}

/// What a false peer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Shows the tip, and answers nothing else.
    Silent,
    /// Sends blocks with transactions that are not theirs.
    OtherBodies,
    /// Tells headers, and sends no block of theirs.
    Withholding,
    /// Has a valid branch that is shorter, and leaves too deep to be followed back.
    OtherBranch,
    /// Claims a thousand million blocks.
    TooHigh,
    /// Streams a block in two seconds.
    Trickling,
    /// Sends all but the last block.
    AllButOne,
}

async fn liar(stage: Stage, kind: Kind) {
    serve(stage, kind, Vec::new(), seconds(5)).await;
}

impl Behaviour for Kind {
    fn features(&self) -> &'static [&'static str] {
        &["block-stream", "headers"]
    }

    fn tip(&self, stage: &Stage) -> (u64, BlockHash) {
        match self {
            Self::TooHigh => (1_000_000_000, BlockHash::from_bytes([7; 32])),
            Self::OtherBranch => {
                let tip = stage.branch.tip();
                (tip.height.get(), tip.hash)
            }
            _ => stage.tip,
        }
    }

    fn pause(&self) -> Duration {
        match self {
            Self::Trickling => Duration::from_millis(1900),
            _ => Duration::ZERO,
        }
    }

    fn headers(&self, stage: &Stage, locator: &[Value]) -> Option<Vec<Value>> {
        let store = if *self == Self::OtherBranch { &stage.branch } else { &stage.chain };
        let shared = locator.iter().find_map(|hash| {
            let place = store.block(&hash.as_str()?.parse().ok()?).ok()??;
            store.main(place.height).ok()?.filter(|main| main.hash == place.hash)
        });
        let start = shared.map_or(1, |place| place.height.get() + 1);
        let mut headers = bodies(store, start, start + 127);
        for header in &mut headers {
            header.as_object_mut()?.remove("transactions");
        }
        Some(headers)
    }

    fn blocks(&self, stage: &Stage, start: u64, end: u64) -> Option<Vec<Value>> {
        let single = start == end && start == stage.tip.0;
        stage.count("asked");
        let part = end.min(start + PART - 1);
        match self {
            // The proof of the height that it claims.
            Self::Silent | Self::Withholding if single => Some(bodies(&stage.chain, start, end)),
            Self::Silent | Self::Withholding => {
                stage.count("silent");
                None
            }
            Self::OtherBodies if single => Some(bodies(&stage.chain, start, end)),
            Self::OtherBodies => {
                let mut blocks = bodies(&stage.chain, start, part);
                let extra = bodies(&stage.branch, stage.branch.tip().height.get(), u64::MAX);
                for block in &mut blocks {
                    block["transactions"] = extra[0]["transactions"].clone();
                }
                Some(blocks)
            }
            Self::OtherBranch => Some(bodies(&stage.branch, start, part)),
            Self::TooHigh => None,
            Self::Trickling => Some(bodies(&stage.chain, start, start)),
            Self::AllButOne if single => Some(bodies(&stage.chain, start, end)),
            Self::AllButOne if start >= stage.tip.0 => None,
            Self::AllButOne => Some(bodies(&stage.chain, start, part.min(stage.tip.0 - 1))),
        }
    }
}

fn bodies(store: &std::sync::Arc<dyn bt2c_sync::ChainStore>, start: u64, end: u64) -> Vec<Value> {
    let read = store.bodies(Height::new(start)..=Height::new(end), 500_000).unwrap_or_default();
    read.iter().map(|body| serde_json::from_slice(body).unwrap_or(Value::Null)).collect()
}
