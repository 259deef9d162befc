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

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    sync::Arc,
    time::Duration,
};

use bt2c_discovery::{Connected, DiscoveryAction, KnownPeer, NodeDiscovery};
use bt2c_proto::{CloseCode, Defence, Hello, Message, PeerAddr, PeerId, Time};
use bt2c_security::{Ban, CertificateError, Deed, Offence, SecurityManager, Subject};
use lru::LruCache;

use super::{
    connection::{Conn, State},
    contest::Contests,
    unreached::Unreached,
};
use crate::{
    config::P2PConfig,
    decisions::DecisionLog,
    local::Local,
    peer::{ConnectionId, Direction},
    reason::{CloseReason, Refusal},
};

/// What the shell is to do.
#[derive(Debug)]
pub(crate) enum Action {
    /// Open a connection.
    Dial { connection: ConnectionId, addr: PeerAddr },
    /// Both hellos are good: the peer is up.
    Admit { connection: ConnectionId, peer: PeerId, standing: i32, hello: Box<Hello> },
    /// Answer a hello with a refusal.
    Refuse { connection: ConnectionId, refusal: Refusal },
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
    /// Tell the operator that a peer named by them cannot be had. Not told again for the same cause.
    Unreached { addr: PeerAddr, reason: CloseReason },
    /// Tell the operator that a peer met before shows a certificate outside its dates. Told once a minute at most.
    StaleCertificate { peer: PeerId, error: CertificateError },
    /// Tell the operator that it is so many seconds later at most of so many outbound peers than here.
    ClockOff { peers: usize, ahead: i64 },
    /// Someone was not banned, for the table is full.
    BanMissed,
    /// Look up a name, then call [`Core::handle_resolved`].
    Resolve { name: Box<str>, port: u16 },
    /// Replace a state file.
    Persist(StateFile, Vec<u8>),
    /// Tell everyone.
    Banned(Ban),
    /// Tell everyone.
    Unbanned(Subject),
    /// Count an offence.
    Charged(Offence),
}

/// The files of the manager's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum StateFile {
    /// `bans.json`
    Bans,
    /// `peers.json`
    Peers,
    /// `reputation.json`
    Reputation,
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
    /// Identities met before, whose certificates may be out of date, and where they were last connected.
    pub(super) met: LruCache<PeerId, Option<IpAddr>>,
    /// How many addresses each connection was asked for.
    pub(super) asked: BTreeMap<ConnectionId, u64>,
    pub(super) unreached: Unreached,
    /// What was decided, for who asks why.
    pub(super) decisions: DecisionLog,
    /// When the operator was last told of a stale certificate.
    pub(super) stale_told: Option<Time>,
    /// When the operator was last told that our clock is off.
    pub(super) clock_told: Option<Time>,
    /// By which netgroups are spared from eviction, and pings spaced.
    pub(super) eviction_key: [u64; 2],
    next_connection: u64,
    pub(super) stopping: bool,
    pub(super) actions: VecDeque<Action>,
}

impl Core {
    pub(crate) fn new(config: Arc<P2PConfig>, local: Arc<Local>, seed: [u8; 32]) -> Self {
        let [one, two, ..] = seed.as_chunks().0 else { unreachable!("a seed has 32 bytes") };
        Self {
            eviction_key: [u64::from_le_bytes(*one), u64::from_le_bytes(*two)],
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
            unreached: Unreached::default(),
            decisions: DecisionLog::new(),
            stale_told: None,
            clock_told: None,
            next_connection: 0,
            stopping: false,
            actions: VecDeque::new(),
        }
    }

    /// Before the start: the bans and peers of an earlier run, and our own addresses.
    pub(crate) const fn parts(&mut self) -> (&mut SecurityManager, &mut NodeDiscovery) {
        (&mut self.security, &mut self.discovery)
    }

