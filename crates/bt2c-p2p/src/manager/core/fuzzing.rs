//! The manager's core under any sequence of connections, hellos, messages, offences, bans and time.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use arbitrary::{Result, Unstructured};
use bt2c_proto::{
    BlockHash, CloseCode, GetPeers, Height, Hello, Message, Network, NodeId, Peers, Text, Time, Version,
};
use bt2c_security::{Deed, Offence, PeerCertificate, Subject};

use super::{Action, Core};
use crate::{
    config::P2PConfig,
    local::Local,
    manager::{connection::State, slots},
    peer::{ConnectionId, Direction},
    reason::{CloseReason, HandshakeFailure},
};

const START: Time = Time::from_secs(1_712_352_000);
const GENESIS: BlockHash = BlockHash::from_bytes([1; 32]);

/// Plays what the bytes say to the core of a manager. The first certificate is its own, the others are of those it
/// meets; all must be valid in April 2024.
///
/// # Panics
/// The core does; or a peer has two open connections, there are more connections or open peers than allowed, one that is
/// banned stays, somebody is admitted twice or without a hello, or the core asks to be woken for what it has just done.
pub fn manager(bytes: &[u8], certificates: &[Vec<u8>]) {
    let mut input = Unstructured::new(bytes);
    let mut run = Run::new(certificates);
    while !input.is_empty() && run.step(&mut input).is_ok() {
        run.settle();
    }
}

struct Run<'a> {
    core: Core,
    certificates: &'a [Vec<u8>],
    labels: Vec<NodeId>,
    now: Time,
    /// Those that were opened and have not ended yet, as a shell knows them.
    tasks: BTreeSet<ConnectionId>,
    greeted: BTreeSet<ConnectionId>,
    admitted: BTreeSet<ConnectionId>,
}

impl<'a> Run<'a> {
    fn new(certificates: &'a [Vec<u8>]) -> Self {
        let known: Vec<_> = certificates
            .iter()
            .map(|der| PeerCertificate::parse(der).expect("the certificates keep the rules"))
            .collect();
        let labels: Vec<_> =
            known.iter().map(|known| known.label.clone().expect("they have labels")).collect();
        let mut config = P2PConfig::for_network(Network::Mainnet, GENESIS);
        (config.max_connections, config.pending_total, config.inbound_per_subnet) = (4, 4, 3);
        config.security.max_bans = 3;
        let local = Local::new(&config, known[0].peer_id, labels[0].clone(), &[]);
        let mut core = Core::new(Arc::new(config), Arc::new(local), [7; 32]);
        core.start(START);
        let (tasks, greeted, admitted) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        Self { core, certificates, labels, now: START, tasks, greeted, admitted }
    }

    fn step(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        match input.int_in_range(0..=14)? {
            0 | 1 => {
                if let Ok(connection) = self.core.handle_accept(self.now, remote(input)?) {
                    self.tasks.insert(connection);
                }
            }
            2 | 3 => self.secure(input)?,
            4 | 5 => self.greet(input)?,
            6 => self.end(input)?,
            7 => self.now = self.now + Duration::from_millis(input.int_in_range(0..=4_000_000)?),
            8 => self.wake(),
            9 => {
                let (connection, offence) = (self.pick(input)?, *input.choose(&Offence::ALL)?);
                self.core.handle_report(self.now, connection, offence, "fuzzed");
            }
            10 => self.message(input)?,
            11 => {
                let (connection, alive) = (self.pick(input)?, input.arbitrary()?);
                self.core.handle_probed(self.now, connection, alive);
            }
            12 => drop(self.core.connect(self.now, remote(input)?.into())),
            13 => self.operator(input)?,
            _ => self.merits(input)?,
        }
        Ok(())
    }

    /// One of the connections there are.
    fn pick(&self, input: &mut Unstructured<'_>) -> Result<ConnectionId> {
        let all: Vec<_> = self.tasks.iter().copied().collect();
        Ok(*input.choose(&all)?)
    }

