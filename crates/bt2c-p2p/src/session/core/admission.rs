//! What an open session lets through: answers that were asked for, pushes and requests within the limits.

use std::time::Duration;

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
    headers: u32,
    /// The peer said that it answers later, and was heard.
    throttled: bool,
}

/// How much is dropped of what a peer sends before it has to wait. Dropped messages cost no points (but for pushes, whose
/// limits have a price of their own), for their causes can be an honest peer's; but each takes its share of a processor.
#[derive(Debug, Default)]
pub(super) struct Patience {
    restored_at: Time,
}

impl Patience {
    /// Counts a dropped message; when to read on, if not at once.
    fn lose(&mut self, now: Time) -> Option<Time> {
        self.restored_at = self.restored_at.max(now) + RESTORED_IN;
        let until = self.restored_at - RESTORED_IN * TOLERATED;
        (until > now).then_some(until)
    }
}

/// One dropped message is forgotten in this time: a peer that sends nothing else is read from 20 times a second.
const RESTORED_IN: Duration = Duration::from_millis(50);

/// As many are dropped at once without consequence.
const TOLERATED: u32 = 200;

impl SessionCore {
    /// A message that has no price went no further; too many of them, and the peer has to wait.
    pub(super) fn count_dropped(&mut self, now: Time, cause: DropCause) {
        self.actions.push_back(Action::Dropped(cause));
        self.paused_until = self.patience.lose(now).or(self.paused_until);
    }

    /// Admission before any typed parse: answers nobody asked for and pushes above the limits go no further.
    pub(super) fn admit(&mut self, now: Time, kind: MessageKind, len: usize) -> bool {
        let push = match kind {
            MessageKind::Peers => return self.admit_answer(now, |unanswered| &mut unanswered.peers),
            MessageKind::Headers => {
                self.unanswered.throttled = false;
                return self.admit_answer(now, |unanswered| &mut unanswered.headers);
            }
            MessageKind::Blocks => {
                self.unanswered.throttled = false;
                return self.admit_answer(now, |unanswered| &mut unanswered.blocks);
            }
            MessageKind::Cancel => return self.admit_cancel(now),
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

    fn admit_answer(&mut self, now: Time, count: impl FnOnce(&mut Unanswered) -> &mut u32) -> bool {
        let count = count(&mut self.unanswered);
        if *count == 0 && self.config.defences.has(Defence::SolicitedAnswers) {
            self.count_dropped(now, DropCause::Unasked);
            return false;
        }
        *count = count.saturating_sub(1);
        true
    }

    /// What came is a part of a stream: the answer goes on.
    pub(super) fn goes_on(&mut self) {
        self.unanswered.blocks = self.unanswered.blocks.saturating_add(1);
    }

    /// For each stream that was asked for, one cancel means something.
    fn admit_cancel(&mut self, now: Time) -> bool {
        let streams = self.streams_asked.checked_sub(1);
        match streams {
            Some(left) => self.streams_asked = left,
            None => self.count_dropped(now, DropCause::Unasked),
        }
        streams.is_some()
    }

    pub(super) fn handle_request(&mut self, now: Time, request: Message, len: usize) {
        self.idle_at = now + self.config.idle_timeout;
        if matches!(&request, Message::GetBlocks(range) if range.stream) {
            self.streams_asked = self.streams_asked.saturating_add(1);
        }
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
            self.count_dropped(now, DropCause::RequestLimit);
            return;
        }
        if self.peer_knows_extensions && until > now {
            let request_id = match &request {
                Message::GetBlocks(range) => range.request_id,
                _ => None,
            };
            let throttled = Throttled {
                kind: Text::cut(request.kind().name()),
                request_id,
                retry_after_ms: u64::try_from(until.since(now).as_millis()).unwrap_or(u64::MAX),
            };
            let frame = self.local.frame(&Message::Throttled(throttled), now);
            self.actions.push_back(Action::Send(frame));
        }
        self.delayed.push_back((until, request, len));
    }

    /// The peer answers a request later. Who asked hears of it, if that is what they registered for.
    pub(super) fn handle_throttled(&mut self, now: Time, throttled: Throttled, len: usize) {
        let asked = match MessageKind::from_name(throttled.kind.as_str()) {
            Some(MessageKind::GetBlocks) => self.unanswered.blocks > 0,
            Some(MessageKind::GetHeaders) => self.unanswered.headers > 0,
            _ => false,
        };
        // Once for a question: more say nothing new, and cost whoever hears them.
        if asked && !std::mem::replace(&mut self.unanswered.throttled, true) {
            self.actions.push_back(Action::Deliver(Message::Throttled(throttled), len));
        } else {
            self.count_dropped(now, DropCause::Unasked);
        }
    }

    /// A frame of ours went out.
    pub(crate) fn handle_sent(&mut self, kind: MessageKind) {
        match kind {
            MessageKind::GetPeers => self.unanswered.peers = self.unanswered.peers.saturating_add(1),
            MessageKind::GetBlocks => self.unanswered.blocks = self.unanswered.blocks.saturating_add(1),
            MessageKind::GetHeaders => self.unanswered.headers = self.unanswered.headers.saturating_add(1),
            _ => {}
        }
    }
}
