//! The way of bytes in: frames, envelopes, messages.

use bt2c_proto::{
    Envelope, Frame, FrameCodec, Message,
    limits::{FRAME_LIMIT, HELLO_FRAME_LIMIT, MAX_INTEGER},
};
use bytes::{Bytes, BytesMut};
use tokio_util::codec::Decoder;

use crate::NOW;

/// However a stream is cut, the same frames come out of it, and the same error.
pub(crate) fn frame(bytes: &[u8]) {
    let [limit, cuts @ ..] = bytes else { return };
    let limit = if limit.is_multiple_of(2) { HELLO_FRAME_LIMIT } else { usize::from(*limit) };
    let (cuts, stream) = cuts.split_at(cuts.len().min(8));
    let whole = decode(limit, [stream]);
    let mut pieces = Vec::new();
    let mut rest = stream;
    for &cut in cuts.iter().cycle() {
        if rest.is_empty() || cuts.iter().all(|cut| *cut == 0) {
            break;
        }
        let (piece, after) = rest.split_at(rest.len().min(cut.into()));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    assert_eq!(decode(limit, pieces), whole);
    assert!(whole.0.iter().all(|body| !body.is_empty() && body.len() <= limit));
}

/// The bodies of a stream that comes in pieces, and what ended it.
fn decode<'a>(limit: usize, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Bytes>, Option<String>) {
    let (mut codec, mut buffer) = (FrameCodec::new(), BytesMut::new());
    codec.set_limit(limit);
    let mut bodies = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match codec.decode(&mut buffer) {
                Ok(Some(body)) => bodies.push(body),
                Ok(None) => break,
                Err(error) => {
                    assert!(matches!(codec.decode(&mut buffer), Ok(None)), "more after an error");
                    return (bodies, Some(error.to_string()));
                }
            }
        }
    }
    (bodies, None)
}

/// An envelope keeps its bounds, and what is around it changes nothing.
pub(crate) fn envelope(bytes: &[u8]) {
    let Ok(envelope) = Envelope::split(bytes) else { return };
    let data = envelope.data();
    assert!(data.starts_with('{') && data.ends_with('}'), "data is an object");
    assert!(bytes.as_ptr_range().contains(&data.as_ptr()), "data is borrowed");
    assert!(envelope.timestamp.is_none_or(|seconds| seconds <= MAX_INTEGER));
    let spaced = [b"\t ", bytes, b"\r\n"].concat();
    let again = Envelope::split(&spaced).expect("white space around an envelope is nothing");
    assert_eq!((again.kind, again.timestamp, again.data()), (envelope.kind, envelope.timestamp, data));
    assert_eq!(again.sender, envelope.sender);
    assert!(Envelope::split(&[bytes, b"{}"].concat()).is_err(), "an envelope stands alone");
    let cut = &bytes[..bytes.len() - 1];
    let same = bytes.trim_ascii_end().len() < bytes.len();
    assert!(same || Envelope::split(cut).is_err(), "an envelope cut short is none");
}

/// Whatever is read as a message is read the same from our own spelling of it.
pub(crate) fn message(bytes: &[u8]) {
    let Ok(envelope) = Envelope::split(bytes) else { return };
    let Ok(Some(message)) = envelope.message() else { return };
    let sender = match &message {
        Message::Hello(hello) => hello.node_id.clone(),
        _ => "alice".parse().expect("a label"),
    };
    if let Message::NewBlock(new) = &message {
        assert!(new.block.transactions.is_empty() || !new.block.canonical_bytes().is_empty());
    }
    let Ok(frame) = Frame::encode(&message, &sender, NOW) else {
        assert!(bytes.len() > FRAME_LIMIT / 8, "our spelling is not much longer");
        return;
    };
    let body = frame.body();
    let ours = Envelope::split(&body).expect("what we send is an envelope");
    assert_eq!((ours.kind, ours.sender.as_deref()), (Some(message.kind()), Some(sender.as_str())));
    let again = ours.message().expect("what we send is a message").expect("of a known type");
    assert_eq!(again, message);
    let twice = Frame::encode(&again, &sender, NOW).expect("it fitted once");
    assert_eq!(twice.bytes(), frame.bytes());
}