    /// TLS is done, with somebody's certificate.
    fn secure(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let (connection, certificate) = (self.pick(input)?, input.choose(self.certificates)?);
        let Some(conn) = self.core.connections.get(&connection) else { return Ok(()) };
        if !matches!(conn.state, State::Connecting) {
            return Ok(()); // a shell asks once
        }
        let addr = conn.remote.unwrap_or_else(|| SocketAddr::from(([9, 9, 9, 9], 8338)));
        if let Err(reason) = self.core.handle_secured(self.now, connection, addr, certificate) {
            self.close(connection, reason, None);
        }
        Ok(())
    }

    fn greet(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let connection = self.pick(input)?;
        let own = self.core.peer_of(connection).and_then(|peer| {
            let same = |der: &&Vec<u8>| PeerCertificate::parse(der).is_ok_and(|known| known.peer_id == peer);
            Some(self.labels[self.certificates.iter().position(|der| same(&der))?].clone())
        });
        let Some(own) = own.filter(|_| !self.greeted.contains(&connection)) else { return Ok(()) };
        let flaw: u8 = input.int_in_range(0..=20)?;
        let hello = Hello {
            version: Version { major: if flaw == 0 { 2 } else { 1 }, minor: 0, patch: 0 },
            node_id: if flaw == 1 { input.choose(&self.labels)?.clone() } else { own },
            block_height: Height::GENESIS,
            last_block_hash: None,
            network: (flaw.is_multiple_of(2))
                .then(|| Text::cut(if flaw == 2 { "testnet" } else { "mainnet" })),
            genesis_hash: (flaw == 4).then(|| BlockHash::from_bytes([2; 32])),
            listen_port: input.arbitrary()?,
            user_agent: None,
            features: Some(Vec::new()),
            limits: None,
            your_addr: None,
            first_block: None,
        };
        self.greeted.insert(connection);
        self.core.handle_hello(self.now, connection, Box::new(hello));
        Ok(())
    }

    fn end(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let connection = self.pick(input)?;
        let (reason, fault) = match input.int_in_range(0..=7)? {
            0 => (CloseReason::Ended, None),
            1 => (CloseReason::Remote(CloseCode::Replaced), None),
            2 => (CloseReason::Remote(CloseCode::Genesis), None),
            3 => (CloseReason::Handshake(HandshakeFailure::Tls), Some(Offence::BadTls)),
            4 => (CloseReason::Handshake(HandshakeFailure::Timeout), None),
            5 => (CloseReason::Local(CloseCode::Protocol), None),
            6 => (CloseReason::Local(CloseCode::SelfConnection), None),
            _ => {
                (CloseReason::Handshake(HandshakeFailure::Dial(std::io::ErrorKind::ConnectionRefused)), None)
            }
        };
        self.close(connection, reason, fault);
        Ok(())
    }

    fn close(&mut self, connection: ConnectionId, reason: CloseReason, fault: Option<Offence>) {
        self.tasks.remove(&connection);
        self.core.handle_closed(self.now, connection, reason, fault);
    }

    /// Lets time pass until the core wants to be woken. With a full table it may want that once more at once, for a dial
    /// that it then finds no room for, but it comes to rest.
    fn wake(&mut self) {
        let Some(at) = self.core.poll_timeout() else { return };
        self.now = self.now.max(at);
        for _ in 0..3 {
            self.core.handle_timeout(self.now);
            self.settle();
            if self.core.poll_timeout().is_none_or(|at| at > self.now) {
                return;
            }
        }
        panic!("it wants to be woken again and again");
    }

    fn message(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let connection = self.pick(input)?;
        let message = if input.arbitrary()? {
            Message::GetPeers(GetPeers { count: input.int_in_range(1..=1000)? })
        } else {
            let count = input.int_in_range(0..=20)?;
            let peers = (0..count).map(|_| remote(input)).collect::<Result<_>>()?;
            Message::Peers(Peers { peers })
        };
        self.core.handle_message(self.now, connection, message);
        Ok(())
    }

