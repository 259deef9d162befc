//! The defences that a simulation can switch off, one at a time, to show what an attack does without it.
//!
//! In a node all of them are always on: only the feature `simulation`, with which no node is built, has a way to make a
//! [`Defences`] that lacks one.

use std::{fmt, str::FromStr};

/// A defence with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Defence {
    /// At most one outbound peer in each netgroup.
    OutboundGroups,
    /// At most so many inbound connections from one IP and one subnet.
    InboundGroups,
    /// When all slots are taken, an inbound peer that nothing speaks for makes room.
    InboundEviction,
    /// At most so many addresses are taken from one peer.
    AddressBudget,
    /// `peers` and `blocks` that answer nothing are dropped.
    SolicitedAnswers,
    /// At most so many TLS handshakes a second begin, in all and from one netgroup.
    HandshakeBudget,
    /// TLS and both hellos are done by a deadline.
    HandshakeDeadline,
    /// A started frame is complete by a deadline.
    FrameDeadline,
    /// A request that is not answered in time goes to another peer.
    StallTimeout,
    /// A peer that shows none of what it claims loses its claim.
    ClaimDoubt,
    /// A height far above ours has to be shown before it is followed.
    HeightProof,
    /// At most so many transactions, blocks and bytes are pushed on one connection.
    PushLimits,
    /// Offences add up to bans.
    Bans,
    /// Bans of IPv6 addresses cover their /64, and on a repeat their /48.
    BanRanges,
}

impl Defence {
    /// Every defence.
    pub const ALL: [Self; 14] = [
        Self::OutboundGroups,
        Self::InboundGroups,
        Self::InboundEviction,
        Self::AddressBudget,
        Self::SolicitedAnswers,
        Self::HandshakeBudget,
        Self::HandshakeDeadline,
        Self::FrameDeadline,
        Self::StallTimeout,
        Self::ClaimDoubt,
        Self::HeightProof,
        Self::PushLimits,
        Self::Bans,
        Self::BanRanges,
    ];

    /// Its name on a command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OutboundGroups => "outbound-groups",
            Self::InboundGroups => "inbound-groups",
            Self::InboundEviction => "inbound-eviction",
            Self::AddressBudget => "address-budget",
            Self::SolicitedAnswers => "solicited-answers",
            Self::HandshakeBudget => "handshake-budget",
            Self::HandshakeDeadline => "handshake-deadline",
            Self::FrameDeadline => "frame-deadline",
            Self::StallTimeout => "stall-timeout",
            Self::ClaimDoubt => "claim-doubt",
            Self::HeightProof => "height-proof",
            Self::PushLimits => "push-limits",
            Self::Bans => "bans",
            Self::BanRanges => "ban-ranges",
        }
    }
}

impl fmt::Display for Defence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Defence {
    type Err = DefenceError;

    fn from_str(text: &str) -> Result<Self, DefenceError> {
        Self::ALL.into_iter().find(|defence| defence.name() == text).ok_or(DefenceError)
    }
}

/// A text that names no [`Defence`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected one of {}", Defence::ALL.map(Defence::name).join(", "))]
pub struct DefenceError;

/// Which defences are on: all of them, but for one in a simulation that asks what it is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Defences {
    #[cfg(feature = "simulation")]
    off: Option<Defence>,
}

impl Defences {
    /// All but one.
    #[cfg(feature = "simulation")]
    pub const fn without(defence: Defence) -> Self {
        Self { off: Some(defence) }
    }

    /// Whether a defence is on.
    #[cfg(feature = "simulation")]
    pub fn has(self, defence: Defence) -> bool {
        self.off != Some(defence)
    }

    /// Whether a defence is on: it is.
    #[cfg(not(feature = "simulation"))]
    pub const fn has(self, _: Defence) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_unknown_ones_are_answered_with_all() {
        for defence in Defence::ALL {
            assert_eq!(defence.name().parse(), Ok(defence));
            assert!(Defences::default().has(defence));
        }
        let error = "walls".parse::<Defence>().unwrap_err().to_string();
        assert!(error.contains("outbound-groups, inbound-groups"), "{error}");
    }

    #[cfg(feature = "simulation")]
    #[test]
    fn one_defence_is_off_and_no_other() {
        let defences = Defences::without(Defence::Bans);
        assert!(!defences.has(Defence::Bans));
        assert_eq!(
            Defence::ALL.iter().filter(|defence| defences.has(**defence)).count(),
            Defence::ALL.len() - 1
        );
    }
}
