//! What waits to be sent to one peer: bounded in bytes, control messages first, transactions the first to go.

use std::{collections::VecDeque, time::Duration};

use bt2c_proto::{
    Frame, Limits, MessageKind, Time,
    limits::{FRAME_LIMIT, HELLO_FRAME_LIMIT},
};
use bt2c_security::{PushKind, PushPace};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::peer::SendError;

/// Room for control messages beyond the limit, so that a pong goes out however full the queue is.
const CONTROL_RESERVE: usize = 64 * 1024;

/// How long a push waits when its pace allows no more.
const PACE_STEP: Duration = Duration::from_millis(100);

/// The queue itself: no lock, no waiting.
#[derive(Debug)]
pub(crate) struct SendQueue {
    limit: usize,
    bytes: usize,
    control: VecDeque<Frame>,
    /// Requests, answers and blocks, in order.
    normal: VecDeque<Frame>,
    transactions: VecDeque<Frame>,
    /// Our own pace for pushes.
    pace: PushPace,
    /// The largest frame that the peer takes.
    frame_limit: usize,
    paused_until: Time,
}

/// What to send next.
#[derive(Debug)]
pub(crate) enum Next {
    /// This frame.
    Frame(Frame),
    /// Nothing before this moment.
    Wait(Time),
    /// Nothing.
    Empty,
}

impl SendQueue {
    pub(crate) fn new(now: Time, limit: usize) -> Self {
        Self {
            limit,
            frame_limit: FRAME_LIMIT,
            bytes: 0,
            control: VecDeque::new(),
            normal: VecDeque::new(),
            transactions: VecDeque::new(),
            pace: PushPace::new(now, None),
            paused_until: Time::from_millis(0),
        }
    }

    /// The peer's hello is in: keeps to what it says that it takes.
    pub(crate) fn heed(&mut self, now: Time, told: &Limits) {
        self.pace = PushPace::new(now, Some(told));
        // Nobody who wants to be spoken to takes less than a hello.
        self.frame_limit = usize::try_from(told.frame_size).unwrap_or(FRAME_LIMIT).max(HELLO_FRAME_LIMIT);
    }

    pub(crate) fn push(&mut self, frame: Frame) -> Result<(), SendError> {
        if frame.body().len() > self.frame_limit {
            return Err(SendError::TooLong);
        }
        let len = frame.bytes().len();
        let is_control = is_control(frame.kind());
        let limit = if is_control { self.limit + CONTROL_RESERVE } else { self.limit };
        while self.bytes + len > limit && frame.kind() != MessageKind::NewTransaction {
            let Some(dropped) = self.transactions.pop_front() else { return Err(SendError::Full) };
            self.bytes -= dropped.bytes().len();
        }
        if self.bytes + len > limit {
            return Err(SendError::Full);
        }
        self.bytes += len;
        match frame.kind() {
            MessageKind::Hello => self.control.push_front(frame),
            _ if is_control => self.control.push_back(frame),
            MessageKind::NewTransaction => self.transactions.push_back(frame),
            _ => self.normal.push_back(frame),
        }
        Ok(())
    }

    /// The next frame; until both hellos are in (`open`), only ours.
    pub(crate) fn pop(&mut self, now: Time, open: bool) -> Next {
        let next = if open {
            self.control.pop_front().or_else(|| self.pop_paced(now))
        } else {
            self.control.pop_front_if(|frame| frame.kind() == MessageKind::Hello)
        };
        match next {
            Some(frame) => {
                self.bytes -= frame.bytes().len();
                Next::Frame(frame)
            }
            None if self.bytes == 0 || !open => Next::Empty,
            None => Next::Wait(self.paused_until),
        }
    }

    /// The next frame that is no control message, unless it is a push above our pace.
    fn pop_paced(&mut self, now: Time) -> Option<Frame> {
        if let Some(frame) = self.normal.front() {
            if frame.kind() != MessageKind::NewBlock
                || self.may_push(now, PushKind::Block, frame.bytes().len())
            {
                return self.normal.pop_front();
            }
            return None;
        }
        let len = self.transactions.front()?.bytes().len();
        if self.may_push(now, PushKind::Transaction, len) { self.transactions.pop_front() } else { None }
    }

    fn may_push(&mut self, now: Time, kind: PushKind, len: usize) -> bool {
        if now < self.paused_until {
            return false;
        }
        let accepted = self.pace.take(now, kind, len);
        if !accepted {
            self.paused_until = now + PACE_STEP;
        }
        accepted
    }

