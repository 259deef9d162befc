use std::time::Duration;

use bt2c_proto::{BlockHash, Height, Hello, Network, NodeId, Text, Version};
use bt2c_security::{Credentials, fixtures};

use super::*;
use crate::{decisions::DecisionKind, manager::dialing::Wanted, reason::HandshakeFailure};

const NOW: Time = Time::from_secs(1_712_352_000);
const GENESIS: BlockHash = BlockHash::from_bytes([1; 32]);

/// A core and whom it meets. Node 0 is the core's own; peers are numbered by their PeerId, which makes the core the
/// second lowest: peer 1 is below it, all others above.
struct Lab {
    now: Time,
    core: Core,
    nodes: Vec<Credentials>,
}

impl Lab {
    fn new(change: impl FnOnce(&mut P2PConfig)) -> Self {
        let mut nodes: Vec<_> =
            (0..8).map(|i| Credentials::issue(fixtures::identity(i), None, NOW).unwrap()).collect();
        nodes.sort_by_key(Credentials::peer_id);
        nodes.swap(0, 1);
        let mut config = P2PConfig::for_network(Network::Mainnet, GENESIS);
        change(&mut config);
        let local = Local::new(&config, nodes[0].peer_id(), nodes[0].node_id().clone(), &[]);
        let mut core = Core::new(Arc::new(config), Arc::new(local), [7; 32]);
        core.start(NOW);
        Self { now: NOW, core, nodes }
    }

    fn peer(&self, node: usize) -> PeerId {
        self.nodes[node].peer_id()
    }

    fn hello(&self, node: usize) -> Box<Hello> {
        Box::new(Hello {
            version: Version::CURRENT,
            node_id: self.nodes[node].node_id().clone(),
            block_height: Height::GENESIS,
            last_block_hash: None,
            network: Some(Text::cut("mainnet")),
            genesis_hash: Some(GENESIS),
            listen_port: None,
            user_agent: None,
            features: Some(Vec::new()),
            limits: None,
            your_addr: None,
            first_block: None,
        })
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.core.poll_action()).collect()
    }

    /// Accepts a connection, up to TLS.
    fn accept(&mut self, node: usize) -> ConnectionId {
        let remote = SocketAddr::from(([8, 8, u8::try_from(node).unwrap(), 1], 50_000));
        let connection = self.core.handle_accept(self.now, remote).unwrap();
        self.secure(connection, remote, node).unwrap();
        connection
    }

    /// Dials an address.
    fn connect(&mut self, addr: PeerAddr) -> ConnectionId {
        match self.core.connect(self.now, addr).unwrap() {
            Wanted::Dialled(connection) => connection,
            Wanted::Connected(peer) => panic!("{peer} is connected"),
        }
    }

    /// What the operator is told since the last look.
    fn unreached(&mut self) -> Vec<(String, CloseReason)> {
        let told = self.actions().into_iter().filter_map(|action| match action {
            Action::Unreached { addr, reason } => Some((addr.to_string(), reason)),
            _ => None,
        });
        told.collect()
    }

    /// Dials a node, up to TLS.
    fn dial(&mut self, node: usize) -> ConnectionId {
        let remote = SocketAddr::from(([9, u8::try_from(node).unwrap(), 9, 1], 8338));
        let connection = self.connect(remote.into());
        self.secure(connection, remote, node).unwrap();
        connection
    }

    fn secure(&mut self, id: ConnectionId, remote: SocketAddr, node: usize) -> Result<(), CloseReason> {
        let certificate = self.nodes[node].certificate_der().to_vec();
        self.core.handle_secured(self.now, id, remote, &certificate).map(drop)
    }

    fn greet(&mut self, connection: ConnectionId, node: usize) -> Vec<Action> {
        let hello = self.hello(node);
        self.core.handle_hello(self.now, connection, hello);
        self.actions()
    }

    fn refusal(&mut self, node: usize, change: impl FnOnce(&mut Hello)) -> Option<CloseCode> {
        let connection = self.accept(node);
        let mut hello = self.hello(node);
        change(&mut hello);
        self.core.handle_hello(self.now, connection, hello);
        let code = self.actions().into_iter().find_map(|action| match action {
            Action::Refuse { refusal, .. } => Some(refusal.code()),
            _ => None,
        });
        let reason = CloseReason::Local(code.unwrap_or(CloseCode::Shutdown));
        self.core.handle_closed(self.now, connection, reason, None);
        code
    }

    fn open_of(&self, node: usize) -> Option<ConnectionId> {
        self.core.connection_of(&self.peer(node))
    }

    /// Every peer has at most one open connection, and the index knows it.
    fn check(&self) {
        let open: Vec<_> = self.core.connections.iter().filter(|(_, conn)| conn.is_open()).collect();
        assert_eq!(open.len(), self.core.peers.len());
        assert!(open.iter().all(|(id, conn)| self.core.peers[&conn.peer().unwrap()] == **id));
    }
}

fn admits(actions: &[Action], connection: ConnectionId) -> bool {
    actions.iter().any(|action| matches!(action, Action::Admit { connection: id, .. } if *id == connection))
}

fn refuses(actions: &[Action], connection: ConnectionId, with: CloseCode) -> bool {
    let refuses = |action: &Action| matches!(action, Action::Refuse { connection: id, refusal } if *id == connection && refusal.code() == with);
    actions.iter().any(refuses)
}

fn probes(actions: &[Action], connection: ConnectionId) -> bool {
    actions.iter().any(|action| matches!(action, Action::Probe { connection: id } if *id == connection))
}

