//! One connection after TLS, as a pure state machine: hellos, admission, liveness, deadlines.
//!
//! ```text
//!  outbound: AwaitHello ──hello──▶ AwaitVerdict ──admit──▶ Open ──▶ Closed
//!  inbound:  AwaitHello ──hello──▶ AwaitVerdict ──admit──▶ Open ──▶ Closed   (our hello goes out with the verdict)
//! ```
//!
//! It owns what one connection may do and when it ends; it does not own who may connect (the manager decides that when
//! it sees the hello) nor what messages mean. While a verdict is awaited, nothing is read.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Duration};

use bt2c_proto::{
    CloseCode, Disconnect, Envelope, Frame, Hello, Message, MessageKind, ParseError, Ping, Text, Throttled,
    Time,
};
use bt2c_security::{Admission, Offence, PushAdmission, PushKind, SessionQuota};
use bytes::Bytes;

use crate::{
    config::{P2PConfig, Tip},
    local::Local,
    metrics::DropCause,
    peer::Direction,
    reason::CloseReason,
};

/// What the shell is to do.
#[derive(Debug)]
pub(crate) enum Action {
    /// Queue this frame for the peer.
    Send(Frame),
    /// The peer's hello is in: ask the manager, then call [`SessionCore::handle_verdict`].
    Judge(Box<Hello>),
    /// Both hellos are in: larger frames are legal from now on.
    RaiseFrameLimit,
    /// Pass this message on; the second field is its body's length.
    Deliver(Message, usize),
    /// A measured round-trip time.
    Rtt(Duration),
    /// Charge the peer.
    Report(Offence, String),
    /// Count a message that was not passed on.
    Dropped(DropCause),
    /// Bytes arrived after a probe was asked for.
    ProbeAnswered,
    /// Nothing useful was heard for the idle time-out.
    Idle,
    /// The connection is over; `Some` is to be sent first, best effort.
    Close(CloseReason, Option<Frame>),
}

/// Timings of a session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SessionConfig {
    ping_interval: Duration,
    silence_timeout: Duration,
    idle_timeout: Duration,
    frame_timeout: Duration,
    ping_spacing: Duration,
    delayed_max: usize,
}

impl SessionConfig {
    pub(crate) fn new(config: &P2PConfig) -> Self {
        let excess = usize::try_from(config.security.ban_after_excess).unwrap_or(usize::MAX);
        Self {
            ping_interval: config.ping_interval,
            silence_timeout: config.silence_timeout,
            idle_timeout: config.idle_timeout,
            frame_timeout: config.frame_timeout,
            ping_spacing: config.security.ping_interval_min,
            delayed_max: excess.clamp(1, MAX_DELAYED),
        }
    }
}

/// Requests that may wait for the limit, whatever `ban_after_excess` says: each is a few dozen bytes.
const MAX_DELAYED: usize = 1024;

/// Bytes a second that a started frame must come in with at least.
const MIN_FRAME_RATE: u64 = 8 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    AwaitHello,
    AwaitVerdict,
    Open,
    Closed,
}

/// One connection after TLS.
#[derive(Debug)]
pub(crate) struct SessionCore {
    config: SessionConfig,
    local: Arc<Local>,
    direction: Direction,
    remote: SocketAddr,
    quota: SessionQuota,
    phase: Phase,
    /// Both hellos must be in by then.
    hello_deadline: Time,
    peer_label: Option<String>,
    peer_knows_extensions: bool,
    last_received: Time,
    last_useful: Time,
    idle_reported: bool,
    /// The last ping sent, until its pong is in: when, and its timestamp.
    ping_out: Option<(Time, u64)>,
    last_ping: Time,
    probe: Probe,
    /// The frame that is coming in: since when, and its declared length.
    partial: Option<(Time, usize)>,
    unanswered: Unanswered,
    /// Requests over the limit, with the moment at which each may be served.
    delayed: VecDeque<(Time, Message, usize)>,
    actions: VecDeque<Action>,
}

/// Whether the manager wants to know that the peer is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    No,
    /// A ping is due, as soon as the peer's ping limit allows.
    Wanted,
    /// Waiting for any bytes.
    Sent,
}

/// What we asked and have no answer to.
#[derive(Debug, Default)]
struct Unanswered {
    peers: u32,
    blocks: u32,
}

