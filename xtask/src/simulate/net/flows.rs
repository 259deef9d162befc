//! When chunks of bytes have passed the links that they share with others.
//!
//! A flow is one direction of a connection that has bytes to move. How much of its chunk has passed is worked out only
//! when its rate changes; in between there is one moment at which the chunk will be through. Times are exact to the
//! nanosecond, though the runtime's timers are not: what is due is taken in its order, and with the rates of its time.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

use super::fair::{Fair, FlowId, LinkId};

/// The flows under way.
#[derive(Debug, Default)]
pub(super) struct Flows {
    fair: Fair,
    /// By [`FlowId::index`]; stale where a flow has ended.
    moving: Vec<Moving>,
    due: BTreeSet<(Instant, FlowId)>,
    /// Since when the shares are out of date.
    unsettled: Option<Instant>,
}

/// One direction of a connection: its number and the side that writes.
pub(super) type PipeId = (u64, usize);

#[derive(Debug)]
struct Moving {
    pipe: PipeId,
    /// Of the chunk, at `since`, in billionths of a bit.
    left: u128,
    since: Instant,
    rate: u64,
    due: Option<Instant>,
}

const BILLION: u128 = 1_000_000_000;

impl Moving {
    fn set_rate(&mut self, rate: u64, now: Instant) {
        let passed = u128::from(self.rate) * now.duration_since(self.since).as_nanos();
        self.left = self.left.saturating_sub(passed);
        self.since = now;
        self.rate = rate;
    }

    /// When the chunk will be through.
    fn end(&self) -> Option<Instant> {
        let nanos = self.left.checked_div(u128::from(self.rate))? + 1;
        Some(self.since + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX >> 8)))
    }
}

fn billionths_of_a_bit(bytes: usize) -> u128 {
    bytes as u128 * 8 * BILLION
}

impl Flows {
    pub(super) fn add_link(&mut self, capacity: u64) -> LinkId {
        self.fair.add_link(capacity)
    }

    /// A flow whose first chunk has so many bytes. All that was due before `now` has been taken.
    pub(super) fn start(
        &mut self,
        pipe: PipeId,
        links: [Option<LinkId>; 2],
        bytes: usize,
        now: Instant,
    ) -> FlowId {
        let id = self.fair.start(links);
        let moving = Moving { pipe, left: billionths_of_a_bit(bytes), since: now, rate: 0, due: None };
        if id.index() == self.moving.len() {
            self.moving.push(moving);
        } else {
            self.moving[id.index()] = moving;
        }
        self.unsettled.get_or_insert(now);
        id
    }

    /// The flow's chunk is through; the next one follows at once.
    pub(super) fn next_chunk(&mut self, id: FlowId, bytes: usize, now: Instant) {
        let moving = &mut self.moving[id.index()];
        moving.left = billionths_of_a_bit(bytes);
        moving.since = now;
        self.reschedule(id);
    }

    /// The flow has nothing more to move, or is no more to move it.
    pub(super) fn end(&mut self, id: FlowId, now: Instant) {
        if let Some(due) = self.moving[id.index()].due.take() {
            self.due.remove(&(due, id));
        }
        self.fair.end(id);
        self.unsettled.get_or_insert(now);
    }

    /// Takes the next chunk that is through by now: when it was, whose it is.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<(Instant, FlowId, PipeId)> {
        loop {
            let first = self.due.first().copied();
            if let Some(since) = self.unsettled
                && since < now
                && first.is_none_or(|(at, _)| at > since)
            {
                self.settle();
                continue;
            }
            let (at, id) = first.filter(|(at, _)| *at <= now)?;
            self.due.remove(&(at, id));
            let moving = &mut self.moving[id.index()];
            moving.due = None;
            return Some((at, id, moving.pipe));
        }
    }

    /// Brings the shares up to date; returns when the next chunk will be through.
    pub(super) fn settle(&mut self) -> Option<Instant> {
        if let Some(since) = self.unsettled.take() {
            for change in self.fair.settle() {
                self.moving[change.flow.index()].set_rate(change.rate, since);
                self.reschedule(change.flow);
            }
        }
        self.due.first().map(|(at, _)| *at)
    }

    fn reschedule(&mut self, id: FlowId) {
        let moving = &mut self.moving[id.index()];
        if let Some(due) = moving.due.take() {
            self.due.remove(&(due, id));
        }
        moving.due = moving.end();
        self.due.extend(moving.due.map(|due| (due, id)));
    }
}

#[cfg(test)]
mod tests {
    use super::{super::now, *};

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn what_is_due_has_the_rates_of_its_time_though_it_is_taken_late() {
        let (mut flows, start) = (Flows::default(), now());
        // Two bytes a microsecond.
        let link = Some(flows.add_link(16_000_000));
        let short = flows.start((1, 0), [link, None], 1000, start);
        let long = flows.start((2, 0), [link, None], 2000, start);
        let late = start + micros(10_000);
        let mut take = |flow| {
            let (at, id, _) = flows.take_due(late).unwrap();
            assert_eq!(id, flow);
            flows.end(id, at);
            at.duration_since(start).as_micros()
        };
        assert_eq!((take(short), take(long)), (1000, 1500));
        assert!(flows.take_due(late).is_none());
    }

    #[test]
    fn a_flow_that_begins_later_slows_what_is_left_of_the_first() {
        let (mut flows, start) = (Flows::default(), now());
        let link = Some(flows.add_link(16_000_000));
        flows.start((1, 0), [link, None], 2000, start);
        let later = start + micros(500);
        assert!(flows.take_due(later).is_none());
        let second = flows.start((2, 0), [link, None], 3000, later);
        assert_eq!(flows.settle().unwrap().duration_since(start).as_micros(), 1500);
        let (at, first, pipe) = flows.take_due(start + micros(2000)).unwrap();
        assert_eq!(pipe, (1, 0));
        flows.next_chunk(first, 1000, at);
        assert_eq!(flows.settle().unwrap().duration_since(start).as_micros(), 2500);
        flows.end(first, start + micros(2000));
        assert_eq!(flows.settle().unwrap().duration_since(start).as_micros(), 2750);
        flows.end(second, start + micros(2000));
        assert!(flows.settle().is_none());
    }
}