#[test]
fn a_hello_is_refused_by_the_first_rule_it_breaks() {
    let mut lab = Lab::new(|_| {});
    assert_eq!(lab.refusal(2, |_| {}), None);
    let stolen: NodeId = lab.nodes[3].node_id().clone();
    let other_genesis = BlockHash::from_bytes([2; 32]);
    assert_eq!(lab.refusal(2, |hello| hello.version = "2".parse().unwrap()), Some(CloseCode::Version));
    assert_eq!(lab.refusal(2, |hello| hello.network = Some(Text::cut("testnet"))), Some(CloseCode::Network));
    assert_eq!(lab.refusal(2, |hello| hello.genesis_hash = Some(other_genesis)), Some(CloseCode::Genesis));
    assert_eq!(lab.refusal(2, |hello| hello.node_id = stolen), Some(CloseCode::Label));
    assert_eq!(lab.refusal(2, |hello| hello.node_id = "other".parse().unwrap()), Some(CloseCode::Label));
    let silent = |hello: &mut Hello| (hello.network, hello.genesis_hash) = (None, None);
    assert_eq!(lab.refusal(2, silent), None, "a base peer names neither");
}

#[test]
fn the_connection_that_the_lower_dialled_stays_whatever_the_order_of_hellos() {
    for node in [1, 2] {
        // Node 1 is below us: the connection it dialled stays. Node 2 is above: ours does.
        for inbound_first in [true, false] {
            let mut lab = Lab::new(|_| {});
            let (inbound, outbound) = (lab.accept(node), lab.dial(node));
            let (first, second) = if inbound_first { (inbound, outbound) } else { (outbound, inbound) };
            let stays = if node == 1 { inbound } else { outbound };
            assert!(admits(&lab.greet(first, node), first));
            let actions = lab.greet(second, node);
            if second == stays {
                assert!(admits(&actions, second));
            } else {
                assert!(probes(&actions, first));
                lab.core.handle_probed(NOW, first, true);
                assert!(refuses(&lab.actions(), second, CloseCode::Replaced));
            }
            assert_eq!(lab.open_of(node), Some(stays));
            lab.check();
        }
    }
}

#[test]
fn of_one_direction_the_newer_stays_and_the_older_is_told() {
    let mut lab = Lab::new(|_| {});
    let (old, new) = (lab.accept(2), lab.accept(2));
    lab.greet(old, 2);
    let actions = lab.greet(new, 2);
    assert!(admits(&actions, new));
    let told = |action: &Action| matches!(action, Action::Close { connection, code: CloseCode::Replaced } if *connection == old);
    assert!(actions.iter().any(told));
    lab.core.handle_closed(NOW, old, CloseReason::Local(CloseCode::Replaced), None);
    assert_eq!(lab.open_of(2), Some(new));
    assert!(lab.actions().iter().all(|action| !matches!(action, Action::Down { .. })), "its end was told");
}

#[test]
fn an_incumbent_without_a_sign_of_life_gives_way() {
    let mut lab = Lab::new(|_| {});
    let ghost = lab.dial(2);
    lab.greet(ghost, 2);
    let back = lab.accept(2);
    assert!(probes(&lab.greet(back, 2), ghost));
    lab.core.handle_probed(NOW, ghost, false);
    let actions = lab.actions();
    let down = actions.iter().position(|action| matches!(action, Action::Down { .. })).unwrap();
    let up = actions.iter().position(|action| matches!(action, Action::Admit { .. })).unwrap();
    assert!(down < up, "the end of one is told before the beginning of the other");
    assert_eq!(lab.open_of(2), Some(back));
    lab.check();
}

#[test]
fn a_probe_that_never_ends_is_taken_for_unanswered() {
    let mut lab = Lab::new(|_| {});
    let ghost = lab.dial(2);
    lab.greet(ghost, 2);
    let back = lab.accept(2);
    lab.greet(back, 2);
    lab.core.handle_timeout(NOW + Duration::from_secs(7));
    assert_eq!(lab.open_of(2), Some(ghost));
    lab.core.handle_timeout(NOW + Duration::from_secs(8));
    assert_eq!(lab.open_of(2), Some(back));
    lab.check();
}

#[test]
fn an_incumbent_that_ends_while_it_is_probed_gives_way_at_once() {
    let mut lab = Lab::new(|_| {});
    let ghost = lab.dial(2);
    lab.greet(ghost, 2);
    let back = lab.accept(2);
    lab.greet(back, 2);
    lab.core.handle_closed(NOW, ghost, CloseReason::Ended, None);
    assert!(admits(&lab.actions(), back));
    lab.check();
}

#[test]
fn a_held_newcomer_is_let_go_when_its_incumbent_is_replaced() {
    let mut lab = Lab::new(|_| {});
    let first = lab.dial(2);
    lab.greet(first, 2);
    let held = lab.accept(2);
    lab.greet(held, 2);
    // A second dial of ours: same direction as the incumbent.
    let remote = SocketAddr::from(([9, 9, 9, 9], 8338));
    let second = lab.connect(remote.into());
    lab.secure(second, remote, 2).unwrap();
    let actions = lab.greet(second, 2);
    assert!(admits(&actions, second) && refuses(&actions, held, CloseCode::Replaced));
    lab.core.handle_closed(NOW, first, CloseReason::Local(CloseCode::Replaced), None);
    lab.core.handle_timeout(NOW + Duration::from_secs(60));
    assert_eq!(lab.open_of(2), Some(second));
    lab.check();
}

