use std::convert::Infallible;

use axum::{
    Extension, middleware,
    response::sse::{Event, KeepAlive, Sse},
    routing::{get, post},
};
use futures_util::stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::api::guard;

/// Bytes that a connection in memory holds in each direction.
const BUFFER: usize = 4096;

/// An answer that is larger than that.
const LARGE: usize = 1024 * 1024;

/// A client's end of a served connection.
struct Client {
    stream: DuplexStream,
    places: Arc<Semaphore>,
    stopping: CancellationToken,
}

impl Client {
    fn new() -> Self {
        let events = async |Extension(endless): Extension<Endless>| {
            endless.mark();
            let never = stream::pending::<Result<Event, Infallible>>();
            Sse::new(never).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
        };
        let router = Router::new()
            .route("/", get(async || "here"))
            .route("/large", get(async || "x".repeat(LARGE)))
            .route("/events", get(events))
            .route("/change", post(async |body: axum::body::Bytes| body.len().to_string()))
            .route_layer(middleware::from_fn(guard::read_body));
        let (stream, served) = tokio::io::duplex(BUFFER);
        let (places, stopping) = (Arc::new(Semaphore::new(1)), CancellationToken::new());
        let place = Arc::clone(&places).try_acquire_owned().unwrap();
        let tasks = TaskTracker::new();
        tasks.spawn(connection(served, router, stopping.clone(), place));
        Self { stream, places, stopping }
    }

    /// Waits until the connection gives its place back: that is what all of this is for.
    async fn end(&self) {
        let place = tokio::time::timeout(LIFETIME * 1000, self.places.acquire()).await;
        let _place = place.expect("it ends some time").unwrap();
    }

    async fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// Everything up to the end of the connection, and when that came.
    async fn rest(&mut self) -> (String, Duration) {
        let start = now();
        let mut rest = Vec::new();
        let read = tokio::time::timeout(LIFETIME * 1000, self.stream.read_to_end(&mut rest)).await;
        read.expect("it ends some time").unwrap();
        self.end().await;
        (String::from_utf8(rest).unwrap(), now() - start)
    }

    /// Sends a byte each second, for as long as somebody takes them; how long that was.
    async fn trickle(&mut self, byte: u8) -> Duration {
        let start = now();
        while self.places.available_permits() == 0 && now() - start < LIFETIME * 10 {
            if !self.send(&[byte]).await {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        now() - start
    }
}

#[expect(clippy::disallowed_methods, reason = "virtual time")]
fn now() -> Instant {
    Instant::now()
}

fn within(time: Duration, limit: Duration) -> bool {
    (limit..limit + Duration::from_secs(2)).contains(&time)
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_closed() {
    let (said, time) = Client::new().rest().await;
    assert!(said.is_empty() && within(time, HEAD_TIMEOUT), "{time:?}: {said}");
}

#[tokio::test(start_paused = true)]
async fn a_request_head_that_is_sent_slowly_for_ever_is_closed() {
    let mut client = Client::new();
    client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ").await;
    let time = client.trickle(b'a').await;
    assert!(within(time, HEAD_TIMEOUT), "{time:?}");
}

#[tokio::test(start_paused = true)]
async fn a_request_body_that_is_sent_slowly_for_ever_is_answered_with_408_and_closed() {
    for length in ["Content-Length: 1000", "Transfer-Encoding: chunked"] {
        let mut client = Client::new();
        client.send(format!("POST /change HTTP/1.1\r\nHost: a\r\n{length}\r\n\r\n").as_bytes()).await;
        if length.starts_with('T') {
            client.send(b"3e8\r\n").await;
        }
        let time = client.trickle(b'a').await;
        assert!(within(time, Duration::from_secs(10)), "{time:?}");
        let (said, _) = client.rest().await;
        assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_of_its_answer_is_closed() {
    let mut client = Client::new();
    client.send(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let start = now();
    client.end().await;
    assert!(within(now() - start, IDLE), "{:?}", now() - start);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_its_answer_byte_by_byte_is_closed() {
    let mut client = Client::new();
    client.send(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let start = now();
    while client.places.available_permits() == 0 {
        let _ = client.stream.read_u8().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(within(now() - start, LIFETIME + GRACE), "{:?}", now() - start);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_used_again_and_again_ends_between_two_requests() {
    let mut client = Client::new();
    let start = now();
    let mut answers = 0;
    loop {
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let mut answer = [0; 1024];
        let read = client.stream.read(&mut answer).await.unwrap();
        if read == 0 {
            break;
        }
        assert!(answer[..read].starts_with(b"HTTP/1.1 200 "));
        answers += 1;
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    assert!(answers >= 24 && now() - start < LIFETIME + Duration::from_secs(6), "{answers} answers");
}

#[tokio::test(start_paused = true)]
async fn an_event_stream_outlives_other_connections_while_it_is_read_and_ends_when_it_is_not() {
    let mut client = Client::new();
    client.send(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let start = now();
    while now() - start < LIFETIME * 10 {
        assert!(client.stream.read(&mut [0; 256]).await.unwrap() > 0);
    }
    // Nobody reads it: once it holds what the connection holds, it cannot go on.
    client.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_idle_connections_at_once() {
    let mut client = Client::new();
    client.stopping.cancel();
    let (said, time) = client.rest().await;
    assert!(said.is_empty() && time < Duration::from_secs(1), "{time:?}");
}

#[tokio::test(start_paused = true)]
async fn heads_that_are_too_long_or_have_too_many_fields_are_refused() {
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Long: {}\r\n\r\n", "x".repeat(2 * HEAD_LIMIT));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X-Many: 1\r\n".repeat(MAX_HEADERS));
    for head in [long, many] {
        let mut client = Client::new();
        let (mut reader, mut writer) = tokio::io::split(client.stream);
        let mut said = Vec::new();
        let sent = writer.write_all(head.as_bytes());
        // It may be closed before all of it is taken.
        let (_, read) = tokio::join!(sent, reader.read_to_end(&mut said));
        read.unwrap();
        client.stream = reader.unsplit(writer);
        assert!(said.starts_with(b"HTTP/1.1 431 "), "{}", String::from_utf8_lossy(&said));
    }
}
