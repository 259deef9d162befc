//! One connection as the manager sees it.

use std::net::SocketAddr;

use bt2c_proto::{Hello, NodeId, PeerAddr, PeerId};
use bt2c_security::RequestPace;

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
    /// Our pace when we ask it for addresses, if it may be asked.
    pub(super) asks: Option<RequestPace>,
    /// How many seconds later it is there than here, by its hello.
    pub(super) clock_ahead: Option<i64>,
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
