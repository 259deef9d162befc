//! The writing half of a connection: chunks out, flushes, and whether anything moves.

use std::{io, time::Duration};

use bt2c_proto::{Frame, Time};
use bytes::Buf;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::queue::Chunker;

/// Writes chunks of frames to a stream, and knows since when it makes no progress.
#[derive(Debug)]
pub(super) struct Writing<W> {
    stream: W,
    chunker: Chunker,
    needs_flush: bool,
    /// Last time that writing made progress, or began after there was nothing to write.
    progress: Time,
}

impl<W: AsyncWrite + Unpin> Writing<W> {
    pub(super) fn new(stream: W, now: Time) -> Self {
        Self { stream, chunker: Chunker::default(), needs_flush: false, progress: now }
    }

    /// Whether there is something to write or flush.
    pub(super) const fn is_busy(&self) -> bool {
        self.wants_no_more() || self.needs_flush
    }

    /// Whether a chunk is under way, so that no other is needed yet.
    pub(super) const fn wants_no_more(&self) -> bool {
        !self.chunker.is_empty()
    }

    /// Takes the next chunk from `next` if the last one is out.
    pub(super) fn refill(&mut self, now: Time, next: impl FnMut() -> Option<Frame>) {
        let was_idle = !self.is_busy();
        self.chunker.chunk(next);
        if was_idle {
            self.progress = now;
        }
    }

    /// When the reader counts as too slow, if nothing moves until then.
    pub(super) fn stalled_at(&self, timeout: Duration) -> Option<Time> {
        self.is_busy().then(|| self.progress + timeout)
    }

    /// Writes some of the chunk, or flushes once it is out; says how many bytes were written. Never completes while there is
    /// nothing to do. May be dropped at any time. [`Writing::moved`] is to be called when it succeeds.
    pub(super) async fn advance(&mut self) -> io::Result<usize> {
        if !self.wants_no_more() {
            if !self.needs_flush {
                return std::future::pending().await;
            }
            self.stream.flush().await?;
            self.needs_flush = false;
            return Ok(0);
        }
        match self.stream.write_buf(self.chunker.chunk(|| None)).await? {
            0 => Err(io::ErrorKind::WriteZero.into()),
            len => {
                self.needs_flush = true;
                Ok(len)
            }
        }
    }

    /// There was progress.
    pub(super) const fn moved(&mut self, now: Time) {
        self.progress = now;
    }

    /// Writes one last frame, if there is one, and closes the stream.
    pub(super) async fn finish(&mut self, last: Option<Frame>) -> io::Result<()> {
        if let Some(frame) = last {
            // What was begun must be finished, or the last frame would be read as its rest.
            let unsent = std::mem::take(self.chunker.chunk(|| None));
            self.stream.write_all_buf(&mut unsent.chain(frame.bytes().clone())).await?;
        }
        self.stream.shutdown().await
    }
}

#[cfg(test)]
mod tests {
    use bt2c_proto::{Message, NodeId, Ping};

    use super::*;

    fn frame() -> Frame {
        let sender: NodeId = "a".parse().unwrap();
        Frame::encode(&Message::Ping(Ping { timestamp: 1 }), &sender, Time::from_secs(1)).unwrap()
    }

    #[tokio::test]
    async fn a_stall_is_measured_from_the_first_byte_that_waits_not_from_the_idle_time_before() {
        let (stream, _reader) = tokio::io::duplex(8);
        let at = Time::from_secs;
        let timeout = Duration::from_secs(20);
        let mut writing = Writing::new(stream, at(0));
        assert_eq!(writing.stalled_at(timeout), None);
        writing.refill(at(100), || Some(frame()));
        assert_eq!(writing.stalled_at(timeout), Some(at(120)));
        assert_eq!(writing.advance().await.unwrap(), 8);
        writing.moved(at(110));
        writing.refill(at(115), || panic!("the chunk is not out"));
        assert_eq!(writing.stalled_at(timeout), Some(at(130)));
    }

    #[tokio::test]
    async fn the_last_frame_follows_the_rest_of_the_one_that_was_begun() {
        use tokio::io::AsyncReadExt;
        let (stream, mut reader) = tokio::io::duplex(1024);
        let mut writing = Writing::new(stream, Time::default());
        let mut once = Some(frame());
        writing.refill(Time::default(), || once.take());
        writing.chunker.chunk(|| None).advance(5);
        writing.finish(Some(frame())).await.unwrap();
        let mut got = Vec::new();
        reader.read_to_end(&mut got).await.unwrap();
        let expected = [&frame().bytes()[5..], &frame().bytes()[..]].concat();
        assert_eq!(got, expected);
    }
}
