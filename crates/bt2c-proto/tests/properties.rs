//! Properties of the wire over all messages and over any bytes.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
};

use bt2c_proto::{
    Address, Blob, Block, BlockHash, BlockHeader, Blocks, Cancel, CloseCode, Disconnect, Envelope, Frame,
    FrameCodec, GetBlocks, GetHeaders, GetPeers, HeaderContent, Headers, Height, Hello, Limits, Message,
    MessageKind, NewBlock, NewTransaction, NodeId, ParseError, Peers, Ping, Text, Throttled, Time,
    Transaction, TxHash, Version, canonical,
    limits::{MAX_DEPTH, MAX_INTEGER, MAX_PEERS, MAX_STRING},
    merkle_root,
};
use bytes::BytesMut;
use proptest::{collection::vec, option, prelude::*};
use tokio_util::codec::Decoder;

fn integer() -> impl Strategy<Value = u64> {
    prop_oneof![0..=MAX_INTEGER, Just(0), Just(MAX_INTEGER)]
}

fn height() -> impl Strategy<Value = Height> {
    integer().prop_map(Height::new)
}

fn text<const MAX: usize>() -> impl Strategy<Value = Text<MAX>> {
    any::<String>().prop_map(|text| Text::cut(&text))
}

fn node_id() -> impl Strategy<Value = NodeId> {
    "[A-Za-z0-9._-]{1,54}".prop_map(|label| label.parse().expect("the pattern is that of labels"))
}

fn block_hash() -> impl Strategy<Value = BlockHash> {
    any::<[u8; 32]>().prop_map(BlockHash::from_bytes)
}

fn blob() -> impl Strategy<Value = Blob> {
    vec(any::<u8>(), 0..600).prop_map(|bytes| Blob::try_from(bytes.as_slice()).expect("short enough"))
}

fn address() -> impl Strategy<Value = Address> {
    any::<u64>().prop_map(|key| Address::from_spki_der(&key.to_be_bytes()))
}

fn socket_addr() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), 1..=u16::MAX).prop_map(|(ip, port)| canonical(SocketAddr::new(ip, port)))
}

prop_compose! {
    fn transaction()(
        sender in address(), recipient in address(), amount in integer(), fee in integer(), nonce in integer(),
        timestamp in integer(), payload in text(), public_key in blob(), signature in blob(), hash in any::<[u8; 32]>(),
    ) -> Transaction {
        let hash = TxHash::from_bytes(hash);
        Transaction { sender, recipient, amount, fee, nonce, timestamp, payload, public_key, signature, hash }
    }
}

prop_compose! {
    fn block()(
        height in height(), timestamp in integer(), previous_hash in block_hash(), validator in option::of(address()),
        signature in blob(), transactions in vec(transaction(), 0..4),
    ) -> Block {
        let merkle_root = merkle_root(&transactions);
        let content = HeaderContent { height, timestamp, previous_hash, merkle_root, validator };
        Block { header: BlockHeader::new(content, signature), transactions }
    }
}

prop_compose! {
    fn limits()(
        (requests_per_minute, frame_size) in (integer(), integer()),
        transactions_per_second in option::of(integer()), blocks_per_second in option::of(integer()),
        push_bytes_per_second in option::of(integer()),
    ) -> Limits {
        Limits { requests_per_minute, frame_size, transactions_per_second, blocks_per_second, push_bytes_per_second }
    }
}

prop_compose! {
    fn hello()(
        (major, minor, patch) in any::<(u32, u32, u32)>(), node_id in node_id(), block_height in height(),
        last_block_hash in option::of(block_hash()), network in option::of(text()), genesis_hash in option::of(block_hash()),
        listen_port in any::<Option<std::num::NonZeroU16>>(), user_agent in option::of(text()),
        features in option::of(vec(text(), 0..=32)), limits in option::of(limits()),
        your_addr in option::of(socket_addr()), first_block in option::of(height()),
    ) -> Hello {
        Hello {
            version: Version { major, minor, patch },
            node_id, block_height, last_block_hash, network, genesis_hash, listen_port, user_agent, features, limits,
            your_addr, first_block,
        }
    }
}

