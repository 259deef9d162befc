//! Max–min fair shares of links by progressive filling.
//!
//! All flows grow alike until a link is full; the flows across that link keep what they have and the others grow on. In
//! the result no flow can have more without another one, which has no more than it, having less (Bertsekas and Gallager,
//! *Data Networks*, 6.5.2). Whole bits a second: what division leaves over, less than a bit for each flow, goes unused.

use std::{cmp::Reverse, collections::BinaryHeap};

/// A link of a [`Fair`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LinkId(usize);

/// A flow of a [`Fair`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FlowId(usize);

impl FlowId {
    pub(super) const fn index(self) -> usize {
        self.0
    }
}

/// A flow that has another rate from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) flow: FlowId,
    pub(super) rate: u64,
}

/// Links, the flows across them, and the rate of each flow.
///
/// Starting and ending a flow only notes which links it touches; [`Fair::settle`] then visits those links and whatever is
/// connected to them through flows, and nothing else. It takes O(f log l) for f flows and l links that it visits.
#[derive(Debug, Default)]
pub(super) struct Fair {
    links: Vec<Link>,
    flows: Vec<Flow>,
    free: Vec<FlowId>,
    touched: Vec<LinkId>,
    /// Number of the settlement under way, by which visited links and fixed flows are told from others.
    round: u64,
}

#[derive(Debug)]
struct Link {
    capacity: u64,
    flows: Vec<FlowId>,
    round: u64,
    /// Of this settlement: capacity not given away.
    left: u64,
    /// Of this settlement: flows without a rate.
    open: u64,
}

impl Link {
    /// What each open flow could have. At least a bit a second, so that every flow ends.
    fn share(&self) -> u64 {
        (self.left / self.open).max(1)
    }
}

#[derive(Debug)]
struct Flow {
    links: [Option<LinkId>; 2],
    rate: u64,
    round: u64,
}

impl Fair {
    /// A link for so many bits a second.
    pub(super) fn add_link(&mut self, capacity: u64) -> LinkId {
        self.links.push(Link { capacity, flows: Vec::new(), round: 0, left: 0, open: 0 });
        LinkId(self.links.len() - 1)
    }

    /// A flow across these links, at least one; its rate is 0 until the next settlement.
    pub(super) fn start(&mut self, links: [Option<LinkId>; 2]) -> FlowId {
        let flow = Flow { links, rate: 0, round: 0 };
        let id = if let Some(id) = self.free.pop() {
            self.flows[id.0] = flow;
            id
        } else {
            self.flows.push(flow);
            FlowId(self.flows.len() - 1)
        };
        for link in links.into_iter().flatten() {
            self.links[link.0].flows.push(id);
            self.touched.push(link);
        }
        id
    }

    /// Takes a flow away. Its id may be given to a later one.
    pub(super) fn end(&mut self, id: FlowId) {
        for link in self.flows[id.0].links.into_iter().flatten() {
            let flows = &mut self.links[link.0].flows;
            if let Some(at) = flows.iter().position(|flow| *flow == id) {
                flows.swap_remove(at);
            }
            self.touched.push(link);
        }
        self.free.push(id);
    }

    /// Shares the touched links, and those connected to them, anew. Returns the flows whose rate is another one.
    pub(super) fn settle(&mut self) -> Vec<Change> {
        let links = self.open_component();
        let open = links.into_iter().filter(|id| self.links[id.0].open > 0);
        let mut shares: BinaryHeap<_> = open.map(|id| Reverse((self.links[id.0].share(), id))).collect();
        let mut changes = Vec::new();
        while let Some(Reverse((share, id))) = shares.pop() {
            let link = &self.links[id.0];
            if link.open == 0 {
                continue;
            }
            // A flow that was fixed elsewhere took at most its share here: shares only grow, so the heap's may be old.
            if link.share() > share {
                shares.push(Reverse((link.share(), id)));
                continue;
            }
            let flows = std::mem::take(&mut self.links[id.0].flows);
            changes.extend(flows.iter().filter_map(|&flow| self.fix(flow, share)));
            self.links[id.0].flows = flows;
        }
        changes
    }

    /// Finds the links to share anew, with all their capacity left and all their flows open.
    fn open_component(&mut self) -> Vec<LinkId> {
        self.round += 1;
        let mut ahead = std::mem::take(&mut self.touched);
        let mut found = Vec::new();
        while let Some(id) = ahead.pop() {
            let link = &mut self.links[id.0];
            if link.round == self.round {
                continue;
            }
            link.round = self.round;
            link.left = link.capacity;
            link.open = link.flows.len() as u64;
            found.push(id);
            for flow in &link.flows {
                ahead.extend(self.flows[flow.0].links.into_iter().flatten().filter(|other| *other != id));
            }
        }
        found
    }

    fn fix(&mut self, id: FlowId, rate: u64) -> Option<Change> {
        let flow = &mut self.flows[id.0];
        if flow.round == self.round {
            return None;
        }
        flow.round = self.round;
        let was = std::mem::replace(&mut flow.rate, rate);
        for link in flow.links.into_iter().flatten() {
            let link = &mut self.links[link.0];
            link.left = link.left.saturating_sub(rate);
            link.open -= 1;
        }
        (was != rate).then_some(Change { flow: id, rate })
    }
}

#[cfg(test)]
mod tests;