#[test]
fn a_hello_on_a_connection_that_is_being_closed_changes_nothing() {
    let mut lab = Lab::new(|_| {});
    let incumbent = lab.accept(2);
    lab.greet(incumbent, 2);
    let banned = lab.accept(2);
    lab.core.close(banned, CloseCode::Banned);
    lab.actions();
    assert!(lab.greet(banned, 2).is_empty());
    assert_eq!(lab.open_of(2), Some(incumbent));
}

/// Has a peer come in that says where it listens, and returns the feeler that is sent there.
fn feeler(lab: &mut Lab) -> (ConnectionId, SocketAddr) {
    let inbound = lab.accept(2);
    let mut hello = lab.hello(2);
    hello.listen_port = std::num::NonZeroU16::new(8338);
    lab.core.handle_hello(NOW, inbound, hello);
    let dialled = lab.actions().into_iter().find_map(|action| match action {
        Action::Dial { connection, addr } => Some((connection, addr.socket_addr().unwrap())),
        _ => None,
    });
    dialled.expect("whoever dials us is checked at the address it names")
}

#[test]
fn a_feeler_to_a_connected_peer_ends_before_any_hello() {
    let mut lab = Lab::new(|_| {});
    let (feeler, addr) = feeler(&mut lab);
    let pruned = CloseReason::Local(CloseCode::Pruned);
    assert_eq!(lab.secure(feeler, addr, 2), Err(pruned));
    lab.core.handle_closed(NOW, feeler, pruned, None);
    let known = lab.core.known();
    assert_eq!(known.iter().find(|known| known.addr == addr).unwrap().peer, Some(lab.peer(2)));
}

#[test]
fn a_feeler_that_meets_another_network_leaves_nothing_behind() {
    let mut lab = Lab::new(|_| {});
    let (feeler, addr) = feeler(&mut lab);
    lab.secure(feeler, addr, 3).unwrap();
    let mut hello = lab.hello(3);
    hello.network = Some(Text::cut("testnet"));
    lab.core.handle_hello(NOW, feeler, hello);
    assert!(refuses(&lab.actions(), feeler, CloseCode::Network));
    lab.core.handle_closed(NOW, feeler, CloseReason::Local(CloseCode::Network), None);
    assert!(lab.core.known().iter().all(|known| known.addr != addr));
}

#[test]
fn a_full_node_refuses_strangers_but_keeps_slots_for_its_own_dials() {
    let mut lab = Lab::new(|config| config.max_connections = 4);
    for node in [2, 3] {
        let connection = lab.accept(node);
        assert!(admits(&lab.greet(connection, node), connection));
    }
    // Nobody can be let go, so a stranger is spared the handshake; who is known by its IP may be coming back.
    let stranger = SocketAddr::from(([8, 8, 4, 1], 50_000));
    assert_eq!(lab.core.handle_accept(NOW, stranger).err(), Some(CloseCode::Full));
    let back = lab.accept(3);
    assert!(!refuses(&lab.greet(back, 3), back, CloseCode::Full));
    let other = SocketAddr::from(([8, 8, 3, 1], 50_001));
    let other = lab.core.handle_accept(NOW, other).unwrap();
    lab.secure(other, SocketAddr::from(([8, 8, 3, 1], 50_001)), 4).unwrap();
    assert!(refuses(&lab.greet(other, 4), other, CloseCode::Full));
    let wanted = lab.dial(5);
    assert!(admits(&lab.greet(wanted, 5), wanted));
}

#[test]
fn inbound_limits_count_ips_subnets_and_handshakes() {
    let mut lab = Lab::new(|_| {});
    let mut accept = |last: u8| {
        let remote = SocketAddr::from(([8, 8, 8, last], 50_000));
        let id = lab.core.handle_accept(NOW, remote)?;
        Ok::<_, CloseCode>((id, remote))
    };
    let (first, remote) = accept(1).unwrap();
    accept(1).unwrap();
    assert_eq!(accept(1).err(), Some(CloseCode::Full), "two handshakes an IP");
    for last in 2..6 {
        accept(last).unwrap();
        accept(last).unwrap();
    }
    assert_eq!(accept(6).err(), Some(CloseCode::Full), "ten connections a /24");
    lab.core.handle_closed(NOW, first, CloseReason::Ended, None);
    lab.core.handle_accept(NOW, remote).unwrap();
}

#[test]
fn whom_the_operator_named_is_no_stranger() {
    let seed: PeerAddr = "8.8.8.8:8338".parse().unwrap();
    let mut lab = Lab::new(|config| config.discovery.seeds.push(seed));
    for port in 0..5 {
        lab.core.handle_accept(NOW, SocketAddr::from(([8, 8, 8, 8], 50_000 + port))).unwrap();
    }
}

#[test]
fn a_verdict_after_the_peer_left_costs_it_the_same() {
    let mut lab = Lab::new(|_| {});
    let connection = lab.accept(2);
    lab.greet(connection, 2);
    lab.core.handle_closed(NOW, connection, CloseReason::Ended, None);
    let peer = lab.peer(2);
    lab.core.handle_judged(NOW, peer, Offence::InvalidBlock, "block 7");
    let bans = lab.core.parts().0.bans(NOW);
    assert_eq!(bans.len(), 2, "its IP and its identity: {bans:?}");
    let remote = SocketAddr::from(([8, 8, 2, 1], 1));
    assert_eq!(lab.core.handle_accept(NOW, remote), Err(CloseCode::Banned));
}

