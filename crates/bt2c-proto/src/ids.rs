//! Who a node is: the key-bound [`PeerId`], the label [`NodeId`], and the [`Network`] it belongs to.

use std::{fmt, str::FromStr};

use crate::hex::impl_hex32;

/// A node's identity: SHA-256 of its certificate's SubjectPublicKeyInfo.
///
/// It cannot be claimed without the private key, so all bookkeeping (scores, bans, slots) is by `PeerId`.
/// Its text form is 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId([u8; 32]);

impl_hex32!(PeerId);

impl PeerId {
    /// The identity that belongs to a DER-encoded SubjectPublicKeyInfo.
    pub fn from_spki_der(spki: &[u8]) -> Self {
        use sha2::Digest;
        Self(sha2::Sha256::digest(spki).into())
    }
}

/// A label that a node's operator chose: 1–54 characters of `[A-Za-z0-9._-]`.
///
/// Two peers may bear the same label, so no decision rests on one; a label of 40 hex digits is reserved to the peer
/// whose [`PeerId`] begins with them (see [`NodeId::may_be_used_by`]).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(Box<str>);

/// Longest [`NodeId`], so that `BT2C Node <node_id>` fits the 64 characters of an X.509 common name.
pub const MAX_NODE_ID_LEN: usize = 54;

/// Number of hex digits of the PeerId that make up the default label.
const DERIVED_LABEL_LEN: usize = 40;

impl NodeId {
    /// The label of a node whose operator chose none: the first 40 hex digits of its PeerId.
    pub fn derived_from(peer_id: &PeerId) -> Self {
        Self(peer_id.to_string()[..DERIVED_LABEL_LEN].into())
    }

    /// Whether a peer of this identity may bear this label: anything but 40 hex digits that are another's.
    pub fn may_be_used_by(&self, peer_id: &PeerId) -> bool {
        let looks_derived =
            self.0.len() == DERIVED_LABEL_LEN && self.0.bytes().all(|byte| byte.is_ascii_hexdigit());
        !looks_derived || peer_id.to_string()[..DERIVED_LABEL_LEN].eq_ignore_ascii_case(&self.0)
    }

    /// The label as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is not a [`NodeId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeIdError {
    /// Empty or longer than [`MAX_NODE_ID_LEN`].
    #[error("node id has {0} characters; it takes 1 to {MAX_NODE_ID_LEN}")]
    Length(usize),
    /// A character outside `[A-Za-z0-9._-]`.
    #[error("node id may hold letters, digits, '.', '_' and '-' only, not {0:?}")]
    Character(char),
}

impl FromStr for NodeId {
    type Err = NodeIdError;

    fn from_str(text: &str) -> Result<Self, NodeIdError> {
        if text.is_empty() || text.len() > MAX_NODE_ID_LEN {
            return Err(NodeIdError::Length(text.chars().count()));
        }
        match text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))) {
            Some(bad) => Err(NodeIdError::Character(bad)),
            None => Ok(Self(text.into())),
        }
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({})", self.0)
    }
}

crate::serde_text::impl_serde_text!(NodeId);

/// Which BT2C network a node is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Network {
    /// The main network.
    Mainnet,
    /// The public test network.
    Testnet,
    /// A local development network with published keys.
    Devnet,
}

impl Network {
    /// The name used on the wire, in the genesis and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mainnet => "mainnet",
            Self::Testnet => "testnet",
            Self::Devnet => "devnet",
        }
    }

    /// The default TCP port of the network's nodes.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Mainnet => 8338,
            Self::Testnet => 8337,
            Self::Devnet => 8336,
        }
    }
}

/// A text that names no [`Network`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no network is named {0:?}: use mainnet, testnet or devnet")]
pub struct NetworkError(Box<str>);

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        [Self::Mainnet, Self::Testnet, Self::Devnet]
            .into_iter()
            .find(|network| network.name() == text)
            .ok_or_else(|| NetworkError(text.chars().take(32).collect()))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

crate::serde_text::impl_serde_text!(Network);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_id_text_round_trips_and_is_strict() {
        let id = PeerId::from_spki_der(b"key");
        assert_eq!(id.to_string().parse::<PeerId>().unwrap(), id);
        assert!(id.to_string().to_uppercase().parse::<PeerId>().is_err());
        assert!(id.to_string()[1..].parse::<PeerId>().is_err());
    }

    #[test]
    fn a_label_of_forty_hex_digits_belongs_to_its_peer_id_alone() {
        let (mine, other) = (PeerId::from_spki_der(b"mine"), PeerId::from_spki_der(b"other"));
        let label = NodeId::derived_from(&mine);
        assert!(label.may_be_used_by(&mine));
        assert!(!label.may_be_used_by(&other));
        let upper: NodeId = label.as_str().to_uppercase().parse().unwrap();
        assert!(upper.may_be_used_by(&mine) && !upper.may_be_used_by(&other));
        assert!("alice".parse::<NodeId>().unwrap().may_be_used_by(&other));
    }

    #[test]
    fn node_id_refuses_empty_long_and_foreign_characters() {
        assert_eq!("".parse::<NodeId>(), Err(NodeIdError::Length(0)));
        assert_eq!("a".repeat(55).parse::<NodeId>(), Err(NodeIdError::Length(55)));
        assert_eq!("a b".parse::<NodeId>(), Err(NodeIdError::Character(' ')));
        assert!("A-z_0.9".parse::<NodeId>().is_ok());
    }

    #[test]
    fn each_network_has_the_port_of_the_protocol_page() {
        let ports = [Network::Mainnet, Network::Testnet, Network::Devnet].map(Network::default_port);
        assert_eq!(ports, [8338, 8337, 8336]);
    }
}
