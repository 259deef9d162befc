//! How synchronisation goes, and what it waits for.

use std::{fmt, time::Duration};

use bt2c_proto::Time;

use super::{Core, window::PieceState};
use crate::event::{Event, SyncProgress};

/// What holds up synchronisation most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bottleneck {
    /// Nobody is left to be asked, or who was asked does not answer.
    Peers,
    /// Blocks are on their way.
    Bandwidth,
    /// Blocks are being checked.
    Verification,
    /// Blocks are being stored, or cannot be.
    Disk,
    /// Peers take no more requests for now.
    Limits,
}

impl Bottleneck {
    /// Every one, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Peers, Self::Bandwidth, Self::Verification, Self::Disk, Self::Limits];

    /// A word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Peers => "peers",
            Self::Bandwidth => "bandwidth",
            Self::Verification => "verification",
            Self::Disk => "disk",
            Self::Limits => "limits",
        }
    }
}

impl fmt::Display for Bottleneck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a report of progress says, while it grows.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// When the next report is due; none while nothing is fetched.
    next: Option<Time>,
    since: Time,
    blocks: u64,
    bytes: u64,
    /// What was waited for after the last input.
    waiting: Option<Bottleneck>,
    /// How long each bottleneck was the one.
    waited: [Duration; Bottleneck::ALL.len()],
    /// What the last report named.
    told: Option<Bottleneck>,
}

impl Progress {
    fn begin(now: Time, interval: Duration, told: Option<Bottleneck>) -> Self {
        Self { next: Some(now + interval), since: now, told, ..Self::default() }
    }

    pub(super) const fn due(&self) -> Option<Time> {
        self.next
    }

    /// Fetched blocks were stored.
    pub(super) const fn stored(&mut self, blocks: u64, bytes: u64) {
        self.blocks = self.blocks.saturating_add(blocks);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// What was waited for most since the last report, or what that one named.
    pub(super) fn bottleneck(&self) -> Option<Bottleneck> {
        let longest = Bottleneck::ALL.into_iter().zip(self.waited).max_by_key(|(_, waited)| *waited);
        longest.filter(|(_, waited)| !waited.is_zero()).map(|(name, _)| name).or(self.told)
    }

    fn per_second(&self, now: Time, count: u64) -> u64 {
        let millis = u64::try_from(now.since(self.since).as_millis()).unwrap_or(u64::MAX);
        count.saturating_mul(1000) / millis.max(1)
    }
}

impl Core {
    /// Counts the time since the last input for what was waited for.
    pub(super) fn count_wait(&mut self, now: Time) {
        if let Some(cause) = self.progress.waiting {
            self.progress.waited[cause as usize] += now.since(self.now);
        }
    }

    /// Notes what is waited for from now on.
    pub(super) fn note_wait(&mut self, now: Time) {
        self.progress.waiting = self.waits_for(now);
    }

    fn waits_for(&self, now: Time) -> Option<Bottleneck> {
        let pursuit = self.pursuit.as_ref()?;
        match pursuit.front().map(|piece| &piece.state) {
            Some(PieceState::Checking(_)) => return Some(Bottleneck::Verification),
            Some(PieceState::Checked(_)) if self.importing.is_some() => return Some(Bottleneck::Disk),
            _ => {}
        }
        if self.importing.as_ref().is_some_and(|importing| importing.retry_at.is_some()) {
            return Some(Bottleneck::Disk);
        }
        let usable = || self.peers.values().filter(|state| state.usable());
        if usable().any(|state| state.request.is_some_and(|request| request.outstanding().is_some())) {
            return Some(Bottleneck::Bandwidth);
        }
        let paced = usable().any(|state| state.request.is_none() && state.pace.ready_at() > now);
        Some(if paced { Bottleneck::Limits } else { Bottleneck::Peers })
    }

    pub(super) fn tell_progress(&mut self, now: Time) {
        let fetching = self.pursuit.is_some();
        let interval = self.config.progress_interval;
        match self.progress.due() {
            None if fetching => self.progress = Progress::begin(now, interval, None),
            Some(due) if !fetching || now >= due => {
                let report = self.progress_report(now);
                let told = report.bottleneck;
                self.emit(Event::SyncProgress(report));
                self.progress =
                    if fetching { Progress::begin(now, interval, told) } else { Progress::default() };
            }
            _ => {}
        }
    }

    fn progress_report(&self, now: Time) -> SyncProgress {
        let (height, target) = (self.tip().height, self.target());
        let ahead = self.peers.values().filter(|peer| peer.is_ahead_of(height.get())).count();
        let left = target.get().saturating_sub(height.get());
        SyncProgress {
            height,
            target,
            peers: ahead,
            blocks_per_s: self.progress.per_second(now, self.progress.blocks),
            bytes_per_s: self.progress.per_second(now, self.progress.bytes),
            seconds_left: left.checked_div(self.progress.per_second(now, self.progress.blocks)),
            bottleneck: self.progress.bottleneck(),
        }
    }
}
