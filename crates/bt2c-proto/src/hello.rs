//! The hello: who a peer is, what chain it has, what it offers.

use std::{fmt, net::SocketAddr, num::NonZeroU16, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::{
    bounded::{self, Object, Text},
    hash::BlockHash,
    ids::NodeId,
    limits::{MAX_FEATURE_LEN, MAX_FEATURES, MAX_TEXT},
    net::{WireAddr, canonical},
    numbers::{Height, integer, narrow},
};

/// Data of `hello`. Everything after `last_block_hash` is optional: a peer that knows only the base protocol sends none
/// of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The protocol version; another major version is incompatible.
    pub version: Version,
    /// The sender's label.
    pub node_id: NodeId,
    /// Height of the sender's tip: a hint, proven only by blocks.
    pub block_height: Height,
    /// Hash of the sender's tip: a hint; any text that is no hash reads as none.
    #[serde(serialize_with = "hash_or_empty", deserialize_with = "hash_or_none")]
    pub last_block_hash: Option<BlockHash>,
    /// Name of the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Text<MAX_FEATURE_LEN>>,
    /// Hash of the genesis block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub genesis_hash: Option<BlockHash>,
    /// The port at which the sender takes connections, at the address it is seen at.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "port")]
    pub listen_port: Option<NonZeroU16>,
    /// Software and version, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<Text<MAX_TEXT>>,
    /// What the sender knows beyond the base protocol. Present (even if empty): it understands `disconnect` and
    /// `throttled`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "features")]
    pub features: Option<Vec<Text<MAX_FEATURE_LEN>>>,
    /// What the sender takes from one peer.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "limits")]
    pub limits: Option<Limits>,
    /// The address that the receiver is seen at: a hint; any text that is no usable address reads as none.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "canonical_addr",
        deserialize_with = "address"
    )]
    pub your_addr: Option<SocketAddr>,
    /// The lowest height from which on the sender has every block; none if it has all. Of older ones but the genesis block it
    /// keeps no bodies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_block: Option<Height>,
}

/// The `limits` of a hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Requests a minute that the sender takes from one IP.
    #[serde(deserialize_with = "integer")]
    pub requests_per_minute: u64,
    /// Largest frame body that the sender takes, in bytes.
    #[serde(deserialize_with = "integer")]
    pub frame_size: u64,
    /// Pushed transactions a second that the sender takes on a connection.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "narrow")]
    pub transactions_per_second: Option<u64>,
    /// Pushed blocks a second that the sender takes on a connection.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "narrow")]
    pub blocks_per_second: Option<u64>,
    /// Pushed bytes a second that the sender takes on a connection.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "narrow")]
    pub push_bytes_per_second: Option<u64>,
}

impl Hello {
    /// Whether the sender understands messages beyond the nine base ones.
    pub const fn knows_extensions(&self) -> bool {
        self.features.is_some()
    }

    /// Whether the sender says that it knows a feature.
    pub fn knows(&self, feature: Feature) -> bool {
        self.features.iter().flatten().any(|name| name.as_str() == feature.name())
    }
}

/// What a node may know beyond the base protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feature {
    /// `get_blocks` that is answered by as many messages as it takes, and `cancel`.
    BlockStream,
    /// `get_headers` and `headers`.
    Headers,
}

impl Feature {
    /// Every feature.
    pub const ALL: &[Self] = &[Self::BlockStream, Self::Headers];

    /// The name in a hello.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BlockStream => "block-stream",
            Self::Headers => "headers",
        }
    }
}

fn hash_or_empty<S: serde::Serializer>(hash: &Option<BlockHash>, serializer: S) -> Result<S::Ok, S::Error> {
    match hash {
        Some(hash) => hash.serialize(serializer),
        None => serializer.serialize_str(""),
    }
}

fn hash_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<BlockHash>, D::Error> {
    struct Lenient(Option<BlockHash>);

    impl FromStr for Lenient {
        type Err = std::convert::Infallible;

        fn from_str(text: &str) -> Result<Self, Self::Err> {
            Ok(Self(text.parse().ok()))
        }
    }

    crate::serde_text::deserialize::<D, Lenient>(deserializer).map(|Lenient(hash)| hash)
}

fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NonZeroU16>, D::Error> {
    let Some(port) = narrow::<u16, D>(deserializer)? else { return Ok(None) };
    NonZeroU16::new(port).map(Some).ok_or_else(|| de::Error::custom("port is 0"))
}

fn features<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<Text<MAX_FEATURE_LEN>>>, D::Error> {
    #[derive(Deserialize)]
    struct List(
        #[serde(deserialize_with = "bounded::list::<MAX_FEATURES, _, _>")] Vec<Text<MAX_FEATURE_LEN>>,
    );

    Ok(Option::<List>::deserialize(deserializer)?.map(|List(features)| features))
}

fn limits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Limits>, D::Error> {
    Ok(Option::<Object<Limits>>::deserialize(deserializer)?.map(|Object(limits)| limits))
}

fn canonical_addr<S: serde::Serializer>(addr: &Option<SocketAddr>, serializer: S) -> Result<S::Ok, S::Error> {
    addr.map(canonical).serialize(serializer)
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    Ok(Option::<WireAddr>::deserialize(deserializer)?.and_then(|WireAddr(addr)| addr))
}

/// A protocol version, `major.minor.patch`; missing parts read as 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Incompatible changes.
    pub major: u32,
    /// Compatible additions.
    pub minor: u32,
    /// Corrections.
    pub patch: u32,
}

impl Version {
    /// The version that this crate speaks.
    pub const CURRENT: Self = Self { major: 1, minor: 0, patch: 0 };

    /// Whether two nodes of these versions understand each other.
    pub const fn is_compatible_with(self, other: Self) -> bool {
        self.major == other.major
    }
}

/// A text that is no [`Version`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no version: expected major.minor.patch")]
pub struct VersionError;

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let mut parts = text.split('.');
        let mut part = || match parts.next() {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map(Some).map_err(|_| VersionError)
            }
            Some(_) => Err(VersionError),
            None => Ok(None),
        };
        let version = Self {
            major: part()?.ok_or(VersionError)?,
            minor: part()?.unwrap_or(0),
            patch: part()?.unwrap_or(0),
        };
        if parts.next().is_some() { Err(VersionError) } else { Ok(version) }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

crate::serde_text::impl_serde_text!(Version);

#[cfg(test)]
mod tests {
    use super::*;

    fn read(more: &str) -> serde_json::Result<Hello> {
        serde_json::from_str(&format!(
            r#"{{"version":"1","node_id":"a","block_height":0,"last_block_hash":""{more}}}"#
        ))
    }

    #[test]
    fn null_stands_for_an_optional_field_that_is_missing() {
        let bare = read("").unwrap();
        for field in [
            "network",
            "genesis_hash",
            "listen_port",
            "user_agent",
            "features",
            "limits",
            "your_addr",
            "first_block",
        ] {
            assert_eq!(read(&format!(",\"{field}\":null")).unwrap(), bare, "{field}");
        }
        assert_eq!(read(r#","features":[]"#).unwrap().features, Some(vec![]));
    }

    #[test]
    fn an_address_that_means_nothing_elsewhere_is_no_violation_and_is_never_sent() {
        for text in ["[fe80::1%3]:8338", "example.org:8338", "192.0.2.1:0"] {
            assert_eq!(read(&format!(r#","your_addr":"{text}""#)).unwrap().your_addr, None, "{text}");
        }
        let scoped = std::net::SocketAddrV6::new("fe80::1".parse().unwrap(), 8338, 0, 3);
        let hello = Hello { your_addr: Some(scoped.into()), ..read("").unwrap() };
        assert!(serde_json::to_string(&hello).unwrap().contains(r#""your_addr":"[fe80::1]:8338""#));
    }

    #[test]
    fn versions_parse_with_missing_parts_and_compare_by_major() {
        let read = str::parse::<Version>;
        assert_eq!(read("1.0.0"), Ok(Version::CURRENT));
        assert_eq!(read("1"), Ok(Version::CURRENT));
        assert!(read("1.9").unwrap().is_compatible_with(Version::CURRENT));
        assert!(!read("2.0.0").unwrap().is_compatible_with(Version::CURRENT));
        for text in ["", "1.", "a", "1.0.0.0", "+1", "99999999999"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
