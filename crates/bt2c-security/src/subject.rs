//! Whom a ban or an exemption is about.

use std::{fmt, net::IpAddr, str::FromStr};

use bt2c_proto::{IpUnit, PeerId};
use ipnet::{IpNet, Ipv4Net};

/// Whom a ban or an exemption is about: a range of addresses, or an identity.
///
/// Text forms: `192.0.2.1`, `2001:db8::/64`, `198.51.100.0/24`, or a PeerId of 64 hex digits. A single IPv6 address means
/// its /64, for whoever has one address of it has them all; v4-mapped addresses and ranges are IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// Every address of a network; its host bits are zero.
    Net(IpNet),
    /// An identity, wherever it connects from.
    Peer(PeerId),
}

impl Subject {
    /// The unit of addresses that counts as one IP: the IPv4 address, or the IPv6 /64.
    pub fn of_ip(ip: IpAddr) -> Self {
        let base = IpUnit::of(ip).base();
        Self::net(base, if base.is_ipv4() { 32 } else { 64 }).expect("no longer than an address")
    }

    /// The IPv6 /48 around an address, which is what a site is given; `None` for IPv4.
    pub(crate) fn site_of_ip(ip: IpAddr) -> Option<Self> {
        ip.to_canonical().is_ipv6().then(|| Self::net(ip, 48)).flatten()
    }

    /// The address group around an address, /16 of IPv4 or /32 of IPv6: what one operator can cheaply have many addresses
    /// of, and outbound connections take only one of.
    pub fn group_of_ip(ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        Self::net(ip, if ip.is_ipv4() { 16 } else { 32 }).expect("no longer than an address")
    }

    /// The network of that prefix length around an address.
    pub(crate) fn net(ip: IpAddr, prefix: u8) -> Option<Self> {
        IpNet::new(ip, prefix).ok().map(|net| Self::Net(net.trunc()))
    }

    /// Whether a peer at this address, with this identity if it is known yet, is meant.
    pub fn matches(&self, ip: IpAddr, peer: Option<&PeerId>) -> bool {
        match self {
            Self::Net(net) => net.contains(&ip.to_canonical()),
            Self::Peer(id) => peer == Some(id),
        }
    }

    /// Whether everyone whom `other` means is meant by this subject as well.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Net(net), Self::Net(inner)) => net.contains(inner),
            (Self::Peer(id), Self::Peer(other)) => id == other,
            _ => false,
        }
    }
}

impl From<PeerId> for Subject {
    fn from(peer: PeerId) -> Self {
        Self::Peer(peer)
    }
}

impl From<IpAddr> for Subject {
    fn from(ip: IpAddr) -> Self {
        Self::of_ip(ip)
    }
}

impl From<IpNet> for Subject {
    fn from(net: IpNet) -> Self {
        match net {
            IpNet::V6(net) if net.prefix_len() >= MAPPED_PREFIX => match net.addr().to_ipv4_mapped() {
                Some(v4) => Ipv4Net::new(v4, net.prefix_len() - MAPPED_PREFIX)
                    .map_or(Self::Net(net.trunc().into()), |v4| Self::Net(v4.trunc().into())),
                None => Self::Net(net.trunc().into()),
            },
            net => Self::Net(net.trunc()),
        }
    }
}

/// A text that names no [`Subject`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no subject: use an IP address, a network such as 192.0.2.0/24, or a PeerId of 64 hex digits"
)]
pub struct SubjectError(Box<str>);

impl FromStr for Subject {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, SubjectError> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(ip.into());
        }
        if let Ok(net) = text.parse::<IpNet>() {
            return Ok(net.into());
        }
        text.parse().map(Self::Peer).map_err(|_| SubjectError(text.chars().take(80).collect()))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net(IpNet::V4(net)) if net.prefix_len() == 32 => net.addr().fmt(f),
            Self::Net(net) => net.fmt(f),
            Self::Peer(id) => id.fmt(f),
        }
    }
}

impl serde::Serialize for Subject {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Subject {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Bits before the IPv4 address in a v4-mapped IPv6 address.
const MAPPED_PREFIX: u8 = 96;

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(text: &str) -> Subject {
        text.parse().unwrap()
    }

    #[test]
    fn one_text_form_comes_out_of_many() {
        for (text, canonical) in [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1/32", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1/128", "192.0.2.1"),
            ("::ffff:192.0.2.9/120", "192.0.2.0/24"),
            ("192.0.2.77/24", "192.0.2.0/24"),
            ("2001:db8::1", "2001:db8::/64"),
            ("2001:db8::1/48", "2001:db8::/48"),
            ("2001:db8::1/128", "2001:db8::1/128"),
            (&"ab".repeat(32), &"ab".repeat(32)),
        ] {
            assert_eq!(subject(text).to_string(), canonical);
            assert_eq!(subject(canonical), subject(text));
        }
        for text in ["", "host", "1.2.3.4/33", "1.2.3.4:5", "fe80::1%eth0", &"AB".repeat(32), &"a".repeat(63)]
        {
            assert!(text.parse::<Subject>().is_err(), "{text}");
        }
    }

    #[test]
    fn serde_uses_the_text_form() {
        let json = serde_json::to_string(&subject("2001:db8::1")).unwrap();
        assert_eq!(json, "\"2001:db8::/64\"");
        assert_eq!(serde_json::from_str::<Subject>(&json).unwrap(), subject("2001:db8::1"));
        assert!(serde_json::from_str::<Subject>("\"nobody\"").is_err());
    }

    #[test]
    fn a_network_matches_its_addresses_however_they_are_written() {
        assert!(subject("192.0.2.0/24").matches("::ffff:192.0.2.7".parse().unwrap(), None));
        assert!(!subject("192.0.2.0/24").matches("192.0.3.7".parse().unwrap(), None));
        let peer = PeerId::from_bytes([7; 32]);
        assert!(Subject::from(peer).matches("192.0.2.1".parse().unwrap(), Some(&peer)));
        assert!(!Subject::from(peer).matches("192.0.2.1".parse().unwrap(), None));
        assert!(subject("192.0.2.0/24").covers(&subject("192.0.2.9")));
        assert!(!subject("192.0.2.9").covers(&subject("192.0.2.0/24")));
    }
}