#[test]
fn a_ban_closes_what_it_matches_and_keeps_the_identity_out_from_elsewhere() {
    let mut lab = Lab::new(|_| {});
    let connection = lab.accept(2);
    lab.greet(connection, 2);
    let peer = lab.peer(2);
    lab.core.ban(NOW, peer.into(), None, "operator").unwrap();
    let closes = |action: &Action| matches!(action, Action::Close { code: CloseCode::Banned, .. });
    assert!(lab.actions().iter().any(closes));
    let remote = SocketAddr::from(([9, 9, 9, 9], 50_000));
    let again = lab.core.handle_accept(NOW, remote).unwrap();
    lab.secure(again, remote, 2).unwrap();
    assert!(refuses(&lab.greet(again, 2), again, CloseCode::Banned), "it is told when its hello is in");
    lab.core.parts().0.allow(Subject::of_ip(remote.ip()));
    let allowed = lab.core.handle_accept(NOW, remote).unwrap();
    lab.secure(allowed, remote, 2).unwrap();
    assert!(admits(&lab.greet(allowed, 2), allowed), "the allow-list goes before bans");
}

#[test]
fn an_address_of_a_banned_identity_is_not_dialled_while_the_ban_lasts() {
    let mut lab = Lab::new(|_| {});
    let had = lab.dial(2);
    lab.greet(had, 2);
    lab.core.handle_closed(NOW, had, CloseReason::Ended, None);
    let (peer, hour) = (lab.peer(2), Duration::from_secs(3600));
    lab.core.ban(NOW, peer.into(), Some(hour), "operator").unwrap();
    lab.actions();
    let mut dials = |from: Duration, to: Duration| {
        let mut dials = 0;
        for second in (from.as_secs()..to.as_secs()).step_by(30) {
            lab.core.handle_timeout(NOW + Duration::from_secs(second));
            dials += lab.actions().iter().filter(|action| matches!(action, Action::Dial { .. })).count();
        }
        dials
    };
    assert_eq!(dials(Duration::ZERO, hour), 0);
    assert_eq!(dials(hour, hour * 2), 1, "it is tried again, and that dial never ends");
}

#[test]
fn ourselves_and_other_keys_than_the_pinned_are_turned_away_after_tls() {
    let mut lab = Lab::new(|_| {});
    let remote: SocketAddr = "9.9.9.9:8338".parse().unwrap();
    let own = lab.connect(remote.into());
    assert_eq!(lab.secure(own, remote, 0), Err(CloseReason::Local(CloseCode::SelfConnection)));
    let pinned = PeerAddr { pin: Some(lab.peer(3)), ..remote.into() };
    let other = lab.connect(pinned);
    let expected = CloseReason::Handshake(HandshakeFailure::Pin);
    assert_eq!(lab.secure(other, remote, 2), Err(expected));
}

#[test]
fn an_address_where_another_than_the_pinned_is_connected_is_no_answer() {
    let mut lab = Lab::new(|_| {});
    let there = lab.dial(2);
    lab.greet(there, 2);
    let remote = SocketAddr::from(([9, 2, 9, 1], 8338));
    let pinned = |peer| PeerAddr { pin: Some(peer), ..remote.into() };
    let (right, wrong) = (lab.peer(2), lab.peer(3));
    assert_eq!(lab.core.connect(NOW, remote.into()), Ok(Wanted::Connected(right)));
    assert_eq!(lab.core.connect(NOW, pinned(right)), Ok(Wanted::Connected(right)));
    let pin = CloseReason::Handshake(HandshakeFailure::Pin);
    assert_eq!(lab.core.connect(NOW, pinned(wrong)), Err(pin));
    assert_eq!(lab.unreached(), [(pinned(wrong).to_string(), pin)]);
    // Where the pinned one is connected elsewhere, that is what was wanted.
    let elsewhere = lab.accept(3);
    lab.greet(elsewhere, 3);
    assert_eq!(lab.core.connect(NOW, pinned(wrong)), Ok(Wanted::Connected(wrong)));
}

#[test]
fn a_named_peer_that_cannot_be_had_is_told_once_for_each_cause_until_it_is() {
    let seed: PeerAddr = "seed.example:8338".parse().unwrap();
    let mut lab = Lab::new(|config| config.discovery.seeds.push(seed));
    let resolve = CloseReason::Handshake(HandshakeFailure::Resolve);
    lab.core.handle_resolved(NOW, "seed.example", 8338, &[]);
    assert_eq!(lab.unreached(), [("seed.example:8338".to_owned(), resolve)]);
    let mut last = None;
    for round in 1..=3 {
        lab.now = NOW + Duration::from_secs(round * 3600);
        lab.core.handle_resolved(lab.now, "seed.example", 8338, &[]);
        assert_eq!(lab.unreached(), [], "told already");
        last = Some(lab.now);
    }
    lab.now = last.unwrap() + Duration::from_secs(3600);
    let remote = SocketAddr::from(([9, 2, 9, 1], 8338));
    let refused = CloseReason::Handshake(HandshakeFailure::Dial(std::io::ErrorKind::ConnectionRefused));
    lab.core.handle_resolved(lab.now, "seed.example", 8338, &[remote.ip()]);
    let mut told = Vec::new();
    for _ in 0..3 {
        let actions = lab.actions();
        let dialled = actions.iter().find_map(|action| match action {
            Action::Dial { connection, .. } => Some(*connection),
            _ => None,
        });
        lab.core.handle_closed(lab.now, dialled.expect("the seed is dialled"), refused, None);
        told.extend(lab.unreached());
        lab.now = lab.now + Duration::from_secs(3600);
        lab.core.handle_timeout(lab.now);
    }
    assert_eq!(told, [("seed.example:8338".to_owned(), refused)]);
}

