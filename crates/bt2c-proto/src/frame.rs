//! Frames: a `u32` big-endian length, then a message's JSON. Encoded once, shared by every receiver.

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use tokio_util::codec::{Decoder, Encoder};

use crate::{
    error::FrameError,
    ids::NodeId,
    limits::{FRAME_LIMIT, HELLO_FRAME_LIMIT},
    message::{Message, MessageKind},
    time::Time,
};

const HEADER_LEN: usize = 4;

/// An encoded message, header included. Cloning shares the bytes.
#[derive(Debug, Clone)]
pub struct Frame {
    kind: MessageKind,
    bytes: Bytes,
}

#[derive(Serialize)]
struct WireEnvelope<'a, T> {
    #[serde(rename = "type")]
    kind: &'static str,
    data: &'a T,
    timestamp: u64,
    sender: &'a NodeId,
}

impl Frame {
    /// Encodes a message in the one form that we send.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] if the body is above [`FRAME_LIMIT`].
    pub fn encode(message: &Message, sender: &NodeId, now: Time) -> Result<Self, FrameError> {
        let kind = message.kind();
        Self::write(kind, |body| {
            let envelope =
                WireEnvelope { kind: kind.name(), data: message, timestamp: now.as_secs(), sender };
            serde_json::to_writer(body.writer(), &envelope)
                .expect("messages have text keys and no failing parts");
        })
    }

    /// A `blocks` message from the canonical bytes of its blocks: a copy, not a serialisation.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] if the body is above [`FRAME_LIMIT`].
    pub fn blocks<B: AsRef<[u8]>>(canonical: &[B], sender: &NodeId, now: Time) -> Result<Self, FrameError> {
        Self::write(MessageKind::Blocks, |body| {
            put_blocks(body, canonical);
            body.put_u8(b'}');
            put_tail(body, sender, now);
        })
    }

    /// A `blocks` message of a stream, likewise.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] if the body is above [`FRAME_LIMIT`].
    pub fn stream_blocks<B: AsRef<[u8]>>(
        canonical: &[B],
        request_id: u32,
        done: bool,
        sender: &NodeId,
        now: Time,
    ) -> Result<Self, FrameError> {
        Self::write(MessageKind::Blocks, |body| {
            put_blocks(body, canonical);
            body.put_slice(format!(",\"request_id\":{request_id}").as_bytes());
            if done {
                body.put_slice(b",\"done\":true");
            }
            body.put_u8(b'}');
            put_tail(body, sender, now);
        })
    }

    /// A `new_block` message from the block's canonical bytes.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] if the body is above [`FRAME_LIMIT`].
    pub fn new_block(canonical: &[u8], sender: &NodeId, now: Time) -> Result<Self, FrameError> {
        Self::write(MessageKind::NewBlock, |body| {
            body.put_slice(b"{\"type\":\"new_block\",\"data\":{\"block\":");
            body.put_slice(canonical);
            body.put_u8(b'}');
            put_tail(body, sender, now);
        })
    }

    fn write(kind: MessageKind, fill: impl FnOnce(&mut BytesMut)) -> Result<Self, FrameError> {
        let mut bytes = BytesMut::with_capacity(256);
        bytes.put_u32(0);
        fill(&mut bytes);
        let len = bytes.len() - HEADER_LEN;
        match u32::try_from(len) {
            Ok(header) if len <= FRAME_LIMIT => bytes[..HEADER_LEN].copy_from_slice(&header.to_be_bytes()),
            _ => return Err(FrameError::TooLong { len, limit: FRAME_LIMIT }),
        }
        Ok(Self { kind, bytes: bytes.freeze() })
    }

    /// The message's type.
    pub const fn kind(&self) -> MessageKind {
        self.kind
    }

    /// Header and body, as they go on the wire.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The body alone.
    pub fn body(&self) -> Bytes {
        self.bytes.slice(HEADER_LEN..)
    }
}

fn put_blocks<B: AsRef<[u8]>>(body: &mut BytesMut, canonical: &[B]) {
    body.put_slice(b"{\"type\":\"blocks\",\"data\":{\"blocks\":[");
    for (index, block) in canonical.iter().enumerate() {
        if index > 0 {
            body.put_u8(b',');
        }
        body.put_slice(block.as_ref());
    }
    body.put_u8(b']');
}

fn put_tail(body: &mut BytesMut, sender: &NodeId, now: Time) {
    body.put_slice(format!(",\"timestamp\":{},\"sender\":\"{sender}\"}}", now.as_secs()).as_bytes());
}

/// How many bytes of a `blocks` frame are not blocks, at most: envelope, brackets and the longest label.
pub const BLOCKS_FRAME_OVERHEAD: usize = 256;

/// Cuts a byte stream into frame bodies, with a limit that rises once both hellos are in.
///
/// The declared length is checked before a byte of the body is wanted, and no room is reserved for it: buffers grow as
/// bytes arrive. After an error the codec yields nothing more.
#[derive(Debug)]
pub struct FrameCodec {
    limit: usize,
    failed: bool,
}

impl Default for FrameCodec {
    fn default() -> Self {
        Self { limit: HELLO_FRAME_LIMIT, failed: false }
    }
}

impl FrameCodec {
    /// A codec with the limit that holds until both hellos are in.
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes the limit: largest body in bytes.
    pub const fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }
}

impl Decoder for FrameCodec {
    type Item = Bytes;
    type Error = FrameError;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
        let Some(header) = buffer.first_chunk::<HEADER_LEN>().filter(|_| !self.failed) else {
            return Ok(None);
        };
        let len = usize::try_from(u32::from_be_bytes(*header)).unwrap_or(usize::MAX);
        if len == 0 || len > self.limit {
            self.failed = true;
            let limit = self.limit;
            return Err(if len == 0 { FrameError::Empty } else { FrameError::TooLong { len, limit } });
        }
        if buffer.len() - HEADER_LEN < len {
            return Ok(None);
        }
        let mut frame = buffer.split_to(HEADER_LEN + len);
        Ok(Some(frame.split_off(HEADER_LEN).freeze()))
    }
}

impl Encoder<Frame> for FrameCodec {
    type Error = FrameError;

    fn encode(&mut self, frame: Frame, buffer: &mut BytesMut) -> Result<(), FrameError> {
        buffer.extend_from_slice(frame.bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
