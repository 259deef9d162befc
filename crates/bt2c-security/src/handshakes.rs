//! What strangers may cost before anything is known about them: a budget of handshakes, and of such as are not finished.
//!
//! A handshake costs us one RSA signature and the dialer next to nothing, so handshakes have a budget for the whole node
//! and one for each netgroup. The group's is asked first: what one network has too many of takes nothing from the others.
//! A connection above a budget is refused, which is nobody's offence.

use std::{net::IpAddr, time::Duration};

use bt2c_proto::{Defence, IpUnit, Netgroup, Time};

use crate::{
    bucket::Bucket,
    config::SecurityConfig,
    shares::{Share, Shares},
};

/// The budgets of handshakes.
#[derive(Debug)]
pub(crate) struct Handshakes {
    total: Option<Bucket>,
    groups: Shares<Netgroup>,
    unfinished: Shares<IpUnit>,
}

impl Handshakes {
    pub(crate) const fn new() -> Self {
        Self { total: None, groups: Shares::new(MAX_GROUPS), unfinished: Shares::new(MAX_UNFINISHED) }
    }

    /// Takes one handshake out of the budgets; whether there was one left. Whoever is `exempt` takes from the node's, for
    /// its handshake costs as much as any, but is let in without asking: it is no stranger, and strangers who used the
    /// budget up must not keep it out.
    pub(crate) fn take(&mut self, now: Time, ip: IpAddr, exempt: bool, config: &SecurityConfig) -> bool {
        if !config.defences.has(Defence::HandshakeBudget) {
            return true;
        }
        let group = || {
            Bucket::new(
                now,
                config.handshakes_per_group_burst,
                config.handshakes_per_group_per_second,
                SECOND,
            )
        };
        if !exempt && self.groups.take(now, Netgroup::of(ip), refilled(config), group) != Share::Within {
            return false;
        }
        let total = self.total.get_or_insert_with(|| {
            Bucket::new(now, config.handshakes_burst, config.handshakes_per_second, SECOND)
        });
        total.take(now) || exempt
    }

    /// Counts a handshake that the other side did not finish in time; whether it is one too many of that IP.
    pub(crate) fn unfinished(&mut self, now: Time, ip: IpAddr, config: &SecurityConfig) -> bool {
        let window = config.failed_window.max(SECOND);
        let limit = config.unfinished_attempts;
        let own = || Bucket::new(now, limit, limit, window);
        // Of those who share a bucket nobody is known to be the one who used it up.
        self.unfinished.take(now, IpUnit::of(ip), window, own) == Share::Over
    }
}

/// When a group's bucket is full again, at the latest: then there is nothing to remember.
fn refilled(config: &SecurityConfig) -> Duration {
    SECOND * config.handshakes_per_group_burst.get() / config.handshakes_per_group_per_second.get() + SECOND
}

const SECOND: Duration = Duration::from_secs(1);

/// Most netgroups kept, a few hundred kilobytes. One is forgotten after seconds, so this is as many as come at once.
const MAX_GROUPS: usize = 4096;

/// Most IPs kept that did not finish a handshake, under 2 MB.
const MAX_UNFINISHED: usize = 16_384;

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    const NOW: Time = Time::from_secs(1_712_352_000);

    fn config() -> SecurityConfig {
        let count = |value| NonZeroU32::new(value).unwrap();
        SecurityConfig {
            handshakes_per_second: count(10),
            handshakes_burst: count(30),
            handshakes_per_group_per_second: count(2),
            handshakes_per_group_burst: count(5),
            ..SecurityConfig::default()
        }
    }

    fn ip(group: u8, host: u8) -> IpAddr {
        IpAddr::from([9, group, host, 1])
    }

    /// How many of these are let in.
    fn taken(budget: &mut Handshakes, now: Time, ips: impl IntoIterator<Item = IpAddr>) -> usize {
        ips.into_iter().filter(|ip| budget.take(now, *ip, false, &config())).count()
    }

    #[test]
    fn a_netgroup_has_its_burst_and_then_its_rate_however_many_addresses_it_has() {
        let mut budget = Handshakes::new();
        assert_eq!(taken(&mut budget, NOW, (0..100).map(|host| ip(1, host))), 5);
        let later = NOW + Duration::from_secs(2);
        assert_eq!(taken(&mut budget, later, (0..100).map(|host| ip(1, host))), 4);
        let v6 = |host: u16| IpAddr::from([0x2a00, 1, host, 0, 0, 0, 0, 1]);
        assert_eq!(taken(&mut budget, later, (0..100).map(v6)), 5);
    }

    #[test]
    fn what_one_netgroup_has_too_many_of_takes_nothing_from_the_others() {
        let mut budget = Handshakes::new();
        taken(&mut budget, NOW, (0..200).map(|host| ip(1, host)));
        assert_eq!(taken(&mut budget, NOW, (2..7).flat_map(|group| [ip(group, 1); 5])), 25);
    }

    #[test]
    fn all_netgroups_together_have_no_more_than_the_node_has() {
        let mut budget = Handshakes::new();
        assert_eq!(taken(&mut budget, NOW, (0..200).map(|group| ip(group, 1))), 30);
        let later = NOW + Duration::from_secs(1);
        assert_eq!(taken(&mut budget, later, (0..200).map(|group| ip(group, 1))), 10);
    }

    #[test]
    fn the_exempt_are_always_let_in_and_what_they_cost_is_counted() {
        let mut budget = Handshakes::new();
        for _ in 0..100 {
            assert!(budget.take(NOW, ip(1, 1), true, &config()));
        }
        assert_eq!(taken(&mut budget, NOW, [ip(2, 1)]), 0, "the node's budget is used up");
    }

    #[test]
    fn an_ip_is_over_only_after_many_unfinished_handshakes_within_the_window() {
        let (mut budget, config) = (Handshakes::new(), SecurityConfig::default());
        let limit = config.unfinished_attempts.get();
        for _ in 0..limit {
            assert!(!budget.unfinished(NOW, ip(1, 1), &config));
        }
        assert!(!budget.unfinished(NOW, ip(1, 2), &config), "a neighbour");
        assert!(budget.unfinished(NOW, ip(1, 1), &config));
        assert!(!budget.unfinished(NOW + config.failed_window, ip(1, 1), &config));
        // Half as fast as they wear off, for ever.
        let pace = config.failed_window / limit * 2;
        let mut now = NOW;
        for _ in 0..10 * limit {
            now = now + pace;
            assert!(!budget.unfinished(now, ip(1, 3), &config));
        }
    }
}
