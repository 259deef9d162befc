//! The task of one connection after TLS: moves bytes between the stream, the core and everyone else.
//!
//! It reads only while it can pass on what it reads: a handler that is behind stops the reading of its peers (and of
//! nobody else), and TCP tells them so.

use std::{io, sync::atomic::Ordering, time::Duration};

use bt2c_proto::{CloseCode, Frame, FrameCodec, Message, MessageKind, PeerId, Time, limits::FRAME_LIMIT};
use bytes::BytesMut;
use tokio::io::{AsyncReadExt, ReadHalf, WriteHalf};
use tokio_util::codec::Decoder;

use super::{
    Command, Link, Note, Shared,
    core::{Action, SessionCore},
    delivery::{Delivery, Place},
    queue::Next,
    writing::Writing,
};
use crate::{
    env::{BoxFuture, Stream},
    peer::Peer,
    reason::CloseReason,
};

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
    remote: PeerId,
    reader: ReadHalf<Box<dyn Stream>>,
    writing: Writing<WriteHalf<Box<dyn Stream>>>,
    codec: FrameCodec,
    buffer: BytesMut,
    read_size: usize,
    delivery: Delivery,
    peer: Option<Peer>,
    timer: Option<(Time, BoxFuture<'static, ()>)>,
}

/// What woke the task.
enum Wake {
    Shutdown,
    Command(Option<Command>),
    Written(io::Result<usize>),
    Filled,
    Room(Option<Place>),
    Read(io::Result<usize>),
    Timer,
}

