//! A session's core under any sequence of bytes, time and commands.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use arbitrary::{Result, Unstructured};
use bt2c_proto::{
    BlockHash, CloseCode, Frame, FrameCodec, Height, Message, MessageKind, Network, NodeId, PeerId, Time,
    limits::FRAME_LIMIT,
};
use bt2c_security::SecurityManager;
use bytes::{BufMut, BytesMut};
use tokio_util::codec::Decoder;

use super::{Action, SessionConfig, SessionCore};
use crate::{
    config::{P2PConfig, Tip},
    local::{Local, OwnChain},
    peer::Direction,
    reason::{CloseReason, Refusal},
    session::Consent,
};

const START: Time = Time::from_secs(1_712_352_000);
const CHAIN: OwnChain = OwnChain {
    tip: Tip { height: Height::new(7), hash: BlockHash::from_bytes([7; 32]) },
    first_block: Height::GENESIS,
};

/// What has an answer.
const QUESTIONS: [MessageKind; 3] = [MessageKind::GetPeers, MessageKind::GetBlocks, MessageKind::GetHeaders];

/// Plays what the bytes say to the core of one session.
///
/// # Panics
/// The core does, or it delivers before both hellos are in or an answer that nobody asked for, acts after its end, ends
/// twice, or asks to be woken for what it has just done.
pub fn session(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    if let Ok(mut run) = Run::new(&mut input) {
        while !input.is_empty() && run.step(&mut input).is_ok() {
            run.settle();
        }
    }
}

/// A session with what is known about it from the outside.
struct Run {
    core: SessionCore,
    codec: FrameCodec,
    buffer: BytesMut,
    now: Time,
    direction: Direction,
    judging: bool,
    admitted: bool,
    ended: bool,
    asked: [u64; QUESTIONS.len()],
}

impl Run {
    fn new(input: &mut Unstructured<'_>) -> Result<Self> {
        let direction = if input.arbitrary()? { Direction::Inbound } else { Direction::Outbound };
        let config = P2PConfig::for_network(Network::Devnet, BlockHash::from_bytes([1; 32]));
        let peer_id = PeerId::from_spki_der(b"ours");
        let local = Arc::new(Local::new(&config, peer_id, NodeId::derived_from(&peer_id), &[]));
        let remote = SocketAddr::from(([192, 0, 2, 1], 8336));
        let incoming = SecurityManager::new(config.security.clone()).session_quota(START, remote.ip(), None);
        let consent = Consent { peer: peer_id, incoming, ping_secret: 7 };
        let (session, deadline) = (SessionConfig::new(&config), START + config.connection_timeout);
        let mut core = SessionCore::new(START, session, local, direction, remote, consent, deadline);
        core.start(START, CHAIN);
        let mut run = Self {
            core,
            codec: FrameCodec::new(),
            buffer: BytesMut::new(),
            now: START,
            direction,
            judging: false,
            admitted: false,
            ended: false,
            asked: [0; QUESTIONS.len()],
        };
        run.settle();
        Ok(run)
    }

    fn step(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        match input.int_in_range(0..=11)? {
            0 => self.receive_frame(input.arbitrary()?),
            1 => self.receive(input.arbitrary()?),
            2 => self.receive_message(input)?,
            3 => self.now = self.now + Duration::from_millis(input.int_in_range(0..=100_000)?),
            4 => self.wake(),
            5 => self.judge(input.int_in_range(0..=4)?),
            6 => self.core.handle_probe(self.now),
            7 => self.ask(input.int_in_range(0..=QUESTIONS.len() - 1)?),
            8 => self.core.handle_paused(self.now),
            9 => self.core.close(self.now, CloseCode::Idle, "idle"),
            10 => self.core.handle_transport_end(CloseReason::Ended),
            _ => self.time_out(),
        }
        Ok(())
    }

    /// A whole frame of these bytes.
    fn receive_frame(&mut self, body: &[u8]) {
        let Ok(len) = u32::try_from(body.len()) else { return };
        let mut frame = BytesMut::new();
        frame.put_u32(len);
        frame.put_slice(body);
        self.receive(&frame);
    }

