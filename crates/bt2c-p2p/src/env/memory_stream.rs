//! Byte streams in memory: what is written arrives after the latency, unless the link is cut.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

/// Bytes under way in one direction before the writer has to wait.
pub(super) const WINDOW: usize = 256 * 1024;

/// Bytes under way in one direction.
#[derive(Debug)]
pub(super) struct Pipe {
    chunks: VecDeque<(Instant, Bytes)>,
    buffered: usize,
    latency: Duration,
    frozen: bool,
    writer_gone: bool,
    reader_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    pub(super) fn new(latency: Duration) -> Self {
        Self {
            chunks: VecDeque::new(),
            buffered: 0,
            latency,
            frozen: false,
            writer_gone: false,
            reader_gone: false,
            reader: None,
            writer: None,
        }
    }

    pub(super) fn set_frozen(&mut self, frozen: bool) {
        self.frozen = frozen;
        if !frozen {
            self.wake();
        }
    }

    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

/// One end of a connection.
pub(super) struct MemoryStream {
    incoming: Arc<Mutex<Pipe>>,
    outgoing: Arc<Mutex<Pipe>>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl MemoryStream {
    pub(super) const fn new(incoming: Arc<Mutex<Pipe>>, outgoing: Arc<Mutex<Pipe>>) -> Self {
        Self { incoming, outgoing, timer: None }
    }
}

impl AsyncRead for MemoryStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let arrival = {
                let mut pipe = this.incoming.lock();
                pipe.reader = Some(cx.waker().clone());
                if pipe.frozen {
                    return Poll::Pending;
                }
                let Some((arrival, chunk)) = pipe.chunks.front_mut() else {
                    return if pipe.writer_gone { Poll::Ready(Ok(())) } else { Poll::Pending };
                };
                #[expect(clippy::disallowed_methods, reason = "the network keeps its own time")]
                if *arrival <= Instant::now() {
                    let len = chunk.len().min(buf.remaining());
                    buf.put_slice(&chunk[..len]);
                    chunk.advance(len);
                    if chunk.is_empty() {
                        pipe.chunks.pop_front();
                    }
                    pipe.buffered -= len;
                    if let Some(writer) = pipe.writer.take() {
                        writer.wake();
                    }
                    return Poll::Ready(Ok(()));
                }
                *arrival
            };
            let timer = this.timer.insert(Box::pin(tokio::time::sleep_until(arrival)));
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl AsyncWrite for MemoryStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut pipe = self.outgoing.lock();
        if pipe.reader_gone && !pipe.frozen {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = WINDOW.saturating_sub(pipe.buffered);
        if room == 0 {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let len = bytes.len().min(room);
        #[expect(clippy::disallowed_methods, reason = "the network keeps its own time")]
        let arrival = Instant::now() + pipe.latency;
        pipe.chunks.push_back((arrival, Bytes::copy_from_slice(&bytes[..len])));
        pipe.buffered += len;
        if let Some(reader) = pipe.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.outgoing.lock();
        pipe.writer_gone = true;
        pipe.wake();
        Poll::Ready(Ok(()))
    }
}

impl Drop for MemoryStream {
    fn drop(&mut self) {
        let mut outgoing = self.outgoing.lock();
        outgoing.writer_gone = true;
        outgoing.wake();
        drop(outgoing);
        let mut incoming = self.incoming.lock();
        incoming.reader_gone = true;
        incoming.wake();
    }
}
