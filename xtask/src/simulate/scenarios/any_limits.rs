//! Everybody is honest, and no two nodes are set up alike.

use std::net::{IpAddr, Ipv4Addr};

use rand::{Rng, RngExt, seq::IndexedRandom};

use super::{blocks_in, seconds};
use crate::simulate::{
    net::{Link, Nat},
    outcome::Expectation,
    plan::Plan,
    scenario::Scenario,
    schedule::Step,
    world::World,
};

/// Every node has limits of its own, from the tightest that it may have to none to speak of; three share an address; links
/// are bad, clocks are off, nodes come, go and crash. All of them do what the protocol page says, so nobody may be banned,
/// nor as much as charged.
pub(super) const SCENARIO: Scenario = Scenario {
    name: "any-limits",
    about: "nodes with any limits, on bad links, three behind one address, never offend each other",
    nodes: (12, 8),
    seconds: (420, 240),
    defences: &[],
    plan: |setup, rng| {
        let mut plan = Plan::new(setup);
        let last = setup.nodes - 1;
        for (number, host) in plan.hosts.iter_mut().enumerate() {
            host.settings = limits(rng);
            // A seed that lets itself be asked once a minute is not asked for addresses at all.
            host.seeds = (0..4).collect();
            host.link = *[Link::CABLE, Link::DSL, Link::MOBILE].choose(rng).expect("one of three");
            host.skew_ms = rng.random_range(-1500..1500);
            // Proposers are spared what would keep them from proposing.
            if number < 4 {
                (host.link, host.skew_ms) = (Link::CABLE, rng.random_range(-300..300));
            }
            // A household: its router's address is all that the others see of three nodes.
            if (last - 2..=last).contains(&number) {
                let lan = u8::try_from(number - (last - 2)).expect("one of three");
                host.ip = Ipv4Addr::new(192, 168, 0, 10 + lan).into();
                host.nat = Nat::Restricted { public: IpAddr::from([203, 0, 114, 9]) };
            }
        }
        plan.join(0..setup.nodes, seconds(0), seconds(3));
        for host in 4..setup.nodes {
            let at = seconds(60) + (setup.duration - seconds(150)).mul_f64(rng.random());
            match rng.random_range(0..4) {
                0 => {
                    plan.at(at, Step::Leave(host));
                    plan.at(at + seconds(20), Step::Join(host));
                }
                1 => {
                    plan.at(at, Step::Crash(host));
                    plan.at(at + seconds(5), Step::Restart(host));
                }
                _ => (0..5).for_each(|_| plan.at(at, Step::Transact(host))),
            }
        }
        plan
    },
    judge: |world| {
        Box::pin(async {
            Ok(vec![
                world.expect_no_honest_bans(),
                expect_no_charges(world).await,
                // Whoever may ask a question in three minutes, and takes few pushes, is behind; nobody stays behind.
                world.expect_height(blocks_in(world.setup.duration) / 3).await,
                world.expect_no_losses(),
            ])
        })
    },
};

/// Limits that a node may have.
fn limits(rng: &mut impl Rng) -> Vec<(&'static str, String)> {
    let mut any = |low: u64, high: u64| {
        // Small and large alike: an even choice of the number of binary digits, and then of the number.
        let (low_bits, high_bits) = (low.max(1).ilog2(), high.max(1).ilog2());
        let most = (2_u64 << rng.random_range(low_bits..=high_bits)) - 1;
        rng.random_range(low..=most.clamp(low, high))
    };
    let secs = |number: u64| format!("{number}s");
    // A node that pings faster than it lets others ping is refused by its own configuration.
    let pause = any(0, 30);
    vec![
        ("requests_per_minute", any(1, 1000).to_string()),
        ("ban_after_excess", any(0, 200).to_string()),
        ("attempts_per_minute", any(1, 200).to_string()),
        ("failed_attempts", any(1, 10).to_string()),
        ("tx_per_second", any(1, 1000).to_string()),
        ("tx_burst", any(1, 10_000).to_string()),
        ("blocks_per_second", any(1, 100).to_string()),
        ("block_burst", any(1, 100).to_string()),
        ("push_bytes_per_second", any(1000, 1 << 24).to_string()),
        ("push_bytes_burst", any(1 << 20, 1 << 26).to_string()),
        ("ping_interval_min", secs(pause)),
        ("ping_interval", secs(pause + any(1, 20))),
        ("discovery_interval", secs(any(5, 120))),
        ("backoff_base", secs(any(1, 5))),
        ("request_timeout", secs(any(3, 20))),
    ]
}

/// Expects that no node charged another with anything but slowness, which has no price.
async fn expect_no_charges(world: &World) -> Expectation {
    let mut charges = Vec::new();
    for (number, node) in world.honest_nodes() {
        let decisions = node.handle().p2p().decisions().await;
        let charged = decisions
            .into_iter()
            .filter(|decision| decision.kind == bt2c_p2p::DecisionKind::Charged && decision.rule != "stall");
        charges.extend(
            charged.map(|decision| format!("host {number}: {} ({})", decision.rule, decision.evidence)),
        );
    }
    let found = charges
        .first()
        .map_or("none".to_owned(), |first| format!("{first} (and {} more)", charges.len() - 1));
    Expectation::new("nobody is charged with an offence", charges.is_empty(), found)
}
