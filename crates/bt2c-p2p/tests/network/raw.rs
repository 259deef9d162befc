//! A peer that speaks the protocol by hand.

use std::{net::IpAddr, net::SocketAddr, sync::Arc};

use bt2c_p2p::{
    MemoryNet,
    env::{Net, Stream},
};
use bt2c_security::Credentials;
use rustls::{pki_types::UnixTime, time_provider::TimeProvider};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::harness::{GENESIS, START};

#[derive(Debug)]
struct FixedTime;

impl TimeProvider for FixedTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(START.as_secs())))
    }
}

/// A raw connection after TLS.
pub(crate) struct RawPeer {
    stream: TlsStream<Box<dyn Stream>>,
    label: String,
}

impl RawPeer {
    /// Dials, and does TLS.
    pub(crate) async fn dial(
        net: &MemoryNet,
        from: IpAddr,
        credentials: &Credentials,
        to: SocketAddr,
    ) -> Self {
        let connection = net.host(from).dial(None, to).await.unwrap();
        let config = bt2c_security::client_config(credentials, Arc::new(FixedTime)).unwrap();
        let connector = TlsConnector::from(config);
        let stream = connector.connect(bt2c_security::server_name(), connection.stream).await.unwrap();
        Self { stream, label: credentials.node_id().to_string() }
    }

    /// A good hello, as a base peer says it or as one that knows extensions.
    pub(crate) fn hello(&self, extensions: bool) -> Value {
        let mut hello = json!({
            "version": "1.0.0", "node_id": self.label, "block_height": 0, "last_block_hash": GENESIS.to_string(),
        });
        if extensions {
            hello["features"] = json!([]);
        }
        hello
    }

    /// Signs envelopes with another label from now on.
    pub(crate) fn relabel(&mut self, label: &str) {
        self.label = label.to_owned();
    }

    /// Sends a message.
    pub(crate) async fn send(&mut self, kind: &str, data: Value) {
        let body = json!({"type": kind, "data": data, "timestamp": START.as_secs(), "sender": self.label});
        let body = body.to_string();
        self.stream.write_u32(body.len().try_into().unwrap()).await.unwrap();
        self.stream.write_all(body.as_bytes()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The next message, or None at the end.
    pub(crate) async fn read(&mut self) -> Option<(String, Value)> {
        let len = self.stream.read_u32().await.ok()?;
        let mut body = vec![0; len.try_into().unwrap()];
        self.stream.read_exact(&mut body).await.ok()?;
        let mut message: Value = serde_json::from_slice(&body).unwrap();
        Some((message["type"].as_str().unwrap().to_owned(), message["data"].take()))
    }

    /// Says hello and takes the answer.
    pub(crate) async fn greet(&mut self, extensions: bool) {
        let hello = self.hello(extensions);
        self.send("hello", hello).await;
        let (kind, _) = self.read().await.expect("the hello is answered");
        assert_eq!(kind, "hello");
    }

    /// Everything until the end.
    pub(crate) async fn rest(&mut self) -> Vec<(String, Value)> {
        let mut messages = Vec::new();
        while let Some(message) = self.read().await {
            messages.push(message);
        }
        messages
    }
}
