//! Somebody fills the address books of others with nothing.

use std::net::{IpAddr, Ipv4Addr};

use bt2c_proto::Defence;
use serde_json::{Value, json};

use super::{apart, attackers, blocks_in, expect_attack, seconds};
use crate::simulate::{
    attack::{Attack, Behaviour, Stage, serve},
    outcome::Expectation,
    plan::Plan,
    scenario::Scenario,
    world::World,
};

/// Attackers that answer `get_peers`.
const ANSWERING: u8 = 2;

/// What one peer may fill in: a burst of 1,000, and one more every 10 s.
const BUDGET: u64 = 1_000;

/// Two attackers answer each question for addresses with as many as fit, all of them new and none of them anybody's; two
/// others, which nobody dials, tell such addresses every second without being asked. A node joins in the midst of it.
pub(in super::super) const SCENARIO: Scenario = Scenario {
    name: "address-poison",
    about: "peers tell thousands of addresses at which there is nobody, asked and unasked",
    nodes: (10, 6),
    seconds: (600, 480),
    defences: &[Defence::AddressBudget, Defence::SolicitedAnswers],
    plan: |setup, _| {
        let mut plan = Plan::new(setup);
        let last = setup.nodes - 1;
        plan.join(0..last, seconds(0), seconds(0));
        attackers(&mut plan, ANSWERING_ATTACK, apart(91, ANSWERING), seconds(5));
        attackers(&mut plan, UNASKED_ATTACK, apart(92, 2), seconds(5));
        plan.join([last], seconds(300), seconds(0));
        plan
    },
    judge: |world| {
        Box::pin(async {
            let mut most = (0, 0);
            let mut unasked = 0;
            for (number, node) in world.honest_nodes() {
                let known = node.handle().p2p().known_peers().await;
                let made_up = |net: u8| {
                    known
                        .iter()
                        .filter(move |peer| matches!(peer.addr.ip(), IpAddr::V4(ip) if ip.octets()[0] == net))
                };
                most = most.max((made_up(ASKED_NET).count() as u64, number));
                unasked += made_up(UNASKED_NET).count();
            }
            let most_of = u64::from(ANSWERING) * (BUDGET + world.setup.duration.as_secs() / 10);
            Ok(vec![
                Expectation::new(
                    "no peer fills in more than its budget",
                    most.0 <= most_of,
                    format!("{} addresses in the book of host {} (at most {most_of})", most.0, most.1),
                ),
                expect_attack(world, "addresses", 5_000),
                Expectation::new(
                    "what nobody asked for is not taken",
                    unasked == 0,
                    format!("{unasked} addresses"),
                ),
                newcomer_finds_peers(world),
                world.expect_peers(3).await,
                world.expect_one_tip().await,
                world.expect_height(blocks_in(world.setup.duration)).await,
                world.expect_no_honest_bans(),
            ])
        })
    },
};

fn newcomer_finds_peers(world: &World) -> Expectation {
    let host = world.setup.nodes - 1;
    let history = world.record.history();
    let mut honest = history.peers.iter().filter(|(_, whose, peer, gone)| {
        *whose == host
            && gone.is_none()
            && world
                .hosts
                .iter()
                .zip(&world.plan.hosts)
                .any(|(other, plan)| plan.is_honest() && other.peer_id == *peer)
    });
    let third = honest.nth(2).map(|(at, ..)| at.saturating_sub(seconds(300)));
    let met = third.is_some_and(|time| time <= seconds(60));
    Expectation::new("a newcomer has three honest peers within a minute", met, format!("after {third:?}"))
}

/// First number of the made-up addresses that are told to those who ask.
const ASKED_NET: u8 = 101;

/// First number of those that are told unasked.
const UNASKED_NET: u8 = 102;

/// An address that was never told before.
fn made_up(stage: &Stage, net: u8) -> String {
    stage.count("addresses");
    let number = stage.counts.lock()["addresses"];
    let [.., high, middle, low] = number.to_be_bytes();
    // The fastest number is the second: a netgroup of its own for each of 256.
    format!("{}:8336", Ipv4Addr::new(net, low, middle, high.saturating_add(1)))
}

const ANSWERING_ATTACK: Attack = Attack {
    name: "answering",
    play: |stage| {
        Box::pin(async move {
            let honest = stage.honest.clone();
            serve(stage, Answering, honest, seconds(10)).await;
        })
    },
};

struct Answering;

impl Behaviour for Answering {
    fn peers(&self, stage: &Stage, count: u64) -> Option<Vec<String>> {
        Some((0..count.min(1_000)).map(|_| made_up(stage, ASKED_NET)).collect())
    }
}

const UNASKED_ATTACK: Attack = Attack {
    name: "unasked",
    play: |stage| {
        Box::pin(async move {
            let honest = stage.honest.clone();
            serve(stage, Unasked, honest, seconds(10)).await;
        })
    },
};

struct Unasked;

impl Behaviour for Unasked {
    fn listens(&self) -> bool {
        false
    }

    fn peers(&self, _: &Stage, _: u64) -> Option<Vec<String>> {
        None
    }

    fn unasked(&self, stage: &Stage) -> Vec<(&'static str, Value)> {
        let peers: Vec<_> = (0..20).map(|_| made_up(stage, UNASKED_NET)).collect();
        vec![("peers", json!({ "peers": peers }))]
    }
}
