//! Calls that change nothing.

use axum::{
    Json,
    extract::{Path, State as Extract},
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use bt2c_p2p::PeerInfo;
use bt2c_proto::{BlockHash, Height, limits::MAX_INTEGER};
use bt2c_sync::StoreError;

use super::{
    ApiError, State,
    views::{BanView, KnownPeerView, PeerView, StatusView},
};

/// `GET /status`.
pub(super) async fn status(Extract(state): Extract<State>) -> Json<StatusView> {
    Json(state.node.status().await)
}

/// `GET /peers`.
pub(super) async fn peers(Extract(state): Extract<State>) -> Json<Vec<PeerView>> {
    let (now, claims) = (state.node.now(), state.node.claimed_heights().await);
    let view = |info: &PeerInfo| PeerView::new(info, claims.get(&info.peer.id()).copied(), now);
    Json(state.node.p2p().peers().await.iter().map(view).collect())
}

/// `GET /peers/known`.
pub(super) async fn known_peers(Extract(state): Extract<State>) -> Json<Vec<KnownPeerView>> {
    Json(state.node.p2p().known_peers().await.into_iter().map(KnownPeerView::from).collect())
}

/// `GET /bans`.
pub(super) async fn bans(Extract(state): Extract<State>) -> Json<Vec<BanView>> {
    Json(state.node.p2p().bans().await.iter().map(BanView::from).collect())
}

/// `GET /blocks/{height or hash}`: the canonical form, as stored.
pub(super) async fn block(
    Extract(state): Extract<State>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let found = match (id.parse::<BlockHash>(), id.parse::<u64>()) {
        (Ok(hash), _) => state.node.block(hash).await,
        (_, Ok(height)) if height <= MAX_INTEGER => state.node.block_at(Height::new(height)).await,
        _ => {
            return Err(ApiError::bad_request("blocks are named by a height or by 64 lower-case hex digits"));
        }
    };
    let bytes = match found {
        Ok(Some(bytes)) => bytes,
        Ok(None) => {
            let first = state.node.sync().store().first_body();
            let pruned = id.parse().is_ok_and(|height: u64| height < first.get());
            return Err(if pruned { ApiError::pruned(first) } else { ApiError::not_found(NO_BLOCK) });
        }
        Err(StoreError::Pruned { first, .. }) => return Err(ApiError::pruned(first)),
        Err(error) => return Err(unreadable(&id, &error)),
    };
    Ok(([(CONTENT_TYPE, "application/json")], bytes).into_response())
}

const NO_BLOCK: &str = "no such block on this node";

/// The chain on disk cannot be read, which is for the operator more than for whoever asked.
fn unreadable(id: &str, error: &StoreError) -> ApiError {
    tracing::error!(block = %id, %error, "a block cannot be read; stop the node and run `bt2c-node chain verify`");
    ApiError::internal(error.to_string())
}

/// `GET /metrics`.
pub(super) async fn metrics(Extract(state): Extract<State>) -> Response {
    let text = state.node.metrics_text();
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}
