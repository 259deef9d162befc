//! What a host is told about itself: its address, its access to the network, its place.

use std::{net::IpAddr, num::NonZeroU64, time::Duration};

use super::Region;

/// A host and its access to the network.
#[derive(Debug, Clone, Copy)]
pub struct HostSpec {
    /// Its own address, unique in the network, by which scenarios name it. Behind a NAT the rest of the network does not
    /// see it.
    pub ip: IpAddr,
    /// Where it is.
    pub region: Region,
    /// Its access link.
    pub link: Link,
    /// What stands between it and the rest of the network.
    pub nat: Nat,
}

impl HostSpec {
    /// An open host on a perfect link.
    pub const fn new(ip: IpAddr, region: Region) -> Self {
        Self { ip, region, link: Link::PERFECT, nat: Nat::Open }
    }

    /// The address that others see.
    pub const fn public(&self) -> IpAddr {
        match self.nat {
            Nat::Open => self.ip,
            Nat::PortMapped { public } | Nat::Restricted { public } => public,
        }
    }
}

/// Whether a host can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nat {
    /// Its own address is public.
    Open,
    /// Behind a router that forwards each port on which the host listens, under the same number. Two hosts behind one
    /// router cannot listen on the same port.
    PortMapped {
        /// The router's address.
        public: IpAddr,
    },
    /// Behind a router that lets no dial in: it stays unanswered. Hosts behind the same router reach each other by their
    /// own addresses.
    Restricted {
        /// The router's address.
        public: IpAddr,
    },
}

/// A host's access link. What passes between two hosts passes both their links.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    /// From the host to the network.
    pub up: Bandwidth,
    /// From the network to the host.
    pub down: Bandwidth,
    /// The most that a chunk of bytes is held up beyond the latency, either way; evenly distributed, never overtaking.
    pub jitter: Duration,
    /// How many in a million segments are lost on this link, either way. Lost segments come late: see
    /// [`SimNet`](super::SimNet).
    pub loss: u32,
}

impl Link {
    /// Unlimited, without jitter, without loss.
    pub const PERFECT: Self =
        Self { up: Bandwidth::Unlimited, down: Bandwidth::Unlimited, jitter: Duration::ZERO, loss: 0 };

    /// A machine in a data centre: 1 Gbit/s both ways.
    pub const DATA_CENTRE: Self = Self {
        up: Bandwidth::mbit(1000),
        down: Bandwidth::mbit(1000),
        jitter: Duration::from_millis(1),
        loss: 10,
    };

    /// A home on cable: 20 Mbit/s up, 200 Mbit/s down.
    pub const CABLE: Self = Self {
        up: Bandwidth::mbit(20),
        down: Bandwidth::mbit(200),
        jitter: Duration::from_millis(5),
        loss: 500,
    };

    /// A home far from the exchange: 1 Mbit/s up, 6 Mbit/s down.
    pub const DSL: Self = Self {
        up: Bandwidth::mbit(1),
        down: Bandwidth::mbit(6),
        jitter: Duration::from_millis(15),
        loss: 2_000,
    };

    /// A phone on the move: 5 Mbit/s up, 20 Mbit/s down, 1 % of segments lost.
    pub const MOBILE: Self = Self {
        up: Bandwidth::mbit(5),
        down: Bandwidth::mbit(20),
        jitter: Duration::from_millis(40),
        loss: 10_000,
    };
}

/// How fast bytes pass one direction of an access link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bandwidth {
    /// At once. Costs the simulation nothing.
    Unlimited,
    /// So many bits a second, shared by the flows that are under way.
    BitsPerSecond(NonZeroU64),
}

impl Bandwidth {
    /// So many million bits a second; 0 counts as 1.
    pub const fn mbit(megabits: u32) -> Self {
        Self::bits(megabits as u64 * 1_000_000)
    }

    /// So many bits a second; 0 counts as 1.
    pub const fn bits(bits: u64) -> Self {
        match NonZeroU64::new(bits) {
            Some(bits) => Self::BitsPerSecond(bits),
            None => Self::BitsPerSecond(NonZeroU64::MIN),
        }
    }

    pub(super) const fn limit(self) -> Option<u64> {
        match self {
            Self::Unlimited => None,
            Self::BitsPerSecond(bits) => Some(bits.get()),
        }
    }
}

/// Bytes of a host's streams so far, TLS included, IP and TCP headers not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes that left it. Those that a cut destroyed leave again.
    pub sent: u64,
    /// Bytes that its node has read.
    pub received: u64,
}
