//! Attacks. Each names the defences that hold against it, and must fail without any one of them.

pub(super) mod address_poison;
pub(super) mod ban_evasion;
pub(super) mod block_spam;
pub(super) mod eclipse;
pub(super) mod false_peers;
pub(super) mod handshake_flood;
pub(super) mod hostile_sync;
pub(super) mod json_bomb;
pub(super) mod slowloris;
pub(super) mod sybil;
pub(super) mod transaction_flood;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use bt2c_proto::PeerId;

use super::{blocks_in, newcomer, reached, seconds};

use crate::simulate::{
    attack::Attack,
    outcome::Expectation,
    plan::{HostPlan, Plan, Role},
    world::World,
};

/// Lets attackers join at a moment, one at each of these addresses, and returns their numbers.
fn attackers(
    plan: &mut Plan,
    attack: Attack,
    ips: impl IntoIterator<Item = IpAddr>,
    at: Duration,
) -> Vec<usize> {
    let added: Vec<_> = ips.into_iter().map(|ip| plan.add(HostPlan::attacker(attack, ip))).collect();
    plan.join(added.iter().copied(), at, Duration::ZERO);
    added
}

/// Addresses of which each is in an IPv4 /24 of its own, in one /16.
fn one_slash16(second: u8, count: u8) -> impl Iterator<Item = IpAddr> {
    (0..count).map(move |number| IpAddr::V4(Ipv4Addr::new(90, second, number, 1)))
}

/// Addresses of which each is in an IPv4 /16 of its own.
fn apart(first: u8, count: u8) -> impl Iterator<Item = IpAddr> {
    (0..count).map(move |number| IpAddr::V4(Ipv4Addr::new(first, number, 0, 1)))
}

/// Expects that attackers did what the scenario is about: otherwise it shows nothing.
fn expect_attack(world: &World, what: &str, least: u64) -> Expectation {
    let count = world.counts.lock().get(what).copied().unwrap_or(0);
    Expectation::new("the attack takes place", count >= least, format!("{what}: {count} (at least {least})"))
}

/// Whether an address is an attacker's.
fn is_attackers(world: &World, addr: SocketAddr) -> bool {
    world.plan.hosts.iter().any(|host| !host.is_honest() && host.ip == addr.ip())
}

/// Expects that every node that ever had a peer at one of the attackers' addresses banned it.
fn expect_attackers_banned(world: &World, attack: &str, by: impl IntoIterator<Item = usize>) -> Expectation {
    let history = world.record.history();
    let mut missing = Vec::new();
    for victim in by {
        for host in world.plan.hosts.iter() {
            let Role::Attacker(played) = host.role else { continue };
            let banned = history.bans.iter().any(|(_, by, ban)| {
                let subject = ban.subject.parse::<bt2c_security::Subject>();
                *by == victim && subject.is_ok_and(|subject| subject.matches(host.ip, None::<&PeerId>))
            });
            if played.name == attack && !banned {
                missing.push(format!("host {victim} did not ban {}", host.ip));
            }
        }
    }
    let found = missing.first().cloned().unwrap_or_else(|| format!("{} bans", history.bans.len()));
    Expectation::new("attackers are banned by whom they attack", missing.is_empty(), found)
}
