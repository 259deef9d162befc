//! The codes of `disconnect`.

use std::fmt;

/// Why a connection is closed: the closed set of `disconnect` codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CloseCode {
    /// Another network name.
    Network,
    /// Another genesis block.
    Genesis,
    /// An incompatible major version.
    Version,
    /// A connection to oneself.
    SelfConnection,
    /// A label that is reserved to another PeerId, or that differs from the certificate's.
    Label,
    /// Another connection between the same two nodes stays.
    Replaced,
    /// No slot is free.
    Full,
    /// The peer or its address is banned.
    Banned,
    /// Too many requests.
    Rate,
    /// A violation of the protocol.
    Protocol,
    /// Nothing was heard in time.
    Timeout,
    /// The peer does not read what it is sent.
    Slow,
    /// Nothing useful was heard for long, and there are others.
    Idle,
    /// Made room for another peer, or was no longer wanted.
    Pruned,
    /// The node is stopping.
    Shutdown,
}

impl CloseCode {
    /// Every code.
    pub const ALL: &[Self] = &[
        Self::Network,
        Self::Genesis,
        Self::Version,
        Self::SelfConnection,
        Self::Label,
        Self::Replaced,
        Self::Full,
        Self::Banned,
        Self::Rate,
        Self::Protocol,
        Self::Timeout,
        Self::Slow,
        Self::Idle,
        Self::Pruned,
        Self::Shutdown,
    ];

    /// The name on the wire and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Genesis => "genesis",
            Self::Version => "version",
            Self::SelfConnection => "self",
            Self::Label => "label",
            Self::Replaced => "replaced",
            Self::Full => "full",
            Self::Banned => "banned",
            Self::Rate => "rate",
            Self::Protocol => "protocol",
            Self::Timeout => "timeout",
            Self::Slow => "slow",
            Self::Idle => "idle",
            Self::Pruned => "pruned",
            Self::Shutdown => "shutdown",
        }
    }
}

impl std::str::FromStr for CloseCode {
    type Err = UnknownCloseCode;

    fn from_str(text: &str) -> Result<Self, UnknownCloseCode> {
        Self::ALL.iter().copied().find(|code| code.name() == text).ok_or(UnknownCloseCode)
    }
}

/// A `disconnect` code outside the closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such disconnect code")]
pub struct UnknownCloseCode;

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

crate::serde_text::impl_serde_text!(CloseCode);