#[test]
fn a_wrong_pin_in_the_configuration_is_told_once_however_often_it_is_dialled() {
    let remote = SocketAddr::from(([9, 2, 9, 1], 8338));
    let pin = PeerId::from_spki_der(b"nobody");
    let named = PeerAddr { pin: Some(pin), ..remote.into() };
    let mut lab = Lab::new(|config| config.discovery.connect.push(named.clone()));
    let reason = CloseReason::Handshake(HandshakeFailure::Pin);
    let (mut dials, mut told) = (0, Vec::new());
    for minute in 0..60 {
        lab.now = NOW + Duration::from_secs(60 * minute);
        lab.core.handle_timeout(lab.now);
        for action in lab.actions() {
            let Action::Dial { connection, .. } = action else { continue };
            dials += 1;
            assert_eq!(lab.secure(connection, remote, 2), Err(reason));
            lab.core.handle_closed(lab.now, connection, reason, None);
        }
        told.extend(lab.unreached());
    }
    assert!(dials > 3, "{dials}");
    assert_eq!(told, [(named.to_string(), reason)]);
    assert!(lab.core.parts().0.bans(lab.now).is_empty(), "and nobody is banned for it");
}

#[test]
fn strangers_and_ordinary_ends_are_not_told_and_a_success_starts_anew() {
    let mut lab = Lab::new(|_| {});
    let tls = CloseReason::Handshake(HandshakeFailure::Tls);
    let stranger = lab.core.handle_accept(NOW, SocketAddr::from(([8, 8, 8, 8], 50_000))).unwrap();
    lab.core.handle_closed(NOW, stranger, tls, None);
    for ordinary in [CloseReason::Remote(CloseCode::Full), CloseReason::Local(CloseCode::Shutdown)] {
        let dialled = lab.dial(2);
        lab.core.handle_closed(NOW, dialled, ordinary, None);
    }
    assert_eq!(lab.unreached(), []);
    let genesis = CloseReason::Remote(CloseCode::Genesis);
    let mut told = || {
        let dialled = lab.dial(2);
        lab.core.handle_closed(NOW, dialled, genesis, None);
        let told = lab.unreached().len();
        let had = lab.dial(2);
        lab.greet(had, 2);
        lab.core.handle_closed(NOW, had, CloseReason::Ended, None);
        told
    };
    assert_eq!((told(), told()), (1, 1));
}

#[test]
fn five_faults_of_the_remote_in_ten_minutes_ban_it_and_refusals_of_ours_do_not() {
    let mut lab = Lab::new(|_| {});
    for _ in 0..20 {
        assert_eq!(lab.refusal(2, |hello| hello.network = Some(Text::cut("x"))), Some(CloseCode::Network));
    }
    for _ in 0..5 {
        let dialled = lab.dial(3);
        lab.core.handle_closed(NOW, dialled, CloseReason::Local(CloseCode::Protocol), None);
    }
    assert!(lab.core.parts().0.bans(NOW).is_empty(), "and our own dials are no attempts of theirs");
    let remote = SocketAddr::from(([8, 8, 8, 8], 50_000));
    for _ in 0..5 {
        let connection = lab.core.handle_accept(NOW, remote).unwrap();
        let reason = CloseReason::Handshake(HandshakeFailure::Tls);
        lab.core.handle_closed(NOW, connection, reason, Some(Offence::BadTls));
    }
    assert_eq!(lab.core.handle_accept(NOW, remote), Err(CloseCode::Banned));
}

#[test]
fn a_stopping_core_dials_nobody() {
    let seed: PeerAddr = "8.8.8.8:8338".parse().unwrap();
    let mut lab = Lab::new(|config| config.discovery.seeds.push(seed));
    let dials = |actions: Vec<Action>| {
        actions.into_iter().find_map(|action| match action {
            Action::Dial { connection, .. } => Some(connection),
            _ => None,
        })
    };
    let first = dials(lab.actions()).expect("the seed is dialled");
    assert!(lab.core.stop(NOW).iter().any(|(file, _)| *file == StateFile::Peers));
    lab.core.handle_closed(NOW, first, CloseReason::Local(CloseCode::Shutdown), None);
    lab.core.handle_timeout(NOW + Duration::from_secs(600));
    assert_eq!(dials(lab.actions()), None);
}

/// A node with three inbound slots, all taken a minute ago by peers 2, 3 and 4.
fn full_lab() -> Lab {
    let mut lab = Lab::new(|config| {
        config.max_connections = 3;
        config.discovery.outbound_wanted = 0;
    });
    for node in 2..5 {
        let connection = lab.accept(node);
        assert!(admits(&lab.greet(connection, node), connection));
    }
    lab.now = NOW + Duration::from_secs(60);
    lab
}

