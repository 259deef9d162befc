//! Worker threads of our own, few and lasting.
//!
//! The runtime's blocking threads come and go, up to hundreds of them. What a job allocates on one thread is often freed
//! on another, and the C library keeps a heap for each thread that it has seen: so memory would grow with the length of a
//! sync, not with what is in use.

use std::{
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};

use crate::env::{BoxFuture, Compute};

/// As many jobs at once as there are cores, each on one of as many threads, which are started when they are first wanted
/// and end with the last clone.
#[derive(Debug, Clone)]
pub struct RealCompute {
    /// Held by whoever has a job with the threads.
    slots: Arc<Semaphore>,
    pool: Arc<Pool>,
}

#[derive(Debug)]
struct Pool {
    size: usize,
    started: AtomicUsize,
    /// Never full: there are as many slots as room.
    jobs: mpsc::SyncSender<Job>,
    waiting: Arc<Mutex<mpsc::Receiver<Job>>>,
}

struct Job {
    work: Box<dyn FnOnce() + Send>,
    /// Dropped without a word if the work panics.
    done: oneshot::Sender<()>,
}

impl RealCompute {
    /// A pool for this machine's cores.
    #[expect(clippy::new_without_default, reason = "asks the machine: no value to default to")]
    pub fn new() -> Self {
        let size = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let (jobs, waiting) = mpsc::sync_channel(size);
        let waiting = Arc::new(Mutex::new(waiting));
        let pool = Pool { size, started: AtomicUsize::new(0), jobs, waiting };
        Self { slots: Arc::new(Semaphore::new(size)), pool: Arc::new(pool) }
    }
}

impl Compute for RealCompute {
    fn run(&self, _cost: Duration, job: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let (slots, pool) = (Arc::clone(&self.slots), Arc::clone(&self.pool));
        Box::pin(async move {
            let slot = slots.acquire_owned().await.expect("the semaphore is never closed");
            let (done, end) = oneshot::channel();
            // The slot goes with the job: whoever waits may be gone before that is done.
            let work = Box::new(move || {
                job();
                drop(slot);
            });
            pool.submit(Job { work, done });
            end.await.expect("jobs do not panic");
        })
    }
}

impl Pool {
    fn submit(&self, job: Job) {
        let one_more = |started| (started < self.size).then_some(started + 1);
        if self.started.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok() {
            let waiting = Arc::clone(&self.waiting);
            let thread = thread::Builder::new().name("bt2c-compute".to_owned());
            thread.spawn(move || work_off(&waiting)).expect("the system can start a thread");
        }
        self.jobs.send(job).expect("the receiver lives as long as the pool");
    }
}

fn work_off(waiting: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        let next = waiting.lock().recv();
        let Ok(Job { work, done }) = next else { return };
        if catch_unwind(AssertUnwindSafe(work)).is_ok() {
            // Nobody waits any more: no harm.
            let _ = done.send(());
        }
    }
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Job")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    async fn threads_of(compute: &RealCompute, jobs: usize) -> BTreeSet<String> {
        let compute: Arc<dyn Compute> = Arc::new(compute.clone());
        let mut seen = BTreeSet::new();
        for _ in 0..jobs {
            seen.insert(compute.compute(Duration::ZERO, || format!("{:?}", thread::current().id())).await);
        }
        seen
    }

    #[tokio::test]
    async fn a_thousand_jobs_run_on_no_more_threads_than_there_are_cores() {
        let compute = RealCompute::new();
        let seen = threads_of(&compute, 1000).await;
        assert!(seen.len() <= compute.pool.size, "{seen:?}");
        assert_eq!(compute.slots.available_permits(), compute.pool.size);
    }

    #[tokio::test]
    async fn a_job_that_panics_takes_neither_its_slot_nor_its_thread_with_it() {
        let compute = RealCompute::new();
        for _ in 0..2 * compute.pool.size {
            let panics = compute.run(Duration::ZERO, Box::new(|| panic!("on purpose")));
            assert!(tokio::task::JoinSet::from_iter([panics]).join_next().await.unwrap().is_err());
        }
        assert!(!threads_of(&compute, 10).await.is_empty());
    }

    #[tokio::test]
    async fn a_job_goes_on_when_nobody_waits_for_it() {
        let compute = RealCompute::new();
        let (ended, end) = oneshot::channel();
        let job = Box::new(move || ended.send(()).expect("the test waits"));
        let mut abandoned = compute.run(Duration::ZERO, job);
        let polled = std::future::poll_fn(|context| {
            let _ = abandoned.as_mut().poll(context);
            std::task::Poll::Ready(())
        });
        polled.await;
        drop(abandoned);
        end.await.unwrap();
        assert!(!threads_of(&compute, 10).await.is_empty());
    }
}
