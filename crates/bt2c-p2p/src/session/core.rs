//! One connection after TLS, as a pure state machine: hellos, admission, liveness, deadlines.
//!
//! ```text
//!  outbound: AwaitHello ──hello──▶ AwaitVerdict ──admit──▶ Open ──▶ Closed
//!  inbound:  AwaitHello ──hello──▶ AwaitVerdict ──admit──▶ Open ──▶ Closed   (our hello goes out with the verdict)
//! ```
//!
//! It owns what one connection may do and when it ends; it does not own who may connect (the manager decides that when
//! it sees the hello) nor what messages mean. While a verdict is awaited, nothing is read.

mod admission;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod greeting;
mod liveness;

use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Duration};

use bt2c_proto::{
    CloseCode, Defences, Disconnect, Envelope, Frame, Hello, Message, MessageKind, PeerId, Text, Time,
};
use bt2c_security::{Offence, SessionQuota};
use bytes::Bytes;

use self::{
    admission::{Patience, Unanswered},
    liveness::{Probe, ping_gap},
};

use super::Consent;
use crate::{config::P2PConfig, local::Local, metrics::DropCause, peer::Direction, reason::CloseReason};

/// What the shell is to do.
#[derive(Debug)]
pub(crate) enum Action {
    /// Queue this frame for the peer.
    Send(Frame),
    /// The peer's hello is in: ask the manager, then call [`SessionCore::handle_verdict`].
    Judge(Box<Hello>),
    /// By its hello it is so many seconds later at the peer than here; negative: earlier.
    Clock(i64),
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
    /// Whether the probed peer gave a sign of life: any bytes since the probe was asked for.
    Probed(bool),
    /// Nothing useful was heard for the idle time-out, or for another one since this was last said.
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
    /// How soon after a ping another may follow.
    ping_spacing: Duration,
    pub(super) defences: Defences,
}

impl SessionConfig {
    pub(crate) fn new(config: &P2PConfig) -> Self {
        Self {
            ping_interval: config.ping_interval,
            silence_timeout: config.silence_timeout,
            idle_timeout: config.idle_timeout,
            frame_timeout: config.frame_timeout,
            ping_spacing: config.security.ping_interval_min + PING_SLACK,
            defences: config.security.defences,
        }
    }
}

/// What a ping waits longer than the other side's limit asks for: the second of two may travel faster than the first.
const PING_SLACK: Duration = Duration::from_secs(1);

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
    /// When the peer is reported idle, unless something useful comes before.
    idle_at: Time,
    /// The last ping sent, until its pong is in: when, and its timestamp.
    ping_out: Option<(Time, u64)>,
    /// The timestamp of the one before, if that was not answered.
    ping_before: Option<u64>,
    last_ping: Time,
    /// How soon after it the next goes out.
    ping_gap: Duration,
    pings: u64,
    ping_secret: u64,
    /// It sent a pong that answers nothing: it may guess when a ping is due, so its round trips say nothing.
    guesses_pings: bool,
    probe: Probe,
    /// The frame that is coming in: since when, and its declared length.
    partial: Option<(Time, usize)>,
    unanswered: Unanswered,
    /// Streams that the peer asked for and has not cancelled; a stream that ended by itself may be cancelled once, too.
    streams_asked: u32,
    /// When all is forgotten that was dropped.
    patience: Patience,
    /// Nothing is read until then.
    paused_until: Option<Time>,
    /// Requests over the limit, with the moment at which each may be served.
    delayed: VecDeque<(Time, Message, usize)>,
    actions: VecDeque<Action>,
}

impl SessionCore {
    pub(crate) fn new(
        now: Time,
        config: SessionConfig,
        local: Arc<Local>,
        direction: Direction,
        remote: SocketAddr,
        consent: Consent,
        hello_deadline: Time,
    ) -> Self {
        Self {
            config,
            local,
            direction,
            remote,
            quota: consent.incoming,
            ping_gap: ping_gap(&config, consent.ping_secret, 0),
            pings: 0,
            ping_secret: consent.ping_secret,
            phase: Phase::AwaitHello,
            hello_deadline,
            peer_label: None,
            peer_knows_extensions: false,
            last_received: now,
            idle_at: now + config.idle_timeout,
            ping_out: None,
            ping_before: None,
            last_ping: now,
            guesses_pings: false,
            probe: Probe::No,
            partial: None,
            unanswered: Unanswered::default(),
            streams_asked: 0,
            patience: Patience::default(),
            paused_until: None,
            delayed: VecDeque::new(),
            actions: VecDeque::new(),
        }
    }

    /// Who we are.
    pub(crate) fn local_id(&self) -> PeerId {
        self.local.peer_id
    }

    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether the shell should read: not while a verdict is awaited, nor after the end, nor while the peer has to wait for
    /// having sent too much that is of no use.
    pub(crate) fn wants_bytes(&self) -> bool {
        matches!(self.phase, Phase::AwaitHello | Phase::Open) && self.paused_until.is_none()
    }

    /// Whether both hellos are in. Until then nothing but ours is sent.
    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Bytes arrived.
    pub(crate) fn handle_bytes(&mut self, now: Time) {
        self.last_received = now;
        if self.probe != Probe::No {
            self.probe = Probe::No;
            self.actions.push_back(Action::Probed(true));
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

    /// Reading is put off because a handler is behind: the peer is not to blame for the silence, nor for a frame that is
    /// not finished.
    pub(crate) fn handle_paused(&mut self, now: Time) {
        self.last_received = self.last_received.max(now);
        self.partial = self.partial.map(|(_, len)| (now, len));
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
                    self.count_dropped(now, DropCause::ForeignSender);
                }
                match envelope.kind {
                    None => self.count_dropped(now, DropCause::UnknownType),
                    Some(kind) => self.handle_open(now, kind, envelope, len),
                }
            }
            Phase::AwaitVerdict | Phase::Closed => {}
        }
    }

    fn handle_open(&mut self, now: Time, kind: MessageKind, envelope: &Envelope<'_>, len: usize) {
        if !self.admit(now, kind, len) {
            return;
        }
        let message = match envelope.message() {
            Ok(message) => message.expect("the kind is known"),
            Err(error) => return self.violation(now, &error.to_string()),
        };
        match message {
            Message::Hello(_) => self.violation(now, "a second hello"),
            Message::Ping(ping) => self.answer_ping(now, ping),
            Message::Pong(pong) => self.handle_pong(now, pong),
            Message::Disconnect(disconnect) => self.close_as(CloseReason::Remote(disconnect.code), None),
            Message::Throttled(throttled) => self.handle_throttled(now, throttled, len),
            request @ (Message::GetPeers(_) | Message::GetBlocks(_) | Message::GetHeaders(_)) => {
                self.handle_request(now, request, len)
            }
            useful => {
                if matches!(&useful, Message::Blocks(part) if part.goes_on()) {
                    self.goes_on();
                }
                self.idle_at = now + self.config.idle_timeout;
                self.actions.push_back(Action::Deliver(useful, len));
            }
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
}

#[cfg(test)]
mod tests;
