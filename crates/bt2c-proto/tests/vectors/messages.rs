//! Messages: our one sent form both ways, what is tolerated, what is refused.

use std::collections::BTreeSet;

use bt2c_proto::{
    Blocks, Cancel, CloseCode, Disconnect, Envelope, Frame, FrameCodec, FrameError, GetBlocks, GetHeaders,
    GetPeers, Height, Hello, Limits, Message, MessageKind, ParseError, Peers, Ping, Throttled, Time, Version,
    limits::FRAME_LIMIT,
};
use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde_json::Value;
use tokio_util::codec::Decoder;

use crate::{Text, hex, load};

/// What a message says, in our one form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Means {
    /// Null: a type that is unknown here, and ignored.
    #[serde(rename = "type")]
    kind: Option<String>,
    timestamp: Option<u64>,
    sender: Option<String>,
    #[serde(default)]
    data: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    name: String,
    header: String,
    body: String,
    means: Means,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tolerated {
    name: String,
    body: Text,
    means: Means,
    /// Instead of `means.data`, where that would be long.
    data_text: Option<Text>,
    #[serde(rename = "note")]
    _note: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Refused {
    Frame { name: String, error: String, frame: String, limit: usize },
    Body { name: String, error: String, body: Text },
    Bytes { name: String, error: String, body_hex: String },
}

fn sent() -> Vec<Sent> {
    load(include_str!("../../vectors/messages.json"))
}

fn tolerated() -> Vec<Tolerated> {
    load(include_str!("../../vectors/tolerated.json"))
}

fn refused() -> Vec<Refused> {
    load(include_str!("../../vectors/refused.json"))
}

fn decode(frame: &[u8], limit: usize) -> Result<Option<Bytes>, FrameError> {
    let mut codec = FrameCodec::new();
    codec.set_limit(limit);
    codec.decode(&mut BytesMut::from(frame))
}

/// Splits and parses a body and compares it with what it should mean, through our own spelling of it.
fn check_meaning(name: &str, body: &[u8], means: &Means) -> Option<Message> {
    let envelope = Envelope::split(body).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(envelope.timestamp, means.timestamp, "{name}");
    assert_eq!(envelope.sender.as_deref(), means.sender.as_deref(), "{name}");
    assert_eq!(envelope.kind.map(MessageKind::name), means.kind.as_deref(), "{name}");
    let message = envelope.message().unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(serde_json::to_value(&message).expect("messages serialise"), means.data, "{name}");
    message
}

#[test]
fn what_we_send_is_byte_for_byte_the_vector_and_reads_back() {
    for Sent { name, header, body, means } in sent() {
        let wire = [hex(&header), body.clone().into_bytes()].concat();
        let received = decode(&wire, FRAME_LIMIT).unwrap().expect("the frame is complete");
        assert_eq!(received, body, "{name}");
        let message = check_meaning(&name, &received, &means).expect("the type is known");
        let sender = means.sender.unwrap().parse().unwrap();
        let frame = Frame::encode(&message, &sender, Time::from_secs(means.timestamp.unwrap())).unwrap();
        assert_eq!(frame.bytes(), &wire, "{name}");
        if let Some(typed) = typed(&name) {
            assert_eq!(message, typed, "{name}");
        }
    }
}

#[test]
fn tolerated_bodies_mean_what_the_vectors_say() {
    for Tolerated { name, body, mut means, data_text, .. } in tolerated() {
        if let Some(text) = data_text {
            means.data = serde_json::from_str(&text.spelled_out()).unwrap();
        }
        check_meaning(&name, body.spelled_out().as_bytes(), &means);
    }
}

#[test]
fn refused_input_is_refused_for_the_reason_given() {
    for vector in refused() {
        match vector {
            Refused::Frame { name, error, frame, limit } => {
                let found = decode(&hex(&frame), limit).expect_err(&name);
                assert_eq!(frame_error(&found), error, "{name}: {found}");
            }
            Refused::Body { name, error, body } => {
                check_refusal(&name, body.spelled_out().as_bytes(), &error)
            }
            Refused::Bytes { name, error, body_hex } => check_refusal(&name, &hex(&body_hex), &error),
        }
    }
}

fn check_refusal(name: &str, body: &[u8], expected: &str) {
    let outcome = Envelope::split(body).and_then(|envelope| envelope.message());
    let error = outcome.expect_err(name);
    assert_eq!(parse_error(&error), expected, "{name}: {error}");
}

fn frame_error(error: &FrameError) -> &'static str {
    match error {
        FrameError::Empty => "empty-frame",
        FrameError::TooLong { .. } => "frame-too-long",
        FrameError::Io(_) => "io",
    }
}

