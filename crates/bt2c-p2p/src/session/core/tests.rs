use std::net::IpAddr;

use bt2c_proto::{
    Block, BlockHash, BlockHeader, Blocks, Cancel, FrameError, GetBlocks, GetPeers, HeaderContent, Headers,
    Height, NodeId, PeerId, Peers, Ping, Throttled, limits::HELLO_FRAME_LIMIT,
};
use bt2c_security::{SecurityConfig, SecurityManager};

use super::*;
use crate::{config::Tip, local::OwnChain};

const START: Time = Time::from_secs(1_712_352_000);
const CHAIN: OwnChain = OwnChain {
    tip: Tip { height: Height::new(7), hash: BlockHash::from_bytes([7; 32]) },
    first_block: Height::GENESIS,
};

fn genesis() -> Block {
    let content = HeaderContent {
        height: Height::GENESIS,
        timestamp: 1_712_352_000,
        previous_hash: BlockHash::from_bytes([0; 32]),
        merkle_root: bt2c_proto::merkle_root(&[]),
        validator: None,
    };
    Block { header: BlockHeader::new(content, bt2c_proto::Blob::default()), transactions: Vec::new() }
}

fn config() -> P2PConfig {
    P2PConfig::for_network(bt2c_proto::Network::Devnet, BlockHash::from_bytes([1; 32]))
}

fn core(config: &P2PConfig, direction: Direction) -> SessionCore {
    let peer_id = PeerId::from_spki_der(direction.name().as_bytes());
    let local = Local::new(config, peer_id, NodeId::derived_from(&peer_id), &[]);
    let ip = IpAddr::from([192, 0, 2, 1]);
    let incoming = SecurityManager::new(config.security.clone()).session_quota(START, ip, None);
    let consent = Consent { peer: peer_id, incoming, ping_secret: 7 };
    let deadline = START + config.connection_timeout;
    let remote = SocketAddr::new(ip, 8336);
    SessionCore::new(START, SessionConfig::new(config), Arc::new(local), direction, remote, consent, deadline)
}

/// Two cores back to back; hellos are always accepted, everything that is not sent to the other side is kept.
struct Pair {
    now: Time,
    sides: [SessionCore; 2],
    log: Vec<(usize, Action)>,
}

impl Pair {
    fn new(config: &P2PConfig) -> Self {
        let sides = [core(config, Direction::Outbound), core(config, Direction::Inbound)];
        let mut pair = Self { now: START, sides, log: Vec::new() };
        pair.sides.iter_mut().for_each(|side| side.start(START, CHAIN));
        pair.settle();
        pair
    }

    fn settle(&mut self) {
        for _ in 0..10_000 {
            let Some(side) = (0..2).find(|&side| self.act(side)) else { return };
            let _ = side;
        }
        panic!("the two do not come to rest");
    }

    /// Carries out one action of a side.
    fn act(&mut self, side: usize) -> bool {
        let Some(action) = self.sides[side].poll_action() else { return false };
        match action {
            Action::Send(frame) => self.transfer(side, &frame),
            Action::Judge(_) => self.sides[side].handle_verdict(self.now, Ok(()), CHAIN),
            other => self.log.push((side, other)),
        }
        true
    }

    fn transfer(&mut self, from: usize, frame: &Frame) {
        self.sides[from].handle_sent(frame.kind());
        let to = &mut self.sides[1 - from];
        if to.wants_bytes() {
            to.handle_bytes(self.now);
            to.handle_body(self.now, &frame.body());
        }
    }

    /// Side 0 sends a message that its core did not ask for.
    fn send(&mut self, message: &Message) {
        let sender: NodeId = self.sides[0].local.node_id.clone();
        let frame = Frame::encode(message, &sender, self.now).unwrap();
        self.transfer(0, &frame);
        self.settle();
    }

    fn send_raw(&mut self, body: &'static str) {
        self.sides[1].handle_body(self.now, &Bytes::from_static(body.as_bytes()));
        self.settle();
    }

