//! What a peer can make the parser take from the heap: at most [`FACTOR`] times what it sent.
//!
//! Measured is everything from the first byte that arrives to the typed message or the error, receive buffer included,
//! with an allocator that counts. One test only: allocations of another thread would be counted with it.

use std::collections::BTreeSet;

use bt2c_proto::{Envelope, FrameCodec, limits::FRAME_LIMIT};
use bytes::BytesMut;
use peak_alloc::PeakAlloc;
use serde_json::Value;
use tokio_util::codec::Decoder;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// Bytes of heap allowed for each byte received.
const FACTOR: usize = 16;

/// What a frame counts at least, in bytes, header included: the bookkeeping of a shared buffer and of an error, under 256
/// bytes together, does not shrink with the frame. No message has fewer than 25.
const SMALLEST: usize = 16;

/// Bytes that mean something to a parser, or nothing to anybody.
const DAMAGE: &[u8] = b"{}[]\",:\\u0019.eE- nt\x00\x7f\xff";

/// How many mutations of each message of the vectors are measured.
const MUTATIONS: usize = 40;

#[test]
fn parsing_takes_at_most_sixteen_times_the_bytes_received() {
    let mut worst = Worst::default();
    let seeds = vectors();
    for (name, body) in &seeds {
        worst.measure(name, body);
    }
    for (name, body) in shapes().into_iter().chain(long_values()).chain(short_entries()) {
        worst.measure(&name, &body);
    }
    for (name, body) in seeds.iter().filter(|(_, body)| body.len() < 20_000) {
        for len in 1..body.len().min(120) {
            worst.measure(&format!("{name}, its first {len} bytes"), &body[..len]);
        }
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for (name, body) in seeds.iter().filter(|(_, body)| body.len() < 20_000) {
        for number in 0..MUTATIONS {
            let body = random.mutation(body, &seeds);
            worst.measure(&format!("{name}, mutation {number}"), &body);
        }
    }
    println!("{} bodies, the worst takes {:.1} times its bytes: {}", worst.count, worst.ratio, worst.name);
    assert!(worst.above.is_empty(), "{}", worst.above.join("\n"));
    assert!(worst.ratio > 1.0, "the receive buffer alone is as much: nothing is counted");
}

/// The largest use seen so far.
#[derive(Default)]
struct Worst {
    count: usize,
    ratio: f64,
    name: String,
    /// What took more than is allowed.
    above: Vec<String>,
}

impl Worst {
    /// Takes a body in one piece and as it comes over a line.
    fn measure(&mut self, name: &str, body: &[u8]) {
        let Some(header) = u32::try_from(body.len()).ok().filter(|_| body.len() <= FRAME_LIMIT) else {
            panic!("{name}: {} bytes are no frame", body.len());
        };
        let received = [&header.to_be_bytes(), body].concat();
        for piece in [received.len(), 1400] {
            let used = used(&received, piece);
            let counted = received.len().max(SMALLEST);
            if used > FACTOR * counted {
                let times = ratio(used, counted);
                self.above
                    .push(format!("{name}: {used} bytes for {}, {times:.1} times as much", received.len()));
            }
            if ratio(used, counted) > self.ratio {
                (self.ratio, self.name) = (ratio(used, counted), name.to_owned());
            }
        }
        self.count += 1;
    }
}

fn ratio(used: usize, received: usize) -> f64 {
    let float = |bytes: usize| f64::from(u32::try_from(bytes).expect("a few megabytes"));
    float(used) / float(received)
}

/// The most heap in use at once while a frame arrives and is parsed.
fn used(received: &[u8], piece: usize) -> usize {
    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();
    let (mut codec, mut buffer) = (FrameCodec::new(), BytesMut::new());
    codec.set_limit(FRAME_LIMIT);
    for piece in received.chunks(piece) {
        buffer.extend_from_slice(piece);
        if let Ok(Some(body)) = codec.decode(&mut buffer) {
            let split = Envelope::split(&body);
            if let Ok(envelope) = &split {
                drop(envelope.message());
            }
        }
    }
    HEAP.peak_usage() - before
}

/// Every body of the vectors.
fn vectors() -> Vec<(String, Vec<u8>)> {
    let files = [
        include_str!("../vectors/messages.json"),
        include_str!("../vectors/tolerated.json"),
        include_str!("../vectors/refused.json"),
    ];
    let mut bodies = Vec::new();
    for file in files {
        let Value::Array(vectors) = serde_json::from_str(file).expect("a vector file is JSON") else {
            panic!("a vector file is a list");
        };
        for vector in vectors {
            let name = vector["name"].as_str().expect("a vector has a name").to_owned();
            let body = match (&vector["body"], &vector["body_hex"]) {
                (Value::String(text), _) => text.clone().into_bytes(),
                (Value::Array(pieces), _) => pieces.iter().flat_map(piece).collect(),
                (_, Value::String(hex)) => data_encoding::HEXLOWER.decode(hex.as_bytes()).expect("hex"),
                _ => continue, // a frame that is refused by its length
            };
            if (1..=FRAME_LIMIT).contains(&body.len()) {
                bodies.push((name, body));
            }
        }
    }
    bodies
}

/// A text of the vectors that is repeated.
fn piece(pair: &Value) -> Vec<u8> {
    let times = pair[1].as_u64().and_then(|times| usize::try_from(times).ok()).expect("a number of times");
    pair[0].as_str().expect("a text").repeat(times).into_bytes()
}

/// Bodies as large as a frame, of one thing over and over.
fn shapes() -> Vec<(String, Vec<u8>)> {
    let room = FRAME_LIMIT - 100;
    let fill = |piece: &str| piece.repeat(room / piece.len());
    let unknown = |value: &str| format!(r#"{{"type":"ping","data":{{"timestamp":1,"x":{value}}}}}"#);
    let mut shapes = Vec::new();
    for piece in ["[", "{\"a\":", "\"", "\\", "{", "1", "\"\\u0000\"", "[]", "null ", " ", "\u{1}", "é"] {
        shapes.push((format!("a frame of {piece:?}"), fill(piece).into_bytes()));
    }
    for entry in ["1,", "\"\",", "\"\\u0000\",", "{},", "[[[]]],", "1e9,", "\"\\ud83d\\ude00\","] {
        let list = fill(entry);
        shapes.push((format!("a list of {entry:?}"), unknown(&format!("[{list}0]")).into_bytes()));
    }
    for field in ["\"a\":1,", "\"\":0,", "\"\\u0061\":{},", "\"timestamp\":1,"] {
        let fields = fill(field);
        let data = format!(r#"{{"type":"ping","data":{{{fields}"timestamp":1}}}}"#);
        let outer = format!(r#"{{{fields}"type":"ping","data":{{"timestamp":1}}}}"#);
        shapes.push((format!("fields {field:?} in data"), data.into_bytes()));
        shapes.push((format!("fields {field:?} around data"), outer.into_bytes()));
    }
    let deep = format!("{}1{}", "[".repeat(14), "]".repeat(14));
    let deepest: Vec<_> = std::iter::repeat_n(deep, room / 30).collect();
    shapes.push(("the deepest lists".to_owned(), unknown(&format!("[{}]", deepest[0])).into_bytes()));
    shapes.push(("many of them".to_owned(), format!("[{}]", deepest.join(",")).into_bytes()));
    let digits = fill("7");
    for number in [digits.clone(), format!("0.{digits}"), format!("1e{digits}"), format!("-{digits}")] {
        shapes.push((format!("a long number {}…", &number[..3]), unknown(&number).into_bytes()));
        let wanted = format!(r#"{{"type":"ping","data":{{"timestamp":{number}}}}}"#);
        shapes.push((format!("a long number {}… where one belongs", &number[..3]), wanted.into_bytes()));
    }
    shapes
}

/// A long string in the place of every known field, and of each object around it.
fn long_values() -> Vec<(String, Vec<u8>)> {
    let (mut bodies, mut seen) = (Vec::new(), BTreeSet::new());
    for (name, body) in vectors().into_iter().filter(|(_, body)| body.len() < 20_000) {
        let Ok(message) = serde_json::from_slice::<Value>(&body) else { continue };
        for place in places(&message) {
            if !seen.insert((message["type"].to_string(), place.clone())) {
                continue;
            }
            // U+007F is one byte as it stands and six when quoted in an error; the lengths end a buffer that doubles.
            for (letter, times) in
                [("\u{7f}", 10_923), ("\u{7f}", 64_000), ("\\u007f", 21_846), ("\\n", 64_000)]
            {
                let mut message = message.clone();
                *message.pointer_mut(&place).expect("the place is there") = Value::from("@");
                let text = message.to_string().replacen("\"@\"", &format!("\"{}\"", letter.repeat(times)), 1);
                bodies.push((format!("{name} with {times} {letter:?} at {place:?}"), text.into_bytes()));
            }
        }
    }
    bodies
}

/// JSON pointers to everything in a value; of a list, to its first entry.
fn places(value: &Value) -> Vec<String> {
    let below = |key: &str, value: &Value| -> Vec<String> {
        places(value).into_iter().map(|place| format!("/{key}{place}")).collect()
    };
    let mut found = vec![String::new()];
    match value {
        Value::Object(fields) => found.extend(fields.iter().flat_map(|(key, value)| below(key, value))),
        Value::Array(entries) => {
            found.extend(entries.first().into_iter().flat_map(|entry| below("0", entry)))
        }
        _ => {}
    }
    found
}

/// Lists of the shortest entries that are kept, each as long as makes a buffer that doubles largest.
fn short_entries() -> Vec<(String, Vec<u8>)> {
    let lengths = || [1, 5, 9, 17, 32, 33, 65, 129, 257, 513, 999, 1000, 1001, 1025, 1200, 1201, 1536, 1537];
    let transaction = transaction();
    let block = |transactions: &str| {
        format!(
            r#"{{"height":0,"timestamp":0,"previous_hash":"{0}","merkle_root":"{0}","validator":"","transactions":[{transactions}],"hash":"{0}","signature":""}}"#,
            "0".repeat(64)
        )
    };
    let empty = block("");
    let mut bodies = Vec::new();
    for (kind, before, entry, after) in [
        ("peers", r#"{"peers":["#, r#""""#, "]}"),
        ("peers", r#"{"peers":["#, r#""1.1.1.1:1""#, "]}"),
        ("peers", r#"{"peers":["#, r#""[::]:1""#, "]}"),
        (
            "hello",
            r#"{"version":"1","node_id":"a","block_height":0,"last_block_hash":"","features":["#,
            r#""""#,
            "]}",
        ),
        ("blocks", r#"{"blocks":["#, empty.as_str(), "]}"),
        ("blocks", r#"{"blocks":["#, "{}", "]}"),
        ("new_block", r#"{"block":{"transactions":["#, transaction.as_str(), "]}}"),
        ("new_block", r#"{"block":{"transactions":["#, "{}", "]}}"),
    ] {
        for len in lengths() {
            let entries = vec![entry; len].join(",");
            let body =
                format!(r#"{{"type":"{kind}","data":{before}{entries}{after},"timestamp":1,"sender":"a"}}"#);
            if body.len() <= FRAME_LIMIT {
                bodies.push((format!("{kind} with {len} times {entry}"), body.into_bytes()));
            }
        }
    }
    for len in lengths() {
        let block = block(&vec![transaction.as_str(); len].join(","));
        let body = format!(r#"{{"type":"new_block","data":{{"block":{block}}}}}"#);
        bodies.push((format!("a block of {len} transactions under a wrong hash"), body.into_bytes()));
    }
    bodies
}

/// The shortest transaction that is read.
fn transaction() -> String {
    let address = bt2c_proto::Address::from_spki_der(b"");
    format!(
        r#"{{"sender":"{address}","recipient":"{address}","amount":0,"fee":0,"nonce":0,"timestamp":0,"public_key":"","signature":"","hash":"{}"}}"#,
        "0".repeat(64)
    )
}

/// A small generator (xorshift), so that every run measures the same mutations.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % bound
    }

    /// A body with a few changes: bytes replaced, a part repeated or cut out, or a part of another body put in.
    fn mutation(&mut self, body: &[u8], others: &[(String, Vec<u8>)]) -> Vec<u8> {
        let mut body = body.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(body.len());
            let end = at + self.below((body.len() - at).min(200)) + 1;
            match self.below(4) {
                0 => body[at] = DAMAGE[self.below(DAMAGE.len())],
                1 => {
                    let part = body[at..end].repeat(1 + self.below(40));
                    body.splice(at..at, part);
                }
                2 if end - at < body.len() => drop(body.drain(at..end)),
                _ => {
                    let other = &others[self.below(others.len())].1;
                    let from = self.below(other.len());
                    let to = from + self.below((other.len() - from).min(200)) + 1;
                    body.splice(at..end, other[from..to].iter().copied());
                }
            }
        }
        body
    }
}
