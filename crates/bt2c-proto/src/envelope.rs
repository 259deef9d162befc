//! The envelope of every message, split without touching its `data`.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    bounded::Object, error::ParseError, message::MessageKind, numbers::lenient_timestamp, scan::check_limits,
    serde_text::BorrowedStr,
};

/// A message's outer fields, borrowed from the frame's body.
///
/// Splitting checks UTF-8, depth and string limits and the envelope's own fields; `data` stays raw until someone asks
/// for it with [`Envelope::message`], so that a message can be dropped by type, rate or state at the price of a scan.
#[derive(Debug)]
pub struct Envelope<'a> {
    /// The message's type; `None` if it is unknown here, which is counted and ignored.
    pub kind: Option<MessageKind>,
    /// Seconds since the Unix epoch, by the sender's clock; advisory.
    pub timestamp: Option<u64>,
    /// The label of the node at the other end; advisory outside hello.
    pub sender: Option<Cow<'a, str>>,
    pub(crate) data: &'a str,
}

#[derive(Deserialize)]
struct WireEnvelope<'a> {
    #[serde(borrow, rename = "type")]
    kind: BorrowedStr<'a>,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(default, deserialize_with = "lenient_timestamp")]
    timestamp: Option<u64>,
    #[serde(borrow)]
    sender: Option<BorrowedStr<'a>>,
}

impl<'a> Envelope<'a> {
    /// Splits a frame's body.
    ///
    /// # Errors
    /// Whatever makes the body no envelope; see [`ParseError`].
    pub fn split(body: &'a [u8]) -> Result<Self, ParseError> {
        let text = std::str::from_utf8(body).map_err(ParseError::Utf8)?;
        check_limits(text)?;
        let Object(wire): Object<WireEnvelope<'a>> =
            serde_json::from_str(text).map_err(ParseError::Envelope)?;
        let data = wire.data.get();
        if !data.starts_with('{') {
            return Err(ParseError::DataNotObject);
        }
        Ok(Self {
            kind: MessageKind::from_name(&wire.kind.0),
            timestamp: wire.timestamp,
            sender: wire.sender.map(|sender| sender.0),
            data,
        })
    }

    /// The raw text of `data`.
    pub const fn data(&self) -> &'a str {
        self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_is_an_object_and_no_array_of_its_values() {
        assert!(Envelope::split(br#"{"type":"ping","data":{"timestamp":1}}"#).is_ok());
        let error = Envelope::split(br#"["ping",{"timestamp":1},1,"alice"]"#).unwrap_err();
        assert!(matches!(error, ParseError::Envelope(_)));
    }
}
