//! Answering `get_blocks` and `get_headers` from stored bytes.
//!
//! One task for each peer that asks, so that its answers keep the order of its questions and nobody waits for a slow reader
//! but itself: the next answer is read from the store once there is room for it in the peer's send queue. Of a stream, no
//! more is queued than keeps the line busy, so that a cancel takes effect soon and other messages are not held up.

use std::sync::Arc;

use bt2c_p2p::{Peer, env::Compute};
use bt2c_proto::{
    BLOCKS_FRAME_OVERHEAD, BlockHeader, Frame, GetBlocks, GetHeaders, Headers, Height, Message, NodeId,
    limits::{FRAME_LIMIT, MAX_BLOCKS},
};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    config::PART_BYTES,
    cost,
    metrics::SyncMetrics,
    store::{ChainStore, StoreError},
};

/// Questions of one peer that may wait; more than its limit lets through at once.
pub(crate) const QUESTIONS: usize = 128;

/// Bytes that may wait in the send queue when the next part of a stream is put there.
const QUEUED_BYTES: usize = 256 * 1024;

/// Bytes of blocks read to answer one `get_headers`: two thousand blocks of two kilobytes.
const HEADERS_READ: usize = 4 << 20;

/// What a peer asks.
#[derive(Debug, Clone)]
pub(crate) enum Question {
    Blocks(GetBlocks),
    Headers(GetHeaders),
    Cancel(u32),
}

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

/// A stream that is being sent.
#[derive(Debug, Clone, Copy)]
struct Stream {
    id: u32,
    next: Height,
    end: Height,
}

/// The peer is gone.
#[derive(Debug)]
struct Gone;

impl Server {
    /// Answers one peer until it is gone.
    pub(crate) async fn run(self, peer: Peer, questions: mpsc::Receiver<Question>) {
        let stop = self.stop.clone();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            _ = self.serve(&peer, questions) => {}
        }
    }

    async fn serve(&self, peer: &Peer, mut questions: mpsc::Receiver<Question>) -> Result<(), Gone> {
        let mut stream: Option<Stream> = None;
        loop {
            tokio::select! {
                biased;
                question = questions.recv() => match question.ok_or(Gone)? {
                    Question::Blocks(range) if range.stream => {
                        // One stream a peer: an earlier one ends here.
                        self.end_stream(peer, &mut stream)?;
                        let Some(id) = range.request_id else { continue };
                        stream = Some(Stream { id, next: range.start_height, end: range.end_height });
                    }
                    Question::Blocks(range) => self.answer(peer, range).await?,
                    Question::Headers(question) => self.answer_headers(peer, question).await?,
                    Question::Cancel(id) => {
                        if stream.is_some_and(|stream| stream.id == id) {
                            self.end_stream(peer, &mut stream)?;
                        }
                    }
                },
                () = peer.wait_until_queued(QUEUED_BYTES), if stream.is_some() => {
                    if let Some(current) = stream {
                        stream = self.send_part(peer, current).await?;
                    }
                }
            }
        }
    }

    async fn answer(&self, peer: &Peer, question: GetBlocks) -> Result<(), Gone> {
        let room = room_for_blocks(peer);
        peer.wait_for_room(FRAME_LIMIT).await;
        let last = question.start_height.saturating_add(MAX_BLOCKS as u64 - 1).min(question.end_height);
        let bodies = self.read(peer, question.start_height, last, room).await;
        let Ok(frame) = Frame::blocks(&bodies, &self.node_id, self.clock.now()) else { return Ok(()) };
        self.send(peer, frame, &bodies)
    }

    /// Sends the next part of a stream; returns what is left of it.
    async fn send_part(&self, peer: &Peer, stream: Stream) -> Result<Option<Stream>, Gone> {
        let room = room_for_blocks(peer);
        let last = stream.next.saturating_add(MAX_BLOCKS as u64 - 1).min(stream.end);
        // A block that is larger than a part is a part of its own.
        let mut bodies = self.read(peer, stream.next, last, room.min(PART_BYTES)).await;
        if bodies.is_empty() && room > PART_BYTES {
            bodies = self.read(peer, stream.next, stream.next, room).await;
        }
        let next = stream.next.saturating_add(bodies.len() as u64);
        let done = bodies.is_empty() || next > stream.end;
        let frame = Frame::stream_blocks(&bodies, stream.id, done, &self.node_id, self.clock.now());
        // Blocks that were read to fit do.
        self.send(peer, frame.map_err(|_| Gone)?, &bodies)?;
        Ok((!done).then_some(Stream { next, ..stream }))
    }

    /// Says that a stream is over, if there is one.
    fn end_stream(&self, peer: &Peer, stream: &mut Option<Stream>) -> Result<(), Gone> {
        let Some(Stream { id, .. }) = stream.take() else { return Ok(()) };
        let frame = Frame::stream_blocks::<Bytes>(&[], id, true, &self.node_id, self.clock.now());
        self.send(peer, frame.map_err(|_| Gone)?, &[])
    }

    async fn answer_headers(&self, peer: &Peer, question: GetHeaders) -> Result<(), Gone> {
        let room = room_for_blocks(peer);
        peer.wait_for_room(FRAME_LIMIT).await;
        let store = Arc::clone(&self.store);
        let read = move || read_headers(&*store, &question, room);
        let headers = self.compute.compute(cost::SERVE, read).await;
        let headers = self.served(peer, headers);
        let message = Message::Headers(Headers { headers });
        match Frame::encode(&message, &self.node_id, self.clock.now()) {
            Ok(frame) => self.send(peer, frame, &[]),
            Err(_) => Ok(()),
        }
    }

    async fn read(&self, peer: &Peer, start: Height, end: Height, room: usize) -> Vec<Bytes> {
        let store = Arc::clone(&self.store);
        let read = move || read_blocks(&*store, start, end, room);
        let bodies = self.compute.compute(cost::SERVE, read).await;
        self.served(peer, bodies)
    }

    fn served<T: Default>(&self, peer: &Peer, result: Result<T, StoreError>) -> T {
        result.unwrap_or_else(|error| {
            // Not above debug, for the peer can ask again; whoever checks the chain is told by name.
            tracing::debug!(%error, peer = %peer.id().short(), "cannot serve blocks");
            self.metrics.unserved.inc();
            T::default()
        })
    }

    fn send(&self, peer: &Peer, frame: Frame, bodies: &[Bytes]) -> Result<(), Gone> {
        let bytes: usize = bodies.iter().map(Bytes::len).sum();
        peer.send(frame).map_err(|_| Gone)?;
        self.metrics.served_blocks.inc_by(bodies.len() as u64);
        self.metrics.served_bytes.inc_by(bytes as u64);
        Ok(())
    }
}

