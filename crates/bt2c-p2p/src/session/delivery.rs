//! Messages on their way to a registered handler.

use std::{collections::VecDeque, sync::Arc};

use bt2c_proto::{Message, Time};
use tokio::sync::mpsc;

use crate::{
    event::Inbound,
    manager::ingress::Routes,
    metrics::{DropCause, Metrics},
    peer::Peer,
};

/// Hands messages to whoever registered for their kind, in order; keeps those whose handler is behind.
///
/// The session stops reading while any is kept, so there are no more of them than one read holds and the request limit
/// delayed.
#[derive(Debug)]
pub(super) struct Delivery {
    routes: Arc<Routes>,
    metrics: Arc<Metrics>,
    waiting: VecDeque<(mpsc::Sender<Inbound>, Inbound)>,
}

impl Delivery {
    pub(super) const fn new(routes: Arc<Routes>, metrics: Arc<Metrics>) -> Self {
        Self { routes, metrics, waiting: VecDeque::new() }
    }

    /// Whether a handler is behind.
    pub(super) fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn deliver(&mut self, now: Time, peer: Option<&Peer>, message: Message, len: usize) {
        let handler = self.routes.read().get(&message.kind()).cloned();
        let (Some(handler), Some(peer)) = (handler, peer.cloned()) else {
            return self.metrics.count_dropped(DropCause::NoHandler);
        };
        self.waiting.push_back((handler, Inbound { peer, message, received: now, len }));
        if self.waiting.len() == 1 {
            self.retry();
        }
    }

    /// Hands on what has room now.
    fn retry(&mut self) {
        while let Some((handler, inbound)) = self.waiting.pop_front() {
            match handler.try_send(inbound) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(inbound)) => {
                    return self.waiting.push_front((handler, inbound));
                }
                Err(mpsc::error::TrySendError::Closed(_)) => self.metrics.count_dropped(DropCause::NoHandler),
            }
        }
    }

    /// Completes with a place at the handler of the first message, or with none if it is gone; never while none is
    /// behind. The place is to be used by [`Delivery::fill`]: given back, it would go to another session that waits,
    /// which would give it back in turn, and so on for ever.
    pub(super) fn room(&self) -> impl Future<Output = Option<Place>> + use<> {
        let handler = self.waiting.front().map(|(handler, _)| handler.clone());
        async move {
            match handler {
                Some(handler) => handler.reserve_owned().await.ok(),
                None => std::future::pending().await,
            }
        }
    }

    /// Hands the first message to the place that was made for it.
    pub(super) fn fill(&mut self, place: Option<Place>) {
        match (place, self.waiting.pop_front()) {
            (Some(place), Some((_, inbound))) => drop(place.send(inbound)),
            (None, Some(_)) => self.metrics.count_dropped(DropCause::NoHandler),
            (_, None) => {}
        }
        self.retry();
    }
}

/// A place in a handler's channel.
pub(super) type Place = mpsc::OwnedPermit<Inbound>;
