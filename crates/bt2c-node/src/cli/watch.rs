//! What `run` tells of its node while it runs: log lines, and a progress bar on a terminal.

use std::time::Duration;

use bt2c_p2p::env::BoxFuture;
use bt2c_proto::{Height, Time};
use indicatif::{ProgressBar, ProgressStyle};

use super::output::{grouped, size};
use crate::{
    config::humane_duration,
    node::{BlockAdded, NodeEvent, NodeEvents, NodeHandle, SyncProgress},
};

/// Blocks that come faster than this share a log line.
const BLOCK_LOG_INTERVAL: Duration = Duration::from_secs(1);

/// How often progress is logged where there is no terminal to show a bar on.
const PROGRESS_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Turns a node's events into log lines and progress.
pub(super) struct Watch {
    node: NodeHandle,
    events: NodeEvents,
    bar: ProgressBar,
    blocks: Blocks,
    /// When progress was told last, and the height then; none while nothing is fetched.
    progress: Option<(Time, Height)>,
}

/// Blocks that were not told of yet.
#[derive(Default)]
struct Blocks {
    count: u64,
    last: Option<BlockAdded>,
    told_at: Time,
}

impl Watch {
    pub(super) fn new(node: &NodeHandle, bar: ProgressBar) -> Self {
        Self { node: node.clone(), events: node.subscribe(), bar, blocks: Blocks::default(), progress: None }
    }

    /// Runs until the node has stopped.
    pub(super) async fn run(&mut self) {
        loop {
            let flush = self.flush_due();
            tokio::select! {
                biased;
                event = self.events.next() => match event {
                    Some(event) => self.tell(&event),
                    None => return,
                },
                () = flush => self.tell_blocks(),
            }
        }
    }

    /// Clears the terminal.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// Peers come and go at their own will, so they are told at debug; what an operator wants to know is above.
    fn tell(&mut self, event: &NodeEvent) {
        match event {
            NodeEvent::PeerUp(peer) => {
                tracing::debug!(peer = %peer.peer_id.short(), addr = %peer.addr, direction = %peer.direction, "peer up");
            }
            NodeEvent::PeerDown(down) => {
                tracing::debug!(peer = %down.peer.peer_id.short(), addr = %down.peer.addr, reason = %down.reason, "peer down");
            }
            NodeEvent::Block(block) => self.block(block),
            NodeEvent::Transaction(transaction) => {
                tracing::debug!(hash = %transaction.hash.short(), "transaction")
            }
            // The layers below tell of these themselves, with more detail.
            NodeEvent::Ban(_) | NodeEvent::Reorganisation(_) => {}
            NodeEvent::Unban(unban) => tracing::info!(subject = %unban.subject, "ban ended"),
            NodeEvent::Sync(progress) => self.progress(progress),
            NodeEvent::Warning(warning) => {
                tracing::error!(what = %warning.what, detail = %warning.detail, "look at this")
            }
            NodeEvent::Lagged(lagged) => tracing::debug!(missed = lagged.missed, "events missed"),
        }
    }

    /// While blocks are fetched in bulk, their progress is told instead.
    fn block(&mut self, block: &BlockAdded) {
        if self.progress.is_some() {
            return;
        }
        self.blocks.count += 1;
        self.blocks.last = Some(block.clone());
        if self.node.now() >= self.blocks.told_at + BLOCK_LOG_INTERVAL {
            self.tell_blocks();
        }
    }

    /// When blocks that wait are to be told of.
    fn flush_due(&self) -> BoxFuture<'static, ()> {
        match self.blocks.last {
            Some(_) => self.node.env().clock.sleep_until(self.blocks.told_at + BLOCK_LOG_INTERVAL),
            None => Box::pin(std::future::pending()),
        }
    }

    fn tell_blocks(&mut self) {
        self.blocks.told_at = self.node.now();
        let count = std::mem::take(&mut self.blocks.count);
        if let Some(BlockAdded { height, hash, transactions, .. }) = self.blocks.last.take() {
            let height = height.get();
            match count {
                1 => tracing::info!(height, hash = %hash.short(), txs = transactions, "block"),
                _ => tracing::info!(height, hash = %hash.short(), count, "blocks"),
            }
        }
    }

    fn progress(&mut self, progress: &SyncProgress) {
        self.tell_blocks();
        if progress.height >= progress.target_height {
            self.progress = None;
            tracing::info!(height = progress.height.get(), "synced");
            self.bar.finish_and_clear();
        } else if self.bar.is_hidden() {
            self.log_progress(progress);
        } else {
            if self.progress.is_none() {
                self.bar.reset();
            }
            self.progress = Some((self.node.now(), progress.height));
            self.bar.set_style(style());
            self.bar.set_length(progress.target_height.get());
            self.bar.set_position(progress.height.get());
            self.bar.set_message(summary(progress));
        }
    }

    fn log_progress(&mut self, progress: &SyncProgress) {
        let now = self.node.now();
        let (height, target) = (progress.height.get(), progress.target_height.get());
        match self.progress {
            None => tracing::info!(height, target, "syncing"),
            Some((told_at, told)) if now >= told_at + PROGRESS_LOG_INTERVAL => {
                let seconds = now.since(told_at).as_secs().max(1);
                let blocks_per_s = height.saturating_sub(told.get()) / seconds;
                tracing::info!(height, target, blocks_per_s, "syncing");
            }
            Some(_) => return,
        }
        self.progress = Some((now, progress.height));
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("syncing {bar:30} {human_pos} of {human_len} blocks, {msg}")
        .expect("the template is a constant")
}

/// How fast it goes, how long it will take, and what it waits for.
fn summary(progress: &SyncProgress) -> String {
    let mut text = format!("{} blocks/s, {}/s", grouped(progress.blocks_per_s), size(progress.bytes_per_s));
    if let Some(left) = progress.seconds_left {
        text += &format!(", {} left", humane_duration(Duration::from_secs(left)));
    }
    if let Some(cause) = &progress.slowed_by {
        text += &format!(", from {} peers, held up by {cause}", progress.peers);
    }
    text
}

#[cfg(test)]
mod tests {
    use bt2c_proto::Height;

    use super::*;

    #[test]
    fn a_line_of_progress_says_how_fast_how_long_and_what_holds_it_up() {
        let mut progress = SyncProgress {
            height: Height::new(10),
            target_height: Height::new(20),
            peers: 3,
            blocks_per_s: 12_345,
            bytes_per_s: 25_000_000,
            seconds_left: Some(125),
            slowed_by: Some("bandwidth".to_owned()),
        };
        let text = summary(&progress);
        assert!(
            text.starts_with("12 345 blocks/s, 25.0 MB/s, ") && text.contains("/s, 2m 5s left"),
            "{text}"
        );
        assert!(text.ends_with(", from 3 peers, held up by bandwidth"), "{text}");
        (progress.seconds_left, progress.slowed_by) = (None, None);
        assert!(!summary(&progress).contains("left"));
    }
}
