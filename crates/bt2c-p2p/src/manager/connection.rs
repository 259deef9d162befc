//! One connection as the manager sees it.

use std::{net::SocketAddr, time::Duration};

use bt2c_proto::{Hello, NodeId, PeerAddr, PeerId, Time};

use super::eviction::Standing;
use crate::peer::Direction;

#[derive(Debug)]
pub(super) struct Conn {
    pub(super) direction: Direction,
    /// Where it leads; for a name that is still to be resolved, nothing yet.
    pub(super) remote: Option<SocketAddr>,
    pub(super) pin: Option<PeerId>,
    /// What the operator called it, who wants to hear if it cannot be had.
    pub(super) named: Option<PeerAddr>,
    /// The target was handed out by discovery, which wants to hear the outcome.
    pub(super) target: Option<Target>,
    pub(super) state: State,
    /// We have asked for its end.
    pub(super) closing: bool,
    /// What speaks for it when somebody has to go.
    pub(super) standing: Standing,
    /// When it may be asked for addresses.
    pub(super) asks: AskPace,
    /// How many seconds later it is there than here, by its hello.
    pub(super) clock_ahead: Option<i64>,
}

/// Our own pace when we ask a peer for addresses: no more than a third of the requests that it takes, evenly spread.
/// Another third is left to whoever asks for blocks.
#[derive(Debug, Default)]
pub(super) struct AskPace {
    /// `None`: never.
    every: Option<Duration>,
    ready_at: Time,
}

impl AskPace {
    /// The pace for a peer that takes that many requests a minute.
    pub(super) fn for_limit(requests_per_minute: u64) -> Self {
        // Whoever takes but one is asked for blocks.
        let every = (requests_per_minute > 1).then(|| Duration::from_millis(180_000 / requests_per_minute));
        Self { every, ready_at: Time::default() }
    }

    /// Whether it may be asked now; if so, it is counted.
    pub(super) fn take(&mut self, now: Time) -> bool {
        let Some(every) = self.every.filter(|_| self.ready_at <= now) else { return false };
        self.ready_at = now + every;
        true
    }
}

/// A dial that discovery asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    pub(super) addr: SocketAddr,
    pub(super) feeler: bool,
}

#[derive(Debug)]
pub(super) enum State {
    Connecting,
    Secured {
        peer: PeerId,
        label: Option<NodeId>,
    },
    /// The hello is good, but an older connection that may be dead would stay: it is being probed.
    Held {
        peer: PeerId,
        hello: Box<Hello>,
    },
    Open {
        peer: PeerId,
        listens: Option<SocketAddr>,
    },
    /// Replaced, and accounted for: only its task is still to end.
    Retired {
        peer: PeerId,
    },
}

impl Conn {
    pub(super) fn peer(&self) -> Option<PeerId> {
        match &self.state {
            State::Connecting => None,
            State::Secured { peer, .. }
            | State::Held { peer, .. }
            | State::Open { peer, .. }
            | State::Retired { peer } => Some(*peer),
        }
    }

    /// Whether it was dialled only to learn whether the address answers.
    pub(super) fn is_feeler(&self) -> bool {
        self.target.is_some_and(|target| target.feeler)
    }

    pub(super) const fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }
}
