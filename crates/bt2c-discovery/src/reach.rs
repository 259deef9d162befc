//! How far an address reaches: who may tell us of it, and whom we may tell.
//!
//! Off mainnet, private and loopback addresses are kept, so that test networks work on one machine or one site. They
//! mean something only there: an address never passes between us and a node that could not reach it, or a stranger
//! could make us dial our own machine or our operator's printers.

use std::net::{IpAddr, SocketAddr};

use bt2c_proto::{Netgroup, Network, is_global};

/// How far packets to an address travel, nearest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Host,
    Site,
    Global,
}

impl Reach {
    /// `None` for what is no single node's address, or needs an interface's name with it.
    fn of(ip: IpAddr) -> Option<Self> {
        let ip = ip.to_canonical();
        let dialable = match ip {
            IpAddr::V4(v4) => v4.octets()[0] != 0 && v4.octets()[0] < 224,
            IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_multicast() && !v6.is_unicast_link_local(),
        };
        match ip {
            _ if !dialable => None,
            ip if is_global(ip) => Some(Self::Global),
            ip if ip.is_loopback() => Some(Self::Host),
            _ => Some(Self::Site),
        }
    }
}

/// Whether the book of this network keeps such an address at all.
pub(crate) fn belongs(network: Network, ip: IpAddr) -> bool {
    match Reach::of(ip) {
        Some(Reach::Global) => true,
        Some(Reach::Host | Reach::Site) => network != Network::Mainnet,
        None => false,
    }
}

/// Whether an address may pass between us and a node seen at `other`, in either direction.
pub(crate) fn may_pass(network: Network, ip: IpAddr, other: IpAddr) -> bool {
    let near_enough = match (Reach::of(ip), Reach::of(other)) {
        (Some(Reach::Global), _) => true,
        (Some(reach), Some(other)) => other <= reach,
        (_, None) | (None, _) => false,
    };
    near_enough && belongs(network, ip)
}

/// Whom one operator plausibly controls, for bucketing and for the diversity of outbound peers.
///
/// On the public internet that is the netgroup. A non-global address stands for itself: a test network's nodes share
/// one machine or site, and no diversity is to be had there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    Net(Netgroup),
    Lone(SocketAddr),
}

impl Group {
    pub(crate) fn of(addr: SocketAddr) -> Self {
        if is_global(addr.ip()) { Self::Net(Netgroup::of(addr.ip())) } else { Self::Lone(addr) }
    }

    /// The group of whoever speaks from an IP, whatever the port.
    pub(crate) fn of_ip(ip: IpAddr) -> Self {
        Self::of(SocketAddr::new(ip.to_canonical(), 0))
    }

    pub(crate) fn to_bytes(self) -> Vec<u8> {
        match self {
            Self::Net(group) => group.to_bytes(),
            Self::Lone(addr) => addr_bytes(addr),
        }
    }
}

/// An address as bytes for keyed hashing.
pub(crate) fn addr_bytes(addr: SocketAddr) -> Vec<u8> {
    let mut bytes = match addr.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    bytes.extend(addr.port().to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn mainnet_keeps_global_addresses_only() {
        for text in ["8.8.8.8", "2600::1"] {
            assert!(belongs(Network::Mainnet, ip(text)) && belongs(Network::Devnet, ip(text)), "{text}");
        }
        for text in ["127.0.0.1", "10.1.2.3", "192.168.1.1", "::1", "fc00::1"] {
            assert!(!belongs(Network::Mainnet, ip(text)) && belongs(Network::Testnet, ip(text)), "{text}");
        }
        for text in ["0.0.0.0", "0.1.2.3", "224.0.0.1", "255.255.255.255", "::", "ff02::1", "fe80::1"] {
            assert!(!belongs(Network::Devnet, ip(text)), "{text}");
        }
    }

    #[test]
    fn an_address_passes_only_to_and_from_nodes_that_could_reach_it() {
        let (host, site, global) = (ip("127.0.0.1"), ip("10.0.0.1"), ip("8.8.8.8"));
        let passes = |what, with| may_pass(Network::Testnet, what, with);
        assert!(passes(global, host) && passes(global, site) && passes(global, global));
        assert!(passes(site, host) && passes(site, site) && !passes(site, global));
        assert!(passes(host, host) && !passes(host, site) && !passes(host, global));
        assert!(!may_pass(Network::Mainnet, site, site) && may_pass(Network::Mainnet, global, site));
    }

    #[test]
    fn a_global_address_shares_its_netgroup_and_a_local_one_stands_for_itself() {
        let group = |text: &str| Group::of(text.parse().unwrap());
        assert_eq!(group("8.8.8.8:1"), group("8.8.4.4:2"));
        assert_ne!(group("127.0.0.1:1"), group("127.0.0.1:2"));
        assert_ne!(group("10.0.0.1:1"), group("10.0.0.2:1"));
    }
}
