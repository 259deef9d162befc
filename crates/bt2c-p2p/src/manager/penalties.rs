//! Offences and bans, between the [`SecurityManager`](bt2c_security::SecurityManager) and the connections.

use std::{net::SocketAddr, time::Duration};

use bt2c_proto::{CloseCode, Netgroup, PeerId, Time};
use bt2c_security::{Ban, Offence, SecurityAction, Subject};

use super::{
    connection::Conn,
    core::{Action, Core, StateFile},
};
use crate::{
    peer::{ConnectionId, Direction},
    reason::Refusal,
};

impl Core {
    /// A peer did something that has a price.
    pub(crate) fn handle_report(
        &mut self,
        now: Time,
        connection: ConnectionId,
        offence: Offence,
        evidence: &str,
    ) {
        let Some(conn) = self.connections.get(&connection) else { return };
        let Some(remote) = conn.remote else { return };
        self.security.report(now, remote.ip(), conn.peer(), offence, evidence);
        self.settle(now);
    }

    /// A hello bore a label that is not its sender's.
    pub(super) fn charge_label(&mut self, now: Time, connection: ConnectionId, refusal: Refusal) {
        let offence = match refusal {
            Refusal::StolenLabel => Offence::StolenLabel,
            Refusal::ForeignLabel => Offence::BadHello,
            _ => return,
        };
        let Some(conn) = self.connections.get(&connection) else { return };
        let Some(remote) = conn.remote else { return };
        let (peer, direction) = (conn.peer(), conn.direction);
        self.count_failed(now, direction, remote, offence);
        self.security.report(now, remote.ip(), peer, offence, refusal.text());
    }

    /// A connection failed in TLS or hello by the remote's fault. A dial of ours is no attempt of theirs.
    pub(super) fn count_failed(
        &mut self,
        now: Time,
        direction: Direction,
        remote: SocketAddr,
        offence: Offence,
    ) {
        if direction == Direction::Inbound {
            self.security.record_failed_attempt(now, remote.ip(), offence);
        }
    }

    /// A layer above judged what a peer sent; it may have left meanwhile, which saves it nothing.
    pub(crate) fn handle_judged(&mut self, now: Time, peer: PeerId, offence: Offence, evidence: &str) {
        let open = self.connection_of(&peer).and_then(|connection| self.connections.get(&connection)?.remote);
        let ip = open.map(|addr| addr.ip()).or_else(|| self.met.peek(&peer).copied().flatten());
        let Some(ip) = ip else { return };
        self.security.report(now, ip, Some(peer), offence, evidence);
        self.settle(now);
    }

    /// A peer's standing, for people.
    pub(crate) fn score(&self, now: Time, peer: &PeerId) -> i32 {
        self.security.score(now, peer)
    }

    /// Ends every connection that a ban is about.
    fn close_matching(&mut self, subject: &Subject) {
        let matches =
            |conn: &Conn| conn.remote.is_some_and(|addr| subject.matches(addr.ip(), conn.peer().as_ref()));
        let hit: Vec<_> =
            self.connections.iter().filter(|(_, conn)| matches(conn)).map(|(id, _)| *id).collect();
        for connection in hit {
            self.close(connection, CloseCode::Banned);
        }
    }

    /// Discovery prefers whom experience speaks for.
    fn follow_standing(&mut self, subject: &Subject, standing: i32) {
        match subject {
            Subject::Peer(peer) if standing == 0 => drop(self.view.standings.remove(peer)),
            Subject::Peer(peer) => drop(self.view.standings.insert(*peer, standing)),
            Subject::Net(net) if standing == 0 => {
                self.view.group_standings.remove(&Netgroup::of(net.addr()));
            }
            Subject::Net(net) => drop(self.view.group_standings.insert(Netgroup::of(net.addr()), standing)),
        }
    }

    /// Bans by an operator's word.
    pub(crate) fn ban(
        &mut self,
        now: Time,
        subject: Subject,
        duration: Option<Duration>,
        reason: &str,
    ) -> Option<Ban> {
        let ban = self.security.ban(now, subject, duration, reason, "by the operator");
        self.settle(now);
        ban
    }

    /// Lifts a ban.
    pub(crate) fn unban(&mut self, now: Time, subject: &Subject) -> bool {
        let lifted = self.security.unban(now, subject);
        self.settle(now);
        lifted
    }

    pub(super) fn carry_out_security(&mut self, now: Time, action: SecurityAction) {
        match action {
            SecurityAction::Persist(bytes) => self.actions.push_back(Action::Persist(StateFile::Bans, bytes)),
            SecurityAction::PersistReputation(bytes) => {
                self.actions.push_back(Action::Persist(StateFile::Reputation, bytes));
            }
            SecurityAction::Standing(subject, standing) => self.follow_standing(&subject, standing),
            SecurityAction::Charged { offence, ip, peer, evidence } => {
                self.note_charge(now, offence, (ip, peer), &evidence);
                self.actions.push_back(Action::Charged(offence));
            }
            SecurityAction::BanMissed(subject) => {
                self.close_matching(&subject);
                self.actions.push_back(Action::BanMissed);
            }
            SecurityAction::Unbanned { subject, by_hand } => {
                self.note_unban(now, subject, by_hand);
                if let Subject::Net(net) = &subject {
                    self.discovery.unban_peer(net.addr());
                }
                self.actions.push_back(Action::Unbanned(subject));
            }
            SecurityAction::Banned(ban) => {
                self.note_ban(now, &ban);
                if let Subject::Net(net) = &ban.subject {
                    self.discovery.ban_peer(net.addr(), ban.until);
                }
                self.close_matching(&ban.subject);
                self.actions.push_back(Action::Banned(ban));
            }
        }
    }
}
