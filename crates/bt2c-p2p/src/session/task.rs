//! The task of one connection after TLS: moves bytes between the stream, the core and everyone else.
//!
//! It reads only while it can pass on what it reads: a handler that is behind stops the reading of its peers (and of
//! nobody else), and TCP tells them so.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bt2c_proto::{CloseCode, Frame, FrameCodec, Message, MessageKind, Time, limits::FRAME_LIMIT};
use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::{mpsc, watch},
};
use tokio_rustls::TlsStream;
use tokio_util::{codec::Decoder, sync::CancellationToken};

use super::{
    Command, Note,
    core::{Action, SessionCore},
    queue::{Chunker, Next, Outbox},
};
use crate::{
    config::Tip,
    env::{BoxFuture, Clock, Stream},
    event::Inbound,
    manager::ingress::Routes,
    metrics::{DropCause, Metrics},
    peer::{ConnectionId, LinkStats, Peer},
    reason::CloseReason,
};

/// What a session task shares with the rest of the node.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) notes: mpsc::Sender<Note>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) tip: watch::Receiver<Tip>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) send_timeout: Duration,
}

/// A connection's own ends of what is shared.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) connection: ConnectionId,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) stats: Arc<LinkStats>,
    pub(crate) outbox: Arc<Outbox>,
}

/// Smallest and largest room that is made for one read: idle peers cost little, busy ones few calls.
const READ_MIN: usize = 2 * 1024;
const READ_MAX: usize = 64 * 1024;

/// How long the last frame before a close may take to go out.
const LAST_WORD: Duration = Duration::from_secs(1);

/// One connection after TLS.
pub(crate) struct Session {
    shared: Shared,
    link: Link,
    core: SessionCore,
    reader: ReadHalf<TlsStream<Box<dyn Stream>>>,
    writer: WriteHalf<TlsStream<Box<dyn Stream>>>,
    codec: FrameCodec,
    buffer: BytesMut,
    read_size: usize,
    chunker: Chunker,
    needs_flush: bool,
    /// Last time that writing made progress, or had nothing to do.
    write_progress: Time,
    /// Messages whose handler is behind, in order.
    pending: VecDeque<(mpsc::Sender<Inbound>, Inbound)>,
    peer: Option<Peer>,
    timer: Option<(Time, BoxFuture<'static, ()>)>,
}

/// What woke the task.
enum Wake {
    Shutdown,
    Command(Option<Command>),
    Written(io::Result<usize>),
    Flushed(io::Result<()>),
    Filled,
    Room(bool),
    Read(io::Result<usize>),
    Timer,
}

impl Session {
    pub(crate) fn new(
        shared: Shared,
        link: Link,
        core: SessionCore,
        stream: TlsStream<Box<dyn Stream>>,
    ) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        let now = shared.clock.now();
        Self {
            shared,
            link,
            core,
            reader,
            writer,
            codec: FrameCodec::new(),
            buffer: BytesMut::new(),
            read_size: READ_MIN,
            chunker: Chunker::default(),
            needs_flush: false,
            write_progress: now,
            pending: VecDeque::new(),
            peer: None,
            timer: None,
        }
    }

    /// Runs until the connection is over and says why.
    pub(crate) async fn run(mut self) -> CloseReason {
        let tip = *self.shared.tip.borrow();
        self.core.start(self.shared.clock.now(), tip);
        loop {
            if let Some((reason, last)) = self.settle().await {
                self.link.outbox.close();
                self.say_last(last).await;
                return reason;
            }
            let wake = self.wait().await;
            self.handle(wake);
        }
    }

    /// Does everything that can be done without waiting for the stream: decodes what is buffered, carries out actions.
    async fn settle(&mut self) -> Option<(CloseReason, Option<Frame>)> {
        let mut fresh = false;
        loop {
            while let Some(action) = self.core.poll_action() {
                if let Action::Close(reason, last) = action {
                    return Some((reason, last));
                }
                self.carry_out(action).await;
            }
            if !self.pending.is_empty() || !self.core.wants_bytes() {
                return None;
            }
            let now = self.shared.clock.now();
            match self.codec.decode(&mut self.buffer) {
                Ok(Some(body)) => {
                    fresh = true;
                    if let Some(kind) = self.core.handle_body(now, &body) {
                        self.shared.metrics.count_received(kind);
                    }
                }
                Ok(None) => {
                    self.core.handle_partial(now, partial_len(&self.buffer), fresh);
                    return None;
                }
                Err(error) => self.core.handle_frame_error(now, &error),
            }
        }
    }

