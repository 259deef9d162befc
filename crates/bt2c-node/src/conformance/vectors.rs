//! The golden vectors, as bytes to send.

use bt2c_proto::{Feature, NodeId, vectors};
use serde::Deserialize;
use serde_json::Value;

/// A text, spelled out or as pieces that are each repeated.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Whole(String),
    Pieces(Vec<(String, usize)>),
}

impl Text {
    fn spelled_out(self) -> String {
        match self {
            Self::Whole(text) => text,
            Self::Pieces(pieces) => pieces.iter().map(|(piece, times)| piece.repeat(*times)).collect(),
        }
    }
}

/// A body that must be understood.
pub(super) struct Tolerated {
    pub(super) name: String,
    pub(super) body: String,
    /// The type; `None` if it is none of the page.
    pub(super) kind: Option<String>,
    /// What its `data` says, in the form to send.
    pub(super) data: Value,
}

/// What must end a connection.
pub(super) struct Refused {
    pub(super) name: String,
    /// The class, as in the README of the vectors.
    pub(super) error: String,
    pub(super) bytes: Bytes,
}

/// What to send.
pub(super) enum Bytes {
    /// The first bytes of a stream, while the limit is that.
    Stream { bytes: Vec<u8>, limit: usize },
    /// The body of a frame.
    Body(Vec<u8>),
}

impl Refused {
    /// The message's type, if the body is JSON enough to have one.
    pub(super) fn kind(&self) -> Option<String> {
        let Bytes::Body(body) = &self.bytes else { return None };
        let body: Value = serde_json::from_slice(body).ok()?;
        Some(body.get("type")?.as_str()?.to_owned())
    }

    /// The feature without which a peer does not know what is wrong with it.
    pub(super) fn feature(&self) -> Option<Feature> {
        match self.kind()?.as_str() {
            "get_blocks" if self.name.starts_with("stream-") => Some(Feature::BlockStream),
            "get_blocks" if self.name.starts_with("request_id-") => Some(Feature::BlockStream),
            "get_headers" => Some(Feature::Headers),
            _ => None,
        }
    }

    /// Whether it is of no use where nothing was asked before, and so ignored unread: an answer, or a cancel.
    pub(super) fn is_unasked(&self) -> bool {
        matches!(self.kind().as_deref(), Some("peers" | "blocks" | "pong" | "headers" | "cancel"))
    }

    /// Whether it is a hello, and so to be sent first. One of the samples of the seed has no envelope to tell it by.
    pub(super) fn is_hello(&self) -> bool {
        self.name.starts_with("hello-") || self.name == "seed-hello"
    }

    /// The label that the certificate must bear for nothing but the fault to be wrong.
    pub(super) fn label(&self) -> Option<NodeId> {
        match &self.bytes {
            Bytes::Body(body) => label(std::str::from_utf8(body).ok()?),
            Bytes::Stream { .. } => None,
        }
    }
}

/// The label in a hello's body, if it is one.
pub(super) fn label(body: &str) -> Option<NodeId> {
    let body: Value = serde_json::from_str(body).ok()?;
    body["data"]["node_id"].as_str()?.parse().ok()
}

pub(super) fn tolerated() -> Vec<Tolerated> {
    #[derive(Deserialize)]
    struct Means {
        #[serde(rename = "type")]
        kind: Option<String>,
        #[serde(default)]
        data: Value,
    }

    #[derive(Deserialize)]
    struct Wire {
        name: String,
        body: Text,
        means: Means,
    }

    let vectors: Vec<Wire> = serde_json::from_str(vectors::TOLERATED).expect("as its README describes");
    let read = |Wire { name, body, means }| Tolerated {
        name,
        body: body.spelled_out(),
        kind: means.kind,
        data: means.data,
    };
    vectors.into_iter().map(read).collect()
}

pub(super) fn refused() -> Vec<Refused> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Wire {
        Frame { name: String, error: String, frame: String, limit: usize },
        Body { name: String, error: String, body: Text },
        Hex { name: String, error: String, body_hex: String },
    }

    let hex = |text: String| data_encoding::HEXLOWER.decode(text.as_bytes()).expect("vectors are in hex");
    let read = |vector| match vector {
        Wire::Frame { name, error, frame, limit } => {
            Refused { name, error, bytes: Bytes::Stream { bytes: hex(frame), limit } }
        }
        Wire::Body { name, error, body } => {
            Refused { name, error, bytes: Bytes::Body(body.spelled_out().into_bytes()) }
        }
        Wire::Hex { name, error, body_hex } => Refused { name, error, bytes: Bytes::Body(hex(body_hex)) },
    };
    let vectors: Vec<Wire> = serde_json::from_str(vectors::REFUSED).expect("as its README describes");
    vectors.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_vector_can_be_sent() {
        assert!(tolerated().iter().any(|vector| vector.name == "hello-nulls"));
        let refused = refused();
        assert!(refused.iter().any(|vector| matches!(vector.bytes, Bytes::Stream { .. })));
        let hello = refused.iter().find(|vector| vector.name == "hello-without-version").unwrap();
        assert!(hello.is_hello() && hello.label().is_some());
        assert!(refused.iter().all(|vector| !vector.error.is_empty()));
    }
}
