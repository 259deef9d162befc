//! Takes connections and hands them to the actor.

use std::{io, sync::Arc, time::Duration};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::env::{Clock, Connection, Listener};

/// First and longest wait after an error of accept (out of descriptors, mostly): it backs off instead of spinning.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Accepts until `stop`. While the actor is behind, connections wait in the kernel's backlog.
pub(super) async fn run(
    mut listener: Box<dyn Listener>,
    accepted: mpsc::Sender<Connection>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    let mut wait = BACKOFF.0;
    loop {
        let result = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            result = listener.accept() => result,
        };
        match result {
            Ok(connection) => {
                wait = BACKOFF.0;
                if accepted.send(connection).await.is_err() {
                    return;
                }
            }
            // The connection itself failed between SYN and accept; peers can bring that about, so it costs others nothing.
            Err(error) if is_of_one_connection(error.kind()) => tracing::debug!(%error, "not accepted"),
            Err(error) => {
                tracing::warn!(%error, listen = %listener.local_addr(), "accept failed; backing off");
                let wake = clock.sleep_until(clock.now() + wait);
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    () = wake => wait = (wait * 2).min(BACKOFF.1),
                }
            }
        }
    }
}

/// Errors that accept passes on from the connection it would have returned (accept(2)).
const fn is_of_one_connection(kind: io::ErrorKind) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        kind,
        Kind::ConnectionAborted
            | Kind::ConnectionReset
            | Kind::NotConnected
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
    )
}
