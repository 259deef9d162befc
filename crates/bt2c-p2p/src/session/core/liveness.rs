//! Whether the peer is there: pings, silence, frames that do not end, deadlines.

use std::{hash::Hasher, time::Duration};

use bt2c_proto::{CloseCode, Defence, Message, Ping, Time};
use siphasher::sip::SipHasher24;

use super::{Action, Phase, SessionConfig, SessionCore};
use crate::metrics::DropCause;

/// How long a living peer may take to answer a ping: generous for any link on earth, and short enough that a peer which
/// came back, and waits for our hello meanwhile, is still there.
const SIGN_OF_LIFE: Duration = Duration::from_secs(3);

/// Bytes a second that a started frame must come in with at least.
const MIN_FRAME_RATE: u64 = 8 * 1024;

/// Whether the manager wants to know that the peer is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probe {
    No,
    /// A ping is due, as soon as the peer's ping limit allows.
    Wanted,
    /// Waiting for any bytes until then.
    Sent(Time),
}

/// How long after a ping the next one goes out: the interval or up to a quarter less, so that nobody can tell when, and
/// answer before they were asked to seem near.
pub(super) fn ping_gap(config: &SessionConfig, secret: u64, number: u64) -> Duration {
    let interval = config.ping_interval;
    let millis = u64::try_from(interval.as_millis() / 4).unwrap_or(u64::MAX).max(1);
    let mut hasher = SipHasher24::new_with_keys(secret, number);
    hasher.write_u64(number);
    (interval - Duration::from_millis(hasher.finish() % millis)).max(config.ping_spacing.min(interval))
}

impl SessionCore {
    pub(super) fn answer_ping(&mut self, now: Time, ping: Ping) {
        if self.quota.ping(now) {
            let pong = self.local.frame(&Message::Pong(ping), now);
            self.actions.push_back(Action::Send(pong));
        } else {
            self.count_dropped(now, DropCause::PingLimit);
        }
    }

    pub(super) fn handle_pong(&mut self, now: Time, pong: Ping) {
        match self.ping_out {
            Some((sent, timestamp)) if timestamp == pong.timestamp => {
                self.ping_out = None;
                if !self.guesses_pings {
                    self.actions.push_back(Action::Rtt(now.since(sent)));
                }
            }
            // An honest answer, overtaken by the next ping.
            _ if self.ping_before == Some(pong.timestamp) => self.ping_before = None,
            _ => {
                self.guesses_pings = true;
                self.count_dropped(now, DropCause::Unasked);
            }
        }
    }

    /// The manager wants to know that the peer is there: any bytes from now on answer.
    pub(crate) fn handle_probe(&mut self, now: Time) {
        if self.phase == Phase::Open {
            self.probe = Probe::Wanted;
            self.send_due_ping(now);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        match self.phase {
            Phase::AwaitHello | Phase::AwaitVerdict => {
                Some(self.hello_deadline).filter(|_| self.config.defences.has(Defence::HandshakeDeadline))
            }
            Phase::Closed => None,
            Phase::Open => {
                let times = [
                    Some(self.last_received + self.config.silence_timeout),
                    Some(self.ping_due()),
                    self.probe_deadline(),
                    self.frame_deadline(),
                    self.delayed.front().map(|(until, ..)| *until),
                    Some(self.idle_at),
                    self.paused_until,
                ];
                times.into_iter().flatten().min()
            }
        }
    }

    /// When a probed peer that gave no sign of life is taken for gone.
    const fn probe_deadline(&self) -> Option<Time> {
        if let Probe::Sent(until) = self.probe { Some(until) } else { None }
    }

    /// When the frame that is coming in must be complete.
    pub(super) fn frame_deadline(&self) -> Option<Time> {
        let (started, len) = self.partial.filter(|_| self.config.defences.has(Defence::FrameDeadline))?;
        Some(started + self.config.frame_timeout + Duration::from_secs(len as u64 / MIN_FRAME_RATE))
    }

    /// When the next ping is due: after its gap, or as soon as the peer's limit allows if a probe is wanted.
    fn ping_due(&self) -> Time {
        let probing = self.probe == Probe::Wanted;
        self.last_ping + if probing { self.config.ping_spacing.min(self.ping_gap) } else { self.ping_gap }
    }

    pub(crate) fn handle_timeout(&mut self, now: Time) {
        match self.phase {
            Phase::AwaitHello | Phase::AwaitVerdict if now >= self.hello_deadline => {
                self.close(now, CloseCode::Timeout, "no hello in time");
            }
            Phase::Open => self.handle_open_timeout(now),
            _ => {}
        }
    }

    fn handle_open_timeout(&mut self, now: Time) {
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
            self.handle_paused(now);
        }
        if now >= self.last_received + self.config.silence_timeout {
            return self.close(now, CloseCode::Timeout, "nothing was heard");
        }
        if self.frame_deadline().is_some_and(|deadline| now >= deadline) {
            return self.close(now, CloseCode::Timeout, "a frame was not finished");
        }
        if self.probe_deadline().is_some_and(|deadline| now >= deadline) {
            self.probe = Probe::No;
            self.actions.push_back(Action::Probed(false));
        }
        self.send_due_ping(now);
        while self.delayed.front().is_some_and(|(until, ..)| *until <= now) {
            let (_, request, len) = self.delayed.pop_front().expect("there is a front");
            self.actions.push_back(Action::Deliver(request, len));
        }
        if now >= self.idle_at {
            self.idle_at = now + self.config.idle_timeout;
            self.actions.push_back(Action::Idle);
        }
    }

    fn send_due_ping(&mut self, now: Time) {
        if now < self.ping_due() {
            return;
        }
        let timestamp = now.as_secs();
        self.last_ping = now;
        self.ping_before = self.ping_out.map(|(_, timestamp)| timestamp);
        self.pings += 1;
        self.ping_gap = ping_gap(&self.config, self.ping_secret, self.pings);
        self.ping_out = Some((now, timestamp));
        if self.probe == Probe::Wanted {
            self.probe = Probe::Sent(now + SIGN_OF_LIFE);
        }
        let ping = self.local.frame(&Message::Ping(Ping { timestamp }), now);
        self.actions.push_back(Action::Send(ping));
    }
}