fn parse_error(error: &ParseError) -> &'static str {
    match error {
        ParseError::Utf8(_) => "not-utf-8",
        ParseError::TooDeep => "too-deep",
        ParseError::StringTooLong(_) => "string-too-long",
        ParseError::Envelope(_) => "envelope",
        ParseError::DataNotObject => "data-not-object",
        ParseError::Data { .. } => "data",
        ParseError::Invalid { .. } => "invalid",
        ParseError::HelloEnvelope => "hello-envelope",
        _ => "an error without a word in vectors/README.md",
    }
}

#[test]
fn every_kind_every_code_and_every_sample_of_the_seed_has_a_vector() {
    let sent = sent();
    let names: BTreeSet<&str> = sent.iter().map(|vector| vector.name.as_str()).collect();
    for kind in MessageKind::ALL {
        assert!(names.contains(kind.name()), "{kind}");
    }
    for code in CloseCode::ALL {
        assert!(names.contains(format!("disconnect-{code}").as_str()), "{code}");
    }
    let seed: Vec<String> = tolerated()
        .into_iter()
        .map(|vector| vector.name)
        .chain(refused().into_iter().map(|vector| match vector {
            Refused::Frame { name, .. } | Refused::Body { name, .. } | Refused::Bytes { name, .. } => name,
        }))
        .filter(|name| name.starts_with("seed-"))
        .collect();
    for kind in MessageKind::ALL.iter().filter(|kind| kind.is_base()) {
        assert!(seed.iter().any(|name| name.starts_with(&format!("seed-{kind}"))), "{kind}");
    }
}

/// The meaning of some vectors in this crate's own types, so that reading and writing cannot be wrong alike.
fn typed(name: &str) -> Option<Message> {
    Some(match name {
        "hello" => Message::Hello(Box::new(Hello {
            network: Some("devnet".parse().expect("short")),
            genesis_hash: Some(crate::chain::genesis().hash()),
            listen_port: std::num::NonZeroU16::new(8336),
            user_agent: Some("bt2c-node/0.1.0".parse().expect("short")),
            features: Some(Vec::new()),
            limits: Some(base_limits()),
            your_addr: Some(([192, 0, 2, 7], 49152).into()),
            ..base_hello()
        })),
        "hello-push-limits" => {
            let Some(Message::Hello(mut hello)) = typed("hello") else { unreachable!("it is a hello") };
            hello.limits = Some(Limits {
                transactions_per_second: Some(20),
                blocks_per_second: Some(2),
                push_bytes_per_second: Some(1_048_576),
                ..base_limits()
            });
            Message::Hello(hello)
        }
        "hello-pruned" => {
            let Some(Message::Hello(mut hello)) = typed("hello") else { unreachable!("it is a hello") };
            hello.first_block = Some(Height::new(200_000));
            hello.block_height = Height::new(290_000);
            Message::Hello(hello)
        }
        "hello-base" => Message::Hello(Box::new(base_hello())),
        "ping" => Message::Ping(Ping { timestamp: 1_712_352_000 }),
        "ping-largest" => Message::Ping(Ping { timestamp: (1 << 53) - 1 }),
        "pong" => Message::Pong(Ping { timestamp: 1_712_352_000 }),
        "get_peers" => Message::GetPeers(GetPeers { count: 10 }),
        "peers" => Message::Peers(Peers {
            peers: vec![([192, 0, 2, 1], 8336).into(), ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 8336).into()],
        }),
        "get_blocks" => Message::GetBlocks(GetBlocks::range(Height::GENESIS, Height::new(1))),
        "get_blocks-stream" => {
            Message::GetBlocks(GetBlocks::stream(7, Height::GENESIS, Height::new(100_000)))
        }
        "blocks-done-none" => {
            Message::Blocks(Blocks { blocks: Vec::new(), request_id: Some(u32::MAX), done: true })
        }
        "cancel" => Message::Cancel(Cancel { request_id: 7 }),
        "get_headers" => Message::GetHeaders(GetHeaders {
            locator: vec![crate::chain::block_hash("block"), crate::chain::genesis().hash()],
            count: 2000,
        }),
        "disconnect" => Message::Disconnect(Disconnect {
            code: CloseCode::Genesis,
            reason: "another genesis block".parse().expect("short"),
        }),
        "throttled-request" => Message::Throttled(Throttled {
            kind: "get_blocks".parse().expect("short"),
            request_id: Some(7),
            retry_after_ms: 600,
        }),
        _ => return None,
    })
}

const fn base_limits() -> Limits {
    Limits {
        requests_per_minute: 100,
        frame_size: 1_048_576,
        transactions_per_second: None,
        blocks_per_second: None,
        push_bytes_per_second: None,
    }
}

fn base_hello() -> Hello {
    Hello {
        version: Version { major: 1, minor: 0, patch: 0 },
        node_id: "alice".parse().expect("a label"),
        block_height: Height::new(1),
        last_block_hash: Some(crate::chain::block_hash("block")),
        network: None,
        genesis_hash: None,
        listen_port: None,
        user_agent: None,
        features: None,
        limits: None,
        your_addr: None,
        first_block: None,
    }
}
