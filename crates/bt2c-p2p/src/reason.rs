//! Why a connection ended.

use std::{fmt, io};

use bt2c_proto::CloseCode;

/// Why a connection ended, or never came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CloseReason {
    /// We closed it for this cause.
    Local(CloseCode),
    /// The peer closed it and said why.
    Remote(CloseCode),
    /// We did not take it, before any TLS.
    Refused(CloseCode),
    /// It failed before both hellos were in.
    Handshake(HandshakeFailure),
    /// The peer closed it without a word.
    Ended,
    /// The transport failed.
    Io(io::ErrorKind),
}

/// How a connection failed before its session began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HandshakeFailure {
    /// The name did not resolve.
    Resolve,
    /// TCP did not connect.
    Dial(io::ErrorKind),
    /// Not done in time.
    Timeout,
    /// The other side does not speak our TLS, shows no certificate, or does not prove that it has the key of one.
    Tls,
    /// A certificate that breaks a rule.
    Certificate,
    /// A certificate outside its validity, of a peer not met before.
    Dates,
    /// Another identity than the one pinned for this address.
    Pin,
}

impl HandshakeFailure {
    /// The rule that was not kept, for people.
    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Self::Resolve => "names resolve",
            Self::Dial(_) => "addresses answer",
            Self::Timeout => "TLS and hellos are done in time",
            Self::Tls => "both sides speak TLS 1.3 and prove that they have their certificate's key",
            Self::Certificate => "a certificate keeps the certificate rules",
            Self::Dates => "the certificate of someone not met before is inside its dates",
            Self::Pin => "at a pinned address nobody but the pinned identity is accepted",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Dial(_) => "dial",
            Self::Timeout => "timeout",
            Self::Tls => "tls",
            Self::Certificate => "certificate",
            Self::Dates => "dates",
            Self::Pin => "pin",
        }
    }
}

/// Why the manager refuses a hello: a `disconnect` code, and a text for whoever reads the other side's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// `node_id` is not the certificate's label.
    ForeignLabel,
    /// `node_id` is 40 hex digits of another PeerId.
    StolenLabel,
    /// Another major version.
    Version,
    /// Another network.
    Network,
    /// Another genesis.
    Genesis,
    /// The identity is banned.
    Banned,
    /// No slot is free.
    Full,
    /// Another connection between the same two nodes stays.
    Replaced,
}

impl Refusal {
    pub(crate) const fn code(self) -> CloseCode {
        match self {
            Self::ForeignLabel | Self::StolenLabel => CloseCode::Label,
            Self::Version => CloseCode::Version,
            Self::Network => CloseCode::Network,
            Self::Genesis => CloseCode::Genesis,
            Self::Banned => CloseCode::Banned,
            Self::Full => CloseCode::Full,
            Self::Replaced => CloseCode::Replaced,
        }
    }

    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::ForeignLabel => "node_id is not the label in the certificate",
            Self::StolenLabel => "node_id is the start of another identity",
            Self::Version => "the major version differs",
            Self::Network => "the network differs",
            Self::Genesis => "the genesis differs",
            Self::Banned => "the identity is banned",
            Self::Full => "no slot is free",
            Self::Replaced => "another connection between the same nodes stays",
        }
    }
}

impl CloseReason {
    /// Whether it gave way to another connection between the same two nodes.
    pub(crate) const fn is_replaced(self) -> bool {
        matches!(self, Self::Local(CloseCode::Replaced) | Self::Remote(CloseCode::Replaced))
    }

    /// Who ended it: a closed set for metrics.
    pub const fn by(self) -> &'static str {
        match self {
            Self::Local(_) => "local",
            Self::Remote(_) => "remote",
            Self::Refused(_) => "refused",
            Self::Handshake(_) => "handshake",
            Self::Ended | Self::Io(_) => "transport",
        }
    }

    /// Why: a closed set for metrics, the `disconnect` codes and a few more.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Local(code) | Self::Remote(code) | Self::Refused(code) => code.name(),
            Self::Handshake(failure) => failure.name(),
            Self::Ended => "ended",
            Self::Io(_) => "io",
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handshake(HandshakeFailure::Dial(kind)) | Self::Io(kind) => {
                write!(f, "{}: {} ({kind})", self.by(), self.code())
            }
            _ => write!(f, "{}: {}", self.by(), self.code()),
        }
    }
}
