//! Answering `get_blocks` from stored bytes.
//!
//! One task for each peer that asks, so that its answers keep the order of its questions and nobody waits for a slow reader
//! but itself: the next answer is read from the store once there is room for it in the peer's send queue.

use std::sync::Arc;

use bt2c_p2p::{Peer, env::Compute};
use bt2c_proto::{
    BLOCKS_FRAME_OVERHEAD, Frame, GetBlocks, NodeId,
    limits::{FRAME_LIMIT, MAX_BLOCKS},
};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{cost, metrics::SyncMetrics, store::ChainStore};

/// Questions of one peer that may wait; more than its limit lets through at once.
pub(crate) const QUESTIONS: usize = 128;

/// What a task that answers needs.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) store: Arc<dyn ChainStore>,
    pub(crate) compute: Arc<dyn Compute>,
    pub(crate) clock: Arc<dyn bt2c_p2p::env::Clock>,
    pub(crate) node_id: NodeId,
    pub(crate) metrics: Arc<SyncMetrics>,
    pub(crate) stop: CancellationToken,
}

impl Server {
    /// Answers one peer until it is gone.
    pub(crate) async fn run(self, peer: Peer, mut questions: mpsc::Receiver<GetBlocks>) {
        let stop = self.stop.clone();
        let serve = async {
            while let Some(question) = questions.recv().await {
                if !self.answer(&peer, question).await {
                    break;
                }
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = serve => {}
        }
    }

    /// Answers a question; false if the peer is gone.
    async fn answer(&self, peer: &Peer, question: GetBlocks) -> bool {
        let room = room_for_blocks(peer);
        peer.wait_for_room(FRAME_LIMIT).await;
        let store = Arc::clone(&self.store);
        let read = move || read(&*store, question, room);
        let bodies = match self.compute.compute(cost::SERVE, read).await {
            Ok(bodies) => bodies,
            Err(error) => {
                // Not above debug, for the peer can ask again; whoever checks the chain is told by name.
                tracing::debug!(%error, peer = %peer.id().short(), "cannot serve blocks");
                self.metrics.unserved.inc();
                Vec::new()
            }
        };
        let Ok(frame) = Frame::blocks(&bodies, &self.node_id, self.clock.now()) else { return true };
        let bytes: usize = bodies.iter().map(Bytes::len).sum();
        let sent = peer.send(frame).is_ok();
        if sent {
            self.metrics.served_blocks.inc_by(bodies.len() as u64);
            self.metrics.served_bytes.inc_by(bytes as u64);
        }
        sent
    }
}

/// Bytes of blocks that fit an answer which this peer takes.
fn room_for_blocks(peer: &Peer) -> usize {
    let told = peer.hello().limits.map_or(u64::MAX, |limits| limits.frame_size);
    let frame = usize::try_from(told).unwrap_or(usize::MAX).min(FRAME_LIMIT);
    // One byte for the comma after each block.
    frame.saturating_sub(BLOCKS_FRAME_OVERHEAD + MAX_BLOCKS)
}

fn read(store: &dyn ChainStore, question: GetBlocks, room: usize) -> Result<Vec<Bytes>, crate::StoreError> {
    let last = question.start_height.saturating_add(MAX_BLOCKS as u64 - 1).min(question.end_height);
    let mut bodies = store.bodies(question.start_height..=last, room)?;
    if bodies.first().is_some_and(|first| first.len() > room) {
        bodies.clear();
    }
    Ok(bodies)
}
