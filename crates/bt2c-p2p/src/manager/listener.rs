//! Takes connections and hands them to the actor.

use std::{io, sync::Arc, time::Duration};

use bt2c_proto::Time;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::env::{Clock, Connection, Listener};

/// First and longest wait after an error of accept (out of descriptors, mostly): it backs off instead of spinning.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Least time between two complaints: whoever opens connections can bring about the errors.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

/// Accepts until `stop`. While the actor is behind, connections wait in the kernel's backlog.
pub(super) async fn run(
    mut listener: Box<dyn Listener>,
    accepted: mpsc::Sender<Connection>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    let mut wait = BACKOFF.0;
    let mut complaints = Complaints::default();
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
                if let Some(failures) = complaints.tell(clock.now()) {
                    let listen = listener.local_addr();
                    tracing::warn!(%error, %listen, failures, "accept failed; backing off");
                }
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

/// Says when the operator is to hear of failures.
#[derive(Debug, Default)]
struct Complaints {
    last: Option<Time>,
    untold: u64,
}

impl Complaints {
    /// Counts a failure; if it is time to tell, how many there were since that was last done.
    fn tell(&mut self, now: Time) -> Option<u64> {
        self.untold += 1;
        if self.last.is_some_and(|last| now.since(last) < COMPLAINT_INTERVAL) {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.untold))
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

#[cfg(test)]
mod tests {
    use std::{
        net::SocketAddr,
        sync::atomic::{AtomicU64, Ordering},
    };

    use tracing::{
        Event, Level, Metadata, Subscriber,
        span::{Attributes, Id, Record},
        subscriber::DefaultGuard,
    };

    use super::*;
    use crate::env::{BoxFuture, VirtualClock};

    /// "Too many open files" in the process; the same number on every Unix.
    const EMFILE: i32 = 24;

    /// Has no descriptors left except at every so many-th try.
    struct Exhausted {
        tries: Arc<AtomicU64>,
        works_each: u64,
    }

    impl Listener for Exhausted {
        fn local_addr(&self) -> SocketAddr {
            SocketAddr::from(([192, 0, 2, 1], 8338))
        }

        fn accept(&mut self) -> BoxFuture<'_, io::Result<Connection>> {
            let tries = self.tries.fetch_add(1, Ordering::Relaxed) + 1;
            let outcome = if tries.is_multiple_of(self.works_each) {
                let (stream, _) = tokio::io::duplex(16);
                Ok(Connection::new(Box::new(stream), SocketAddr::from(([192, 0, 2, 2], 50_000))))
            } else {
                Err(io::Error::from_raw_os_error(EMFILE))
            };
            Box::pin(async { outcome })
        }
    }

    /// Counts warnings, on this thread.
    #[derive(Clone, Default)]
    struct Warnings(Arc<AtomicU64>);

    impl Warnings {
        fn listen(&self) -> DefaultGuard {
            tracing::subscriber::set_default(self.clone())
        }

        fn count(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }
    }

    impl Subscriber for Warnings {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            *metadata.level() == Level::WARN
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, _: &Event<'_>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    /// Listens for so long; how often it tried, how many connections it took, and how often it complained.
    async fn listen(works_each: u64, duration: Duration) -> (u64, u64, u64) {
        let warnings = Warnings::default();
        let _guard = warnings.listen();
        let tries = Arc::new(AtomicU64::new(0));
        let listener = Box::new(Exhausted { tries: Arc::clone(&tries), works_each });
        let (sender, mut accepted) = mpsc::channel(1024);
        let clock = Arc::new(VirtualClock::new(Time::from_secs(1_712_352_000)));
        let stop = CancellationToken::new();
        let end = async {
            tokio::time::sleep(duration).await;
            stop.cancel();
        };
        tokio::join!(run(listener, sender, clock, stop.clone()), end);
        let mut taken = 0;
        while accepted.try_recv().is_ok() {
            taken += 1;
        }
        (tries.load(Ordering::Relaxed), taken, warnings.count())
    }

    #[tokio::test(start_paused = true)]
    async fn a_listener_out_of_descriptors_backs_off_and_complains_once_a_minute() {
        let (tries, taken, complaints) = listen(u64::MAX, Duration::from_secs(600)).await;
        // 50 ms doubled up to 5 s takes seven tries; then there is one in 5 s.
        assert!((120..=130).contains(&tries), "{tries} tries");
        assert_eq!((taken, complaints), (0, 10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_listener_that_finds_descriptors_now_and_then_takes_connections_and_complains_no_more_for_it() {
        let (tries, taken, complaints) = listen(3, Duration::from_secs(30)).await;
        // Two failures wait 150 ms; the connection between them puts the waits back to their beginning.
        assert!((590..=610).contains(&tries), "{tries} tries");
        assert_eq!((taken, complaints), (tries / 3, 1));
    }

    #[test]
    fn a_complaint_says_how_many_failures_it_stands_for() {
        let mut complaints = Complaints::default();
        let start = Time::from_secs(1_712_352_000);
        assert_eq!(complaints.tell(start), Some(1));
        for second in 1..60 {
            assert_eq!(complaints.tell(start + Duration::from_secs(second)), None);
        }
        assert_eq!(complaints.tell(start + COMPLAINT_INTERVAL), Some(60));
    }
}