    const fn has_room(&self, bytes: usize) -> bool {
        self.bytes + bytes <= self.limit || self.bytes == 0
    }
}

const fn is_control(kind: MessageKind) -> bool {
    matches!(
        kind,
        MessageKind::Hello
            | MessageKind::Ping
            | MessageKind::Pong
            | MessageKind::Disconnect
            | MessageKind::Throttled
    )
}

/// A [`SendQueue`] shared between a session and everyone who sends to its peer.
#[derive(Debug)]
pub(crate) struct Outbox {
    /// None before the session begins and after it ends.
    queue: Mutex<Option<SendQueue>>,
    /// Wakes the session when there is something to send.
    filled: Notify,
    /// Wakes senders when there is room, or the end.
    drained: Notify,
}

impl Outbox {
    pub(crate) fn new() -> Self {
        Self { queue: Mutex::new(None), filled: Notify::new(), drained: Notify::new() }
    }

    /// Begins to take frames.
    pub(crate) fn open(&self, queue: SendQueue) {
        *self.queue.lock() = Some(queue);
    }

    /// The peer's hello is in.
    pub(crate) fn heed(&self, now: Time, told: &Limits) {
        if let Some(queue) = self.queue.lock().as_mut() {
            queue.heed(now, told);
        }
    }

    pub(crate) fn push(&self, frame: Frame) -> Result<(), SendError> {
        self.queue.lock().as_mut().ok_or(SendError::Closed)?.push(frame)?;
        self.filled.notify_one();
        Ok(())
    }

    pub(crate) fn pop(&self, now: Time, open: bool) -> Next {
        let next = self.queue.lock().as_mut().map_or(Next::Empty, |queue| queue.pop(now, open));
        if matches!(next, Next::Frame(_)) {
            self.drained.notify_waiters();
        }
        next
    }

    /// Completes when something was queued since the last call.
    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }

    pub(crate) async fn wait_for_room(&self, bytes: usize) {
        self.wait_until(|queue| queue.has_room(bytes)).await;
    }

    pub(crate) async fn wait_until_queued(&self, at_most: usize) {
        self.wait_until(|queue| queue.bytes <= at_most).await;
    }

    /// Waits for frames to go out until this holds, or the end.
    async fn wait_until(&self, holds: impl Fn(&SendQueue) -> bool) {
        loop {
            let drained = self.drained.notified();
            if self.queue.lock().as_ref().is_none_or(&holds) {
                return;
            }
            drained.await;
        }
    }

    /// Drops what is queued and refuses more.
    pub(crate) fn close(&self) {
        self.queue.lock().take();
        self.drained.notify_waiters();
    }
}

/// Bytes on their way out: frames gathered into chunks of about one TLS record.
#[derive(Debug, Default)]
pub(crate) struct Chunker {
    current: Bytes,
}

/// Largest plaintext of a TLS record, 2^14 bytes (RFC 8446, section 5.1): the batch in which small frames are written.
const RECORD: usize = 16 * 1024;

impl Chunker {
    /// The bytes to write now, refilled by `next` when the last ones are out; empty if there are none.
    pub(crate) fn chunk(&mut self, mut next: impl FnMut() -> Option<Frame>) -> &mut Bytes {
        if self.current.is_empty()
            && let Some(first) = next()
        {
            self.current = first.bytes().clone();
            if self.current.len() < RECORD / 2 {
                self.current = gather(&self.current, next);
            }
        }
        &mut self.current
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.current.is_empty()
    }
}

/// `first` and as many small frames as make up a record.
fn gather(first: &Bytes, mut next: impl FnMut() -> Option<Frame>) -> Bytes {
    let Some(second) = next() else { return first.clone() };
    let mut batch = bytes::BytesMut::with_capacity(RECORD);
    batch.extend_from_slice(first);
    batch.extend_from_slice(second.bytes());
    while batch.len() < RECORD {
        let Some(frame) = next() else { break };
        batch.extend_from_slice(frame.bytes());
    }
    batch.freeze()
}

#[cfg(test)]
mod tests {
    use bt2c_proto::{BlockHash, GetPeers, Height, Hello, Message, NodeId, Peers, Ping, Version};
    use bt2c_security::SecurityConfig;

    use super::*;

    const NOW: Time = Time::from_secs(1_712_352_000);

    fn queue(limit: usize) -> SendQueue {
        SendQueue::new(NOW, limit)
    }

