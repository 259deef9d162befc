//! What this node says of itself in its hello.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
};

use bt2c_proto::{
    BlockHash, Feature, Frame, Height, Hello, Limits, Message, Network, NodeId, PeerId, Text, Time, Version,
};

use crate::config::{P2PConfig, Tip};

/// What our hellos tell of our chain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OwnChain {
    pub(crate) tip: Tip,
    /// The lowest height from which on we have every block.
    pub(crate) first_block: Height,
}

impl From<Tip> for OwnChain {
    fn from(tip: Tip) -> Self {
        Self { tip, first_block: Height::GENESIS }
    }
}

/// The unchanging part of our hellos.
#[derive(Debug, Clone)]
pub(crate) struct Local {
    pub(crate) peer_id: PeerId,
    pub(crate) node_id: NodeId,
    pub(crate) network: Network,
    pub(crate) genesis_hash: BlockHash,
    listen_port: Option<NonZeroU16>,
    user_agent: String,
    features: Vec<Feature>,
    limits: Limits,
}

impl Local {
    pub(crate) fn new(config: &P2PConfig, peer_id: PeerId, node_id: NodeId, listen: &[SocketAddr]) -> Self {
        let told = config.external_addr.or_else(|| listen.first().copied());
        Self {
            peer_id,
            node_id,
            network: config.network,
            genesis_hash: config.genesis_hash,
            listen_port: told.and_then(|addr| NonZeroU16::new(addr.port())),
            user_agent: config.user_agent.clone(),
            features: config.features.clone(),
            limits: config.security.told_limits(),
        }
    }

    /// Our hello to the peer at `remote`, whom we see there if it dialled us.
    pub(crate) fn hello(&self, chain: OwnChain, your_addr: SocketAddr) -> Hello {
        Hello {
            version: Version::CURRENT,
            node_id: self.node_id.clone(),
            block_height: chain.tip.height,
            last_block_hash: Some(chain.tip.hash),
            network: Some(Text::cut(self.network.name())),
            genesis_hash: Some(self.genesis_hash),
            listen_port: self.listen_port,
            user_agent: Some(Text::cut(&self.user_agent)),
            features: Some(self.features.iter().map(|feature| Text::cut(feature.name())).collect()),
            limits: Some(self.limits),
            your_addr: Some(your_addr),
            first_block: Some(chain.first_block).filter(|first| *first > Height::GENESIS),
        }
    }

    /// A message of ours that always fits a frame: all but `blocks` and `new_block`.
    pub(crate) fn frame(&self, message: &Message, now: Time) -> Frame {
        Frame::encode(message, &self.node_id, now)
            .expect("messages without blocks are far below the frame limit")
    }
}

/// The one address to dial from: a node that listens on a specific address dials from it.
pub(crate) fn dial_source(listen: &[SocketAddr], remote: IpAddr) -> Option<IpAddr> {
    // From loopback nothing else is reached.
    let reaches =
        |ip: &IpAddr| ip.is_ipv4() == remote.is_ipv4() && (!ip.is_loopback() || remote.is_loopback());
    let usable = |ip: &IpAddr| !ip.is_unspecified() && reaches(ip);
    listen.iter().map(SocketAddr::ip).find(usable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dials_leave_from_a_listening_address_that_reaches_the_remote() {
        let listen: Vec<SocketAddr> =
            ["0.0.0.0:1", "127.0.0.5:1", "[::1]:1"].map(|addr| addr.parse().unwrap()).into();
        let from = |remote: &str| dial_source(&listen, remote.parse().unwrap()).map(|ip| ip.to_string());
        assert_eq!(from("127.0.0.9").as_deref(), Some("127.0.0.5"));
        assert_eq!(from("::1").as_deref(), Some("::1"));
        assert_eq!(from("192.0.2.1"), None);
    }
}