#[test]
fn a_newcomer_gets_the_place_of_whom_experience_speaks_against() {
    let mut lab = full_lab();
    let remote = SocketAddr::from(([8, 8, 5, 1], 50_000));
    assert_eq!(lab.core.handle_accept(lab.now, remote), Err(CloseCode::Full), "of few strangers nobody goes");
    let bad = lab.open_of(3).unwrap();
    lab.core.handle_report(lab.now, bad, Offence::Protocol, "a frame of length 0");
    lab.actions();
    let newcomer = lab.accept(5);
    let actions = lab.greet(newcomer, 5);
    let pruned = |action: &Action| matches!(action, Action::Close { connection, code: CloseCode::Pruned } if *connection == bad);
    assert!(actions.iter().any(pruned), "{actions:?}");
    assert!(admits(&actions, newcomer));
    let (peer, now) = (lab.peer(3), lab.now);
    let explained = lab.core.explain(now, peer.into());
    let evicted = explained.decisions.iter().find(|decision| decision.kind == DecisionKind::Evicted).unwrap();
    assert!(evicted.evidence.contains("a standing of -20"), "{explained:?}");
}

#[test]
fn who_does_nothing_useful_makes_room_if_there_are_enough_others() {
    let mut lab = Lab::new(|config| config.discovery.outbound_wanted = 2);
    let connections: Vec<_> = (2..5)
        .map(|node| {
            let connection = lab.accept(node);
            assert!(admits(&lab.greet(connection, node), connection));
            connection
        })
        .collect();
    let pruned = |lab: &mut Lab, idle| {
        lab.core.handle_idle(NOW, idle);
        lab.actions().iter().any(|action| {
            matches!(action, Action::Close { connection, code: CloseCode::Idle } if *connection == idle)
        })
    };
    assert!(pruned(&mut lab, connections[0]));
    lab.core.handle_closed(NOW, connections[0], CloseReason::Local(CloseCode::Idle), None);
    assert!(!pruned(&mut lab, connections[1]), "two are as many as are wanted");
}

#[test]
fn nobody_makes_room_for_what_a_neighbour_did() {
    let mut lab = full_lab();
    let (now, neighbour) = (lab.now, std::net::IpAddr::from([8, 8, 200, 1]));
    lab.core.parts().0.report(now, neighbour, None, Offence::InvalidBlock, "block 7");
    let group = lab.core.parts().0.group_score(now, std::net::IpAddr::from([8, 8, 2, 1]));
    assert!(group < -20, "the group has a bad name: {group}");
    let remote = SocketAddr::from(([9, 9, 9, 9], 50_000));
    assert_eq!(lab.core.handle_accept(now, remote), Err(CloseCode::Full));
}

#[test]
fn deeds_raise_a_standing_that_discovery_and_the_next_connection_hear_of() {
    let mut lab = Lab::new(|_| {});
    let connection = lab.accept(2);
    lab.greet(connection, 2);
    let peer = lab.peer(2);
    lab.core.handle_deed(NOW, peer, Deed::Block);
    assert_eq!(lab.core.score(NOW, &peer), 10);
    assert_eq!(lab.core.view.standings[&peer], 10);
    lab.core.handle_closed(NOW, connection, CloseReason::Ended, None);
    let again = lab.accept(2);
    let standing = lab.greet(again, 2).into_iter().find_map(|action| match action {
        Action::Admit { standing, .. } => Some(standing),
        _ => None,
    });
    assert_eq!(standing, Some(13), "its own and a quarter for its group");
}

#[test]
fn everything_decided_about_someone_is_explained_with_rule_evidence_and_end() {
    let mut lab = Lab::new(|_| {});
    let connection = lab.accept(2);
    lab.greet(connection, 2);
    for block in 1..=5 {
        lab.core.handle_report(NOW, connection, Offence::Protocol, &format!("message {block}"));
    }
    lab.core.handle_closed(NOW, connection, CloseReason::Local(CloseCode::Banned), None);
    let remote = SocketAddr::from(([8, 8, 2, 1], 50_001));
    assert_eq!(lab.core.handle_accept(NOW, remote), Err(CloseCode::Banned));
    for subject in [Subject::of_ip(remote.ip()), lab.peer(2).into()] {
        let told = lab.core.explain(NOW, subject);
        assert_eq!((told.bans.len(), told.connected, told.allowed), (1, false, false));
        assert_eq!(told.bans[0].evidence, "message 5");
        let kinds: Vec<_> = told.decisions.iter().map(|decision| decision.kind).collect();
        for kind in [DecisionKind::Charged, DecisionKind::Banned, DecisionKind::Closed] {
            assert!(kinds.contains(&kind), "{subject}: {kinds:?}");
        }
        let charged = told.decisions.iter().find(|decision| decision.kind == DecisionKind::Charged).unwrap();
        assert_eq!((charged.times, &*charged.rule, &*charged.evidence), (5, "protocol", "message 5"));
        let banned = told.decisions.iter().find(|decision| decision.kind == DecisionKind::Banned).unwrap();
        assert_eq!(banned.until, Some(told.bans[0].until));
    }
    assert!(lab.core.explain(NOW, "8.8.3.1".parse().unwrap()).decisions.is_empty());
    lab.core.unban(NOW, &Subject::of_ip(remote.ip()));
    let lifted = &lab.core.explain(NOW, Subject::of_ip(remote.ip())).decisions;
    assert!(
        lifted.iter().any(|decision| decision.kind == DecisionKind::Unbanned && decision.rule == "lifted")
    );
    let reasoned = |decision: &crate::Decision| !decision.rule.is_empty() && !decision.evidence.is_empty();
    assert!(lab.core.decisions().iter().all(reasoned), "{:#?}", lab.core.decisions());
}

