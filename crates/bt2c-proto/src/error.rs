//! What can be wrong with a frame.

use crate::limits::{MAX_DEPTH, MAX_STRING};

/// Why a frame's body is no message. All of these are violations of the protocol page.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// The body is not UTF-8.
    #[error("body is not UTF-8")]
    Utf8(#[source] std::str::Utf8Error),
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// A string longer than [`MAX_STRING`].
    #[error("string of {0} bytes, more than {MAX_STRING}")]
    StringTooLong(usize),
    /// Not JSON, or not an envelope.
    #[error("no envelope: {0}")]
    Envelope(#[source] serde_json::Error),
    /// `data` is not an object.
    #[error("data is no object")]
    DataNotObject,
    /// `data` is not what its `type` asks for.
    #[error("{kind}: {source}")]
    Data {
        /// The message's type.
        kind: crate::message::MessageKind,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// Fields are well-formed but contradict each other.
    #[error("{kind}: {what}")]
    Invalid {
        /// The message's type.
        kind: crate::message::MessageKind,
        /// What is wrong.
        what: &'static str,
    },
    /// A hello without `timestamp` or `sender`, or with a `sender` that is not its `node_id`.
    #[error("hello: timestamp and sender are required, and sender must be its node_id")]
    HelloEnvelope,
}

/// Why a stream of bytes is no frame. The connection ends; nothing after it is read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// A frame of length 0.
    #[error("frame of length 0")]
    Empty,
    /// A declared length above the limit in force; its body was not read.
    #[error("frame of {len} bytes, more than {limit}")]
    TooLong {
        /// The declared length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The transport failed.
    #[error("transport: {0}")]
    Io(#[from] std::io::Error),
}
