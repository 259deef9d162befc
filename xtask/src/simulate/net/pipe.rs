//! One direction of a connection: bytes that wait to leave, bytes under way, bytes that have arrived.

use std::{collections::VecDeque, io, task::Waker, time::Duration};

use bytes::{Buf, Bytes};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tokio::{io::ReadBuf, time::Instant};

use super::fair::{FlowId, LinkId};

/// Bytes of one direction that were written and not yet read, before the writer has to wait: what TCP's windows do. It
/// limits one connection to this much in each one-way latency.
pub(super) const WINDOW: usize = 1024 * 1024;

/// Bytes that wait to leave, before the writer has to wait: a socket's send buffer.
pub(super) const SEND_BUFFER: usize = 128 * 1024;

/// The most that arrives at once.
pub(super) const CHUNK: usize = 16 * 1024;

/// Bytes of a TCP segment.
const SEGMENT: usize = 1460;

/// A lost segment is sent again after this much and a round trip, and after twice that if it is lost again.
const RETRANSMIT: Duration = Duration::from_millis(200);

/// A segment is lost at most this often.
const LOSSES: u32 = 6;

const MILLION: u32 = 1_000_000;

/// The way from one host to another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) latency: Duration,
    pub(super) jitter: Duration,
    /// Segments in a million.
    pub(super) loss: u32,
    pub(super) links: [Option<LinkId>; 2],
}

impl Route {
    /// How long so many bytes take from the moment at which they have passed the links.
    pub(super) fn delay(&self, bytes: usize, rng: &mut ChaCha8Rng) -> Duration {
        let mut delay = self.latency;
        if !self.jitter.is_zero() {
            delay += rng.random_range(Duration::ZERO..=self.jitter);
        }
        if self.loss > 0 {
            let segments = 0..bytes.div_ceil(SEGMENT).max(1);
            delay += segments.map(|_| self.retransmission(rng)).max().unwrap_or_default();
        }
        delay
    }

    fn retransmission(&self, rng: &mut ChaCha8Rng) -> Duration {
        let losses = (0..LOSSES).take_while(|_| rng.random_ratio(self.loss.min(MILLION), MILLION)).count();
        let mut wait = RETRANSMIT + self.latency * 2;
        let mut delay = Duration::ZERO;
        for _ in 0..losses {
            delay += wait;
            wait *= 2;
        }
        delay
    }
}

/// Something to be told across the network besides bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// Nothing to tell.
    None,
    /// To be told once bytes before it have left and no cut is in its way.
    Held,
    /// Will be known then.
    Arrives(Instant),
}

impl Signal {
    pub(super) fn is_known(self, now: Instant) -> bool {
        matches!(self, Self::Arrives(at) if at <= now)
    }
}

/// What a read or write came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// So many bytes were read or written; none read means that the stream has ended.
    Done(usize),
    /// The connection is gone.
    Failed(io::ErrorKind),
    /// Nothing before this moment, unless the task is woken.
    Until(Instant),
    /// Nothing until the task is woken.
    Wait,
}

/// One direction of a connection.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) route: Route,
    pub(super) flow: Option<FlowId>,
    /// Whether a cut keeps everything from leaving.
    pub(super) frozen: bool,
    /// The end of the stream: regular, or a reset if `reset`.
    pub(super) end: Signal,
    pub(super) reset: bool,
    /// That nobody reads the *other* direction any more; what this direction tells its writer.
    pub(super) refusal: Signal,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    unsent: VecDeque<Bytes>,
    unsent_bytes: usize,
    sent: VecDeque<(Instant, Bytes)>,
    sent_bytes: usize,
    /// Nothing arrives before what left before it.
    latest: Instant,
}

impl Pipe {
    pub(super) const fn new(route: Route, now: Instant) -> Self {
        Self {
            route,
            flow: None,
            frozen: false,
            end: Signal::None,
            reset: false,
            refusal: Signal::None,
            reader: None,
            writer: None,
            unsent: VecDeque::new(),
            unsent_bytes: 0,
            sent: VecDeque::new(),
            sent_bytes: 0,
            latest: now,
        }
    }

    pub(super) const fn is_limited(&self) -> bool {
        self.route.links[0].is_some() || self.route.links[1].is_some()
    }