impl SessionCore {
    pub(crate) fn new(
        now: Time,
        config: SessionConfig,
        local: Arc<Local>,
        direction: Direction,
        remote: SocketAddr,
        quota: SessionQuota,
        hello_deadline: Time,
    ) -> Self {
        Self {
            config,
            local,
            direction,
            remote,
            quota,
            phase: Phase::AwaitHello,
            hello_deadline,
            peer_label: None,
            peer_knows_extensions: false,
            last_received: now,
            last_useful: now,
            idle_reported: false,
            ping_out: None,
            last_ping: now,
            probe: Probe::No,
            partial: None,
            unanswered: Unanswered::default(),
            delayed: VecDeque::new(),
            actions: VecDeque::new(),
        }
    }

    /// Begins: the dialer speaks first.
    pub(crate) fn start(&mut self, now: Time, tip: Tip) {
        if self.direction == Direction::Outbound {
            self.send_hello(now, tip);
        }
    }

    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether the shell should read: not while a verdict is awaited, nor after the end.
    pub(crate) fn wants_bytes(&self) -> bool {
        matches!(self.phase, Phase::AwaitHello | Phase::Open)
    }

    /// Bytes arrived.
    pub(crate) fn handle_bytes(&mut self, now: Time) {
        self.last_received = now;
        if self.probe == Probe::Sent {
            self.probe = Probe::No;
            self.actions.push_back(Action::ProbeAnswered);
        }
    }

    /// Everything complete was taken out of the buffer. `partial` is the declared length of the frame it ends in the
    /// middle of, if it does (0 while the header is not complete); `fresh`, that this frame began since the last call.
    pub(crate) fn handle_partial(&mut self, now: Time, partial: Option<usize>, fresh: bool) {
        self.partial = partial.map(|len| match self.partial {
            Some((started, _)) if !fresh => (started, len),
            _ => (now, len),
        });
    }

    /// Reading is put off because a handler is behind: the peer is not to blame for the silence.
    pub(crate) fn handle_paused(&mut self, now: Time) {
        self.last_received = self.last_received.max(now);
    }

    /// The frame limit or the framing itself was violated.
    pub(crate) fn handle_frame_error(&mut self, now: Time, error: &bt2c_proto::FrameError) {
        self.violation(now, &error.to_string());
    }

