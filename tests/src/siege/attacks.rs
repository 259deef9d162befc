//! What each kind does on one connection.

use std::{net::IpAddr, time::Duration};

use bt2c_proto::{Frame, Message, Ping};
use bytes::Bytes;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{hostile::Camp, kinds::Kind, world::SERVED};
use crate::{Attacker, Shown};

/// One connection: from where, as whom, and which of its kind's it is.
pub(super) struct Sortie<'a> {
    pub(super) camp: &'a Camp,
    pub(super) kind: Kind,
    pub(super) from: IpAddr,
    pub(super) shown: &'a Shown,
    pub(super) number: u64,
}

impl Sortie<'_> {
    /// Does it; whether the node ended the connection. `None` if it was over before anything could be done.
    pub(super) async fn run(&self) -> Option<bool> {
        match self.kind {
            Kind::HalfOpen => self.hold(&[]).await,
            Kind::SlowTls => self.slow_tls().await,
            Kind::Garbage => self.hold(GARBAGE[self.pick(GARBAGE.len())]).await,
            Kind::WrongCertificate | Kind::NoCertificate | Kind::NoHello => self.after_tls(&[]).await,
            Kind::SlowHello => self.slow_hello().await,
            Kind::Storm => self.storm().await,
            Kind::SlowReader => self.slow_reader().await,
            Kind::Squatter | Kind::FalseHeight => self.talk().await,
            Kind::PingFlood => self.ping_flood().await,
            _ => self.volley().await,
        }
    }

    fn pick(&self, count: usize) -> usize {
        usize::try_from(self.number).unwrap_or(0) % count
    }

    /// TCP, and these bytes.
    async fn hold(&self, bytes: &[u8]) -> Option<bool> {
        let mut stream = self.camp.dial(self.kind, self.from, false).await?;
        // A refusal shows in what is read.
        let _ = stream.write_all(bytes).await;
        until_closed(&mut stream).await
    }

    /// A byte a second, beginning with what a good peer would send.
    async fn slow_tls(&self) -> Option<bool> {
        let mut stream = self.camp.dial(self.kind, self.from, false).await?;
        let hello = self.shown.client_hello();
        let (mut reader, mut writer) = stream.split();
        let mut byte = [0];
        tokio::select! {
            // What comes is an alert or nothing; then the end.
            read = reader.read(&mut byte) => { let _ = read; }
            () = async {
                for byte in hello {
                    let _ = writer.write_all(&[byte]).await;
                    tokio::time::sleep(A_BYTE_EACH).await;
                }
            } => {}
        }
        Some(true)
    }

    async fn tls(&self, small: bool) -> Option<Attacker> {
        let stream = self.camp.dial(self.kind, self.from, small).await?;
        Attacker::over(stream, self.shown).await.ok()
    }

    async fn after_tls(&self, bytes: &[u8]) -> Option<bool> {
        let mut attacker = self.tls(false).await?;
        attacker.raw(bytes).await;
        attacker.drain().await;
        Some(true)
    }

    async fn slow_hello(&self) -> Option<bool> {
        let mut attacker = self.tls(false).await?;
        let body =
            json!({"type": "hello", "data": attacker.hello(), "timestamp": 1, "sender": attacker.label});
        let body = body.to_string();
        let length = u32::try_from(body.len()).unwrap_or_default().to_be_bytes();
        for byte in [&length[..], body.as_bytes()].concat() {
            if attacker.try_raw(&[byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(A_BYTE_EACH).await;
        }
        Some(true)
    }

    async fn greeted(&self, small: bool) -> Option<Attacker> {
        let mut attacker = self.tls(small).await?;
        let mut hello = attacker.hello();
        for key in ["genesis_hash", "last_block_hash"] {
            hello[key] = json!(self.camp.world.genesis);
        }
        if self.kind == Kind::FalseHeight {
            hello["block_height"] = json!(1_000_000);
            hello["last_block_hash"] = json!("ab".repeat(32));
        }
        attacker.try_greet(hello).await.then_some(attacker)
    }

    /// Answers pings, and questions with nothing, until the end.
    async fn talk(&self) -> Option<bool> {
        let mut attacker = self.greeted(false).await?;
        while let Some((kind, data)) = attacker.read().await {
            match kind.as_str() {
                "ping" => attacker.send("pong", data).await,
                "get_blocks" => attacker.send("blocks", json!({"blocks": []})).await,
                "get_peers" => attacker.send("peers", json!({"peers": []})).await,
                _ => {}
            }
        }
        Some(true)
    }

    async fn ping_flood(&self) -> Option<bool> {
        let mut attacker = self.greeted(false).await?;
        let ping = self.camp.frame(&Message::Ping(Ping { timestamp: 7 }));
        let pings = ping.repeat(500);
        while attacker.try_raw(&pings).await.is_ok() {
            tokio::task::yield_now().await;
        }
        Some(true)
    }

    /// Asks for all there is, and takes nothing for longer than the node waits.
    async fn slow_reader(&self) -> Option<bool> {
        let mut attacker = self.greeted(true).await?;
        let question = frame(
            format!("{{\"type\":\"get_blocks\",\"data\":{{\"start_height\":1,\"end_height\":{SERVED}}}}}")
                .as_bytes(),
        );
        attacker.raw(&question.repeat(90)).await;
        tokio::time::sleep(NOT_READING).await;
        attacker.drain().await;
        Some(true)
    }

    /// Sends something bad after a good hello, and waits for a while for what comes of it.
    async fn volley(&self) -> Option<bool> {
        let mut attacker = self.greeted(false).await?;
        for bytes in self.ammunition() {
            if attacker.try_raw(&bytes).await.is_err() {
                return Some(true);
            }
        }
        if self.kind == Kind::HalfClose {
            attacker.half_close().await;
        }
        Some(tokio::time::timeout(STAY, attacker.drain()).await.is_ok())
    }

    fn ammunition(&self) -> Vec<Bytes> {
        let (world, arsenal) = (&self.camp.world, &self.camp.arsenal);
        match self.kind {
            Kind::GiantLength => {
                let length: u32 = [u32::MAX, 1024 * 1024 + 1, 0][self.pick(3)];
                vec![Bytes::copy_from_slice(&length.to_be_bytes())]
            }
            Kind::JsonBomb => vec![arsenal.bombs[self.pick(arsenal.bombs.len())].clone(); 4],
            Kind::RequestFlood => vec![arsenal.requests.clone()],
            Kind::HalfClose => vec![arsenal.requests.slice(..arsenal.requests.len() / 8)],
            Kind::FalseTransactions => (0..8)
                .map(|n| serde_json::to_value(world.false_transaction(self.number * 8 + n)))
                .map(|value| message("new_transaction", json!({"transaction": value.unwrap_or_default()})))
                .collect(),
            Kind::FalseBlocks => vec![message("new_block", json!({"block": world.false_block(self.number)}))],
            Kind::Orphans => (0..16)
                .map(|n| message("new_block", json!({"block": world.orphan(self.number * 16 + n)})))
                .collect(),
            Kind::Unasked => arsenal.unasked.clone(),
            Kind::UnfinishedFrame => vec![arsenal.unfinished.clone()],
            _ => Vec::new(),
        }
    }

    /// Connects and goes, again and again, now and then with TLS.
    async fn storm(&self) -> Option<bool> {
        for round in 0..STORM {
            let stream = self.camp.dial(self.kind, self.from, false).await?;
            if round % 32 == 31 {
                let _ = Attacker::over(stream, self.shown).await;
            }
        }
        Some(false)
    }
}

/// Reads until the node ends the connection.
async fn until_closed(stream: &mut TcpStream) -> Option<bool> {
    let mut buffer = [0; 1024];
    while stream.read(&mut buffer).await.is_ok_and(|len| len > 0) {}
    Some(true)
}

/// How slow the slow ones are.
const A_BYTE_EACH: Duration = Duration::from_secs(1);

/// For how long a slow reader does not read: longer than the 20 s that the node waits for progress.
const NOT_READING: Duration = Duration::from_secs(25);

/// For how long a connection stays after what it sent.
const STAY: Duration = Duration::from_secs(5);

/// Connections of one storm: more than the node takes and tolerates in a minute.
const STORM: usize = 250;

/// What is no TLS.
const GARBAGE: [&[u8]; 3] =
    [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", &[0xff; 2000], b"\x16\x03\x01\x00\x05hello"];

/// What is the same for all and made once.
pub(super) struct Arsenal {
    bombs: Vec<Bytes>,
    requests: Bytes,
    unasked: Vec<Bytes>,
    unfinished: Bytes,
}

impl Arsenal {
    pub(super) fn new(served: &[Bytes], blocks: &Frame) -> Self {
        debug_assert!(!served.is_empty());
        let long = 1_000_000;
        let deep = format!("{{\"type\":\"nonsense\",\"data\":{{\"a\":{}", "[".repeat(long));
        let keys: Vec<String> = (0..long / 12).map(|n| format!("\"{n:07}\":0")).collect();
        let wide = format!("{{\"type\":\"nonsense\",\"data\":{{{}}}}}", keys.join(","));
        let text = format!("\"{}\"", "\\u0041".repeat(60_000));
        let escapes = format!("{{\"type\":\"ping\",\"data\":{{\"timestamp\":1,\"a\":[{text},{text}]}}}}");
        let numbers = format!("{{\"type\":\"ping\",\"data\":{{\"timestamp\":{}}}}}", "9".repeat(long));
        let addrs: Vec<String> = (0..1000).map(|n| format!("\"8.8.{}.{}:8338\"", n / 250, n % 250)).collect();
        let peers = format!("{{\"type\":\"peers\",\"data\":{{\"peers\":[{}]}}}}", addrs.join(","));
        let requests = [
            &b"{\"type\":\"get_peers\",\"data\":{\"count\":1000}}"[..],
            b"{\"type\":\"get_blocks\",\"data\":{\"start_height\":0,\"end_height\":9}}",
        ];
        let pong = b"{\"type\":\"pong\",\"data\":{\"timestamp\":1}}";
        let mut unfinished = (1_u32 << 20).to_be_bytes().to_vec();
        unfinished.resize((1 << 20) + 3, b' ');
        Self {
            // Two of three are violations; the others are only work.
            bombs: [&deep, &numbers, &wide, &deep, &numbers, &escapes]
                .iter()
                .map(|text| frame(text.as_bytes()))
                .collect(),
            requests: requests.map(frame).concat().repeat(400).into(),
            unasked: vec![blocks.bytes().clone(), frame(peers.as_bytes()), frame(pong).repeat(200).into()],
            unfinished: unfinished.into(),
        }
    }
}

fn message(kind: &str, data: serde_json::Value) -> Bytes {
    frame(json!({"type": kind, "data": data, "timestamp": 1, "sender": "mallory"}).to_string().as_bytes())
}

fn frame(body: &[u8]) -> Bytes {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&length, body].concat().into()
}
