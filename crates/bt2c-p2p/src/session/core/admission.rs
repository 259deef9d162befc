//! What an open session lets through: answers that were asked for, pushes and requests within the limits.

use bt2c_proto::{CloseCode, Defence, Message, MessageKind, Text, Throttled, Time};
use bt2c_security::{Admission, Offence, PushAdmission, PushKind};

use super::{Action, SessionCore};
use crate::metrics::DropCause;

/// Requests that may wait for the limits. The connection's own allows fewer; only those that its IP's other connections
/// hold up may become as many.
const MAX_DELAYED: usize = 1024;

/// What we asked and have no answer to.
#[derive(Debug, Default)]
pub(super) struct Unanswered {
    peers: u32,
    blocks: u32,
}

impl SessionCore {
    /// Admission before any typed parse: answers nobody asked for and pushes above the limits go no further.
    pub(super) fn admit(&mut self, now: Time, kind: MessageKind, len: usize) -> bool {
        let push = match kind {
            MessageKind::Peers => return self.admit_answer(|unanswered| &mut unanswered.peers),
            MessageKind::Blocks => return self.admit_answer(|unanswered| &mut unanswered.blocks),
            MessageKind::NewBlock => PushKind::Block,
            MessageKind::NewTransaction => PushKind::Transaction,
            _ => return true,
        };
        match self.quota.push(now, push, len) {
            PushAdmission::Accept => true,
            PushAdmission::Drop => {
                self.actions.push_back(Action::Dropped(DropCause::PushLimit));
                false
            }
            PushAdmission::Flood => {
                self.actions.push_back(Action::Dropped(DropCause::PushLimit));
                let evidence = format!("{kind} above four times the push limits");
                self.actions.push_back(Action::Report(Offence::PushFlood, evidence));
                false
            }
        }
    }

    fn admit_answer(&mut self, count: impl FnOnce(&mut Unanswered) -> &mut u32) -> bool {
        let count = count(&mut self.unanswered);
        if *count == 0 && self.config.defences.has(Defence::SolicitedAnswers) {
            self.actions.push_back(Action::Dropped(DropCause::Unasked));
            return false;
        }
        *count = count.saturating_sub(1);
        true
    }

    pub(super) fn handle_request(&mut self, now: Time, request: Message, len: usize) {
        self.idle_at = now + self.config.idle_timeout;
        match self.quota.request(now) {
            Admission::Serve if self.delayed.is_empty() => {
                self.actions.push_back(Action::Deliver(request, len))
            }
            Admission::Serve => self.delay(now, now, request, len),
            Admission::Delay(until) => self.delay(now, until, request, len),
            Admission::Excess => {
                let evidence = "requests beyond the limit and its excess within a minute".to_owned();
                self.actions.push_back(Action::Report(Offence::RequestExcess, evidence));
                self.close(now, CloseCode::Rate, "too many requests");
            }
        }
    }

    fn delay(&mut self, now: Time, until: Time, request: Message, len: usize) {
        if self.delayed.len() >= MAX_DELAYED {
            self.actions.push_back(Action::Dropped(DropCause::RequestLimit));
            return;
        }
        if self.peer_knows_extensions && until > now {
            let throttled = Throttled {
                kind: Text::cut(request.kind().name()),
                request_id: None,
                retry_after_ms: u64::try_from(until.since(now).as_millis()).unwrap_or(u64::MAX),
            };
            let frame = self.local.frame(&Message::Throttled(throttled), now);
            self.actions.push_back(Action::Send(frame));
        }
        self.delayed.push_back((until, request, len));
    }

    /// The peer answers a request later. Who asked hears of it, if that is what they registered for.
    pub(super) fn handle_throttled(&mut self, throttled: Throttled, len: usize) {
        let asked = throttled.kind.as_str() == MessageKind::GetBlocks.name() && self.unanswered.blocks > 0;
        self.actions.push_back(if asked {
            Action::Deliver(Message::Throttled(throttled), len)
        } else {
            Action::Dropped(DropCause::Unasked)
        });
    }

    /// A frame of ours went out.
    pub(crate) fn handle_sent(&mut self, kind: MessageKind) {
        match kind {
            MessageKind::GetPeers => self.unanswered.peers = self.unanswered.peers.saturating_add(1),
            MessageKind::GetBlocks => self.unanswered.blocks = self.unanswered.blocks.saturating_add(1),
            _ => {}
        }
    }
}