    /// Takes what fits of these bytes.
    pub(super) fn put(&mut self, bytes: &[u8]) -> usize {
        let window = WINDOW.saturating_sub(self.unsent_bytes + self.sent_bytes);
        let buffer = SEND_BUFFER.saturating_sub(self.unsent_bytes);
        let len = bytes.len().min(window).min(buffer).min(CHUNK);
        if len > 0 {
            self.unsent.push_back(Bytes::copy_from_slice(&bytes[..len]));
            self.unsent_bytes += len;
        }
        len
    }

    /// Length of the chunk that leaves next.
    pub(super) fn next_len(&self) -> Option<usize> {
        self.unsent.front().map(Bytes::len)
    }

    /// The next chunk has passed the links at `at`. Returns its length.
    pub(super) fn launch(&mut self, at: Instant, rng: &mut ChaCha8Rng) -> usize {
        let Some(chunk) = self.unsent.pop_front() else { return 0 };
        let len = chunk.len();
        self.unsent_bytes -= len;
        self.sent_bytes += len;
        self.latest = self.latest.max(at + self.route.delay(len, rng));
        self.sent.push_back((self.latest, chunk));
        if self.sent.len() == 1 {
            wake(&mut self.reader);
        }
        wake(&mut self.writer);
        len
    }

    /// Lets the signals go that nothing holds any more.
    pub(super) fn launch_signals(&mut self, now: Instant, rng: &mut ChaCha8Rng) {
        if self.end == Signal::Held && self.unsent.is_empty() {
            self.latest = self.latest.max(now + self.route.delay(0, rng));
            self.end = Signal::Arrives(self.latest);
            wake(&mut self.reader);
        }
        if self.refusal == Signal::Held {
            self.refusal = Signal::Arrives(now + self.route.delay(0, rng));
        }
    }

    /// What is under way is lost, and waits to leave again.
    pub(super) fn freeze(&mut self, now: Instant) {
        self.frozen = true;
        let arrived = self.sent.partition_point(|(at, _)| *at <= now);
        for (_, chunk) in self.sent.drain(arrived..).rev() {
            self.sent_bytes -= chunk.len();
            self.unsent_bytes += chunk.len();
            self.unsent.push_front(chunk);
        }
        self.latest = now;
        for signal in [&mut self.end, &mut self.refusal] {
            if matches!(signal, Signal::Arrives(at) if *at > now) {
                *signal = Signal::Held;
            }
        }
    }

    /// Forgets what has not left.
    pub(super) fn forget_unsent(&mut self) {
        self.unsent.clear();
        self.unsent_bytes = 0;
    }

    /// Forgets what has left: nobody will read it.
    pub(super) fn forget_sent(&mut self) {
        self.sent.clear();
        self.sent_bytes = 0;
        wake(&mut self.writer);
    }

    /// Moves what has arrived into the buffer.
    pub(super) fn take(&mut self, now: Instant, buf: &mut ReadBuf<'_>) -> Progress {
        let before = buf.remaining();
        while buf.remaining() > 0
            && let Some((at, chunk)) = self.sent.front_mut()
            && *at <= now
        {
            let len = chunk.len().min(buf.remaining());
            buf.put_slice(&chunk[..len]);
            chunk.advance(len);
            self.sent_bytes -= len;
            if chunk.is_empty() {
                self.sent.pop_front();
            }
        }
        let taken = before - buf.remaining();
        if taken > 0 || before == 0 {
            wake(&mut self.writer);
            return Progress::Done(taken);
        }
        match (self.sent.front(), self.end) {
            (Some((at, _)), _) => Progress::Until(*at),
            (None, Signal::Arrives(at)) if at > now => Progress::Until(at),
            (None, Signal::Arrives(_)) if self.reset => Progress::Failed(io::ErrorKind::ConnectionReset),
            (None, Signal::Arrives(_)) => Progress::Done(0),
            (None, _) => Progress::Wait,
        }
    }
}

/// Wakes whoever waits.
pub(super) fn wake(slot: &mut Option<Waker>) {
    if let Some(waker) = slot.take() {
        waker.wake();
    }
}

/// Remembers who waits.
pub(super) fn wait(slot: &mut Option<Waker>, waker: &Waker) {
    match slot {
        Some(known) => known.clone_from(waker),
        None => *slot = Some(waker.clone()),
    }
}
