//! Who may connect: at accept, after TLS, and at hello.

use std::{
    hash::Hasher,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use bt2c_proto::{
    CloseCode, Defence, Hello, Host, IpUnit, Network, PeerId, Subnet, Time, Version, is_global,
};
use bt2c_security::{Attempt, CertificateError, RequestPace};
use siphasher::sip::SipHasher24;

use super::{
    connection::{Conn, State},
    core::{Action, Core},
    eviction::{Candidate, GRACE, Standing, evictee},
};
use crate::{
    config::P2PConfig,
    decisions::DecisionKind,
    peer::{ConnectionId, Direction},
    reason::{CloseReason, HandshakeFailure, Refusal},
    session::Consent,
};

/// Least time between two warnings of certificates that are out of date.
const STALE_INTERVAL: Duration = Duration::from_secs(60);

fn is_pending(conn: &&Conn) -> bool {
    !conn.is_open() && !matches!(conn.state, State::Retired { .. })
}

/// Connections in any state, at most: every slot, and every handshake that may be under way.
pub(super) const fn table_limit(config: &P2PConfig) -> usize {
    config.max_connections.saturating_add(config.pending_total)
}

impl Core {
    /// Someone connected. `Err`: drop the connection without a word, for this reason.
    pub(crate) fn handle_accept(&mut self, now: Time, remote: SocketAddr) -> Result<ConnectionId, CloseCode> {
        let verdict = self.judge_accept(now, remote.ip());
        self.settle(now);
        if let Err((code, evidence)) = verdict {
            self.note_code(now, DecisionKind::Refused, (remote.ip(), None), code, evidence);
            return Err(code);
        }
        Ok(self.new_connection(Conn {
            direction: Direction::Inbound,
            remote: Some(remote),
            pin: None,
            named: None,
            target: None,
            state: State::Connecting,
            closing: false,
            standing: Standing::default(),
            asks: None,
            clock_ahead: None,
        }))
    }

    /// `Err`: the code, and what shows that it applies.
    fn judge_accept(&mut self, now: Time, ip: IpAddr) -> Result<(), (CloseCode, &'static str)> {
        match self.security.admit_attempt(now, ip) {
            Attempt::Admit => {}
            Attempt::Banned => {
                return Err((CloseCode::Banned, "a connection from an address that is banned"));
            }
            Attempt::OverLimit => {
                return Err((CloseCode::Rate, "more attempts in a minute than attempts_per_minute"));
            }
        }
        let inbound = || self.connections.values().filter(|conn| conn.direction == Direction::Inbound);
        if inbound().filter(is_pending).count() >= self.config.pending_total {
            return Err((CloseCode::Full, "as many handshakes under way as pending_total"));
        }
        let exempt = self.is_exempt(ip);
        if !exempt && self.config.security.defences.has(Defence::InboundGroups) {
            self.judge_groups(now, ip)?;
        }
        // Last, so that only those pay for a handshake who get one.
        if !self.security.admit_handshake(now, ip, exempt) {
            return Err((
                CloseCode::Rate,
                "more handshakes than the budget of its netgroup, or of all strangers",
            ));
        }
        Ok(())
    }

    /// Whether too many of this one's IP or subnet are here, or nobody would make room for it.
    fn judge_groups(&self, now: Time, ip: IpAddr) -> Result<(), (CloseCode, &'static str)> {
        let inbound = || self.connections.values().filter(|conn| conn.direction == Direction::Inbound);
        let (unit, subnet) = (IpUnit::of(ip), Subnet::of(ip));
        let same_ip = |conn: &&Conn| conn.remote.is_some_and(|addr| IpUnit::of(addr.ip()) == unit);
        let same_subnet = |conn: &&Conn| conn.remote.is_some_and(|addr| Subnet::of(addr.ip()) == subnet);
        if inbound().filter(same_ip).count() >= self.config.inbound_per_ip {
            return Err((CloseCode::Full, "as many connections from its IP as inbound_per_ip"));
        }
        if inbound().filter(same_subnet).count() >= self.config.inbound_per_subnet {
            return Err((CloseCode::Full, "as many connections from its subnet as inbound_per_subnet"));
        }
        if inbound().filter(is_pending).filter(same_ip).count() >= self.config.pending_per_ip {
            return Err((CloseCode::Full, "as many handshakes under way from its IP as pending_per_ip"));
        }
        // Whoever could not stay is spared the handshake, and so are we; one that is connected may be coming back.
        let stranger = !self.connections.values().any(|conn| conn.is_open() && same_ip(&conn));
        if stranger && self.is_full(Direction::Inbound) && self.evictee(now).is_none() {
            return Err((CloseCode::Full, "all slots taken, and nobody who has to make room"));
        }
        Ok(())
    }

    /// Whether the limits on groups of addresses do not count this one: it is allow-listed, the operator named it, or it
    /// is not global and this is no main network.
    fn is_exempt(&self, ip: IpAddr) -> bool {
        let local = self.config.network != Network::Mainnet && !is_global(ip);
        let discovery = &self.config.discovery;
        let mut named = discovery.connect.iter().chain(&discovery.seeds);
        local || self.security.is_allowed(ip, None) || named.any(|addr| addr.host == Host::Ip(ip))
    }

    /// TLS is done: who is it, and may it go on? `Ok` is what the session works under.
    pub(crate) fn handle_secured(
        &mut self,
        now: Time,
        connection: ConnectionId,
        remote: SocketAddr,
        certificate: &[u8],
    ) -> Result<Consent, CloseReason> {
        let gone = CloseReason::Local(CloseCode::Shutdown);
        let conn = self.connections.get_mut(&connection).ok_or(gone)?;
        conn.remote = Some(remote);
        let pin = conn.pin;
        if conn.direction == Direction::Outbound {
            self.view.outbound.insert(remote);
        }
        let bad = CloseReason::Handshake(HandshakeFailure::Certificate);
        let parsed = bt2c_security::PeerCertificate::parse(certificate).map_err(|_| bad)?;
        if let Err(error) = parsed.check_dates(now) {
            if !self.met.contains(&parsed.peer_id) {
                return Err(CloseReason::Handshake(HandshakeFailure::Dates));
            }
            self.tell_stale(now, parsed.peer_id, error);
        }
        if pin.is_some_and(|pin| pin != parsed.peer_id) {
            return Err(CloseReason::Handshake(HandshakeFailure::Pin));
        }
        if parsed.peer_id == self.local.peer_id {
            return Err(CloseReason::Local(CloseCode::SelfConnection));
        }
        let ip = remote.ip();
        // An identity that is banned is told so when its hello is in.
        let banned = self.security.is_banned(now, ip).is_some();
        if banned && !self.security.is_allowed(ip, Some(&parsed.peer_id)) {
            return Err(CloseReason::Local(CloseCode::Banned));
        }
        let conn = self.connections.get_mut(&connection).ok_or(gone)?;
        conn.state = State::Secured { peer: parsed.peer_id, label: parsed.label };
        // A feeler has learnt what it was sent for. A hello would make the other side choose between two connections.
        if conn.is_feeler() && self.peers.contains_key(&parsed.peer_id) {
            return Err(CloseReason::Local(CloseCode::Pruned));
        }
        let incoming = self.security.session_quota(now, ip, Some(&parsed.peer_id));
        let mut hasher = SipHasher24::new_with_keys(self.eviction_key[0], self.eviction_key[1]);
        hasher.write_u64(connection.0);
        Ok(Consent { peer: parsed.peer_id, incoming, ping_secret: hasher.finish() })
    }

    /// Says that a peer's certificate is out of date, which is worth a warning and no more. Whoever made itself known could
    /// come back with one as often as it likes.
    fn tell_stale(&mut self, now: Time, peer: PeerId, error: CertificateError) {
        if self.stale_told.is_none_or(|told| now.since(told) >= STALE_INTERVAL) {
            self.stale_told = Some(now);
            self.actions.push_back(Action::StaleCertificate { peer, error });
        }
    }

    /// A hello is in: ends in `Admit`, `Refuse`, or waits for a contest.
    pub(crate) fn handle_hello(&mut self, now: Time, connection: ConnectionId, hello: Box<Hello>) {
        let Some(conn) = self.connections.get(&connection).filter(|conn| !conn.closing) else { return };
        let State::Secured { peer, label } = &conn.state else { return };
        let (peer, direction, remote) = (*peer, conn.direction, conn.remote);
        let verdict = if !hello.node_id.may_be_used_by(&peer) {
            Err(Refusal::StolenLabel)
        } else if label.as_ref() != Some(&hello.node_id) {
            Err(Refusal::ForeignLabel)
        } else {
            self.judge_hello(now, direction, remote, peer, &hello)
        };
        let verdict = verdict.or_else(|refusal| self.make_room(now, direction, refusal));
        let feeler = self.connections.get(&connection).is_some_and(Conn::is_feeler);
        match (verdict, self.peers.get(&peer)) {
            (Err(refusal), _) => {
                self.actions.push_back(Action::Refuse { connection, refusal });
                if let Some(remote) = remote {
                    let whom = (remote.ip(), Some(peer));
                    self.note_code(now, DecisionKind::Refused, whom, refusal.code(), refusal.text());
                }
                self.charge_label(now, connection, refusal);
            }
            (Ok(()), _) if feeler => {
                self.met.get_or_insert(peer, || None);
                self.close(connection, CloseCode::Pruned);
            }
            (Ok(()), Some(&incumbent)) => self.settle_duplicate(now, peer, incumbent, connection, hello),
            (Ok(()), None) => self.admit(now, connection, peer, hello),
        }
        self.settle(now);
    }

    fn judge_hello(
        &self,
        now: Time,
        direction: Direction,
        remote: Option<SocketAddr>,
        peer: PeerId,
        hello: &Hello,
    ) -> Result<(), Refusal> {
        if !hello.version.is_compatible_with(Version::CURRENT) {
            return Err(Refusal::Version);
        }
        if hello.network.as_ref().is_some_and(|name| name.as_str() != self.local.network.name()) {
            return Err(Refusal::Network);
        }
        if hello.genesis_hash.is_some_and(|hash| hash != self.local.genesis_hash) {
            return Err(Refusal::Genesis);
        }
        let allowed = remote.is_some_and(|addr| self.security.is_allowed(addr.ip(), Some(&peer)));
        if !allowed && self.security.is_peer_banned(now, &peer).is_some() {
            return Err(Refusal::Banned);
        }
        // One that is on its way out holds no place for a second connection.
        let stays = |connection| self.connections.get(connection).is_some_and(|conn| !conn.closing);
        let is_new = !self.peers.get(&peer).is_some_and(stays);
        if is_new && self.is_full(direction) { Err(Refusal::Full) } else { Ok(()) }
    }

    /// Whether all slots are taken that connections of this direction may take.
    fn is_full(&self, direction: Direction) -> bool {
        let outbound = |conn: &&Conn| conn.is_open() && conn.direction == Direction::Outbound;
        let outbound = self.connections.values().filter(outbound).count();
        // Strangers cannot take the slots that we want to fill ourselves; a small node keeps half of its slots for them.
        let most = self.config.max_connections;
        let reserved = match direction {
            Direction::Inbound => {
                self.config.discovery.outbound_wanted.min(most / 2).saturating_sub(outbound)
            }
            Direction::Outbound => 0,
        };
        let staying = |connection| self.connections.get(connection).is_some_and(|conn| !conn.closing);
        let taken = self.peers.values().filter(|connection| staying(connection)).count();
        taken >= most - reserved
    }

    /// Lets somebody go for an inbound newcomer that found all slots taken, unless all are spared.
    fn make_room(&mut self, now: Time, direction: Direction, refusal: Refusal) -> Result<(), Refusal> {
        if direction != Direction::Inbound || refusal != Refusal::Full {
            return Err(refusal);
        }
        let evictee = self.evictee(now).ok_or(refusal)?;
        if let Some(conn) = self.connections.get(&evictee)
            && let Some(remote) = conn.remote
        {
            let (whom, since) = ((remote.ip(), conn.peer()), conn.standing.since);
            let standing = whom.1.map_or(0, |peer| self.security.score(now, &peer));
            let evidence =
                format!("all slots taken; up since {} with a standing of {standing}", since.to_utc());
            self.note_code(now, DecisionKind::Evicted, whom, CloseCode::Pruned, evidence);
        }
        self.close(evictee, CloseCode::Pruned);
        Ok(())
    }

    /// Who has to go for an inbound newcomer.
    fn evictee(&self, now: Time) -> Option<ConnectionId> {
        if !self.config.security.defences.has(Defence::InboundEviction) {
            return None;
        }
        let may_go = |(connection, conn): (&ConnectionId, &Conn)| {
            let ip = conn.remote?.ip();
            let open = conn.direction == Direction::Inbound && conn.is_open() && !conn.closing;
            let exempt = self.is_exempt(ip) || self.security.is_allowed(ip, conn.peer().as_ref());
            let fresh = now.since(conn.standing.since) < GRACE;
            // Its own alone: nobody has to go for what neighbours did.
            let reputation = conn.peer().map_or(0, |peer| self.security.score(now, &peer));
            let standing = conn.standing;
            let candidate = Candidate { connection: *connection, ip, standing, reputation, fresh };
            (open && !exempt).then_some(candidate)
        };
        evictee(self.connections.iter().filter_map(may_go).collect(), self.eviction_key)
    }

    pub(super) fn admit(&mut self, now: Time, connection: ConnectionId, peer: PeerId, hello: Box<Hello>) {
        let Some(conn) = self.connections.get_mut(&connection) else { return };
        let Some(remote) = conn.remote else { return };
        let (direction, named) = (conn.direction, conn.named.take());
        let listens = match direction {
            Direction::Inbound => hello.listen_port.map(|port| SocketAddr::new(remote.ip(), port.get())),
            Direction::Outbound => None,
        };
        conn.state = State::Open { peer, listens };
        conn.standing = Standing { since: now, ..Standing::default() };
        conn.asks = RequestPace::for_addresses(hello.limits.map(|told| told.requests_per_minute));
        self.peers.insert(peer, connection);
        self.view.peers.insert(peer);
        self.view.inbound.extend(listens);
        self.met.put(peer, Some(remote.ip()));
        named.iter().for_each(|named| self.forget_unreached(named));
        match (direction, listens) {
            (Direction::Outbound, _) => {
                self.compare_clocks(now);
                self.discovery.handle_connected(now, remote, peer);
            }
            (Direction::Inbound, Some(addr)) => self.discovery.handle_inbound(now, addr.ip(), addr.port()),
            (Direction::Inbound, None) => {}
        }
        let standing = self.security.standing(now, remote.ip(), Some(&peer));
        self.actions.push_back(Action::Admit { connection, peer, standing, hello });
    }
}
