//! What a peer can do wrong, and what it costs.

use crate::reputation::MAX_STANDING;

/// An offence: something a peer did that it could only do by its own fault.
///
/// Errors that a peer caused name their offence; [`SecurityManager::report`](crate::SecurityManager::report) is the one
/// place that punishes. Refusals of ours, answers to what we asked, and clocks are no offences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Offence {
    /// Bytes that are no TLS 1.3 handshake, no certificate offered, or no protocol in common.
    BadTls,
    /// A certificate that breaks the certificate rules (other than its dates).
    BadCertificate,
    /// A hello that contradicts the certificate or itself.
    BadHello,
    /// A label of 40 hex digits that are another peer's.
    StolenLabel,
    /// A malformed or over-long frame, envelope or message, or one out of order.
    Protocol,
    /// As many requests above the limit as `ban_after_excess` allows.
    RequestExcess,
    /// More connection attempts than the limit.
    AttemptExcess,
    /// Too many failed attempts in the window.
    FailedAttempts,
    /// A push at more than four times the push limits.
    PushFlood,
    /// A block that is invalid by itself or by its verified ancestors.
    InvalidBlock,
    /// A transaction that is invalid by itself.
    InvalidTransaction,
    /// A height in hello that verified links contradict.
    FalseHeight,
    /// A request that we sent was not answered in time: counted, but never punished, for a slow line is no fault.
    Stall,
}

impl Offence {
    /// Every offence, in the order of the price table.
    pub const ALL: [Self; 13] = [
        Self::BadTls,
        Self::BadCertificate,
        Self::BadHello,
        Self::StolenLabel,
        Self::Protocol,
        Self::RequestExcess,
        Self::AttemptExcess,
        Self::FailedAttempts,
        Self::PushFlood,
        Self::InvalidBlock,
        Self::InvalidTransaction,
        Self::FalseHeight,
        Self::Stall,
    ];

    /// The price; at [`BAN_THRESHOLD`] points the peer and its IP are banned.
    pub const fn points(self) -> u32 {
        self.entry().1
    }

    /// What it takes from the standing of who commits it, and how far down at most: its price, and a little for what has none,
    /// for a slow line must not make a bad name.
    pub(crate) const fn disrepute(self) -> (u32, i32) {
        match self {
            Self::Stall => (2, 10),
            priced => (priced.points(), MAX_STANDING),
        }
    }

    /// The rule that is broken, for people.
    pub const fn rule(self) -> &'static str {
        match self {
            Self::BadTls => "whoever connects speaks TLS 1.3 and shows a certificate whose key it has",
            Self::BadCertificate => "a certificate keeps the certificate rules",
            Self::BadHello => "a hello agrees with the certificate and with itself",
            Self::StolenLabel => "a label of 40 hex digits is the start of its bearer's own PeerId",
            Self::Protocol => {
                "frames, envelopes and messages are well-formed, in order and within their limits"
            }
            Self::RequestExcess => "requests above the limit stay within the excess that is tolerated",
            Self::AttemptExcess => {
                "connection attempts above the limit stay within the excess that is tolerated"
            }
            Self::FailedAttempts => "few attempts in a row fail by their own fault",
            Self::PushFlood => "pushes stay below four times the push limits",
            Self::InvalidBlock => "blocks that are sent are valid",
            Self::InvalidTransaction => "transactions that are sent are valid",
            Self::FalseHeight => "a height in hello agrees with the sender's own blocks",
            Self::Stall => "requests are answered in time",
        }
    }

    /// The name in logs, metrics and `bans.json`.
    pub const fn name(self) -> &'static str {
        self.entry().0
    }

    /// The one table of prices.
    ///
    /// 100: cannot happen by accident, or already allows for accidents. 20: one could come from a bug, five at once do
    /// not. 10: comes in volleys.
    const fn entry(self) -> (&'static str, u32) {
        match self {
            Self::BadTls => ("bad_tls", 20),
            Self::BadCertificate => ("bad_certificate", 20),
            Self::BadHello => ("bad_hello", 20),
            Self::StolenLabel => ("stolen_label", 20),
            Self::Protocol => ("protocol", 20),
            Self::RequestExcess => ("request_excess", 100),
            Self::AttemptExcess => ("attempt_excess", 100),
            Self::FailedAttempts => ("failed_attempts", 100),
            Self::PushFlood => ("push_flood", 10),
            Self::InvalidBlock => ("invalid_block", 100),
            Self::InvalidTransaction => ("invalid_transaction", 20),
            Self::FalseHeight => ("false_height", 20),
            Self::Stall => ("stall", 0),
        }
    }
}

impl std::fmt::Display for Offence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// Points at which a peer and its IP are banned.
pub const BAN_THRESHOLD: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_no_price_is_above_a_ban() {
        let names: std::collections::BTreeSet<_> =
            Offence::ALL.iter().map(|offence| offence.name()).collect();
        assert_eq!(names.len(), Offence::ALL.len());
        assert!(Offence::ALL.iter().all(|offence| offence.points() <= BAN_THRESHOLD));
    }
}