#[test]
fn a_peer_is_asked_for_addresses_no_faster_than_it_says() {
    for (told, most) in [(Some(1), 0), (Some(2), 7), (Some(100), 100), (None, 100)] {
        let mut lab = Lab::new(|_| {});
        let connection = lab.dial(2);
        let mut hello = lab.hello(2);
        hello.limits = told.map(|requests_per_minute| bt2c_proto::Limits {
            requests_per_minute,
            ..bt2c_security::SecurityConfig::default().told_limits()
        });
        lab.core.handle_hello(NOW, connection, hello);
        let mut asked = Vec::new();
        for second in 0..600 {
            let now = NOW + Duration::from_secs(second);
            lab.core.handle_timeout(now);
            let asks = |action: &Action| matches!(action, Action::Send { message: Message::GetPeers(_), .. });
            asked.extend(lab.actions().iter().filter(|action| asks(action)).map(|_| now));
        }
        assert!(asked.len() <= most, "{told:?}: {}", asked.len());
        assert_eq!(asked.is_empty(), most == 0, "{told:?}");
        let every = Duration::from_millis(180_000 / told.unwrap_or(100));
        assert!(asked.windows(2).all(|pair| pair[1].since(pair[0]) >= every), "{told:?}: {asked:?}");
    }
}

/// Connections from these addresses: how many are let in and how many are over a limit of rate; each is gone at once.
fn knock(lab: &mut Lab, ips: impl IntoIterator<Item = [u8; 4]>) -> (usize, usize) {
    let (mut admitted, mut over) = (0, 0);
    for ip in ips {
        match lab.core.handle_accept(lab.now, SocketAddr::from((ip, 50_000))) {
            Ok(connection) => {
                admitted += 1;
                lab.core.handle_closed(lab.now, connection, CloseReason::Ended, None);
            }
            Err(CloseCode::Rate) => over += 1,
            Err(code) => panic!("{code}"),
        }
    }
    (admitted, over)
}

#[test]
fn handshakes_above_the_budget_of_a_netgroup_are_refused_without_an_offence() {
    let mut lab = Lab::new(|_| {});
    let one_slash16 = (0..200).map(|host| [9, 1, host, 1]);
    assert_eq!(knock(&mut lab, one_slash16), (50, 150));
    assert_eq!(knock(&mut lab, [[9, 2, 1, 1]]), (1, 0), "another netgroup");
    assert!(lab.actions().iter().all(|action| !matches!(action, Action::Charged(_) | Action::Banned(_))));
    lab.now = lab.now + Duration::from_secs(1);
    assert_eq!(knock(&mut lab, (0..200).map(|host| [9, 1, 1, host])), (10, 190));
}

#[test]
fn handshakes_above_the_budget_of_the_node_are_refused_but_to_those_the_operator_named() {
    let named = [7, 7, 7, 7];
    let mut lab = Lab::new(|config| {
        config.discovery.connect = vec![SocketAddr::from((named, 8338)).into()];
        config.security.allow = vec!["6.6.0.0/16".parse().unwrap()];
    });
    let far_and_wide = (0..=255).flat_map(|high| [[9, high, 1, 1], [11, high, 1, 1]]);
    assert_eq!(knock(&mut lab, far_and_wide), (400, 112));
    assert_eq!(knock(&mut lab, [named; 60]), (60, 0));
    assert_eq!(knock(&mut lab, (0..60).map(|host| [6, 6, 6, host])), (60, 0));
}

#[test]
fn handshakes_of_a_private_network_have_no_budget_of_a_group_off_mainnet() {
    let mut lab = Lab::new(|config| {
        config.network = Network::Devnet;
        config.discovery.network = Network::Devnet;
    });
    assert_eq!(knock(&mut lab, (0..200).map(|host| [10, 0, 0, host])), (200, 0));
}

#[test]
fn who_is_refused_for_want_of_a_slot_pays_for_no_handshake() {
    let mut lab = Lab::new(|_| {});
    let accept = |lab: &mut Lab, last: u8| {
        lab.core.handle_accept(lab.now, SocketAddr::from(([9, 1, 1, last], 50_000)))
    };
    for last in 0..10 {
        accept(&mut lab, last).unwrap();
    }
    for last in 10..210 {
        assert_eq!(accept(&mut lab, last), Err(CloseCode::Full));
    }
    assert_eq!(knock(&mut lab, (0..50).map(|host| [9, 1, 100 + host, 1])), (40, 10));
}

/// Inbound connections of one IP that end so; how many until it is banned.
fn until_banned(end: impl Fn(&mut Lab, ConnectionId)) -> Option<usize> {
    let mut lab = Lab::new(|_| {});
    let remote = SocketAddr::from(([8, 8, 1, 1], 50_000));
    (1..50).find(|_| {
        let connection = lab.core.handle_accept(lab.now, remote).unwrap();
        end(&mut lab, connection);
        lab.actions().iter().any(|action| matches!(action, Action::Banned(_)))
    })
}

#[test]
fn connections_that_never_finish_their_handshake_are_banned_after_more_than_twenty() {
    let tls = CloseReason::Handshake(HandshakeFailure::Timeout);
    let hello = CloseReason::Local(CloseCode::Timeout);
    for reason in [tls, hello] {
        let banned =
            until_banned(|lab, connection| lab.core.handle_closed(lab.now, connection, reason, None));
        assert_eq!(banned, Some(21), "{reason}");
    }
    // Six a minute are too many after a while, though they do not come at once.
    let often = until_banned(|lab, connection| {
        lab.now = lab.now + Duration::from_secs(10);
        lab.core.handle_closed(lab.now, connection, tls, None);
    });
    assert!(often.is_some_and(|count| count > 21), "{often:?}");
    // Once in a minute a line may break, for ever; and a lost connection is nobody's fault.
    let rare = until_banned(|lab, connection| {
        lab.now = lab.now + Duration::from_secs(60);
        lab.core.handle_closed(lab.now, connection, tls, None);
    });
    assert_eq!(rare, None);
    let lost =
        |lab: &mut Lab, connection| lab.core.handle_closed(lab.now, connection, CloseReason::Ended, None);
    assert_eq!(until_banned(lost), None);
}