impl Session {
    pub(crate) fn new(
        shared: Shared,
        link: Link,
        core: SessionCore,
        remote: PeerId,
        stream: Box<dyn Stream>,
    ) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self {
            writing: Writing::new(writer, shared.clock.now()),
            delivery: Delivery::new(shared.routes.clone(), shared.metrics.clone()),
            shared,
            link,
            core,
            remote,
            reader,
            codec: FrameCodec::new(),
            buffer: BytesMut::new(),
            read_size: READ_MIN,
            peer: None,
            timer: None,
        }
    }

    /// Runs until the connection is over and says why.
    pub(crate) async fn run(mut self) -> CloseReason {
        let chain = *self.shared.chain.borrow();
        self.core.start(self.shared.clock.now(), chain);
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
            if self.delivery.is_behind() || !self.core.wants_bytes() {
                return None;
            }
            let now = self.shared.clock.now();
            match self.codec.decode(&mut self.buffer) {
                Ok(Some(body)) => {
                    fresh = true;
                    if let Some(tap) = &self.shared.tap {
                        tap.message(now, self.remote, self.core.local_id(), &body);
                    }
                    if let Some(kind) = self.core.handle_body(now, &body) {
                        self.shared.metrics.count_received(kind);
                    }
                    // What is buffered is handled without waiting for anything: a flood would keep this thread for itself.
                    tokio::task::coop::consume_budget().await;
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
            Action::Rtt(rtt) => {
                self.link.stats.set_rtt(rtt);
                Note::Rtt { connection, rtt }
            }
            Action::Dropped(cause) => return self.shared.metrics.count_dropped(cause),
            Action::Deliver(message @ (Message::GetPeers(_) | Message::Peers(_)), _) => {
                Note::Message { connection, message }
            }
            Action::Deliver(message, len) => {
                let now = self.shared.clock.now();
                return self.delivery.deliver(now, self.peer.as_ref(), message, len);
            }
            Action::Clock(ahead) => Note::Clock { connection, ahead },
            Action::Judge(hello) => Note::Hello { connection, hello },
            Action::Report(offence, evidence) => Note::Report { connection, offence, evidence },
            Action::Probed(alive) => Note::Probed { connection, alive },
            Action::Idle => Note::Idle { connection },
            Action::Close(..) => unreachable!("taken by the caller"),
        };
        // The manager outlives its sessions; if it is gone all the same, so is everyone who could miss the note.
        let _ = self.shared.notes.send(note).await;
    }

    /// Waits for whatever comes first.
    async fn wait(&mut self) -> Wake {
        let now = self.shared.clock.now();
        let paced = self.refill(now);
        let full = self.writing.wants_no_more();
        let reading = !self.delivery.is_behind() && self.core.wants_bytes();
        let stalled = self.writing.stalled_at(self.shared.send_timeout);
        self.set_timer([self.core.poll_timeout(), paced, stalled].into_iter().flatten().min());
        if reading {
            self.buffer.reserve(self.read_size);
        }
        tokio::select! {
            biased;
            () = self.shared.shutdown.cancelled() => Wake::Shutdown,
            command = self.link.commands.recv() => Wake::Command(command),
            // Deadlines come before bytes: a peer that always has something to say must not put them off.
            () = async { self.timer.as_mut().expect("guarded").1.as_mut().await }, if self.timer.is_some() => {
                Wake::Timer
            }
            result = self.writing.advance() => Wake::Written(result),
            () = self.link.outbox.filled(), if !full => Wake::Filled,
            place = self.delivery.room() => Wake::Room(place),
            result = self.reader.read_buf(&mut self.buffer), if reading => Wake::Read(result),
        }
    }

    /// Takes the next frames from the queue; when it holds only pushes above our pace, says when to look again.
    fn refill(&mut self, now: Time) -> Option<Time> {
        let mut paced = None;
        let (outbox, core, metrics) = (&self.link.outbox, &mut self.core, &self.shared.metrics);
        self.writing.refill(now, || match outbox.pop(now, core.is_open()) {
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
            Wake::Written(Ok(len)) => {
                self.writing.moved(now);
                self.link.stats.bytes_out.fetch_add(len as u64, Ordering::Relaxed);
                self.shared.metrics.bytes_out.inc_by(len as u64);
            }
            Wake::Filled => {}
            Wake::Room(place) => {
                self.delivery.fill(place);
                self.core.handle_paused(now);
            }
            Wake::Read(Ok(0)) => self.core.handle_transport_end(CloseReason::Ended),
            Wake::Read(Ok(len)) => {
                self.read_size = if len >= self.read_size { (len * 2).min(READ_MAX) } else { READ_MIN };
                self.link.stats.bytes_in.fetch_add(len as u64, Ordering::Relaxed);
                self.shared.metrics.bytes_in.inc_by(len as u64);
                self.core.handle_bytes(now);
            }
            Wake::Written(Err(error)) | Wake::Read(Err(error)) => {
                let reason = match error.kind() {
                    // TCP closed without TLS's goodbye: common, and no attack on a protocol with its own framing.
                    io::ErrorKind::UnexpectedEof => CloseReason::Ended,
                    kind => CloseReason::Io(kind),
                };
                self.core.handle_transport_end(reason);
            }
            Wake::Timer => {
                self.timer = None;
                if self.writing.stalled_at(self.shared.send_timeout).is_some_and(|at| at <= now) {
                    self.core.close(now, CloseCode::Slow, "nothing could be written");
                }
                if self.delivery.is_behind() {
                    self.core.handle_paused(now);
                }
                self.core.handle_timeout(now);
            }
        }
    }

    fn handle_command(&mut self, now: Time, command: Command) {
        let chain = *self.shared.chain.borrow();
        match command {
            Command::Admit(peer) => {
                if let Some(told) = &peer.hello().limits {
                    self.link.outbox.heed(now, told);
                }
                self.peer = Some(peer);
                self.core.handle_verdict(now, Ok(()), chain);
            }
            Command::Refuse(refusal) => self.core.handle_verdict(now, Err(refusal), chain),
            Command::Probe => self.core.handle_probe(now),
            Command::Close(code) => self.core.close(now, code, "closed by the manager"),
        }
    }

    /// Sends the last frame and TLS's goodbye, best effort.
    async fn say_last(&mut self, last: Option<Frame>) {
        let out_of_time = self.shared.clock.sleep_until(self.shared.clock.now() + LAST_WORD);
        let told = last.is_some();
        tokio::select! {
            biased;
            result = self.writing.finish(last) => {
                if told && result.is_ok() {
                    self.shared.metrics.count_sent(MessageKind::Disconnect.name());
                }
            }
            () = out_of_time => {}
        }
    }
}

/// The declared length of the frame whose beginning is in the buffer; 0 while its header is not complete.
fn partial_len(buffer: &BytesMut) -> Option<usize> {
    if buffer.is_empty() {
        return None;
    }
    let header = buffer.first_chunk::<4>();
    Some(header.map_or(0, |header| usize::try_from(u32::from_be_bytes(*header)).unwrap_or(usize::MAX)))
}
