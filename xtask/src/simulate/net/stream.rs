//! One end of a connection.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

use super::{flows::PipeId, now, pipe::Progress, state::State};

/// One end of a connection. Dropping it ends both directions.
pub(super) struct SimStream {
    state: Arc<Mutex<State>>,
    id: PipeId,
    reading: Timer,
    writing: Timer,
}

impl SimStream {
    pub(super) const fn new(state: Arc<Mutex<State>>, id: PipeId) -> Self {
        Self { state, id, reading: Timer(None), writing: Timer(None) }
    }
}

/// Made when it is first needed: most streams never wait to write.
pub(super) struct Timer(pub(super) Option<Pin<Box<Sleep>>>);

impl Timer {
    pub(super) fn poll(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(sleep) = &mut self.0 {
            if sleep.deadline() != at {
                sleep.as_mut().reset(at);
            }
            return sleep.as_mut().poll(cx);
        }
        self.0.insert(Box::pin(tokio::time::sleep_until(at))).as_mut().poll(cx)
    }
}

impl AsyncRead for SimStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let progress = this.state.lock().read(this.id, now(), buf, cx.waker());
            match progress {
                Progress::Done(_) => return Poll::Ready(Ok(())),
                Progress::Failed(kind) => return Poll::Ready(Err(kind.into())),
                Progress::Until(at) => ready!(this.reading.poll(at, cx)),
                Progress::Wait => return Poll::Pending,
            }
        }
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        loop {
            let progress = this.state.lock().write(this.id, now(), bytes, cx.waker());
            match progress {
                Progress::Done(len) => return Poll::Ready(Ok(len)),
                Progress::Failed(kind) => return Poll::Ready(Err(kind.into())),
                Progress::Until(at) => ready!(this.writing.poll(at, cx)),
                Progress::Wait => return Poll::Pending,
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.state.lock().shut(self.id, now());
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.state.lock().close(self.id.0, self.id.1, now());
    }
}
