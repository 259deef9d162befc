//! The hellos: ours, theirs, and the manager's verdict on theirs.

use std::time::Duration;

use bt2c_proto::{Envelope, Message, Time};

use super::{Action, Phase, SessionCore};
use crate::{
    local::OwnChain,
    peer::Direction,
    reason::{CloseReason, Refusal},
};

/// What a verdict may take beyond the wait for a ping to an incumbent; the manager gives it sooner.
const VERDICT_PATIENCE: Duration = Duration::from_secs(10);

impl SessionCore {
    /// Begins: the dialer speaks first.
    pub(crate) fn start(&mut self, now: Time, chain: OwnChain) {
        if self.direction == Direction::Outbound {
            self.send_hello(now, chain);
        }
    }

    pub(super) fn handle_first(&mut self, now: Time, envelope: &Envelope<'_>) {
        match envelope.message() {
            Ok(Some(Message::Hello(hello))) => {
                self.peer_label = Some(hello.node_id.to_string());
                self.peer_knows_extensions = hello.knows_extensions();
                self.phase = Phase::AwaitVerdict;
                // From here on it is we who take the time.
                let patience = self.config.ping_spacing + VERDICT_PATIENCE;
                self.hello_deadline = self.hello_deadline.max(now + patience);
                if let Some(there) = envelope.timestamp {
                    let seconds = |time: u64| i64::try_from(time).unwrap_or(i64::MAX);
                    self.actions.push_back(Action::Clock(seconds(there) - seconds(now.as_secs())));
                }
                self.actions.push_back(Action::Judge(hello));
            }
            Ok(Some(Message::Disconnect(disconnect))) if self.direction == Direction::Outbound => {
                self.close_as(CloseReason::Remote(disconnect.code), None);
            }
            Ok(_) => self.violation(now, "the first message is no hello"),
            Err(error) => self.violation(now, &error.to_string()),
        }
    }

    /// The manager judged the hello.
    pub(crate) fn handle_verdict(&mut self, now: Time, verdict: Result<(), Refusal>, chain: OwnChain) {
        if self.phase != Phase::AwaitVerdict {
            return;
        }
        match verdict {
            Ok(()) => {
                if self.direction == Direction::Inbound {
                    self.send_hello(now, chain);
                }
                self.phase = Phase::Open;
                (self.last_received, self.last_ping) = (now, now);
                self.idle_at = now + self.config.idle_timeout;
                self.actions.push_back(Action::RaiseFrameLimit);
            }
            Err(refusal) => self.close(now, refusal.code(), refusal.text()),
        }
    }

    fn send_hello(&mut self, now: Time, chain: OwnChain) {
        let hello = self.local.hello(chain, self.remote);
        let frame = self.local.frame(&Message::Hello(Box::new(hello)), now);
        self.actions.push_back(Action::Send(frame));
    }
}
