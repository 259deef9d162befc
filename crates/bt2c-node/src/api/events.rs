//! `GET /events`: the node's events as server-sent events.

use std::{convert::Infallible, time::Duration};

use axum::{
    Extension,
    extract::State as Extract,
    response::sse::{Event, KeepAlive, Sse},
};
use futures_util::stream::{self, Stream};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::{ApiError, State, listener::Endless};
use crate::node::NodeEvents;

/// How often something is sent when nothing happens, so that both sides notice a lost connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What a stream holds on to; dropping it frees its place.
struct Subscription {
    events: NodeEvents,
    stopping: CancellationToken,
    _place: OwnedSemaphorePermit,
}

/// Events from now on, each under its kind. A reader that is too slow is told how many it missed.
pub(super) async fn events(
    Extract(state): Extract<State>,
    Extension(endless): Extension<Endless>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let place = state
        .streams
        .try_acquire_owned()
        .map_err(|_| ApiError::busy("too many event streams are open; close one"))?;
    endless.mark();
    let subscription =
        Subscription { events: state.node.subscribe(), stopping: state.stopping, _place: place };
    let stream = stream::unfold(subscription, |mut subscription| async {
        let event = tokio::select! {
            biased;
            () = subscription.stopping.cancelled() => None,
            event = subscription.events.next() => event,
        }?;
        // Events are structs of numbers and texts: they become JSON, or something is wrong with the types.
        let data = Event::default().event(event.kind()).json_data(&event);
        Some((Ok(data.unwrap_or_else(|error| Event::default().comment(error.to_string()))), subscription))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}
