//! Connections of the control API: how many there are, and how long one may take for what.
//!
//! A client that says nothing, says it slowly, or does not take its answer must not hold a place for ever, for there are only
//! so many. Each wait has an end of its own: the head of a request ([`HEAD_TIMEOUT`]), its body
//! ([`guard`](super::guard)), any byte at all ([`IDLE`]), and the connection as a whole ([`LIFETIME`]), unless its answer is a
//! stream.

use std::{
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long a request's head may take, from the moment at which one could begin. Also how long an unused connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Largest head of a request. Browsers send about 1 KiB.
const HEAD_LIMIT: usize = 16 * 1024;

/// Most header fields of a request. Browsers send about 20.
const MAX_HEADERS: usize = 64;

/// Time without a byte either way after which a connection is closed. Event streams send something every 15 s.
const IDLE: Duration = Duration::from_secs(60);

/// How long a connection is used. A browser opens another one; whoever takes an answer byte by byte is cut off.
const LIFETIME: Duration = Duration::from_secs(120);

/// How long the request under way at the end of [`LIFETIME`] may still take: as long as the slowest call, a connection to a
/// peer.
const GRACE: Duration = Duration::from_secs(30);

/// Wait after an error of accept (out of descriptors, mostly).
const ACCEPT_BACKOFF: Duration = Duration::from_secs(1);

/// Marks a connection whose answer is a stream that has no end, so that [`LIFETIME`] does not end it.
#[derive(Debug, Clone, Default)]
pub(super) struct Endless(Arc<AtomicBool>);

impl Endless {
    pub(super) fn mark(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_marked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Serves until `stopping`, with at most `connections` at once; the rest wait in the kernel's queue. Each connection is a
/// task of `tasks`.
pub(super) async fn serve(
    listener: TcpListener,
    connections: usize,
    router: Router,
    stopping: CancellationToken,
    tasks: TaskTracker,
) {
    let places = Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS)));
    let mut failing = false;
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            biased;
            () = stopping.cancelled() => return,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                failing = false;
                tasks.spawn(connection(stream, router.clone(), stopping.clone(), place));
            }
            Err(error) => {
                // Once, until it works again.
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "the control API cannot accept connections; trying again");
                }
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

/// Serves one connection to its end. `place` is what it holds as long.
async fn connection<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    router: Router,
    stopping: CancellationToken,
    place: OwnedSemaphorePermit,
) {
    let endless = Endless::default();
    let service = TowerToHyperService::new(router);
    let marked = endless.clone();
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(marked.clone());
        hyper::service::Service::call(&service, request.map(Body::new))
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_LIMIT)
        .max_headers(MAX_HEADERS);
    let mut served = pin!(http.serve_connection(TokioIo::new(Timed::new(stream)), service));
    let (mut stopped, mut aged) = (pin!(stopping.cancelled()), pin!(tokio::time::sleep(LIFETIME)));
    let (mut stops, mut age) = (false, Age::Young);
    loop {
        tokio::select! {
            biased;
            // Errors are the client's: it went away, or broke a rule and was answered so.
            _ = served.as_mut() => break,
            () = stopped.as_mut(), if !stops => {
                stops = true;
                served.as_mut().graceful_shutdown();
            }
            () = aged.as_mut(), if age != Age::Endless => match age {
                _ if endless.is_marked() => age = Age::Endless,
                Age::Young => {
                    age = Age::Old;
                    served.as_mut().graceful_shutdown();
                    aged.set(tokio::time::sleep(GRACE));
                }
                Age::Old | Age::Endless => break,
            },
        }
    }
    drop(place);
}

/// How far a connection is in its life.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Age {
    /// It may take requests.
    Young,
    /// It may finish one.
    Old,
    /// It streams, and is not asked for its age.
    Endless,
}

/// A stream that fails when nothing moves.
#[derive(Debug)]
struct Timed<S> {
    stream: S,
    idle: Pin<Box<Sleep>>,
}

impl<S> Timed<S> {
    fn new(stream: S) -> Self {
        Self { stream, idle: Box::pin(tokio::time::sleep(IDLE)) }
    }

    /// What a call came to, with an error in the place of a wait that lasts too long.
    #[expect(clippy::disallowed_methods, reason = "the API runs on real sockets, beside the simulated clock")]
    fn judge<T>(&mut self, context: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.idle.as_mut().reset(Instant::now() + IDLE);
            return outcome;
        }
        self.idle.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.judge(context, outcome)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(context, outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