    /// What an operator does.
    fn operator(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let ip = remote(input)?.ip();
        let subject = match input.int_in_range(0..=2)? {
            0 => Subject::from(ip),
            1 => "8.8.0.0/16".parse().expect("a network"),
            _ => Subject::Peer(
                PeerCertificate::parse(input.choose(self.certificates)?).expect("valid").peer_id,
            ),
        };
        if input.arbitrary()? {
            let duration = Duration::from_secs(input.int_in_range(1..=1_000_000)?);
            self.core.ban(self.now, subject, Some(duration), "fuzzed");
        } else {
            self.core.unban(self.now, &subject);
        }
        Ok(())
    }

    /// What others say of a peer, for it and against it.
    fn merits(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let connection = self.pick(input)?;
        let Some(peer) = self.core.peer_of(connection) else { return Ok(()) };
        match input.int_in_range(0..=3)? {
            0 => self.core.handle_rtt(connection, Duration::from_millis(input.arbitrary::<u16>()?.into())),
            1 => self.core.handle_deed(self.now, peer, Deed::Block),
            2 => self.core.handle_idle(self.now, connection),
            _ => self.core.handle_judged(self.now, peer, *input.choose(&Offence::ALL)?, "fuzzed"),
        }
        Ok(())
    }

    /// Does what the core wants, as a shell does, and looks at what came of it.
    fn settle(&mut self) {
        while let Some(action) = self.core.poll_action() {
            match action {
                Action::Dial { connection, .. } => {
                    assert!(self.tasks.insert(connection), "{connection:?} is opened twice");
                }
                Action::Admit { connection, .. } => {
                    assert!(self.greeted.contains(&connection), "{connection:?} is let in without a hello");
                    assert!(self.admitted.insert(connection), "{connection:?} is let in twice");
                }
                Action::Refuse { connection, refusal } => {
                    self.close(connection, CloseReason::Local(refusal.code()), None);
                }
                Action::Close { connection, code } => self.close(connection, CloseReason::Local(code), None),
                Action::Banned(ban) => {
                    assert!(!ban.reason.is_empty() && ban.until > self.now, "a ban without reason or end");
                }
                _ => {}
            }
        }
        self.check();
    }

    fn check(&self) {
        let core = &self.core;
        let open: Vec<_> = core.connections.iter().filter(|(_, conn)| conn.is_open()).collect();
        assert_eq!(open.len(), core.peers.len(), "each peer has one open connection");
        assert!(
            open.iter().all(|(id, conn)| conn.peer().and_then(|peer| core.peers.get(&peer)) == Some(*id))
        );
        assert!(open.len() <= core.config.max_connections, "{} are open", open.len());
        assert!(core.connections.keys().eq(&self.tasks), "the core and its shell know the same connections");
        let inbound = core.connections.values().filter(|conn| conn.direction == Direction::Inbound).count();
        assert!(inbound <= slots::table_limit(&core.config), "{inbound} are inbound");
        assert_eq!(core.view.peers, core.peers.keys().copied().collect(), "discovery sees who is there");
        for (connection, conn) in open {
            let banned =
                conn.remote.is_some_and(|addr| core.security.is_banned(self.now, addr.ip()).is_some());
            assert!(!banned, "{connection:?} is banned and stays");
        }
    }
}

/// One of few addresses, so that they meet again.
fn remote(input: &mut Unstructured<'_>) -> Result<SocketAddr> {
    let number: u8 = input.arbitrary()?;
    let (group, host) = (number >> 4, number & 15);
    Ok(if number == 255 {
        SocketAddr::from(([0x2600, 0, 0, 0, 0, 0, 0, 1], 8338))
    } else {
        SocketAddr::from(([8, 8, group, host], 8338))
    })
}
