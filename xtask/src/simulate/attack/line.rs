//! A connection on which anything can be said.

use std::{io, net::SocketAddr};

use bt2c_p2p::env::{Clock, Stream};
use bt2c_proto::{NodeId, limits::FRAME_LIMIT};
use bytes::{Buf, BytesMut};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::simulate::clock::SimClock;

/// A connection on which anything can be said.
pub struct Line {
    stream: Box<dyn Stream>,
    /// The other end.
    pub remote: SocketAddr,
    label: NodeId,
    clock: SimClock,
    received: BytesMut,
}

impl Line {
    pub(super) fn new(stream: Box<dyn Stream>, remote: SocketAddr, label: NodeId, clock: SimClock) -> Self {
        Self { stream, remote, label, clock, received: BytesMut::new() }
    }

    /// Says hello and takes the answer; `None` if there is no good one.
    ///
    /// # Errors
    /// If the connection is gone.
    pub async fn greet(&mut self, hello: Value) -> io::Result<Option<Value>> {
        self.send("hello", hello).await?;
        let answer = self.read().await?;
        Ok(answer.filter(|(kind, _)| kind == "hello").map(|(_, data)| data))
    }

    /// Sends a message.
    ///
    /// # Errors
    /// If the connection is gone.
    pub async fn send(&mut self, kind: &str, data: Value) -> io::Result<()> {
        let now = self.clock.now().as_secs();
        let body = json!({"type": kind, "data": data, "timestamp": now, "sender": self.label.to_string()});
        self.frame(body.to_string().as_bytes()).await
    }

    /// Sends a frame with any body.
    ///
    /// # Errors
    /// If the connection is gone.
    pub async fn frame(&mut self, body: &[u8]) -> io::Result<()> {
        let len = u32::try_from(body.len()).map_err(io::Error::other)?;
        self.raw(&[&len.to_be_bytes(), body].concat()).await
    }

    /// Sends any bytes.
    ///
    /// # Errors
    /// If the connection is gone.
    pub async fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// The next message: its type and data; `None` at the end, or of what is no message. May be dropped at any time.
    ///
    /// # Errors
    /// If the connection is lost.
    pub async fn read(&mut self) -> io::Result<Option<(String, Value)>> {
        loop {
            if let Some((header, rest)) = self.received.split_first_chunk() {
                let len = usize::try_from(u32::from_be_bytes(*header)).unwrap_or(usize::MAX);
                if len > FRAME_LIMIT {
                    return Ok(None);
                }
                if let Some(body) = rest.get(..len) {
                    let message = message(body);
                    self.received.advance(header.len() + len);
                    return Ok(message);
                }
            }
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Reads and forgets until the other side closes.
    pub async fn drain(&mut self) {
        while let Ok(Some(_)) = self.read().await {}
    }
}

fn message(body: &[u8]) -> Option<(String, Value)> {
    let mut message: Value = serde_json::from_slice(body).ok()?;
    Some((message["type"].as_str()?.to_owned(), message["data"].take()))
}