    /// Begins to dial.
    pub(crate) fn start(&mut self, now: Time) {
        for ban in self.security.bans(now) {
            if let Subject::Net(net) = &ban.subject {
                self.discovery.ban_peer(net.addr(), ban.until);
            }
        }
        for peer in self.discovery.known().into_iter().filter_map(|known| known.peer) {
            self.met.put(peer, None);
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
                let mut asked = usize::try_from(count).unwrap_or(usize::MAX).min(answer.peers.len());
                if !self.config.security.defences.has(Defence::SolicitedAnswers) {
                    asked = answer.peers.len();
                }
                let peer = *peer;
                self.discovery.handle_peers(now, peer, remote.ip(), &answer.peers[..asked]);
            }
            _ => {}
        }
        self.settle(now);
    }

    /// A round trip was measured.
    pub(crate) fn handle_rtt(&mut self, connection: ConnectionId, rtt: Duration) {
        if let Some(conn) = self.connections.get_mut(&connection) {
            conn.standing.measured(rtt);
        }
    }

    /// A peer did something useful.
    pub(crate) fn handle_deed(&mut self, now: Time, peer: PeerId, deed: Deed) {
        let connection = self.connection_of(&peer);
        let Some(conn) = connection.and_then(|connection| self.connections.get_mut(&connection)) else {
            return;
        };
        conn.standing.credit(now, deed);
        let Some(remote) = conn.remote else { return };
        self.security.reward(now, remote.ip(), peer, deed);
        self.settle(now);
    }

    /// Nothing useful was heard from a peer for long: it is pruned if there are enough others.
    pub(crate) fn handle_idle(&mut self, now: Time, connection: ConnectionId) {
        if self.peers.len() > self.config.discovery.outbound_wanted {
            self.close(connection, CloseCode::Idle);
        }
        self.settle(now);
    }

    /// Who is at the other end of a connection, if TLS got that far.
    pub(crate) fn peer_of(&self, connection: ConnectionId) -> Option<PeerId> {
        self.connections.get(&connection)?.peer()
    }

    /// The open connection of a peer.
    pub(crate) fn connection_of(&self, peer: &PeerId) -> Option<ConnectionId> {
        self.peers.get(peer).copied()
    }

    /// The open connections.
    pub(crate) fn open(&self) -> impl Iterator<Item = (ConnectionId, PeerId)> + '_ {
        self.peers.iter().map(|(peer, connection)| (*connection, *peer))
    }

    /// The addresses that discovery knows.
    pub(crate) fn known(&self) -> Vec<KnownPeer> {
        self.discovery.known()
    }

    /// Begins a stop, before the connections are closed: nothing is dialled any more. Returns the state to write.
    pub(crate) fn stop(&mut self, now: Time) -> Vec<(StateFile, Vec<u8>)> {
        self.stopping = true;
        self.security.flush(now);
        self.settle(now);
        let mut files = vec![(StateFile::Peers, self.discovery.snapshot())];
        self.actions.retain(|action| match action {
            Action::Persist(file, bytes) if *file != StateFile::Peers => {
                files.push((*file, bytes.clone()));
                false
            }
            _ => true,
        });
        files
    }

    /// After every input: hands on what the parts want, and dials.
    pub(super) fn settle(&mut self, now: Time) {
        while let Some(action) = self.security.poll_action() {
            self.carry_out_security(now, action);
        }
        while self.may_dial()
            && let Some(target) = self.discovery.next_dial(now, &self.view)
        {
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
                    let pace = self.connections.get_mut(&connection).and_then(|conn| conn.asks.as_mut());
                    // The next round asks again.
                    if !pace.is_some_and(|pace| pace.take(now)) {
                        continue;
                    }
                    self.asked.insert(connection, count);
                    let message = Message::GetPeers(bt2c_proto::GetPeers { count });
                    self.actions.push_back(Action::Send { connection, message });
                }
            }
        }
    }
}

/// Identities remembered as met.
const MET: NonZeroUsize = NonZeroUsize::new(4096).expect("4096 is not 0");

#[cfg(test)]
mod tests;