/// Bytes of blocks that fit an answer which this peer takes.
fn room_for_blocks(peer: &Peer) -> usize {
    let told = peer.hello().limits.map_or(u64::MAX, |limits| limits.frame_size);
    let frame = usize::try_from(told).unwrap_or(usize::MAX).min(FRAME_LIMIT);
    // One byte for the comma after each block.
    frame.saturating_sub(BLOCKS_FRAME_OVERHEAD + MAX_BLOCKS)
}

fn read_blocks(
    store: &dyn ChainStore,
    start: Height,
    end: Height,
    room: usize,
) -> Result<Vec<Bytes>, StoreError> {
    let mut bodies = store.bodies(start..=end, room)?;
    if bodies.first().is_some_and(|first| first.len() > room) {
        bodies.clear();
    }
    Ok(bodies)
}

/// Headers of the main chain above the first block of the locator that is on it, or above the genesis block.
fn read_headers(
    store: &dyn ChainStore,
    question: &GetHeaders,
    room: usize,
) -> Result<Vec<BlockHeader>, StoreError> {
    let mut shared = Height::GENESIS;
    for hash in &question.locator {
        let place = store.block(hash)?;
        if let Some(place) = place
            && store.main(place.height)?.is_some_and(|main| main.hash == place.hash)
        {
            shared = place.height;
            break;
        }
    }
    let (mut headers, mut bytes) = (Vec::new(), 0);
    let end = shared.saturating_add(question.count);
    for body in store.bodies(shared.next()..=end, HEADERS_READ)? {
        // What is stored is what was read and written here.
        let Ok(header) = serde_json::from_slice::<BlockHeader>(&body) else { break };
        bytes += serde_json::to_vec(&header).map_or(usize::MAX, |json| json.len() + 1);
        if bytes > room {
            break;
        }
        headers.push(header);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        MemoryStore,
        testing::{TestConsensus, checked, places},
    };

    #[test]
    fn headers_start_above_the_first_shared_block_of_the_locator() {
        let test = TestConsensus::new();
        let store = MemoryStore::new(test.genesis_block());
        let row = test.row(&store.tip(), 10, 0);
        store.append(&checked(&row), row[9].hash()).unwrap();
        let side = test.row(&places(&row)[3], 3, 1);
        store.append(&checked(&side), row[9].hash()).unwrap();
        let ask = |locator: &[&bt2c_proto::Block], count, room| -> Vec<u64> {
            let locator = locator.iter().map(|block| block.hash()).collect();
            let headers = read_headers(&store, &GetHeaders { locator, count }, room).unwrap();
            headers.iter().map(|header| header.height.get()).collect()
        };
        assert_eq!(ask(&[&row[7], &row[3]], 2000, 1 << 20), [9, 10]);
        assert_eq!(
            ask(&[&side[2], &row[3]], 2, 1 << 20),
            [5, 6],
            "a block beside the main chain is not shared"
        );
        assert_eq!(
            ask(&[&side[2]], 3, 1 << 20),
            [1, 2, 3],
            "without a shared block from the genesis block on"
        );
        assert_eq!(ask(&[&row[9]], 3, 1 << 20), [0_u64; 0]);
        assert_eq!(ask(&[], 2000, 0), [0_u64; 0], "as many as there is room for");
        let two = serde_json::to_vec(&row[0].header).unwrap().len() * 2 + 8;
        assert_eq!(ask(&[], 2000, two), [1, 2]);
    }
}
