//! Results in the order in which their jobs were submitted, whichever worker was faster.

use std::collections::BTreeMap;

/// Holds a result back until those of all earlier jobs were taken. Jobs are numbered from 1 without gaps, and each has
/// one result; how many are under way is bounded by who submits them.
///
/// So what a peer pushed one after the other is relayed one after the other, and a run depends on the jobs alone.
#[derive(Debug)]
pub(crate) struct InOrder<T> {
    next: u64,
    early: BTreeMap<u64, T>,
}

impl<T> Default for InOrder<T> {
    fn default() -> Self {
        Self { next: 1, early: BTreeMap::new() }
    }
}

impl<T> InOrder<T> {
    /// The result of a job.
    pub(crate) fn put(&mut self, job: u64, result: T) {
        self.early.insert(job, result);
    }

    /// The next result in order, if it is there.
    pub(crate) fn take(&mut self) -> Option<(u64, T)> {
        let result = self.early.remove(&self.next)?;
        self.next += 1;
        Some((self.next - 1, result))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_waits_for_those_of_earlier_jobs() {
        let mut order = InOrder::default();
        order.put(2, "b");
        assert_eq!(order.take(), None);
        order.put(1, "a");
        assert_eq!((order.take(), order.take(), order.take()), (Some((1, "a")), Some((2, "b")), None));
        order.put(3, "c");
        assert_eq!(order.take(), Some((3, "c")));
    }
}
