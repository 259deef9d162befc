//! The manager's decisions: who may connect, who stays, whom to dial. A pure core.
//!
//! It owns the set of connections, the [`SecurityManager`] and the [`NodeDiscovery`]. It does not own streams, tasks or
//! the meaning of blocks. `handle_*` takes what happened, [`Core::poll_action`] hands out what to do,
//! [`Core::poll_timeout`] says when to call [`Core::handle_timeout`].
//!
//! ```text
//! dialled ─┐
//!          ├─▶ Connecting ──certificate──▶ Secured ──hello──▶ Open ──▶ gone
//! accepted ┘                                  └── held while an older connection is probed
//! ```

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    sync::Arc,
    time::Duration,
};

use bt2c_discovery::{Connected, DiscoveryAction, KnownPeer, NodeDiscovery};
use bt2c_proto::{CloseCode, Hello, Message, NodeId, PeerAddr, PeerId, Time};
use bt2c_security::{Ban, Offence, SecurityAction, SecurityManager, Subject};

use lru::LruCache;

use super::{contest::Contests, slots};
use crate::{
    config::P2PConfig,
    local::Local,
    peer::{ConnectionId, Direction},
    reason::CloseReason,
};

/// What the shell is to do.
#[derive(Debug)]
pub(crate) enum Action {
    /// Open a connection.
    Dial { connection: ConnectionId, addr: PeerAddr },
    /// Both hellos are good: the peer is up.
    Admit { connection: ConnectionId, peer: PeerId, hello: Box<Hello> },
    /// Answer a hello with a refusal.
    Refuse { connection: ConnectionId, code: CloseCode },
    /// Close a connection, whatever its state.
    Close { connection: ConnectionId, code: CloseCode },
    /// Find out whether the peer is there.
    Probe { connection: ConnectionId },
    /// Send a message of ours.
    Send { connection: ConnectionId, message: Message },
    /// A peer that was up is gone.
    Down { connection: ConnectionId, reason: CloseReason },
    /// A connection ended before its peer was up.
    Failed {
        connection: ConnectionId,
        addr: SocketAddr,
        direction: Direction,
        peer: Option<PeerId>,
        reason: CloseReason,
    },
    /// Look up a name, then call [`Core::handle_resolved`].
    Resolve { name: Box<str>, port: u16 },
    /// Replace a state file.
    Persist(StateFile, Vec<u8>),
    /// Tell everyone.
    Banned(Ban),
    /// Tell everyone.
    Unbanned(Subject),
}

/// The files of the manager's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StateFile {
    /// `bans.json`
    Bans,
    /// `peers.json`
    Peers,
}

#[derive(Debug)]
pub(super) struct Conn {
    pub(super) direction: Direction,
    /// Where it leads; for a name that is still to be resolved, nothing yet.
    pub(super) remote: Option<SocketAddr>,
    pub(super) pin: Option<PeerId>,
    /// The target was handed out by discovery, which wants to hear the outcome.
    pub(super) target: Option<Target>,
    pub(super) state: State,
    /// We have asked for its end.
    pub(super) closing: bool,
}

/// A dial that discovery asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    addr: SocketAddr,
    feeler: bool,
}

#[derive(Debug)]
pub(super) enum State {
    Connecting,
    Secured {
        peer: PeerId,
        label: Option<NodeId>,
    },
    /// The hello is good, but an older connection that may be dead would stay: it is being probed.
    Held {
        peer: PeerId,
        hello: Box<Hello>,
    },
    Open {
        peer: PeerId,
        listens: Option<SocketAddr>,
    },
    /// Replaced, and accounted for: only its task is still to end.
    Retired {
        peer: PeerId,
    },
}

impl Conn {
    pub(super) fn peer(&self) -> Option<PeerId> {
        match &self.state {
            State::Connecting => None,
            State::Secured { peer, .. }
            | State::Held { peer, .. }
            | State::Open { peer, .. }
            | State::Retired { peer } => Some(*peer),
        }
    }

    /// Whether it was dialled only to learn whether the address answers.
    pub(super) fn is_feeler(&self) -> bool {
        self.target.is_some_and(|target| target.feeler)
    }

    pub(super) const fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }
}

