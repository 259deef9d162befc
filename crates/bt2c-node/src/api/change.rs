//! Calls that change something; they run only behind the token check.

use std::time::Duration;

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State as Extract},
    http::StatusCode,
};
use bt2c_p2p::ConnectError;
use bt2c_proto::{CloseCode, PeerId, Transaction};
use bt2c_security::Subject;
use serde::de::DeserializeOwned;

use super::{
    ApiError, State,
    connect::failure,
    views::{AllowRequest, BanRequest, BanView, ConnectRequest, ConnectView, TransactionView},
};
use crate::{config::MAX_DURATION, node::SubmitError};

/// `POST /transactions`: 200 once it is checked, in the pool and on its way to the peers.
pub(super) async fn submit_transaction(
    Extract(state): Extract<State>,
    body: Bytes,
) -> Result<Json<TransactionView>, ApiError> {
    let transaction: Transaction = parse(body)?;
    let hash = transaction.hash;
    match state.node.broadcast_transaction(transaction).await {
        Ok(()) => Ok(Json(TransactionView { hash })),
        Err(error @ SubmitError::InvalidTransaction(_)) => Err(ApiError::bad_request(error.to_string())),
        Err(error @ SubmitError::Busy) => Err(ApiError::busy(error.to_string())),
        Err(error) => Err(ApiError::conflict(error.to_string())),
    }
}

/// `POST /peers`: 200 once the peer's hello is accepted.
pub(super) async fn connect(
    Extract(state): Extract<State>,
    body: Bytes,
) -> Result<Json<ConnectView>, ApiError> {
    let ConnectRequest { addr } = parse(body)?;
    match state.node.p2p().connect_to_peer(addr.clone()).await {
        Ok(peer_id) => Ok(Json(ConnectView { peer_id })),
        Err(ConnectError::Failed(reason)) => Err(ApiError::peer_failed(failure(&addr, reason))),
        Err(error) => Err(ApiError::conflict(error.to_string())),
    }
}

/// `DELETE /peers/{id}`.
pub(super) async fn disconnect(
    Extract(state): Extract<State>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let peer: PeerId = id.parse().map_err(|error| ApiError::bad_request(format!("peer {id:?}: {error}")))?;
    let found = state.node.p2p().disconnect_from_peer(peer, CloseCode::Pruned).await;
    done(found, || format!("no connection to {peer}"))
}

/// `POST /bans`.
pub(super) async fn ban(Extract(state): Extract<State>, body: Bytes) -> Result<Json<BanView>, ApiError> {
    let BanRequest { subject, duration_s, reason } = parse(body)?;
    let reason = reason.unwrap_or_else(|| "operator".to_owned());
    let duration = duration_s.map(Duration::from_secs);
    if duration.is_some_and(|duration| duration.is_zero() || duration > MAX_DURATION) {
        return Err(ApiError::bad_request("duration_s: a ban lasts 1 second to 100 years"));
    }
    let ban = state.node.p2p().ban(subject, duration, reason).await;
    ban.map(|ban| Json(BanView::from(&ban))).ok_or_else(|| {
        ApiError::conflict(format!(
            "{subject} is not banned: it is allow-listed, or the table of bans is full"
        ))
    })
}

/// `DELETE /bans/{subject}`.
pub(super) async fn unban(
    Extract(state): Extract<State>,
    Path(text): Path<String>,
) -> Result<StatusCode, ApiError> {
    let subject = subject(&text)?;
    let found = state.node.p2p().unban(subject).await;
    done(found, || format!("{text} is not banned"))
}

/// `POST /allow`.
pub(super) async fn allow(Extract(state): Extract<State>, body: Bytes) -> Result<StatusCode, ApiError> {
    let AllowRequest { subject } = parse(body)?;
    state.node.p2p().allow(subject).await;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /allow/{subject}`.
pub(super) async fn disallow(
    Extract(state): Extract<State>,
    Path(text): Path<String>,
) -> Result<StatusCode, ApiError> {
    let subject = subject(&text)?;
    let found = state.node.p2p().disallow(subject).await;
    done(found, || format!("{text} is not on the allow-list"))
}

fn parse<T: DeserializeOwned>(body: Bytes) -> Result<T, ApiError> {
    serde_json::from_slice(&body).map_err(|error| ApiError::bad_request(format!("body: {error}")))
}

fn subject(text: &str) -> Result<Subject, ApiError> {
    text.parse().map_err(|error| ApiError::bad_request(format!("subject {text:?}: {error}")))
}

fn done(found: bool, missing: impl FnOnce() -> String) -> Result<StatusCode, ApiError> {
    if found { Ok(StatusCode::NO_CONTENT) } else { Err(ApiError::not_found(missing())) }
}
