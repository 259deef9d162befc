//! Network addresses as the limits see them: canonical forms, the unit of "one IP", and netgroups.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use crate::ids::PeerId;

/// What counts as one IP: an IPv4 address (v4-mapped made canonical first) or an IPv6 /64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpUnit(IpAddr);

impl IpUnit {
    /// The unit an address belongs to.
    pub fn of(ip: IpAddr) -> Self {
        Self(mask(ip, 32, 64))
    }

    /// The first address of the unit.
    pub const fn base(self) -> IpAddr {
        self.0
    }
}

impl fmt::Display for IpUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(ip) => ip.fmt(f),
            IpAddr::V6(ip) => write!(f, "{ip}/64"),
        }
    }
}

/// The network that one operator plausibly controls, for diversity of *outbound* peers: an IPv4 /16 or IPv6 /32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Netgroup(IpAddr);

impl Netgroup {
    /// The netgroup an address belongs to.
    pub fn of(ip: IpAddr) -> Self {
        Self(mask(ip, 16, 32))
    }

    /// The group's bytes, family first, for keyed hashing.
    pub fn to_bytes(self) -> Vec<u8> {
        ip_bytes(self.0)
    }
}

/// The neighbourhood whose *inbound* connections are limited together: an IPv4 /24 or IPv6 /48.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subnet(IpAddr);

impl Subnet {
    /// The subnet an address belongs to.
    pub fn of(ip: IpAddr) -> Self {
        Self(mask(ip, 24, 48))
    }
}

fn mask(ip: IpAddr, v4_bits: u32, v6_bits: u32) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & (u32::MAX << (32 - v4_bits)))),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << (128 - v6_bits)))),
    }
}

fn ip_bytes(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => [&[4], ip.octets().as_slice()].concat(),
        IpAddr::V6(ip) => [&[6], ip.octets().as_slice()].concat(),
    }
}

/// The same socket address with a v4-mapped IPv6 address turned into IPv4 and scope and flow dropped.
pub fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// Whether an address can be reached over the public internet, by the IANA special-purpose registries
/// (RFC 6890, RFC 8190 and their updates).
pub fn is_global(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_global_v4(ip),
        IpAddr::V6(ip) => is_global_v6(ip),
    }
}

fn is_global_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !(a == 0
        || a >= 224 // multicast, reserved, broadcast
        || ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation()
        || (a == 100 && (b & 0xc0) == 64) // carrier-grade NAT
        || (a == 192 && b == 0 && c == 0) // protocol assignments
        || (a == 198 && (b & 0xfe) == 18)) // benchmarking
}

fn is_global_v6(ip: Ipv6Addr) -> bool {
    let [a, b, ..] = ip.segments();
    let global_unicast = (a & 0xe000) == 0x2000;
    let documentation = (a == 0x2001 && b == 0x0db8) || (a == 0x3fff && b < 0x1000);
    let protocol_assignment = a == 0x2001 && b < 0x0200;
    global_unicast && !documentation && !protocol_assignment && a != 0x2002
}

/// Parses an address of a `peers` list: an IP literal with a port that is not 0, in canonical form.
///
/// # Errors
/// Names, missing or zero ports, scoped IPv6 and anything else that is no `ip:port` or `[v6]:port`.
pub fn parse_wire_addr(text: &str) -> Result<SocketAddr, AddrError> {
    let error = || AddrError(text.chars().take(80).collect());
    let addr: SocketAddr = text.parse().map_err(|_| error())?;
    if addr.port() == 0 || matches!(addr, SocketAddr::V6(v6) if v6.scope_id() != 0) {
        return Err(error());
    }
    Ok(canonical(addr))
}

/// An address as a peer wrote it: none if the text is no usable one, which is nothing to blame anybody for.
pub(crate) struct WireAddr(pub(crate) Option<SocketAddr>);

impl FromStr for WireAddr {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(parse_wire_addr(text).ok()))
    }
}

impl<'de> serde::Deserialize<'de> for WireAddr {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::serde_text::deserialize(deserializer)
    }
}

/// A text that is no usable address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address: use ip:port, [v6]:port or name:port, optionally peerid@ before it")]
pub struct AddrError(Box<str>);

/// An address that an operator gave: a literal or a DNS name, optionally pinned to one identity.
///
/// Text form: `[peerid@]host:port`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerAddr {
    /// The only identity accepted there, if the operator pinned one.
    pub pin: Option<PeerId>,
    /// An IP address or a DNS name.
    pub host: Host,
    /// The TCP port, never 0.
    pub port: u16,
}

/// The host part of a [`PeerAddr`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// An IP literal, canonical.
    Ip(IpAddr),
    /// A DNS name, lower case, at most 253 characters.
    Name(Box<str>),
}

impl PeerAddr {
    /// The socket address, if the host is a literal.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self.host {
            Host::Ip(ip) => Some(SocketAddr::new(ip, self.port)),
            Host::Name(_) => None,
        }
    }

    /// The same host and pin at another place of the same operator: used when a name resolved to `ip`.
    pub const fn at(&self, ip: IpAddr) -> Self {
        Self { pin: self.pin, host: Host::Ip(ip), port: self.port }
    }
}

impl From<SocketAddr> for PeerAddr {
    fn from(addr: SocketAddr) -> Self {
        let addr = canonical(addr);
        Self { pin: None, host: Host::Ip(addr.ip()), port: addr.port() }
    }
}

impl FromStr for PeerAddr {
    type Err = AddrError;