/// The core. See the module's description.
pub(crate) struct Core {
    pub(super) config: Arc<P2PConfig>,
    pub(super) local: Arc<Local>,
    pub(super) security: SecurityManager,
    pub(super) discovery: NodeDiscovery,
    pub(super) connections: BTreeMap<ConnectionId, Conn>,
    /// The open connection of each peer.
    pub(super) peers: BTreeMap<PeerId, ConnectionId>,
    pub(super) contests: Contests,
    /// The connections as discovery sees them.
    pub(super) view: Connected,
    /// Identities met before, whose certificates may be out of date.
    pub(super) met: LruCache<PeerId, ()>,
    /// How many addresses each connection was asked for.
    asked: BTreeMap<ConnectionId, u64>,
    next_connection: u64,
    pub(super) actions: VecDeque<Action>,
}

impl Core {
    pub(crate) fn new(config: Arc<P2PConfig>, local: Arc<Local>, seed: [u8; 32]) -> Self {
        Self {
            security: SecurityManager::new(config.security.clone()),
            discovery: NodeDiscovery::new(config.discovery.clone(), seed),
            config,
            local,
            connections: BTreeMap::new(),
            peers: BTreeMap::new(),
            contests: Contests::default(),
            view: Connected::default(),
            met: LruCache::new(MET),
            asked: BTreeMap::new(),
            next_connection: 0,
            actions: VecDeque::new(),
        }
    }

    /// Before the start: the bans and peers of an earlier run, and our own addresses.
    pub(crate) const fn parts(&mut self) -> (&mut SecurityManager, &mut NodeDiscovery) {
        (&mut self.security, &mut self.discovery)
    }

    /// Begins to dial.
    pub(crate) fn start(&mut self, now: Time) {
        for peer in self.discovery.known().into_iter().filter_map(|known| known.peer) {
            self.met.put(peer, ());
        }
        self.discovery.handle_timeout(now);
        self.settle(now);
    }

    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        [self.security.poll_timeout(), self.discovery.poll_timeout(), self.contests.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Time) {
        if self.security.poll_timeout().is_some_and(|at| at <= now) {
            self.security.handle_timeout(now);
        }
        if self.discovery.poll_timeout().is_some_and(|at| at <= now) {
            self.discovery.handle_timeout(now);
        }
        self.end_contests(now);
        self.settle(now);
    }

    pub(super) fn new_connection(&mut self, conn: Conn) -> ConnectionId {
        self.next_connection += 1;
        let id = ConnectionId(self.next_connection);
        self.connections.insert(id, conn);
        id
    }

    /// An operator, or a user of the crate, wants a connection. `Err`: the peer that is connected there already.
    pub(crate) fn connect(&mut self, now: Time, addr: PeerAddr) -> Result<ConnectionId, PeerId> {
        let remote = addr.socket_addr();
        let open = self.connections.values().find(|conn| {
            conn.is_open()
                && (remote.is_some() && conn.direction == Direction::Outbound && conn.remote == remote
                    || addr.pin.is_some() && conn.peer() == addr.pin)
        });
        if let Some(peer) = open.and_then(Conn::peer) {
            return Err(peer);
        }
        let connection = self.dial(addr, None);
        self.settle(now);
        Ok(connection)
    }

    fn dial(&mut self, addr: PeerAddr, target: Option<Target>) -> ConnectionId {
        let remote = addr.socket_addr();
        let connection = self.new_connection(Conn {
            direction: Direction::Outbound,
            remote,
            pin: addr.pin,
            target,
            state: State::Connecting,
            closing: false,
        });
        self.view.outbound.extend(remote);
        self.actions.push_back(Action::Dial { connection, addr });
        connection
    }

    /// A connection is over. `fault`: what the remote did wrong in TLS.
    pub(crate) fn handle_closed(
        &mut self,
        now: Time,
        connection: ConnectionId,
        reason: CloseReason,
        fault: Option<Offence>,
    ) {
        let Some(conn) = self.connections.remove(&connection) else { return };
        self.asked.remove(&connection);
        if let State::Retired { .. } = conn.state {
            return;
        }
        if let Some(addr) = conn.remote {
            let fault = fault.or_else(|| fault_in_hello(&conn, reason));
            fault
                .into_iter()
                .for_each(|offence| drop(self.security.record_failed_attempt(now, addr.ip(), offence)));
        }
        self.account(now, connection, &conn, reason);
        if conn.is_open() {
            self.actions.push_back(Action::Down { connection, reason });
        } else if let Some(addr) = conn.remote {
            let (direction, peer) = (conn.direction, conn.peer());
            self.actions.push_back(Action::Failed { connection, addr, direction, peer, reason });
        }
        self.resolve_contest_after_close(now, connection);
        self.settle(now);
    }