    async fn carry_out(&mut self, action: Action) {
        let connection = self.link.connection;
        let note = match action {
            Action::Send(frame) => {
                if self.link.outbox.push(frame).is_err() {
                    self.core.close(self.shared.clock.now(), CloseCode::Slow, "the send queue is full");
                }
                return;
            }
            Action::RaiseFrameLimit => return self.codec.set_limit(FRAME_LIMIT),
            Action::Rtt(rtt) => return self.link.stats.set_rtt(rtt),
            Action::Dropped(cause) => return self.shared.metrics.count_dropped(cause),
            Action::Deliver(message @ (Message::GetPeers(_) | Message::Peers(_)), _) => {
                Note::Message { connection, message }
            }
            Action::Deliver(message, len) => return self.deliver(message, len),
            Action::Judge(hello) => Note::Hello { connection, hello },
            Action::Report(offence, evidence) => Note::Report { connection, offence, evidence },
            Action::ProbeAnswered => Note::ProbeAnswered { connection },
            Action::Idle => Note::Idle { connection },
            Action::Close(..) => unreachable!("taken by the caller"),
        };
        // The manager outlives its sessions; if it is gone all the same, so is everyone who could miss the note.
        let _ = self.shared.notes.send(note).await;
    }

    fn deliver(&mut self, message: Message, len: usize) {
        let handler = self.shared.routes.read().get(&message.kind()).cloned();
        let (Some(handler), Some(peer)) = (handler, self.peer.clone()) else {
            return self.shared.metrics.count_dropped(DropCause::NoHandler);
        };
        let now = self.shared.clock.now();
        let inbound = Inbound { peer, message, received: now, len };
        if !self.pending.is_empty() {
            return self.pending.push_back((handler, inbound));
        }
        match handler.try_send(inbound) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(inbound)) => self.pending.push_back((handler, inbound)),
            Err(mpsc::error::TrySendError::Closed(_)) => {
                self.shared.metrics.count_dropped(DropCause::NoHandler)
            }
        }
    }

    /// Waits for whatever comes first.
    async fn wait(&mut self) -> Wake {
        let now = self.shared.clock.now();
        let paced = self.refill(now);
        let writing = !self.chunker.is_empty();
        let reading = self.pending.is_empty() && self.core.wants_bytes();
        if !writing && !self.needs_flush {
            self.write_progress = now;
        }
        let stalled = (writing || self.needs_flush).then(|| self.write_progress + self.shared.send_timeout);
        self.set_timer([self.core.poll_timeout(), paced, stalled].into_iter().flatten().min());
        if reading {
            self.buffer.reserve(self.read_size);
        }
        let room = self.pending.front().map(|(handler, _)| handler.clone());
        tokio::select! {
            biased;
            () = self.shared.shutdown.cancelled() => Wake::Shutdown,
            command = self.link.commands.recv() => Wake::Command(command),
            wake = write_or_flush(&mut self.writer, &mut self.chunker), if writing || self.needs_flush => wake,
            () = self.link.outbox.filled(), if !writing => Wake::Filled,
            result = async { room.as_ref().expect("guarded").reserve().await.is_ok() }, if room.is_some() => {
                Wake::Room(result)
            }
            result = self.reader.read_buf(&mut self.buffer), if reading => Wake::Read(result),
            () = async { self.timer.as_mut().expect("guarded").1.as_mut().await }, if self.timer.is_some() => {
                Wake::Timer
            }
        }
    }

    /// Fills the chunk to write; when the queue holds only pushes above our pace, says when to look again.
    fn refill(&mut self, now: Time) -> Option<Time> {
        let mut paced = None;
        let (outbox, core, metrics) = (&self.link.outbox, &mut self.core, &self.shared.metrics);
        self.chunker.chunk(|| match outbox.pop(now) {
            Next::Frame(frame) => {
                core.handle_sent(frame.kind());
                metrics.count_sent(frame.kind().name());
                Some(frame)
            }
            Next::Wait(until) => {
                paced = Some(until);
                None
            }
            Next::Empty => None,
        });
        paced
    }

    fn set_timer(&mut self, at: Option<Time>) {
        if self.timer.as_ref().map(|(at, _)| *at) != at {
            self.timer = at.map(|at| (at, self.shared.clock.sleep_until(at)));
        }
    }

    fn handle(&mut self, wake: Wake) {
        let now = self.shared.clock.now();
        match wake {
            Wake::Shutdown => self.core.close(now, CloseCode::Shutdown, "the node is stopping"),
            Wake::Command(Some(command)) => self.handle_command(now, command),
            Wake::Command(None) => self.core.close(now, CloseCode::Shutdown, "the node is stopping"),
            Wake::Written(Ok(len)) if len > 0 => {
                (self.needs_flush, self.write_progress) = (true, now);
                self.link.stats.bytes_out.fetch_add(len as u64, Ordering::Relaxed);
                self.shared.metrics.bytes_out.inc_by(len as u64);
            }
            Wake::Written(Ok(_)) => self.core.handle_transport_end(CloseReason::Ended),
            Wake::Flushed(Ok(())) => (self.needs_flush, self.write_progress) = (false, now),
            Wake::Filled => {}
            Wake::Room(open) => self.handle_room(now, open),
            Wake::Read(Ok(0)) => self.core.handle_transport_end(CloseReason::Ended),
            Wake::Read(Ok(len)) => {
                self.read_size = if len >= self.read_size { (len * 2).min(READ_MAX) } else { READ_MIN };
                self.link.stats.bytes_in.fetch_add(len as u64, Ordering::Relaxed);
                self.shared.metrics.bytes_in.inc_by(len as u64);
                self.core.handle_bytes(now);
            }
            Wake::Written(Err(error)) | Wake::Flushed(Err(error)) | Wake::Read(Err(error)) => {
                let reason = match error.kind() {
                    // TCP closed without TLS's goodbye: common, and no attack on a protocol with its own framing.
                    io::ErrorKind::UnexpectedEof => CloseReason::Ended,
                    kind => CloseReason::Io(kind),
                };
                self.core.handle_transport_end(reason);
            }
            Wake::Timer => {
                self.timer = None;
                let busy = !self.chunker.is_empty() || self.needs_flush;
                if busy && now >= self.write_progress + self.shared.send_timeout {
                    self.core.close(now, CloseCode::Slow, "nothing could be written");
                }
                if !self.pending.is_empty() {
                    self.core.handle_paused(now);
                }
                self.core.handle_timeout(now);
            }
        }
    }

    fn handle_command(&mut self, now: Time, command: Command) {
        let tip = *self.shared.tip.borrow();
        match command {
            Command::Admit(peer) => {
                self.peer = Some(peer);
                self.core.handle_verdict(now, Ok(()), tip);
            }
            Command::Refuse(code) => self.core.handle_verdict(now, Err(code), tip),
            Command::Probe => self.core.handle_probe(now),
            Command::Close(code) => self.core.close(now, code, "closed by the manager"),
        }
    }

    /// The first pending message's handler has room, or is gone.
    fn handle_room(&mut self, now: Time, open: bool) {
        let Some((handler, inbound)) = self.pending.pop_front() else { return };
        match handler.try_send(inbound) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(inbound)) if open => {
                self.pending.push_front((handler, inbound))
            }
            Err(_) => self.shared.metrics.count_dropped(DropCause::NoHandler),
        }
        self.core.handle_paused(now);
    }

    /// Sends the last frame and TLS's goodbye, best effort.
    async fn say_last(&mut self, last: Option<Frame>) {
        let deadline = self.shared.clock.now() + LAST_WORD;
        let unsent = std::mem::take(self.chunker.chunk(|| None));
        let goodbye = async {
            if let Some(frame) = last {
                // What was begun must be finished, or the last frame would be read as its rest.
                let mut bytes = unsent.chain(frame.bytes().clone());
                self.writer.write_all_buf(&mut bytes).await?;
                self.shared.metrics.count_sent(MessageKind::Disconnect.name());
            }
            self.writer.shutdown().await
        };
        let out_of_time = self.shared.clock.sleep_until(deadline);
        tokio::select! {
            biased;
            _ = goodbye => {}
            () = out_of_time => {}
        }
    }
}

/// Writes some of the chunk; once it is out, flushes.
async fn write_or_flush(writer: &mut WriteHalf<TlsStream<Box<dyn Stream>>>, chunker: &mut Chunker) -> Wake {
    if chunker.is_empty() {
        return Wake::Flushed(writer.flush().await);
    }
    Wake::Written(writer.write_buf(chunker.chunk(|| None)).await)
}

/// The declared length of the frame whose beginning is in the buffer; 0 while its header is not complete.
fn partial_len(buffer: &BytesMut) -> Option<usize> {
    if buffer.is_empty() {
        return None;
    }
    let header = buffer.first_chunk::<4>();
    Some(header.map_or(0, |header| usize::try_from(u32::from_be_bytes(*header)).unwrap_or(usize::MAX)))
}
