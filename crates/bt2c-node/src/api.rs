//! The control API: HTTP and JSON for the operator, on loopback unless configured otherwise.
//!
//! Reading needs no more than a connection; every change needs the bearer token. A page in the operator's browser can
//! reach loopback too, so the `Host` header is checked (DNS rebinding), nothing allows cross-origin reading, what says that it
//! comes from another site is refused, and no change can be asked for without a header that browsers do not send by themselves.

mod change;
mod connect;
mod error;
mod events;
mod explain;
mod guard;
mod listener;
mod page;
mod read;
mod verify;
mod views;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    routing::{delete, get, post},
};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::node::NodeHandle;

pub use explain::{BlockDecisionView, BlockExplanation, DecisionView, ExplainView, PeerExplanation};
pub use guard::Token;
pub use views::{
    AllowRequest, BanRequest, BanView, ConnectRequest, ConnectView, ConsistencyView, Contributor, ErrorView,
    KnownPeerView, PeerCounts, PeerView, StatusView, TransactionView, VerifyView,
};

use error::ApiError;

/// Largest body of a request: a transaction with a full payload, every character of it escaped.
const BODY_LIMIT: usize = 512 * 1024;

/// Event streams at once.
const MAX_STREAMS: usize = 16;

/// How long open requests may take to finish once the server is told to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// What the handlers share.
#[derive(Debug, Clone)]
struct State {
    node: NodeHandle,
    token: Token,
    addr: SocketAddr,
    streams: Arc<Semaphore>,
    /// One check of the chain at a time.
    checks: Arc<Semaphore>,
    stopping: CancellationToken,
}

/// A running control API.
#[derive(Debug)]
pub(crate) struct ApiServer {
    addr: SocketAddr,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

impl ApiServer {
    /// Serves `node` on `addr`, with at most `connections` at once.
    pub(crate) async fn start(
        node: NodeHandle,
        addr: SocketAddr,
        token: Token,
        connections: usize,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let stopping = CancellationToken::new();
        let streams = Arc::new(Semaphore::new(MAX_STREAMS));
        let checks = Arc::new(Semaphore::new(1));
        let state = State { node, token, addr, streams, checks, stopping: stopping.clone() };
        let tasks = TaskTracker::new();
        tasks.spawn(listener::serve(listener, connections, router(state), stopping.clone(), tasks.clone()));
        tasks.close();
        Ok(Self { addr, stopping, tasks })
    }

    /// Where it listens, with the real port.
    pub(crate) const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Takes no more requests and waits, not for long, for those under way.
    pub(crate) async fn stop(self) {
        self.stopping.cancel();
        // Whoever is still connected after this loses the connection when the process ends.
        let _ = tokio::time::timeout(STOP_TIMEOUT, self.tasks.wait()).await;
    }
}

fn router(state: State) -> Router {
    let reads = Router::new()
        .route("/", get(page::page))
        .route("/status", get(read::status))
        .route("/peers/known", get(read::known_peers))
        .route("/blocks/{id}", get(read::block))
        .route("/explain/{subject}", get(explain::explain))
        .route("/events", get(events::events))
        .route("/metrics", get(read::metrics));
    let changes = Router::new()
        .route("/transactions", post(change::submit_transaction))
        .route("/verify", post(verify::verify))
        .route("/peers", post(change::connect))
        .route("/peers/{id}", delete(change::disconnect))
        .route("/bans", post(change::ban))
        .route("/bans/{subject}", delete(change::unban))
        .route("/allow", post(change::allow))
        .route("/allow/{subject}", delete(change::disallow))
        // The last of these layers is asked first.
        .route_layer(middleware::from_fn(guard::read_body))
        .route_layer(middleware::from_fn_with_state(state.clone(), guard::check_token))
        .route_layer(middleware::from_fn(guard::check_origin));
    // Paths that are both read and changed: the token guards the methods that change, above.
    let mixed = Router::new().route("/peers", get(read::peers)).route("/bans", get(read::bans));
    reads
        .merge(changes)
        .merge(mixed)
        .fallback(async || ApiError::not_found("no such call; docs/operating.md lists them"))
        .method_not_allowed_fallback(async || ApiError::method())
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::from_fn(guard::check_site))
        .layer(middleware::from_fn_with_state(state.clone(), guard::check_host))
        .layer(middleware::map_response(guard::keep_to_this_origin))
        .with_state(state)
}