    /// Tells discovery of a connection that ended.
    pub(super) fn account(&mut self, now: Time, connection: ConnectionId, conn: &Conn, reason: CloseReason) {
        self.leave_view(connection, conn);
        self.tell_discovery(now, conn, reason);
    }

    /// Takes a connection that ended out of what discovery sees.
    fn leave_view(&mut self, connection: ConnectionId, conn: &Conn) {
        if let (Direction::Outbound, Some(addr)) = (conn.direction, conn.remote) {
            let same = |(id, other): (&ConnectionId, &Conn)| {
                *id != connection && other.direction == Direction::Outbound && other.remote == Some(addr)
            };
            if !self.connections.iter().any(same) {
                self.view.outbound.remove(&addr);
            }
        }
        if let State::Open { peer, listens } = &conn.state {
            listens.iter().for_each(|addr| {
                self.view.inbound.remove(addr);
            });
            if self.peers.get(peer) == Some(&connection) {
                self.peers.remove(peer);
                self.view.peers.remove(peer);
            }
        }
    }

    fn tell_discovery(&mut self, now: Time, conn: &Conn, reason: CloseReason) {
        let (Direction::Outbound, Some(addr)) = (conn.direction, conn.remote) else { return };
        let honest =
            !matches!(reason, CloseReason::Local(CloseCode::Protocol | CloseCode::Banned | CloseCode::Rate));
        match (&conn.state, conn.target) {
            (State::Open { .. }, _) => self.discovery.handle_disconnected(now, addr, honest),
            _ if reason == CloseReason::Local(CloseCode::SelfConnection) => {
                self.discovery.handle_self(now, addr)
            }
            (State::Secured { peer, .. } | State::Held { peer, .. }, Some(target))
                if target.feeler && honest =>
            {
                self.discovery.handle_answered(now, target.addr, *peer);
            }
            (_, Some(target)) => self.discovery.handle_dial_failed(now, target.addr),
            _ => {}
        }
    }

    /// A message for the manager itself.
    pub(crate) fn handle_message(&mut self, now: Time, connection: ConnectionId, message: Message) {
        let Some(conn) = self.connections.get(&connection) else { return };
        let (State::Open { peer, listens }, Some(remote)) = (&conn.state, conn.remote) else { return };
        match message {
            Message::GetPeers(request) => {
                let peers = self.discovery.get_peers(now, request.count, listens.unwrap_or(remote));
                let message = Message::Peers(bt2c_proto::Peers { peers });
                self.actions.push_back(Action::Send { connection, message });
            }
            Message::Peers(answer) => {
                let count = self.asked.remove(&connection).unwrap_or(0);
                let asked = usize::try_from(count).unwrap_or(usize::MAX).min(answer.peers.len());
                let peer = *peer;
                self.discovery.handle_peers(now, peer, remote.ip(), &answer.peers[..asked]);
            }
            _ => {}
        }
        self.settle(now);
    }

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

    /// Nothing useful was heard from a peer for long: it is pruned if there are enough others.
    pub(crate) fn handle_idle(&mut self, now: Time, connection: ConnectionId) {
        if self.peers.len() > self.config.discovery.outbound_wanted {
            self.close(connection, CloseCode::Idle);
        }
        self.settle(now);
    }

    /// The open connection of a peer.
    pub(crate) fn connection_of(&self, peer: &PeerId) -> Option<ConnectionId> {
        self.peers.get(peer).copied()
    }

