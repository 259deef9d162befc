//! Answers that say no.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use bt2c_proto::Height;

use super::views::ErrorView;

/// A refusal: a status, and one line for people.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    message: String,
}

impl ApiError {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// The request makes no sense.
    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// The token is missing or wrong.
    pub(super) fn unauthorised() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "changes need `Authorization: Bearer TOKEN`; the token is in api.token in the data directory",
        )
    }

    /// The `Host` header is none that this server has.
    pub(super) fn foreign_host() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "the Host header is neither a loopback name nor the address this API is bound to",
        )
    }

    /// A page of somebody else asks.
    pub(super) fn foreign_origin() -> Self {
        Self::new(StatusCode::FORBIDDEN, "a page of another origin asks, and this API answers none")
    }

    /// The body did not come in time.
    pub(super) fn too_slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "the body took too long")
    }

    /// What was asked for is not here.
    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// The block was here, and was removed to save room.
    pub(super) fn pruned(first: Height) -> Self {
        let message = format!("pruned: this node keeps blocks from height {first} on");
        Self::new(StatusCode::GONE, message)
    }

    /// The path exists, the method does not.
    pub(super) fn method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not take that method")
    }

    /// The body is larger than any call needs.
    pub(super) fn too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large")
    }

    /// It makes sense, but the state of the node forbids it.
    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    /// Another node did not do its part.
    pub(super) fn peer_failed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, message)
    }

    /// Too many ask for this at once.
    pub(super) fn busy(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    /// The node failed.
    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(ErrorView { error: self.message })).into_response()
    }
}
