//! Whether our clock agrees with the others'.
//!
//! What an envelope says of the time decides nothing. But when most of those whom we chose to connect to agree that it is
//! another time than here, it is our clock that is wrong, and the operator wants to know: blocks will come too early or too
//! late for it.

use std::time::Duration;

use bt2c_proto::Time;

use super::core::{Action, Core};
use crate::peer::{ConnectionId, Direction};

/// As in the protocol page: from this difference on it is worth a warning.
const WORTH_TELLING: u64 = 10 * 60;

/// How many outbound peers must have said what time it is. Inbound ones can be anybody's choice.
const QUORUM: usize = 3;

/// How often the operator is told.
const TOLD_EVERY: Duration = Duration::from_secs(60 * 60);

impl Core {
    /// A peer's hello said that it is this much later there than here, in seconds; negative: earlier.
    pub(crate) fn handle_clock(&mut self, connection: ConnectionId, ahead: i64) {
        if let Some(conn) = self.connections.get_mut(&connection) {
            conn.clock_ahead = Some(ahead);
        }
    }

    /// After an outbound peer came up: tells the operator if the median of them is far off.
    pub(super) fn compare_clocks(&mut self, now: Time) {
        let outbound =
            self.connections.values().filter(|conn| conn.is_open() && conn.direction == Direction::Outbound);
        let mut ahead: Vec<i64> = outbound.filter_map(|conn| conn.clock_ahead).collect();
        if ahead.len() < QUORUM || self.clock_told.is_some_and(|told| now.since(told) < TOLD_EVERY) {
            return;
        }
        ahead.sort_unstable();
        let median = ahead[ahead.len() / 2];
        if median.unsigned_abs() > WORTH_TELLING {
            self.clock_told = Some(now);
            self.actions.push_back(Action::ClockOff { peers: ahead.len(), ahead: median });
        }
    }
}