    /// The open connections.
    pub(crate) fn open(&self) -> impl Iterator<Item = (ConnectionId, PeerId)> + '_ {
        self.peers.iter().map(|(peer, connection)| (*connection, *peer))
    }

    /// Ends a connection.
    pub(crate) fn close(&mut self, connection: ConnectionId, code: CloseCode) {
        if let Some(conn) = self.connections.get_mut(&connection) {
            if !std::mem::replace(&mut conn.closing, true) {
                self.actions.push_back(Action::Close { connection, code });
            }
        }
    }

    /// A name was looked up.
    pub(crate) fn handle_resolved(&mut self, now: Time, name: &str, port: u16, ips: &[IpAddr]) {
        self.discovery.handle_resolved(now, name, port, ips);
        self.settle(now);
    }

    /// A peer's standing, for people.
    pub(crate) fn score(&self, now: Time, peer: &PeerId) -> i32 {
        self.security.score(now, peer)
    }

    /// The addresses that discovery knows.
    pub(crate) fn known(&self) -> Vec<KnownPeer> {
        self.discovery.known()
    }

    /// The state to write at a stop; to be taken before the connections are closed.
    pub(crate) fn snapshots(&mut self, now: Time) -> Vec<(StateFile, Vec<u8>)> {
        self.security.flush(now);
        self.settle(now);
        let mut files = vec![(StateFile::Peers, self.discovery.snapshot())];
        self.actions.retain(|action| match action {
            Action::Persist(StateFile::Bans, bytes) => {
                files.push((StateFile::Bans, bytes.clone()));
                false
            }
            _ => true,
        });
        files
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

    /// After every input: hands on what the parts want, and dials.
    pub(super) fn settle(&mut self, now: Time) {
        while let Some(action) = self.security.poll_action() {
            self.carry_out_security(action);
        }
        while let Some(target) = self.discovery.next_dial(now, &self.view) {
            self.dial_target(now, target);
        }
        while let Some(action) = self.discovery.poll_action() {
            match action {
                DiscoveryAction::Resolve { name, port } => {
                    self.actions.push_back(Action::Resolve { name, port })
                }
                DiscoveryAction::Persist(bytes) => {
                    self.actions.push_back(Action::Persist(StateFile::Peers, bytes))
                }
                DiscoveryAction::AskPeers { peer, count } => {
                    let Some(&connection) = self.peers.get(&peer) else { continue };
                    self.asked.insert(connection, count);
                    let message = Message::GetPeers(bt2c_proto::GetPeers { count });
                    self.actions.push_back(Action::Send { connection, message });
                }
            }
        }
    }

    fn dial_target(&mut self, now: Time, target: bt2c_discovery::DialTarget) {
        let banned = self.security.is_banned(now, target.addr.ip()).is_some()
            || target.pin.is_some_and(|peer| self.security.is_peer_banned(now, &peer).is_some());
        if banned || self.connections.len() >= slots::table_limit(&self.config) {
            return self.discovery.handle_dial_failed(now, target.addr);
        }
        let addr = PeerAddr { pin: target.pin, ..target.addr.into() };
        let feeler = target.reason == bt2c_discovery::DialReason::Feeler;
        self.dial(addr, Some(Target { addr: target.addr, feeler }));
    }

    fn carry_out_security(&mut self, action: SecurityAction) {
        match action {
            SecurityAction::Persist(bytes) => self.actions.push_back(Action::Persist(StateFile::Bans, bytes)),
            SecurityAction::Unbanned(subject) => {
                if let Subject::Net(net) = &subject {
                    self.discovery.unban_peer(net.addr());
                }
                self.actions.push_back(Action::Unbanned(subject));
            }
            SecurityAction::Banned(ban) => {
                if let Subject::Net(net) = &ban.subject {
                    self.discovery.ban_peer(net.addr(), ban.until);
                }
                let matches = |conn: &Conn| {
                    conn.remote.is_some_and(|addr| ban.subject.matches(addr.ip(), conn.peer().as_ref()))
                };
                let hit: Vec<_> =
                    self.connections.iter().filter(|(_, conn)| matches(conn)).map(|(id, _)| *id).collect();
                for connection in hit {
                    self.close(connection, CloseCode::Banned);
                }
                self.actions.push_back(Action::Banned(ban));
            }
        }
    }
}

/// Identities remembered as met.
const MET: NonZeroUsize = NonZeroUsize::new(4096).expect("4096 is not 0");

/// What the remote did wrong in a session that ended before its hello was accepted, if it dialled us.
const fn fault_in_hello(conn: &Conn, reason: CloseReason) -> Option<Offence> {
    match (conn.direction, reason) {
        _ if conn.is_open() => None,
        (Direction::Inbound, CloseReason::Local(CloseCode::Protocol)) => Some(Offence::BadHello),
        (Direction::Inbound, CloseReason::Local(CloseCode::Label)) => Some(Offence::StolenLabel),
        _ => None,
    }
}