/// Any message of every kind.
fn message() -> impl Strategy<Value = Message> {
    let ping = || integer().prop_map(|timestamp| Ping { timestamp });
    let range = (height(), height(), any::<Option<u32>>()).prop_map(|(a, b, stream)| match stream {
        Some(id) => GetBlocks::stream(id, a.min(b), a.max(b)),
        None => GetBlocks::range(a.min(b), a.max(b)),
    });
    let streamed = (vec(block(), 1..4), any::<u32>(), any::<bool>()).prop_map(|(blocks, id, done)| Blocks {
        blocks,
        request_id: Some(id),
        done,
    });
    prop_oneof![
        hello().prop_map(|hello| Message::Hello(Box::new(hello))),
        ping().prop_map(Message::Ping),
        ping().prop_map(Message::Pong),
        (1..=1000_u64).prop_map(|count| Message::GetPeers(GetPeers { count })),
        vec(socket_addr(), 0..20).prop_map(|peers| Message::Peers(Peers { peers })),
        range.prop_map(Message::GetBlocks),
        vec(block(), 0..4).prop_map(|blocks| Message::Blocks(Blocks::whole(blocks))),
        streamed.prop_map(Message::Blocks),
        any::<u32>().prop_map(|request_id| Message::Cancel(Cancel { request_id })),
        (vec(block_hash(), 0..=64), 1..=2000_u64)
            .prop_map(|(locator, count)| Message::GetHeaders(GetHeaders { locator, count })),
        vec(block().prop_map(|block| block.header), 0..4)
            .prop_map(|headers| Message::Headers(Headers { headers })),
        block().prop_map(|block| Message::NewBlock(NewBlock { block })),
        transaction().prop_map(|transaction| Message::NewTransaction(NewTransaction { transaction })),
        (prop::sample::select(CloseCode::ALL), text())
            .prop_map(|(code, reason)| Message::Disconnect(Disconnect { code, reason })),
        (text(), any::<Option<u32>>(), integer()).prop_map(|(kind, request_id, retry_after_ms)| {
            Message::Throttled(Throttled { kind, request_id, retry_after_ms })
        }),
    ]
}

/// A message and who sends it: itself, in a hello.
fn sent() -> impl Strategy<Value = (Message, NodeId)> {
    (message(), node_id()).prop_map(|(message, sender)| match &message {
        Message::Hello(hello) => (message.clone(), hello.node_id.clone()),
        _ => (message, sender),
    })
}

fn read(body: &[u8]) -> Result<Option<Message>, ParseError> {
    Envelope::split(body)?.message()
}

