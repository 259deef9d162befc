//! A peer that looks like a node, and answers as an attacker likes.

use std::{io, sync::Arc, time::Duration};

use bt2c_proto::BlockHash;
use bt2c_security::Credentials;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{Line, Stage};
use crate::simulate::world::PORT;

/// How a false node behaves. What it does not say is what an idle node without a chain would do.
pub trait Behaviour: Send + Sync + 'static {
    /// Whether it tells where it listens, and does; otherwise nobody ever dials it.
    fn listens(&self) -> bool {
        true
    }

    /// The tip that it claims.
    fn tip(&self, stage: &Stage) -> (u64, BlockHash) {
        (0, stage.genesis.hash())
    }

    /// The addresses that it tells; `None` for no answer.
    fn peers(&self, _stage: &Stage, _count: u64) -> Option<Vec<String>> {
        Some(Vec::new())
    }

    /// The blocks that it sends, for heights from one to another; `None` for no answer. Of a stream, the next part.
    fn blocks(&self, _stage: &Stage, _start: u64, _end: u64) -> Option<Vec<Value>> {
        Some(Vec::new())
    }

    /// What it says that it knows beyond the base protocol.
    fn features(&self) -> &'static [&'static str] {
        &[]
    }

    /// The headers that it tells above a locator; `None` for no answer.
    fn headers(&self, _stage: &Stage, _locator: &[Value]) -> Option<Vec<Value>> {
        None
    }

    /// How long it waits before each part of a stream.
    fn pause(&self) -> Duration {
        Duration::ZERO
    }

    /// Messages that it sends every second without being asked.
    fn unasked(&self, _stage: &Stage) -> Vec<(&'static str, Value)> {
        Vec::new()
    }
}

/// Takes connections like a node, keeps connections to these honest nodes, and behaves. A connection that is lost or
/// refused is opened again after `pause`.
pub async fn serve<B: Behaviour>(stage: Stage, behaviour: B, to: Vec<std::net::SocketAddr>, pause: Duration) {
    let behaviour = Arc::new(behaviour);
    let Ok(me) = stage.persona(0) else { return };
    let mut tasks = JoinSet::new();
    for addr in to {
        let (stage, behaviour, me) = (stage.clone(), Arc::clone(&behaviour), me.clone());
        tasks.spawn(async move {
            loop {
                if let Ok(line) = stage.dial(addr, &me).await {
                    let _ = converse(&stage, &*behaviour, &me, line, true).await;
                }
                stage.wait(pause).await;
            }
        });
    }
    if !behaviour.listens() {
        return drop(tasks.join_all().await);
    }
    let Ok(mut listener) = stage.listen(PORT, &me).await else { return };
    while let Ok(raw) = listener.accept().await {
        let (stage, behaviour, me) = (stage.clone(), Arc::clone(&behaviour), me.clone());
        tasks.spawn(async move {
            if let Ok(line) = stage.accepted(raw, &me).await {
                let _ = converse(&stage, &*behaviour, &me, line, false).await;
            }
        });
        while tasks.try_join_next().is_some() {}
    }
}

async fn converse(
    stage: &Stage,
    behaviour: &impl Behaviour,
    me: &Credentials,
    mut line: Line,
    dialled: bool,
) -> io::Result<()> {
    let mut hello = stage.hello(me, behaviour.tip(stage), behaviour.listens());
    hello["features"] = json!(behaviour.features());
    if !dialled && line.read().await?.is_none_or(|(kind, _)| kind != "hello") {
        return Ok(());
    }
    line.send("hello", hello).await?;
    if dialled && line.read().await?.is_none_or(|(kind, _)| kind != "hello") {
        return Ok(());
    }
    stage.count("connections");
    let mut next = tokio::time::interval(Duration::from_secs(1));
    let mut stream: Option<Stream> = None;
    loop {
        let message = tokio::select! {
            biased;
            message = line.read() => message?,
            _ = next.tick() => {
                for (kind, data) in behaviour.unasked(stage) {
                    line.send(kind, data).await?;
                }
                continue;
            }
            () = stage.wait(behaviour.pause()), if stream.is_some() => {
                stream = match stream {
                    Some(stream) => stream.go_on(stage, behaviour, &mut line).await?,
                    None => None,
                };
                continue;
            }
        };
        let Some((kind, data)) = message else { return Ok(()) };
        if kind == "get_blocks" && data["stream"] == true {
            stream = Some(Stream::of(&data));
        } else if kind == "cancel" {
            if let Some(Stream { id, .. }) = stream.take() {
                line.send("blocks", json!({ "blocks": [], "request_id": id, "done": true })).await?;
            }
        } else if let Some((kind, data)) = answer(stage, behaviour, &kind, data) {
            line.send(kind, data).await?;
        }
    }
}

/// The answer to a message that has one.
fn answer(
    stage: &Stage,
    behaviour: &impl Behaviour,
    kind: &str,
    data: Value,
) -> Option<(&'static str, Value)> {
    let number = |field: &str| data[field].as_u64().unwrap_or(0);
    match kind {
        "ping" => Some(("pong", data)),
        "get_peers" => {
            behaviour.peers(stage, number("count")).map(|peers| ("peers", json!({ "peers": peers })))
        }
        "get_blocks" => {
            let blocks = behaviour.blocks(stage, number("start_height"), number("end_height"));
            blocks.map(|blocks| ("blocks", json!({ "blocks": blocks })))
        }
        "get_headers" => {
            let headers = behaviour.headers(stage, data["locator"].as_array()?);
            headers.map(|headers| ("headers", json!({ "headers": headers })))
        }
        _ => None,
    }
}

/// A stream that was asked for.
#[derive(Debug, Clone, Copy)]
struct Stream {
    id: u64,
    next: u64,
    end: u64,
}

impl Stream {
    fn of(data: &Value) -> Self {
        let number = |field: &str| data[field].as_u64().unwrap_or(0);
        Self { id: number("request_id"), next: number("start_height"), end: number("end_height") }
    }

    /// Sends the next part; returns what is left. Nothing more comes of a stream of which nothing is sent.
    async fn go_on(
        self,
        stage: &Stage,
        behaviour: &impl Behaviour,
        line: &mut Line,
    ) -> io::Result<Option<Self>> {
        let Some(blocks) = behaviour.blocks(stage, self.next, self.end) else { return Ok(None) };
        let next = self.next + blocks.len() as u64;
        let done = blocks.is_empty() || next > self.end;
        line.send("blocks", json!({ "blocks": blocks, "request_id": self.id, "done": done })).await?;
        Ok((!done).then_some(Self { next, ..self }))
    }
}
