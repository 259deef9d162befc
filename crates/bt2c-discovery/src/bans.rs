//! The IPs that discovery neither dials nor hands on for a while.

use std::{collections::BTreeMap, net::IpAddr};

use bt2c_proto::{IpUnit, Time};

/// Bans by unit of "one IP", each until some moment.
///
/// Never holds more than [`MAX_BANS`]; a live ban is not dropped for a newer one.
#[derive(Debug, Default)]
pub(crate) struct Bans {
    until: BTreeMap<IpUnit, Time>,
}

impl Bans {
    /// Bans until the later of this moment and the one already set. Drops it silently when the table is full.
    pub(crate) fn ban(&mut self, ip: IpAddr, until: Time) {
        let unit = IpUnit::of(ip);
        if self.until.len() >= MAX_BANS && !self.until.contains_key(&unit) {
            return;
        }
        let known = self.until.entry(unit).or_insert(until);
        *known = until.max(*known);
    }

    pub(crate) fn unban(&mut self, ip: IpAddr) -> bool {
        self.until.remove(&IpUnit::of(ip)).is_some()
    }

    pub(crate) fn until(&self, now: Time, ip: IpAddr) -> Option<Time> {
        self.until.get(&IpUnit::of(ip)).copied().filter(|&until| until > now)
    }

    pub(crate) fn expire(&mut self, now: Time) {
        self.until.retain(|_, until| *until > now);
    }
}

/// Most bans remembered here. The authority on bans is elsewhere; this only keeps the dial choice from proposing them.
const MAX_BANS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ban_covers_the_unit_ends_in_time_and_can_be_lifted() {
        let mut bans = Bans::default();
        let at = Time::from_secs;
        bans.ban("2001:db8::1".parse().unwrap(), at(10));
        bans.ban("2001:db8::2".parse().unwrap(), at(5));
        let ip = "2001:db8::3".parse().unwrap();
        assert_eq!(bans.until(at(9), ip), Some(at(10)));
        assert_eq!(bans.until(at(10), ip), None);
        assert!(bans.unban(ip) && !bans.unban(ip));
        assert_eq!(bans.until(at(0), ip), None);
    }

    #[test]
    fn a_full_table_keeps_what_it_has_until_that_expires() {
        let mut bans = Bans::default();
        let ip = |n: u32| IpAddr::from(n.to_be_bytes());
        for n in 0..=u32::try_from(MAX_BANS).unwrap() {
            bans.ban(ip(n), Time::from_secs(10));
        }
        let last = ip(u32::try_from(MAX_BANS).unwrap());
        assert_eq!(bans.until(Time::default(), last), None);
        assert!(bans.until(Time::default(), ip(0)).is_some());
        bans.expire(Time::from_secs(10));
        bans.ban(last, Time::from_secs(20));
        assert!(bans.until(Time::from_secs(10), last).is_some());
    }
}