fn ping_with(unknown: &str) -> String {
    format!(r#"{{"type":"ping","data":{{"timestamp":1,"x":{unknown}}}}}"#)
}

proptest! {
    #[test]
    fn every_message_survives_the_wire(((message, sender), secs) in (sent(), integer())) {
        let frame = Frame::encode(&message, &sender, Time::from_secs(secs)).unwrap();
        let mut codec = FrameCodec::new();
        codec.set_limit(bt2c_proto::limits::FRAME_LIMIT);
        let body = codec.decode(&mut BytesMut::from(frame.bytes().as_ref())).unwrap().expect("complete");
        let envelope = Envelope::split(&body).unwrap();
        prop_assert_eq!(envelope.kind, Some(message.kind()));
        prop_assert_eq!(envelope.sender.as_deref(), Some(sender.as_str()));
        prop_assert_eq!(envelope.timestamp, Some(Time::from_secs(secs).as_secs()));
        prop_assert_eq!(envelope.message().unwrap(), Some(message));
    }

    #[test]
    fn splitting_what_we_send_borrows_everything((message, sender) in sent()) {
        let body = Frame::encode(&message, &sender, Time::from_secs(1)).unwrap().body();
        let envelope = Envelope::split(&body).unwrap();
        let within = |text: &str| body.as_ptr_range().contains(&text.as_ptr());
        prop_assert!(within(envelope.data()));
        prop_assert!(matches!(envelope.sender, Some(Cow::Borrowed(sender)) if within(sender)));
    }

    #[test]
    fn order_of_fields_and_white_space_change_nothing((message, sender) in sent()) {
        let body = Frame::encode(&message, &sender, Time::from_secs(1)).unwrap().body();
        let sorted: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let respelled = serde_json::to_string_pretty(&sorted).unwrap();
        prop_assert_eq!(read(respelled.as_bytes()).unwrap(), Some(message));
    }

    #[test]
    fn a_block_read_again_has_the_same_canonical_bytes(block in block()) {
        let bytes = block.canonical_bytes();
        let again: Block = serde_json::from_slice(&bytes).unwrap();
        prop_assert_eq!(again.canonical_bytes(), bytes);
        prop_assert!(again.root_is_right());
    }

    #[test]
    fn no_bytes_panic_the_reader(body in vec(any::<u8>(), 0..400)) {
        let _ = read(&body);
    }

    #[test]
    fn no_text_like_a_message_panics_the_reader(
        kind in prop::sample::select(MessageKind::ALL), data in "[\\[\\]{}\":,\\\\a-z0-9.eE+-]{0,120}",
    ) {
        let _ = read(format!(r#"{{"type":"{kind}","data":{{{data}}}}}"#).as_bytes());
    }

    #[test]
    fn a_damaged_message_panics_nothing_and_keeps_its_bounds(
        (message, sender) in sent(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>(),
    ) {
        let mut body = Frame::encode(&message, &sender, Time::from_secs(1)).unwrap().body().to_vec();
        let at = at.index(body.len());
        if cut {
            body.truncate(at);
            prop_assert!(read(&body).is_err(), "a message cut short is none");
        } else {
            body[at] = byte;
            let _ = read(&body);
        }
    }

    #[test]
    fn depth_is_limited_wherever_it_is(depth in 0..40_usize, object in any::<bool>()) {
        let (open, close) = if object { ("{\"a\":", "}") } else { ("[", "]") };
        let body = ping_with(&format!("{}1{}", open.repeat(depth), close.repeat(depth)));
        match read(body.as_bytes()) {
            Ok(_) => prop_assert!(depth + 2 <= MAX_DEPTH),
            Err(error) => prop_assert!(matches!(error, ParseError::TooDeep) && depth + 2 > MAX_DEPTH),
        }
    }

    #[test]
    fn strings_are_limited_by_what_they_stand_for(over in 0..3_usize, escaped in any::<bool>()) {
        let len = MAX_STRING - 1 + over;
        let letters = if escaped { "\\u0061".repeat(len) } else { "a".repeat(len) };
        match read(ping_with(&format!("\"{letters}\"")).as_bytes()) {
            Ok(_) => prop_assert!(len <= MAX_STRING),
            Err(error) => prop_assert!(matches!(error, ParseError::StringTooLong(n) if n == len && n > MAX_STRING)),
        }
    }

    #[test]
    fn lists_are_limited_by_their_entries_whatever_those_are(over in 0..3_usize, usable in any::<bool>()) {
        let len = MAX_PEERS - 1 + over;
        let entry = if usable { "\"192.0.2.1:1\"" } else { "\"?\"" };
        let body = format!(r#"{{"type":"peers","data":{{"peers":[{}]}}}}"#, vec![entry; len].join(","));
        match read(body.as_bytes()) {
            Ok(Some(Message::Peers(Peers { peers }))) => {
                prop_assert!(len <= MAX_PEERS);
                prop_assert_eq!(peers.len(), if usable { len } else { 0 });
            }
            other => {
                let refused = matches!(other, Err(ParseError::Data { .. }));
                prop_assert!(refused && len > MAX_PEERS);
            }
        }
    }
}