    /// The body of a complete frame.
    ///
    /// Returns the name of its type, for counting.
    pub(crate) fn handle_body(&mut self, now: Time, body: &Bytes) -> Option<&'static str> {
        self.partial = None;
        match Envelope::split(body) {
            Ok(envelope) => {
                self.handle_envelope(now, &envelope, body.len());
                Some(envelope.kind.map_or("unknown", MessageKind::name))
            }
            Err(error) => {
                self.violation(now, &error.to_string());
                None
            }
        }
    }

    fn handle_envelope(&mut self, now: Time, envelope: &Envelope<'_>, len: usize) {
        match self.phase {
            Phase::AwaitHello => self.handle_first(now, envelope),
            Phase::Open => {
                if envelope.sender.as_deref().is_some_and(|sender| Some(sender) != self.peer_label.as_deref())
                {
                    self.actions.push_back(Action::Dropped(DropCause::ForeignSender));
                }
                match envelope.kind {
                    None => self.actions.push_back(Action::Dropped(DropCause::UnknownType)),
                    Some(kind) => self.handle_open(now, kind, envelope, len),
                }
            }
            Phase::AwaitVerdict | Phase::Closed => {}
        }
    }

    fn handle_first(&mut self, now: Time, envelope: &Envelope<'_>) {
        match envelope.message() {
            Ok(Some(Message::Hello(hello))) => {
                self.peer_label = Some(hello.node_id.to_string());
                self.peer_knows_extensions = hello.knows_extensions();
                self.phase = Phase::AwaitVerdict;
                self.actions.push_back(Action::Judge(hello));
            }
            Ok(Some(Message::Disconnect(disconnect))) if self.direction == Direction::Outbound => {
                self.close_as(CloseReason::Remote(disconnect.code), None);
            }
            Ok(_) => self.violation(now, "the first message is no hello"),
            Err(error) => self.violation(now, &error.to_string()),
        }
    }

    /// The manager judged the hello.
    pub(crate) fn handle_verdict(&mut self, now: Time, verdict: Result<(), CloseCode>, tip: Tip) {
        if self.phase != Phase::AwaitVerdict {
            return;
        }
        match verdict {
            Ok(()) => {
                if self.direction == Direction::Inbound {
                    self.send_hello(now, tip);
                }
                self.phase = Phase::Open;
                (self.last_received, self.last_useful, self.last_ping) = (now, now, now);
                self.actions.push_back(Action::RaiseFrameLimit);
            }
            Err(code) => self.close(now, code, "refused at hello"),
        }
    }

    fn handle_open(&mut self, now: Time, kind: MessageKind, envelope: &Envelope<'_>, len: usize) {
        if !self.admit(now, kind, len) {
            return;
        }
        let message = match envelope.message() {
            Ok(message) => message.expect("the kind is known"),
            Err(error) => return self.handle_parse_error(now, &error),
        };
        match message {
            Message::Hello(_) => self.violation(now, "a second hello"),
            Message::Ping(ping) => self.answer_ping(now, ping),
            Message::Pong(pong) => self.handle_pong(now, pong),
            Message::Disconnect(disconnect) => self.close_as(CloseReason::Remote(disconnect.code), None),
            Message::Throttled(_) => {}
            request @ (Message::GetPeers(_) | Message::GetBlocks(_)) => {
                self.handle_request(now, request, len)
            }
            useful => {
                self.last_useful = now;
                self.idle_reported = false;
                self.actions.push_back(Action::Deliver(useful, len));
            }
        }
    }

    fn handle_parse_error(&mut self, now: Time, error: &ParseError) {
        self.violation(now, &error.to_string());
    }

    /// Admission before any typed parse: answers nobody asked for and pushes above the limits go no further.
    fn admit(&mut self, now: Time, kind: MessageKind, len: usize) -> bool {
        let push = match kind {
            MessageKind::Peers => return self.admit_answer(|unanswered| &mut unanswered.peers),
            MessageKind::Blocks => return self.admit_answer(|unanswered| &mut unanswered.blocks),
            MessageKind::NewBlock => PushKind::Block,
            MessageKind::NewTransaction => PushKind::Transaction,
            _ => return true,
        };
        match self.quota.push(now, push, len) {
            PushAdmission::Accept => true,
            PushAdmission::Drop => {
                self.actions.push_back(Action::Dropped(DropCause::PushLimit));
                false
            }
            PushAdmission::Flood => {
                self.actions.push_back(Action::Dropped(DropCause::PushLimit));
                let evidence = format!("{kind} above four times the push limits");
                self.actions.push_back(Action::Report(Offence::PushFlood, evidence));
                false
            }
        }
    }

    fn admit_answer(&mut self, count: impl FnOnce(&mut Unanswered) -> &mut u32) -> bool {
        let count = count(&mut self.unanswered);
        if *count == 0 {
            self.actions.push_back(Action::Dropped(DropCause::Unasked));
            return false;
        }
        *count -= 1;
        true
    }

    fn answer_ping(&mut self, now: Time, ping: Ping) {
        if self.quota.ping(now) {
            let pong = self.local.frame(&Message::Pong(ping), now);
            self.actions.push_back(Action::Send(pong));
        } else {
            self.actions.push_back(Action::Dropped(DropCause::PingLimit));
        }
    }

    fn handle_pong(&mut self, now: Time, pong: Ping) {
        match self.ping_out {
            Some((sent, timestamp)) if timestamp == pong.timestamp => {
                self.ping_out = None;
                self.actions.push_back(Action::Rtt(now.since(sent)));
            }
            _ => self.actions.push_back(Action::Dropped(DropCause::Unasked)),
        }
    }

    fn handle_request(&mut self, now: Time, request: Message, len: usize) {
        self.last_useful = now;
        self.idle_reported = false;
        match self.quota.request(now) {
            Admission::Serve if self.delayed.is_empty() => {
                self.actions.push_back(Action::Deliver(request, len))
            }
            Admission::Serve => self.delay(now, now, request, len),
            Admission::Delay(until) => self.delay(now, until, request, len),
            Admission::Excess => {
                let evidence = "requests beyond the limit and its excess within a minute".to_owned();
                self.actions.push_back(Action::Report(Offence::RequestExcess, evidence));
                self.close(now, CloseCode::Rate, "too many requests");
            }
        }
    }

    fn delay(&mut self, now: Time, until: Time, request: Message, len: usize) {
        if self.delayed.len() >= self.config.delayed_max {
            self.actions.push_back(Action::Dropped(DropCause::RequestLimit));
            return;
        }
        if self.peer_knows_extensions && until > now {
            let throttled = Throttled {
                kind: Text::cut(request.kind().name()),
                request_id: None,
                retry_after_ms: u64::try_from(until.since(now).as_millis()).unwrap_or(u64::MAX),
            };
            let frame = self.local.frame(&Message::Throttled(throttled), now);
            self.actions.push_back(Action::Send(frame));
        }
        self.delayed.push_back((until, request, len));
    }

    /// A frame of ours went out.
    pub(crate) fn handle_sent(&mut self, kind: MessageKind) {
        match kind {
            MessageKind::GetPeers => self.unanswered.peers = self.unanswered.peers.saturating_add(1),
            MessageKind::GetBlocks => self.unanswered.blocks = self.unanswered.blocks.saturating_add(1),
            _ => {}
        }
    }

    /// The manager wants to know that the peer is there: any bytes from now on answer.
    pub(crate) fn handle_probe(&mut self, now: Time) {
        if self.phase == Phase::Open && self.probe == Probe::No {
            self.probe = Probe::Wanted;
            self.send_due_ping(now);
        }
    }

    /// The manager, or the shell, ends the connection.
    pub(crate) fn close(&mut self, now: Time, code: CloseCode, reason: &str) {
        let tell = self.peer_knows_extensions && self.phase != Phase::Closed;
        let frame = tell.then(|| {
            let disconnect = Disconnect { code, reason: Text::cut(reason) };
            self.local.frame(&Message::Disconnect(disconnect), now)
        });
        self.close_as(CloseReason::Local(code), frame);
    }

    fn close_as(&mut self, reason: CloseReason, last: Option<Frame>) {
        if self.phase != Phase::Closed {
            self.phase = Phase::Closed;
            self.delayed.clear();
            self.actions.push_back(Action::Close(reason, last));
        }
    }

    /// The stream is over.
    pub(crate) fn handle_transport_end(&mut self, reason: CloseReason) {
        self.close_as(reason, None);
    }

    fn violation(&mut self, now: Time, what: &str) {
        self.actions.push_back(Action::Report(Offence::Protocol, what.to_owned()));
        self.close(now, CloseCode::Protocol, what);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        match self.phase {
            Phase::AwaitHello | Phase::AwaitVerdict => Some(self.hello_deadline),
            Phase::Closed => None,
            Phase::Open => {
                let times = [
                    Some(self.last_received + self.config.silence_timeout),
                    Some(self.ping_due()),
                    self.frame_deadline(),
                    self.delayed.front().map(|(until, ..)| *until),
                    (!self.idle_reported).then(|| self.last_useful + self.config.idle_timeout),
                ];
                times.into_iter().flatten().min()
            }
        }
    }

    /// When the frame that is coming in must be complete.
    fn frame_deadline(&self) -> Option<Time> {
        let (started, len) = self.partial?;
        Some(started + self.config.frame_timeout + Duration::from_secs(len as u64 / MIN_FRAME_RATE))
    }

    /// When the next ping is due: at the interval, or as soon as the peer's limit allows if a probe is wanted.
    fn ping_due(&self) -> Time {
        let interval = self.config.ping_interval;
        self.last_ping
            + if self.probe == Probe::Wanted { self.config.ping_spacing.min(interval) } else { interval }
    }

    pub(crate) fn handle_timeout(&mut self, now: Time) {
        match self.phase {
            Phase::AwaitHello | Phase::AwaitVerdict if now >= self.hello_deadline => {
                self.close(now, CloseCode::Timeout, "no hello in time");
            }
            Phase::Open => self.handle_open_timeout(now),
            _ => {}
        }
    }

    fn handle_open_timeout(&mut self, now: Time) {
        if now >= self.last_received + self.config.silence_timeout {
            return self.close(now, CloseCode::Timeout, "nothing was heard");
        }
        if self.frame_deadline().is_some_and(|deadline| now >= deadline) {
            return self.close(now, CloseCode::Timeout, "a frame was not finished");
        }
        self.send_due_ping(now);
        while self.delayed.front().is_some_and(|(until, ..)| *until <= now) {
            let (_, request, len) = self.delayed.pop_front().expect("there is a front");
            self.actions.push_back(Action::Deliver(request, len));
        }
        if !self.idle_reported && now >= self.last_useful + self.config.idle_timeout {
            self.idle_reported = true;
            self.actions.push_back(Action::Idle);
        }
    }

    fn send_due_ping(&mut self, now: Time) {
        if now < self.ping_due() {
            return;
        }
        let timestamp = now.as_secs();
        self.last_ping = now;
        self.ping_out = Some((now, timestamp));
        if self.probe == Probe::Wanted {
            self.probe = Probe::Sent;
        }
        let ping = self.local.frame(&Message::Ping(Ping { timestamp }), now);
        self.actions.push_back(Action::Send(ping));
    }

    fn send_hello(&mut self, now: Time, tip: Tip) {
        let hello = self.local.hello(tip, self.remote);
        let frame = self.local.frame(&Message::Hello(Box::new(hello)), now);
        self.actions.push_back(Action::Send(frame));
    }
}

#[cfg(test)]
mod tests;
