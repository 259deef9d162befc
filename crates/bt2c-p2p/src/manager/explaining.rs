//! Remembering decisions, and answering why.

use std::{borrow::Cow, net::IpAddr};

use bt2c_proto::{CloseCode, PeerId, Time};
use bt2c_security::{Ban, Offence, Subject};

use super::{connection::Conn, core::Core};
use crate::{
    decisions::{Decided, Decision, DecisionKind, Explanation, meaning},
    reason::{CloseReason, HandshakeFailure},
};

impl Core {
    /// A connection was not taken, or ended by us, by a rule that a code names.
    pub(super) fn note_code(
        &mut self,
        now: Time,
        kind: DecisionKind,
        (ip, peer): (IpAddr, Option<PeerId>),
        code: CloseCode,
        evidence: impl Into<Cow<'static, str>>,
    ) {
        let (rule, meaning) = (code.name().into(), meaning(code));
        let evidence = evidence.into();
        self.decisions
            .note(now, Decided { kind, about: about(ip, peer), rule, meaning, evidence, until: None });
    }

    /// A connection is over; what we had to do with it is remembered.
    pub(super) fn note_end(&mut self, now: Time, conn: &Conn, reason: CloseReason) {
        let Some(ip) = conn.remote.map(|addr| addr.ip()) else { return };
        let whom = (ip, conn.peer());
        match reason {
            // That is how a feeler ends that found what it was sent for.
            CloseReason::Local(CloseCode::Pruned) if conn.is_feeler() => {}
            CloseReason::Local(code) => {
                let evidence = format!("a connection {}", state_of(conn));
                self.note_code(now, DecisionKind::Closed, whom, code, evidence);
            }
            CloseReason::Handshake(
                failure @ (HandshakeFailure::Tls
                | HandshakeFailure::Timeout
                | HandshakeFailure::Certificate
                | HandshakeFailure::Dates
                | HandshakeFailure::Pin),
            ) => {
                let decided = Decided {
                    kind: DecisionKind::Refused,
                    about: about(whom.0, whom.1),
                    rule: reason.code().into(),
                    meaning: failure.meaning(),
                    evidence: format!("a connection {}", state_of(conn)).into(),
                    until: None,
                };
                self.decisions.note(now, decided);
            }
            _ => {}
        }
    }

    pub(super) fn note_charge(
        &mut self,
        now: Time,
        offence: Offence,
        whom: (IpAddr, Option<PeerId>),
        evidence: &str,
    ) {
        let decided = Decided {
            kind: DecisionKind::Charged,
            about: about(whom.0, whom.1),
            rule: offence.name().into(),
            meaning: offence.rule(),
            evidence: evidence.to_owned().into(),
            until: None,
        };
        self.decisions.note(now, decided);
    }

    pub(super) fn note_ban(&mut self, now: Time, ban: &Ban) {
        let offence = Offence::ALL.into_iter().find(|offence| offence.name() == ban.reason);
        let decided = Decided {
            kind: DecisionKind::Banned,
            about: vec![ban.subject],
            rule: ban.reason.clone().into(),
            meaning: offence.map_or("the operator decides", Offence::rule),
            evidence: ban.evidence.clone().into(),
            until: Some(ban.until),
        };
        self.decisions.note(now, decided);
    }

    pub(super) fn note_unban(&mut self, now: Time, subject: Subject, by_hand: bool) {
        let (rule, evidence) =
            if by_hand { ("lifted", "by the operator") } else { ("expired", "its time was over") };
        let decided = Decided {
            kind: DecisionKind::Unbanned,
            about: vec![subject],
            rule: rule.into(),
            meaning: "a ban ends by itself or by the operator's hand",
            evidence: evidence.into(),
            until: None,
        };
        self.decisions.note(now, decided);
    }

    /// Why things are as they are for a subject: also what was decided of the other half of a connection of its, the
    /// identity behind an address, or the address of an identity.
    pub(crate) fn explain(&self, now: Time, subject: Subject) -> Explanation {
        let concerned =
            |conn: &&Conn| conn.remote.is_some_and(|addr| subject.matches(addr.ip(), conn.peer().as_ref()));
        let connected: Vec<&Conn> =
            self.connections.values().filter(|conn| conn.is_open()).filter(concerned).collect();
        let (ip, peer) = match subject {
            Subject::Net(net) => (net.addr(), None),
            Subject::Peer(peer) => {
                let last = self.met.peek(&peer).copied().flatten();
                let here = connected.first().and_then(|conn| conn.remote).map(|addr| addr.ip());
                (here.or(last).unwrap_or(IpAddr::from([0, 0, 0, 0])), Some(peer))
            }
        };
        let bans = self.security.bans(now);
        let standing = match peer {
            Some(peer) => self.security.score(now, &peer),
            None => self.security.group_score(now, ip),
        };
        Explanation {
            subject,
            allowed: self.security.is_allowed(ip, peer.as_ref()),
            connected: !connected.is_empty(),
            bans: bans
                .into_iter()
                .filter(|ban| ban.subject.covers(&subject) || subject.covers(&ban.subject))
                .collect(),
            points: self.security.points(now, ip, peer.as_ref()),
            standing,
            decisions: self.decisions.about(&[subject]),
        }
    }

    /// Everything that was decided of late.
    pub(crate) fn decisions(&self) -> Vec<Decision> {
        self.decisions.all()
    }
}

fn about(ip: IpAddr, peer: Option<PeerId>) -> Vec<Subject> {
    [Some(Subject::of_ip(ip)), peer.map(Subject::Peer)].into_iter().flatten().collect()
}

/// How far it got.
fn state_of(conn: &Conn) -> &'static str {
    use super::connection::State;
    match (&conn.state, conn.direction) {
        (State::Connecting, crate::Direction::Inbound) => "from there, before TLS was done",
        (State::Connecting, crate::Direction::Outbound) => "to there, before TLS was done",
        (State::Secured { .. } | State::Held { .. }, crate::Direction::Inbound) => {
            "from there, before both hellos were in"
        }
        (State::Secured { .. } | State::Held { .. }, crate::Direction::Outbound) => {
            "to there, before both hellos were in"
        }
        (State::Open { .. } | State::Retired { .. }, crate::Direction::Inbound) => "from there that was up",
        (State::Open { .. } | State::Retired { .. }, crate::Direction::Outbound) => "to there that was up",
    }
}