    fn from_str(text: &str) -> Result<Self, AddrError> {
        let error = || AddrError(text.chars().take(80).collect());
        let (pin, rest) = match text.split_once('@') {
            Some((pin, rest)) => (Some(pin.parse().map_err(|_| error())?), rest),
            None => (None, text),
        };
        if let Ok(addr) = parse_wire_addr(rest) {
            return Ok(Self { pin, ..addr.into() });
        }
        let (name, port) = rest.rsplit_once(':').ok_or_else(error)?;
        let port: u16 = port.parse().ok().filter(|&port| port != 0).ok_or_else(error)?;
        // A last label of digits would be an IPv4 address that did not parse, such as 1.2.3.999.
        let last_is_number = name.rsplit('.').next().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
        let label_ok = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if name.len() > 253 || last_is_number || !name.split('.').all(label_ok) {
            return Err(error());
        }
        Ok(Self { pin, host: Host::Name(name.to_ascii_lowercase().into()), port })
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(pin) = self.pin {
            write!(f, "{pin}@")?;
        }
        match &self.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

crate::serde_text::impl_serde_text!(PeerAddr);

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_mapped_address_counts_as_its_ipv4_address() {
        assert_eq!(IpUnit::of(ip("::ffff:192.0.2.1")), IpUnit::of(ip("192.0.2.1")));
        assert_eq!(Netgroup::of(ip("::ffff:192.0.2.1")), Netgroup::of(ip("192.0.99.1")));
    }

    #[test]
    fn units_and_groups_cut_where_the_limits_say() {
        assert_eq!(IpUnit::of(ip("2001:db8::1")), IpUnit::of(ip("2001:db8::ffff:1")));
        assert_ne!(IpUnit::of(ip("2001:db8::1")), IpUnit::of(ip("2001:db8:0:1::1")));
        assert_eq!(IpUnit::of(ip("2001:db8::1")), IpUnit::of(ip("2001:db8::ffff:0:0:1")));
        assert_ne!(IpUnit::of(ip("192.0.2.1")), IpUnit::of(ip("192.0.2.2")));
        assert_eq!(Subnet::of(ip("192.0.2.1")), Subnet::of(ip("192.0.2.200")));
        assert_ne!(Subnet::of(ip("192.0.2.1")), Subnet::of(ip("192.0.3.1")));
        assert_eq!(Subnet::of(ip("2001:db8:7::1")), Subnet::of(ip("2001:db8:7:ffff::1")));
        assert_ne!(Subnet::of(ip("2001:db8:7::1")), Subnet::of(ip("2001:db8:6::1")));
        assert_eq!(Netgroup::of(ip("192.0.2.1")), Netgroup::of(ip("192.0.255.1")));
        assert_ne!(Netgroup::of(ip("192.0.2.1")), Netgroup::of(ip("192.1.2.1")));
        assert_eq!(Netgroup::of(ip("2001:db8::1")), Netgroup::of(ip("2001:db8:ffff::1")));
        assert_ne!(Netgroup::of(ip("2001:db8::1")), Netgroup::of(ip("2001:db9::1")));
        assert_eq!(IpUnit::of(ip("2001:db8::1")).to_string(), "2001:db8::/64");
    }

    #[test]
    fn special_purpose_addresses_are_not_global() {
        for text in ["10.1.1.1", "127.0.0.1", "100.64.0.1", "192.0.2.1", "224.0.0.1", "0.0.0.0", "198.18.0.1"]
        {
            assert!(!is_global(ip(text)), "{text}");
        }
        for text in ["::1", "fe80::1", "fc00::1", "2001:db8::1", "::ffff:10.0.0.1", "2002::1", "ff02::1"] {
            assert!(!is_global(ip(text)), "{text}");
        }
        for text in ["8.8.8.8", "100.128.0.1", "2600::1"] {
            assert!(is_global(ip(text)), "{text}");
        }
    }

    #[test]
    fn wire_addresses_are_literals_with_ports() {
        assert!(parse_wire_addr("192.0.2.1:8338").is_ok());
        assert_eq!(parse_wire_addr("[::ffff:192.0.2.1]:1").unwrap().to_string(), "192.0.2.1:1");
        for text in ["example.org:1", "192.0.2.1", "192.0.2.1:0", "[fe80::1%3]:1", "", "1.2.3.4:99999"] {
            assert!(parse_wire_addr(text).is_err(), "{text}");
        }
    }

    #[test]
    fn operator_addresses_round_trip_with_pins_and_names() {
        let pin = PeerId::from_spki_der(b"x");
        for text in
            ["192.0.2.1:1".to_owned(), "seed.example.org:8338".to_owned(), format!("{pin}@[2001:db8::1]:9")]
        {
            assert_eq!(text.parse::<PeerAddr>().unwrap().to_string(), text);
        }
        for text in ["nope", "a b:1", "x@h:1", "host:0", ":1", "1.2.3.999:1", "a..b:1"] {
            assert!(text.parse::<PeerAddr>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_that_resolved_keeps_its_pin_and_port() {
        let pinned: PeerAddr = format!("{}@seed.example.org:8338", "ab".repeat(32)).parse().unwrap();
        assert_eq!(pinned.socket_addr(), None);
        let at = pinned.at("192.0.2.7".parse().unwrap());
        assert_eq!((at.pin, at.socket_addr()), (pinned.pin, "192.0.2.7:8338".parse().ok()));
    }

    #[test]
    fn netgroups_of_both_families_differ_in_their_bytes() {
        let bytes = |ip: &str| Netgroup::of(ip.parse().unwrap()).to_bytes();
        assert_eq!(bytes("192.0.2.7"), [4, 192, 0, 0, 0]);
        assert_eq!(bytes("192.0.2.7"), bytes("::ffff:192.0.99.1"));
        let v6 = bytes("2001:db8:7::1");
        assert_eq!((v6[0], v6.len(), &v6[1..5]), (6, 17, &[0x20, 0x01, 0x0d, 0xb8][..]));
    }
}
