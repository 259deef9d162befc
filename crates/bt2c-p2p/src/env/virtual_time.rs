//! Time and work in a simulation: tokio's paused clock, jobs that run inline and cost modelled time.

use std::time::Duration;

use bt2c_proto::Time;
use tokio::time::Instant;

use super::{BoxFuture, Clock, Compute};

/// A clock that runs with the runtime's, from a chosen epoch on. On a runtime whose clock is paused that is virtual time.
#[derive(Debug, Clone)]
pub struct VirtualClock {
    started: Instant,
    epoch: Time,
}

impl VirtualClock {
    /// A clock that shows `epoch` now. Two clocks with different epochs are two nodes whose clocks disagree.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn new(epoch: Time) -> Self {
        Self { started: Instant::now(), epoch }
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Time {
        self.epoch + self.started.elapsed()
    }

    fn sleep_until(&self, at: Time) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep_until(self.started + at.since(self.epoch)))
    }
}

/// Runs each job at once and completes after its modelled cost.
#[derive(Debug, Clone, Copy)]
pub struct InlineCompute;

impl Compute for InlineCompute {
    fn run(&self, cost: Duration, job: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            job();
            if !cost.is_zero() {
                tokio::time::sleep(cost).await;
            }
        })
    }
}
