use proptest::prelude::*;

use super::*;

fn framed(body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
}

fn decode_in_chunks(stream: &[u8], cuts: &[usize]) -> Vec<Bytes> {
    let (mut codec, mut buffer, mut frames) = (FrameCodec::new(), BytesMut::new(), Vec::new());
    let mut rest = stream;
    for &cut in cuts.iter().chain([&usize::MAX]) {
        let (chunk, after) = rest.split_at(cut.min(rest.len()));
        buffer.extend_from_slice(chunk);
        rest = after;
        while let Some(frame) = codec.decode(&mut buffer).unwrap() {
            frames.push(frame);
        }
    }
    assert!(buffer.is_empty());
    frames
}

proptest! {
    #[test]
    fn any_chunking_of_the_bytes_gives_the_same_frames(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..200), 0..10),
        cuts in prop::collection::vec(0..50_usize, 0..100),
    ) {
        let stream: Vec<u8> = bodies.iter().flat_map(|body| framed(body)).collect();
        let frames = decode_in_chunks(&stream, &cuts);
        prop_assert_eq!(frames, bodies);
    }

    #[test]
    fn no_input_panics_the_decoder_or_makes_it_hold_more_than_it_got(
        input in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut buffer = BytesMut::from(input.as_slice());
        let mut codec = FrameCodec::new();
        while let Ok(Some(_)) = codec.decode(&mut buffer) {}
        prop_assert!(buffer.len() <= input.len());
    }
}

#[test]
fn oversized_frame_is_refused_from_its_header_without_allocation() {
    let mut codec = FrameCodec::new();
    let mut buffer = BytesMut::with_capacity(8);
    buffer.put_u32(u32::MAX);
    let capacity = buffer.capacity();
    let error = codec.decode(&mut buffer).unwrap_err();
    assert!(matches!(error, FrameError::TooLong { limit: HELLO_FRAME_LIMIT, .. }));
    assert_eq!(buffer.capacity(), capacity);
    buffer.extend_from_slice(&framed(b"{}"));
    assert!(codec.decode(&mut buffer).unwrap().is_none(), "nothing is read after an error");
}

#[test]
fn length_zero_is_an_error() {
    let mut buffer = BytesMut::from([0; 4].as_slice());
    assert!(matches!(FrameCodec::new().decode(&mut buffer), Err(FrameError::Empty)));
}

#[test]
fn the_limit_rises_after_hello() {
    let body = vec![b' '; HELLO_FRAME_LIMIT + 1];
    let mut codec = FrameCodec::new();
    assert!(codec.decode(&mut BytesMut::from(framed(&body).as_slice())).is_err());
    let mut codec = FrameCodec::new();
    codec.set_limit(FRAME_LIMIT);
    assert_eq!(codec.decode(&mut BytesMut::from(framed(&body).as_slice())).unwrap().unwrap(), body);
}

#[test]
fn a_declared_length_reserves_nothing() {
    let mut codec = FrameCodec::new();
    codec.set_limit(FRAME_LIMIT);
    let mut buffer = BytesMut::with_capacity(16);
    buffer.put_u32(u32::try_from(FRAME_LIMIT).unwrap());
    buffer.put_u8(b'{');
    assert!(codec.decode(&mut buffer).unwrap().is_none());
    assert!(buffer.capacity() <= 16);
}

#[test]
fn frames_from_stored_bytes_equal_serialised_ones() {
    use crate::{Genesis, NodeId, Validator, bounded::Blob, message};
    let validator = Validator {
        public_key: Blob::try_from(b"key".as_slice()).unwrap(),
        weight: std::num::NonZeroU64::MIN,
    };
    let block = Genesis::new(crate::Network::Devnet, 7, std::time::Duration::from_secs(2), vec![validator])
        .unwrap()
        .block();
    let (sender, now): (NodeId, _) = ("a".parse().unwrap(), Time::from_secs(5));
    let stored = block.canonical_bytes();
    for done in [false, true] {
        let part = message::Blocks { blocks: vec![block.clone()], request_id: Some(7), done };
        assert_eq!(
            Frame::stream_blocks(&[&stored], 7, done, &sender, now).unwrap().bytes(),
            Frame::encode(&Message::Blocks(part), &sender, now).unwrap().bytes()
        );
    }
    let blocks = Message::Blocks(message::Blocks::whole(vec![block.clone(), block.clone()]));
    assert_eq!(
        Frame::blocks(&[&stored, &stored], &sender, now).unwrap().bytes(),
        Frame::encode(&blocks, &sender, now).unwrap().bytes()
    );
    let new_block = Message::NewBlock(message::NewBlock { block });
    assert_eq!(
        Frame::new_block(&stored, &sender, now).unwrap().bytes(),
        Frame::encode(&new_block, &sender, now).unwrap().bytes()
    );
    let (sender, now) = ("n".repeat(54).parse().unwrap(), Time::from_millis(u64::MAX));
    let overhead = Frame::stream_blocks::<&[u8]>(&[], u32::MAX, true, &sender, now);
    assert!(overhead.unwrap().bytes().len() < BLOCKS_FRAME_OVERHEAD);
}

#[test]
fn what_does_not_fit_a_frame_is_not_encoded() {
    let sender: NodeId = "alice".parse().unwrap();
    let (block, now) = (vec![b'x'; FRAME_LIMIT], Time::from_secs(1));
    let error = Frame::new_block(&block, &sender, now).unwrap_err();
    assert!(matches!(error, FrameError::TooLong { len, limit: FRAME_LIMIT } if len > FRAME_LIMIT));
    let fits = &block[BLOCKS_FRAME_OVERHEAD..];
    let frame = Frame::blocks(&[fits], &sender, now).unwrap();
    assert_eq!(frame.kind(), MessageKind::Blocks);
    let mut written = BytesMut::new();
    FrameCodec::new().encode(frame.clone(), &mut written).unwrap();
    assert_eq!(written, frame.bytes());
}