    /// Jumps from deadline to deadline until `end`.
    fn run_until(&mut self, end: Time) {
        for _ in 0..10_000 {
            let next = self.sides.iter().filter_map(SessionCore::poll_timeout).min();
            let Some(next) = next.filter(|&next| next <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            for side in &mut self.sides {
                if side.poll_timeout().is_some_and(|at| at <= self.now) {
                    side.handle_timeout(self.now);
                }
            }
            self.settle();
        }
        panic!("time does not pass");
    }

    fn delivered(&self) -> usize {
        self.log.iter().filter(|(side, action)| *side == 1 && matches!(action, Action::Deliver(..))).count()
    }

    fn dropped(&self, cause: DropCause) -> usize {
        self.log
            .iter()
            .filter(|(_, action)| matches!(action, Action::Dropped(found) if *found == cause))
            .count()
    }

    fn closed(&self, side: usize) -> Option<CloseReason> {
        self.log.iter().find_map(|(at, action)| match action {
            Action::Close(reason, _) if *at == side => Some(*reason),
            _ => None,
        })
    }
}

fn get_blocks() -> Message {
    Message::GetBlocks(GetBlocks::range(Height::GENESIS, Height::new(9)))
}

#[test]
fn both_sides_open_and_measure_their_round_trips() {
    let mut pair = Pair::new(&config());
    assert!(pair.sides.iter().all(|side| side.phase == Phase::Open));
    pair.run_until(START + Duration::from_secs(300));
    assert!((0..2).all(|side| pair.closed(side).is_none()));
    let rtts = pair.log.iter().filter(|(_, action)| matches!(action, Action::Rtt(_))).count();
    assert!(rtts >= 2 * 9, "{rtts}");
}

#[test]
fn silence_ends_a_connection_after_its_timeout_and_not_before() {
    let mut alone = core(&config(), Direction::Outbound);
    alone.start(START, CHAIN);
    let hello = Message::Hello(Box::new(alone.local.hello(CHAIN, alone.remote)));
    let frame = alone.local.frame(&hello, START);
    alone.handle_body(START, &frame.body());
    alone.handle_verdict(START, Ok(()), CHAIN);
    alone.handle_timeout(START + Duration::from_secs(74));
    assert!(alone.phase != Phase::Closed);
    alone.handle_timeout(START + Duration::from_secs(75));
    assert_eq!(alone.phase, Phase::Closed);
}

#[test]
fn a_peer_that_says_no_hello_is_let_go() {
    let mut silent = core(&config(), Direction::Inbound);
    assert_eq!(silent.poll_timeout(), Some(START + Duration::from_secs(10)));
    silent.handle_timeout(START + Duration::from_secs(10));
    let closed = silent.poll_action();
    assert!(
        matches!(closed, Some(Action::Close(CloseReason::Local(CloseCode::Timeout), None))),
        "{closed:?}"
    );
}

#[test]
fn the_time_a_verdict_takes_is_not_the_peers() {
    let mut held = core(&config(), Direction::Inbound);
    let hello = Message::Hello(Box::new(held.local.hello(CHAIN, held.remote)));
    let late = START + Duration::from_secs(9);
    held.handle_body(late, &held.local.frame(&hello, START).body());
    held.handle_timeout(late + Duration::from_secs(9));
    held.handle_verdict(late + Duration::from_secs(9), Ok(()), CHAIN);
    assert_eq!(held.phase, Phase::Open);
}

#[test]
fn requests_before_hello_and_second_hellos_are_violations() {
    let mut early = core(&config(), Direction::Inbound);
    early.handle_body(START, &early.local.frame(&get_blocks(), START).body());
    assert!(matches!(early.poll_action(), Some(Action::Report(Offence::Protocol, _))));
    assert!(matches!(
        early.poll_action(),
        Some(Action::Close(CloseReason::Local(CloseCode::Protocol), None))
    ));

    let mut pair = Pair::new(&config());
    let hello = pair.sides[0].local.hello(CHAIN, pair.sides[0].remote);
    pair.send(&Message::Hello(Box::new(hello)));
    assert_eq!(pair.closed(1), Some(CloseReason::Local(CloseCode::Protocol)));
}

#[test]
fn malformed_bodies_are_violations_and_unknown_types_are_not() {
    for body in ["nonsense", "[]", "{\"type\":\"ping\"}", "{\"type\":\"ping\",\"data\":{\"timestamp\":-1}}"] {
        let mut pair = Pair::new(&config());
        pair.send_raw(body);
        assert_eq!(pair.closed(1), Some(CloseReason::Local(CloseCode::Protocol)), "{body}");
    }
    let mut pair = Pair::new(&config());
    pair.send_raw("{\"type\":\"from_the_future\",\"data\":{}}");
    assert_eq!((pair.closed(1), pair.dropped(DropCause::UnknownType)), (None, 1));
}

#[test]
fn a_frame_error_ends_the_connection_and_tells_why() {
    let mut pair = Pair::new(&config());
    pair.sides[1].handle_frame_error(START, &FrameError::TooLong { len: 1 << 30, limit: HELLO_FRAME_LIMIT });
    pair.settle();
    let last = pair.log.iter().rev().find_map(|(_, action)| match action {
        Action::Close(_, last) => last.as_ref(),
        _ => None,
    });
    assert_eq!(last.map(Frame::kind), Some(MessageKind::Disconnect));
}

#[test]
fn answers_to_nothing_are_counted_and_go_no_further() {
    let mut pair = Pair::new(&config());
    pair.send(&Message::Peers(Peers { peers: Vec::new() }));
    pair.send(&Message::Pong(Ping { timestamp: 1 }));
    assert_eq!((pair.dropped(DropCause::Unasked), pair.delivered()), (2, 0));
    pair.sides[1].handle_sent(MessageKind::GetPeers);
    pair.send(&Message::Peers(Peers { peers: Vec::new() }));
    assert_eq!(pair.delivered(), 1);
    assert!(pair.closed(1).is_none());
}

#[test]
fn requests_over_the_limit_are_delayed_told_and_served_in_time() {
    let mut pair = Pair::new(&config());
    for _ in 0..110 {
        pair.send(&get_blocks());
    }
    assert_eq!(pair.delivered(), 100, "the bucket holds a hundred");
    assert!(pair.closed(1).is_none());
    pair.run_until(START + Duration::from_secs(7));
    assert_eq!(pair.delivered(), 110, "ten more in six seconds");
}

#[test]
fn pushes_above_the_limits_are_dropped_before_they_are_parsed() {
    let mut limited = config();
    limited.security.push_bytes_burst = std::num::NonZeroU32::MIN;
    let mut pair = Pair::new(&limited);
    for body in
        [r#"{"type":"new_transaction","data":{"is":"none"}}"#, r#"{"type":"new_block","data":{"is":"none"}}"#]
    {
        pair.send_raw(body);
    }
    assert_eq!((pair.closed(1), pair.dropped(DropCause::PushLimit), pair.delivered()), (None, 2, 0));
}

#[test]
fn a_flood_of_requests_is_closed_with_its_price() {
    let mut pair = Pair::new(&config());
    for _ in 0..300 {
        pair.send(&Message::GetPeers(GetPeers { count: 1 }));
    }
    assert_eq!(pair.closed(1), Some(CloseReason::Local(CloseCode::Rate)));
    assert!(pair.log.iter().any(|(_, action)| matches!(action, Action::Report(Offence::RequestExcess, _))));
}

#[test]
fn excess_pings_are_dropped_and_cost_nothing() {
    let mut pair = Pair::new(&config());
    for timestamp in 0..10 {
        pair.send(&Message::Ping(Ping { timestamp }));
    }
    assert_eq!(pair.dropped(DropCause::PingLimit), 9);
    assert!(pair.closed(1).is_none());
}

#[test]
fn a_peer_that_sends_too_much_of_no_use_is_read_ever_more_slowly_and_not_blamed() {
    let mut pair = Pair::new(&config());
    let flood = |pair: &mut Pair, count: u64| {
        let before = pair.dropped(DropCause::PingLimit);
        (0..count).for_each(|timestamp| pair.send(&Message::Ping(Ping { timestamp })));
        pair.dropped(DropCause::PingLimit) - before
    };
    assert_eq!(flood(&mut pair, 1000), 201, "and then nothing is read");
    assert!(!pair.sides[1].wants_bytes());
    let mut read = 0;
    for _ in 0..100 {
        pair.run_until(pair.now + Duration::from_millis(100));
        read += flood(&mut pair, 50);
    }
    assert!((190..=205).contains(&read), "20 a second: {read}");
    pair.run_until(pair.now + Duration::from_secs(100));
    assert!(pair.closed(1).is_none(), "what we do not read is no silence");
    assert!(!pair.log.iter().any(|(_, action)| matches!(action, Action::Report(..))));
    assert!(flood(&mut pair, 1000) >= 200, "all is forgotten");
}

fn rtts(pair: &Pair, side: usize) -> usize {
    pair.log.iter().filter(|(at, action)| *at == side && matches!(action, Action::Rtt(_))).count()
}

#[test]
fn pings_go_out_within_the_interval_and_not_like_clockwork() {
    let mut pair = Pair::new(&config());
    let mut gaps = std::collections::BTreeSet::new();
    let mut last = pair.sides[1].last_ping;
    for _ in 0..2000 {
        pair.run_until(pair.now + Duration::from_secs(1));
        let ping = pair.sides[1].last_ping;
        if ping != last {
            gaps.insert(ping.since(last));
            last = ping;
        }
    }
    let (least, most) = (*gaps.first().unwrap(), *gaps.last().unwrap());
    assert!(
        least >= Duration::from_millis(22_500) && most <= Duration::from_secs(30),
        "{least:?} to {most:?}"
    );
    assert!(gaps.len() > 40, "{} different gaps", gaps.len());
    assert!(rtts(&pair, 1) > 60);
}

#[test]
fn the_round_trips_of_a_peer_that_sent_a_pong_unasked_count_no_more() {
    let mut pair = Pair::new(&config());
    pair.run_until(START + Duration::from_secs(60));
    let before = rtts(&pair, 1);
    assert!(before > 0);
    pair.send(&Message::Pong(Ping { timestamp: (START + Duration::from_secs(80)).as_secs() }));
    pair.run_until(START + Duration::from_secs(600));
    assert_eq!(rtts(&pair, 1), before);
    assert!(rtts(&pair, 0) > 10, "the other side measures on");
    assert!(pair.closed(1).is_none(), "and nobody is blamed");
}

#[test]
fn throttled_is_passed_on_only_to_who_asked() {
    let throttled = |kind: &str| {
        Message::Throttled(Throttled { kind: kind.parse().unwrap(), request_id: None, retry_after_ms: 9 })
    };
    let mut pair = Pair::new(&config());
    pair.send(&throttled("get_blocks"));
    assert_eq!((pair.delivered(), pair.dropped(DropCause::Unasked)), (0, 1));
    pair.sides[1].handle_sent(MessageKind::GetBlocks);
    pair.send(&throttled("get_peers"));
    pair.send(&throttled("get_blocks"));
    assert_eq!((pair.delivered(), pair.dropped(DropCause::Unasked)), (1, 2));
    pair.send(&throttled("get_blocks"));
    assert_eq!((pair.delivered(), pair.dropped(DropCause::Unasked)), (1, 3), "once for a question");
}

#[test]
fn a_stream_keeps_its_answers_open_until_it_is_done() {
    let part = |done| {
        Message::Blocks(Blocks {
            blocks: if done { Vec::new() } else { vec![genesis()] },
            request_id: Some(7),
            done,
        })
    };
    let mut pair = Pair::new(&config());
    pair.send(&part(false));
    assert_eq!((pair.delivered(), pair.dropped(DropCause::Unasked)), (0, 1), "nobody asked");
    pair.sides[1].handle_sent(MessageKind::GetBlocks);
    for _ in 0..300 {
        pair.send(&part(false));
    }
    pair.send(&part(true));
    assert_eq!((pair.delivered(), pair.dropped(DropCause::Unasked)), (301, 1));
    pair.send(&part(true));
    assert_eq!((pair.delivered(), pair.dropped(DropCause::Unasked)), (301, 2), "it is over");
    pair.send(&Message::Headers(Headers { headers: Vec::new() }));
    pair.sides[1].handle_sent(MessageKind::GetHeaders);
    pair.send(&Message::Headers(Headers { headers: Vec::new() }));
    assert_eq!((pair.delivered(), pair.dropped(DropCause::Unasked)), (302, 3));
}

#[test]
fn a_cancel_is_heard_once_for_each_stream() {
    let mut pair = Pair::new(&config());
    let cancel = Message::Cancel(Cancel { request_id: 7 });
    pair.send(&cancel);
    assert_eq!((pair.delivered(), pair.dropped(DropCause::Unasked)), (0, 1));
    pair.send(&Message::GetBlocks(GetBlocks::stream(7, Height::GENESIS, Height::new(9))));
    pair.send(&cancel);
    pair.send(&cancel);
    assert_eq!((pair.delivered(), pair.dropped(DropCause::Unasked)), (2, 2));
    pair.send(&Message::GetBlocks(GetBlocks::range(Height::GENESIS, Height::new(9))));
    pair.send(&cancel);
    assert_eq!(
        (pair.delivered(), pair.dropped(DropCause::Unasked)),
        (3, 3),
        "an answer in one message is not called off"
    );
}

#[test]
fn a_pong_that_the_next_ping_overtook_is_honest() {
    let mut pair = Pair::new(&config());
    let side = &mut pair.sides[1];
    side.handle_timeout(START + Duration::from_secs(30));
    side.handle_timeout(START + Duration::from_secs(60));
    while side.poll_action().is_some() {}
    for seconds in [30, 60] {
        side.handle_pong(START + Duration::from_secs(61), Ping { timestamp: START.as_secs() + seconds });
    }
    let measured: Vec<_> = std::iter::from_fn(|| side.poll_action()).collect();
    assert!(matches!(measured[..], [Action::Rtt(rtt)] if rtt == Duration::from_secs(1)), "{measured:?}");
}

#[test]
fn a_started_frame_must_be_finished_in_time() {
    let mut pair = Pair::new(&config());
    let side = &mut pair.sides[1];
    side.handle_partial(START, Some(80 * 1024), true);
    side.handle_partial(START + Duration::from_secs(20), Some(80 * 1024), false);
    assert_eq!(side.frame_deadline(), Some(START + Duration::from_secs(40)));
    side.handle_bytes(START + Duration::from_secs(39));
    side.handle_timeout(START + Duration::from_secs(40));
    assert_eq!(side.phase, Phase::Closed);
}

#[test]
fn a_probe_is_answered_by_the_pong_it_asks_for() {
    let mut pair = Pair::new(&config());
    pair.sides[0].handle_probe(pair.now);
    pair.settle();
    let answered = |pair: &Pair| pair.log.iter().any(|(_, action)| matches!(action, Action::Probed(true)));
    assert!(!answered(&pair), "the ping waits for the limit of one in five seconds");
    pair.run_until(START + Duration::from_secs(6));
    assert!(answered(&pair));
    assert_eq!(pair.dropped(DropCause::PingLimit), 0);
}

#[test]
fn any_bytes_answer_a_probe_even_before_its_ping_is_out() {
    let mut pair = Pair::new(&config());
    pair.sides[1].handle_probe(pair.now);
    pair.send(&Message::Ping(Ping { timestamp: 1 }));
    assert!(pair.log.iter().any(|(side, action)| *side == 1 && matches!(action, Action::Probed(true))));
}

#[test]
fn a_peer_that_gives_no_sign_of_life_is_reported_once_three_seconds_after_the_ping() {
    let mut pair = Pair::new(&config());
    let side = &mut pair.sides[1];
    side.handle_probe(START + Duration::from_secs(6));
    side.handle_timeout(START + Duration::from_millis(8_999));
    side.handle_timeout(START + Duration::from_secs(9));
    side.handle_timeout(START + Duration::from_secs(10));
    let probed: Vec<_> = std::iter::from_fn(|| side.poll_action())
        .filter_map(|action| if let Action::Probed(alive) = action { Some(alive) } else { None })
        .collect();
    assert_eq!(probed, [false]);
}

#[test]
fn a_handler_that_is_behind_gives_the_peer_more_time_for_its_frame() {
    let mut pair = Pair::new(&config());
    let side = &mut pair.sides[1];
    side.handle_partial(START, Some(1), true);
    side.handle_paused(START + Duration::from_secs(29));
    side.handle_timeout(START + Duration::from_secs(31));
    assert_eq!(side.phase, Phase::Open);
}

#[test]
fn requests_that_only_the_other_connections_of_an_ip_hold_up_are_all_answered() {
    let mut config = config();
    config.security.ban_after_excess = 0;
    let ip = IpAddr::from([192, 0, 2, 1]);
    let mut security = SecurityManager::new(config.security.clone());
    let mut other = security.session_quota(START, ip, None);
    (0..100).for_each(|_| assert_eq!(other.request(START), bt2c_security::Admission::Serve));
    let mut pair = Pair::new(&config);
    pair.sides[1].quota = security.session_quota(START, ip, None);
    (0..100).for_each(|_| pair.send(&get_blocks()));
    assert_eq!(pair.delivered(), 0);
    pair.run_until(START + Duration::from_secs(61));
    assert_eq!((pair.delivered(), pair.dropped(DropCause::RequestLimit)), (100, 0));
}

#[test]
fn a_peer_that_says_nothing_useful_is_reported_idle_after_each_timeout() {
    let mut pair = Pair::new(&config());
    pair.run_until(START + Duration::from_secs(3600));
    let idle = pair.log.iter().filter(|(side, action)| *side == 1 && matches!(action, Action::Idle)).count();
    assert_eq!(idle, 3, "twenty, forty and sixty minutes");
    assert!(pair.closed(1).is_none());
}

#[test]
fn base_peers_are_closed_on_without_a_word_they_do_not_know() {
    let mut pair = Pair::new(&config());
    pair.sides[1].peer_knows_extensions = false;
    for _ in 0..300 {
        pair.send(&get_blocks());
    }
    assert!(pair.log.iter().all(|(side, action)| *side == 0 || !matches!(action, Action::Close(_, Some(_)))));
    let security = SecurityConfig::default();
    assert_eq!(security.requests_per_minute.get(), 100);
}