    fn frame(message: &Message) -> Frame {
        let sender: NodeId = "a".parse().unwrap();
        Frame::encode(message, &sender, NOW).unwrap()
    }

    fn hello() -> Frame {
        frame(&Message::Hello(Box::new(Hello {
            version: Version::CURRENT,
            node_id: "a".parse().unwrap(),
            block_height: Height::GENESIS,
            last_block_hash: Some(BlockHash::from_bytes([1; 32])),
            network: None,
            genesis_hash: None,
            listen_port: None,
            user_agent: None,
            features: None,
            limits: None,
            your_addr: None,
            first_block: None,
        })))
    }

    fn kind(next: &Next) -> Option<MessageKind> {
        if let Next::Frame(frame) = next { Some(frame.kind()) } else { None }
    }

    #[test]
    fn nothing_overtakes_the_hello_and_control_messages_overtake_the_rest() {
        let mut queue = queue(1 << 20);
        queue.push(frame(&Message::GetPeers(GetPeers { count: 1 }))).unwrap();
        queue.push(frame(&Message::Ping(Ping { timestamp: 1 }))).unwrap();
        assert!(matches!(queue.pop(NOW, false), Next::Empty));
        queue.push(hello()).unwrap();
        assert_eq!(kind(&queue.pop(NOW, false)), Some(MessageKind::Hello));
        assert!(matches!(queue.pop(NOW, false), Next::Empty));
        let rest: Vec<_> = std::iter::from_fn(|| kind(&queue.pop(NOW, true))).collect();
        assert_eq!(rest, [MessageKind::Ping, MessageKind::GetPeers]);
        assert!(matches!(queue.pop(NOW, true), Next::Empty));
    }

    #[test]
    fn a_full_queue_takes_no_more_but_a_pong() {
        let request = frame(&Message::GetPeers(GetPeers { count: 1 }));
        let mut queue = queue(request.bytes().len());
        queue.push(request.clone()).unwrap();
        assert_eq!(queue.push(request), Err(SendError::Full));
        queue.push(frame(&Message::Pong(Ping { timestamp: 1 }))).unwrap();
        assert_eq!(kind(&queue.pop(NOW, true)), Some(MessageKind::Pong));
    }

    #[test]
    fn a_frame_that_the_peer_does_not_take_is_not_sent() {
        let mut queue = queue(1 << 20);
        let long = frame(&Message::Peers(Peers { peers: vec![([192, 0, 2, 1], 8338).into(); 1000] }));
        let told = bt2c_proto::Limits { frame_size: 1, ..SecurityConfig::default().told_limits() };
        queue.heed(NOW, &told);
        assert!(long.bytes().len() > HELLO_FRAME_LIMIT, "{}", long.bytes().len());
        assert_eq!(queue.push(long), Err(SendError::TooLong));
        queue.push(hello()).unwrap();
    }

    #[test]
    fn in_a_full_queue_transactions_give_way_to_everything_else_the_oldest_first() {
        let address = bt2c_security::fixtures::identity(0).address().to_string();
        let transaction = |fill: usize| {
            let transaction = serde_json::from_value(serde_json::json!({
                "sender": address, "recipient": address, "amount": 1, "fee": 1, "nonce": 1, "timestamp": 1,
                "payload": "x".repeat(fill), "public_key": "AAAA", "signature": "AAAA", "hash": "0".repeat(64),
            }));
            let push = bt2c_proto::NewTransaction { transaction: transaction.unwrap() };
            frame(&Message::NewTransaction(push))
        };
        let mut queue = queue(2 * transaction(401).bytes().len());
        for fill in [400, 401] {
            queue.push(transaction(fill)).unwrap();
        }
        assert_eq!(
            queue.push(transaction(402)),
            Err(SendError::Full),
            "one transaction does not push out another"
        );
        let answer = frame(&Message::Peers(Peers { peers: vec![([192, 0, 2, 1], 8338).into(); 10] }));
        queue.push(answer).unwrap();
        let left: Vec<_> = std::iter::from_fn(|| match queue.pop(NOW, true) {
            Next::Frame(frame) => Some((frame.kind(), frame.bytes().len())),
            _ => None,
        })
        .collect();
        assert_eq!(left.len(), 2, "{left:?}");
        assert_eq!(left[0].0, MessageKind::Peers);
        assert_eq!(left[1].1, transaction(401).bytes().len(), "the younger one is left");
    }
}