#[test]
fn a_peer_that_falls_silent_later_and_a_dial_of_ours_are_no_unfinished_handshakes() {
    let mut lab = Lab::new(|_| {});
    for _ in 0..50 {
        lab.now = lab.now + Duration::from_secs(1);
        let connection = lab.accept(2);
        lab.greet(connection, 2);
        lab.core.handle_closed(lab.now, connection, CloseReason::Local(CloseCode::Timeout), None);
        let dialled = lab.dial(3);
        let timeout = CloseReason::Handshake(HandshakeFailure::Timeout);
        lab.core.handle_closed(lab.now, dialled, timeout, None);
    }
    assert!(lab.actions().iter().all(|action| !matches!(action, Action::Banned(_))));
}

#[test]
fn a_stale_certificate_of_a_known_peer_is_let_in_with_a_warning_and_a_strangers_is_refused() {
    let mut lab = Lab::new(|_| {});
    let connection = lab.accept(2);
    lab.greet(connection, 2);
    lab.core.handle_closed(lab.now, connection, CloseReason::Ended, None);
    lab.now = lab.now + Duration::from_secs(400 * 24 * 60 * 60);
    let warnings = |lab: &mut Lab| -> Vec<PeerId> {
        let stale = lab.actions().into_iter().filter_map(|action| match action {
            Action::StaleCertificate { peer, error: CertificateError::Expired { .. } } => Some(peer),
            _ => None,
        });
        stale.collect()
    };
    let known = lab.peer(2);
    let comes_back = |lab: &mut Lab| {
        let connection = lab.accept(2);
        lab.core.handle_closed(lab.now, connection, CloseReason::Ended, None);
    };
    comes_back(&mut lab);
    comes_back(&mut lab);
    assert_eq!(warnings(&mut lab), [known], "once, however often it comes");
    lab.now = lab.now + Duration::from_secs(60);
    comes_back(&mut lab);
    assert_eq!(warnings(&mut lab), [known], "a minute later");
    let remote = SocketAddr::from(([8, 8, 3, 1], 50_000));
    let stranger = lab.core.handle_accept(lab.now, remote).unwrap();
    let dates = CloseReason::Handshake(HandshakeFailure::Dates);
    assert_eq!(lab.secure(stranger, remote, 3), Err(dates));
    assert_eq!(warnings(&mut lab), []);
}

#[test]
fn a_clock_that_most_outbound_peers_contradict_is_told_once_an_hour_and_inbound_ones_do_not_count() {
    let mut lab = Lab::new(|_| {});
    let told = |lab: &mut Lab| {
        let told = lab.actions().into_iter().filter_map(|action| match action {
            Action::ClockOff { peers, ahead } => Some((peers, ahead)),
            _ => None,
        });
        told.collect::<Vec<_>>()
    };
    let up = |lab: &mut Lab, node: usize, outbound: bool, ahead: i64| {
        let connection = if outbound { lab.dial(node) } else { lab.accept(node) };
        lab.core.handle_clock(connection, ahead);
        let hello = lab.hello(node);
        lab.core.handle_hello(lab.now, connection, hello);
    };
    for node in 1..4 {
        up(&mut lab, node, false, 100_000);
    }
    up(&mut lab, 4, true, -700);
    up(&mut lab, 5, true, -700);
    assert_eq!(told(&mut lab), [], "two are no majority of anything");
    up(&mut lab, 6, true, 3);
    assert_eq!(told(&mut lab), [(3, -700)]);
    up(&mut lab, 7, true, -700);
    assert_eq!(told(&mut lab), [], "it was said");

    let mut lab = Lab::new(|_| {});
    for (node, ahead) in [(4, 599), (5, -100_000), (6, 600), (7, 100_000)] {
        up(&mut lab, node, true, ahead);
    }
    assert_eq!(told(&mut lab), [], "one liar on each side moves the median by little");
}

#[test]
fn who_cannot_be_banned_for_want_of_room_is_counted_and_kept_out_for_a_minute() {
    let mut lab = Lab::new(|config| config.security.max_bans = 1);
    let first = lab.accept(2);
    lab.greet(first, 2);
    lab.core.handle_report(NOW, first, Offence::InvalidBlock, "block 1");
    lab.actions();
    let second = lab.accept(3);
    lab.greet(second, 3);
    lab.core.handle_report(NOW, second, Offence::InvalidBlock, "block 2");
    let actions = lab.actions();
    assert!(actions.iter().any(|action| matches!(action, Action::BanMissed)));
    let closed = |action: &Action| matches!(action, Action::Close { connection, code: CloseCode::Banned } if *connection == second);
    assert!(actions.iter().any(closed), "{actions:?}");
    let remote = SocketAddr::from(([8, 8, 3, 1], 50_001));
    assert_eq!(lab.core.handle_accept(NOW + Duration::from_secs(59), remote), Err(CloseCode::Rate));
    assert!(lab.core.handle_accept(NOW + Duration::from_secs(60), remote).is_ok());
    assert_eq!(lab.core.parts().0.bans(NOW).len(), 1, "and the ban that is live stays");
}
