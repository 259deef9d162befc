//! Banned, and back from the next address.

use std::net::{IpAddr, Ipv6Addr};

use bt2c_node::config::NodeConfig;
use bt2c_proto::Defence;

use super::{attackers, blocks_in, expect_attack, seconds};
use crate::simulate::{attack::Attack, outcome::Expectation, plan::Plan, scenario::Scenario, world::World};

/// How long a first ban lasts here, instead of an hour, so that its end is seen.
const BAN: u64 = 120;

/// Addresses of each /64.
const EACH: u16 = 3;

/// Violations of the protocol that lead to a ban.
const VIOLATIONS: u64 = 5;

/// Somebody with an IPv6 /48 breaks the protocol until banned, and goes on from the next address, first of the same /64,
/// then of the next.
pub(in super::super) const SCENARIO: Scenario = Scenario {
    name: "ban-evasion",
    about: "an offender with an IPv6 /48 comes back from one address after the other; bans widen, and end in time",
    nodes: (7, 6),
    seconds: (600, 500),
    defences: &[Defence::BanRanges, Defence::Bans],
    plan: |setup, _| {
        let mut plan = Plan::new(setup);
        plan.tune = |_, config: &mut NodeConfig| config.p2p.security.ban_duration = seconds(BAN);
        plan.join(0..setup.nodes, seconds(0), seconds(0));
        let ips = (0..4).flat_map(|net| {
            (1..=EACH).map(move |host| IpAddr::V6(Ipv6Addr::new(0x2a0f, 0x1, 0x2, net, 0, 0, 0, host)))
        });
        for (number, ip) in (0..).zip(ips) {
            attackers(&mut plan, ATTACK, [ip], seconds(30) + seconds(8) * number);
        }
        plan
    },
    judge: |world| {
        Box::pin(async {
            let greeted = world.counts.lock().get("greeted").copied().unwrap_or(0);
            // The first /64, the second, by which the /48 is known.
            let most = 2 * VIOLATIONS;
            Ok(vec![
                Expectation::new(
                    "whoever has a /48 gets no more than two bans out of it",
                    greeted <= most,
                    format!("let in {greeted} times (at most {most})"),
                ),
                expect_attack(world, "greeted", VIOLATIONS),
                expect_bans_end(world),
                world.expect_one_tip().await,
                world.expect_height(blocks_in(world.setup.duration)).await,
                world.expect_no_honest_bans(),
            ])
        })
    },
};

/// Expects that each ban ends when it says, within what a timer may take.
fn expect_bans_end(world: &World) -> Expectation {
    let history = world.record.history();
    let mut wrong = Vec::new();
    for (at, by, ban) in &history.bans {
        let due = *at + ban.lasts;
        let ended = history
            .unbans
            .iter()
            .find(|(end, host, subject)| host == by && *subject == ban.subject && end > at);
        let in_time = ended.is_some_and(|(end, ..)| end.abs_diff(due) <= seconds(2));
        // The second ban of one subject lasts twice as long, and none here is a third.
        let too_long = ban.lasts > seconds(2 * BAN);
        if too_long || !in_time && due + seconds(2) < world.passed() {
            wrong.push(format!(
                "that of {} by host {by}: {:?}, due at {due:?}",
                ban.subject,
                ended.map(|end| end.0)
            ));
        }
    }
    let (bans, ends) = (history.bans.len(), history.unbans.len());
    let found = wrong.first().cloned().unwrap_or_else(|| format!("{ends} of {bans}"));
    Expectation::new("bans end in time", wrong.is_empty(), found)
}

const ATTACK: Attack = Attack {
    name: "ban-evasion",
    play: |stage| {
        Box::pin(async move {
            let Some(addr) = stage.honest.first().copied() else { return };
            let Ok(me) = stage.persona(0) else { return };
            for _ in 0..VIOLATIONS {
                if let Ok(mut line) = stage.dial(addr, &me).await
                    && let Ok(Some(_)) = line.greet(stage.hello(&me, (0, stage.genesis.hash()), false)).await
                {
                    stage.count("greeted");
                    let _ = line.frame(b"no message").await;
                    line.drain().await;
                }
            }
        })
    },
};