    /// A message that is well-formed, so that what follows the hello is reached.
    fn receive_message(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let kind = *input.choose(MessageKind::ALL)?;
        let number: u16 = input.arbitrary()?;
        let zeros = "0".repeat(64);
        let data = match kind {
            MessageKind::Hello => format!(
                r#"{{"version":"1","node_id":"a","block_height":{number},"last_block_hash":"","features":[]}}"#
            ),
            MessageKind::Ping | MessageKind::Pong => format!(r#"{{"timestamp":{number}}}"#),
            MessageKind::GetPeers => format!(r#"{{"count":{number}}}"#),
            MessageKind::Peers => r#"{"peers":["192.0.2.9:1"]}"#.to_owned(),
            MessageKind::GetBlocks => format!(r#"{{"start_height":{number},"end_height":65535}}"#),
            MessageKind::Blocks if number.is_multiple_of(2) => {
                r#"{"blocks":[],"request_id":1,"done":true}"#.to_owned()
            }
            MessageKind::Blocks => r#"{"blocks":[]}"#.to_owned(),
            MessageKind::Cancel => format!(r#"{{"request_id":{number}}}"#),
            MessageKind::GetHeaders => format!(r#"{{"locator":["{zeros}"],"count":{number}}}"#),
            MessageKind::Headers => r#"{"headers":[]}"#.to_owned(),
            MessageKind::NewBlock => format!(
                r#"{{"block":{{"height":0,"timestamp":0,"previous_hash":"{zeros}","merkle_root":"{zeros}","validator":"","transactions":[],"hash":"{zeros}","signature":""}}}}"#
            ),
            MessageKind::NewTransaction => r#"{"transaction":{}}"#.to_owned(),
            MessageKind::Disconnect => r#"{"code":"shutdown","reason":""}"#.to_owned(),
            MessageKind::Throttled => format!(r#"{{"type":"get_blocks","retry_after_ms":{number}}}"#),
        };
        let body = format!(r#"{{"type":"{kind}","data":{data},"timestamp":1,"sender":"a"}}"#);
        self.receive_frame(body.as_bytes());
        Ok(())
    }

    /// Bytes of the stream, as the shell hands them on.
    fn receive(&mut self, bytes: &[u8]) {
        if !self.core.wants_bytes() || bytes.is_empty() {
            return;
        }
        self.buffer.extend_from_slice(bytes);
        self.core.handle_bytes(self.now);
        let mut fresh = false;
        while self.core.wants_bytes() {
            match self.codec.decode(&mut self.buffer) {
                Ok(Some(body)) => {
                    fresh = true;
                    self.core.handle_body(self.now, &body);
                    self.settle();
                }
                Ok(None) => break,
                Err(error) => self.core.handle_frame_error(self.now, &error),
            }
        }
        let declared = self.buffer.first_chunk().map_or(0, |header| u32::from_be_bytes(*header));
        let partial = (!self.buffer.is_empty()).then(|| usize::try_from(declared).unwrap_or(FRAME_LIMIT));
        self.core.handle_partial(self.now, partial, fresh);
    }

    /// Lets time pass until the core wants to be woken.
    fn wake(&mut self) {
        if let Some(at) = self.core.poll_timeout() {
            self.now = self.now.max(at);
            self.time_out();
        }
    }

    fn time_out(&mut self) {
        self.core.handle_timeout(self.now);
        let next = self.core.poll_timeout();
        assert!(
            next.is_none_or(|at| at > self.now),
            "it wants to be woken at {next:?}, and it is {}",
            self.now
        );
    }

    fn judge(&mut self, verdict: u8) {
        let verdict = match verdict {
            0 => Err(Refusal::Full),
            1 => Err(Refusal::StolenLabel),
            _ => Ok(()),
        };
        if self.judging {
            self.judging = false;
            self.admitted |= verdict.is_ok() && !self.ended;
        }
        self.core.handle_verdict(self.now, verdict, CHAIN);
    }

    /// A question of ours went out.
    fn ask(&mut self, question: usize) {
        if self.core.is_open() {
            self.asked[question] += 1;
            self.core.handle_sent(QUESTIONS[question]);
        }
    }

    /// Looks at everything that the core wants done.
    fn settle(&mut self) {
        while let Some(action) = self.core.poll_action() {
            assert!(!self.ended, "after its end: {action:?}");
            match action {
                Action::Judge(_) => {
                    assert!(!self.judging && !self.admitted, "a second hello is judged");
                    self.judging = true;
                }
                Action::Deliver(message, len) => self.delivered(&message, len),
                Action::Send(frame) => self.sent(&frame),
                Action::RaiseFrameLimit => self.codec.set_limit(FRAME_LIMIT),
                Action::Rtt(_) | Action::Probed(_) | Action::Idle => {
                    assert!(self.admitted, "before the hellos: {action:?}");
                }
                Action::Report(_, evidence) => assert!(!evidence.is_empty(), "a report without evidence"),
                Action::Dropped(_) | Action::Clock(_) => {}
                Action::Close(..) => self.ended = true,
            }
        }
        assert_eq!(self.core.is_open(), self.admitted && !self.ended);
        assert!(!self.ended || (!self.core.wants_bytes() && self.core.poll_timeout().is_none()));
    }

    fn delivered(&mut self, message: &Message, len: usize) {
        assert!(self.admitted && len <= FRAME_LIMIT, "delivered too early or too long: {message:?}");
        let asked = match message {
            Message::Peers(_) => &mut self.asked[0],
            Message::Blocks(part) if part.goes_on() => {
                return assert!(
                    self.asked[1] > 0,
                    "a part of an answer that nobody asked for is not delivered"
                );
            }
            Message::Blocks(_) => &mut self.asked[1],
            Message::Headers(_) => &mut self.asked[2],
            _ => return,
        };
        *asked = asked.checked_sub(1).expect("an answer that nobody asked for is not delivered");
    }

    fn sent(&mut self, frame: &Frame) {
        let early = !self.admitted;
        let greets = frame.kind() == MessageKind::Hello;
        assert!(
            !early || greets && self.direction == Direction::Outbound,
            "{} comes too early",
            frame.kind()
        );
        self.core.handle_sent(frame.kind());
    }
}
