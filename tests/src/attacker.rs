//! A hand-made peer's connection.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    shown::Shown,
    victim::{GENESIS, in_time, now},
};

/// A message that came back: its type and data.
pub type Told = (String, Value);

/// Connects from an address of the caller's choice.
///
/// # Panics
/// The kernel refuses; it takes connections whatever the node thinks of them.
pub async fn dial(from: IpAddr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket is free");
    socket.bind(SocketAddr::new(from, 0)).expect("all of 127.0.0.0/8 is ours");
    in_time("the kernel connects", socket.connect(to)).await.expect("the node listens")
}

/// A connection after TLS, as far as the dialer can tell.
pub struct Attacker {
    stream: TlsStream<TcpStream>,
    /// The address of this end.
    pub addr: SocketAddr,
    /// The label in envelopes.
    pub label: String,
}

impl Attacker {
    /// Dials and shows that in TLS.
    ///
    /// # Panics
    /// TLS fails already on this side.
    pub async fn tls(from: IpAddr, to: SocketAddr, shown: &Shown) -> Self {
        let done = Self::try_tls(from, to, shown).await;
        done.unwrap_or_else(|addr| panic!("TLS failed at {addr}"))
    }

    /// Dials and shows that in TLS. A dialer is done before the listener judges its certificate.
    ///
    /// # Errors
    /// TLS failed on this side already; the address of this end.
    pub async fn try_tls(from: IpAddr, to: SocketAddr, shown: &Shown) -> Result<Self, SocketAddr> {
        let stream = dial(from, to).await;
        let addr = stream.local_addr().expect("it is connected");
        in_time("TLS ends", Self::over(stream, shown)).await.map_err(|_| addr)
    }

    /// Shows that in TLS on a connection that there is; waits as long as the node does.
    ///
    /// # Errors
    /// TLS failed on this side already.
    pub async fn over(stream: TcpStream, shown: &Shown) -> io::Result<Self> {
        let (addr, label) = (stream.local_addr()?, shown.label.clone());
        let connector = TlsConnector::from(shown.client_config());
        let stream = connector.connect(bt2c_security::server_name(), stream).await?;
        Ok(Self { stream, addr, label })
    }

    /// A good hello of a peer that knows extensions.
    pub fn hello(&self) -> Value {
        json!({
            "version": "1.0.0", "node_id": self.label, "block_height": 0,
            "last_block_hash": GENESIS.to_string(), "features": [],
        })
    }

    /// Says hello and takes the answer.
    ///
    /// # Panics
    /// There is none.
    pub async fn greet(&mut self) {
        let hello = self.hello();
        self.send("hello", hello).await;
        let (kind, _) = in_time("the hello is answered", self.read()).await.expect("it is answered");
        assert_eq!(kind, "hello");
    }

    /// Says this hello; whether one came back.
    pub async fn try_greet(&mut self, hello: Value) -> bool {
        self.send("hello", hello).await;
        self.read().await.is_some_and(|(kind, _)| kind == "hello")
    }

    /// Sends a message.
    pub async fn send(&mut self, kind: &str, data: Value) {
        let body = json!({"type": kind, "data": data, "timestamp": now().as_secs(), "sender": self.label});
        self.frame(body.to_string().as_bytes()).await;
    }

    /// Sends a frame with any body.
    ///
    /// # Panics
    /// It is above 4 GiB.
    pub async fn frame(&mut self, body: &[u8]) {
        let len = u32::try_from(body.len()).expect("tests send little");
        let frame = [&len.to_be_bytes(), body].concat();
        self.raw(&frame).await;
    }

    /// Sends any bytes. That the node has closed already shows in what is read, not here.
    pub async fn raw(&mut self, bytes: &[u8]) {
        let _ = self.try_raw(bytes).await;
    }

    /// Sends any bytes.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn try_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        in_time("bytes are taken or refused", async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        })
        .await
    }

    /// The next message; `None` at the end.
    pub async fn read(&mut self) -> Option<Told> {
        let len = self.stream.read_u32().await.ok()?;
        let mut body = vec![0; usize::try_from(len).ok()?];
        self.stream.read_exact(&mut body).await.ok()?;
        let mut message: Value = serde_json::from_slice(&body).ok()?;
        Some((message["type"].as_str()?.to_owned(), message["data"].take()))
    }

    /// Says in TLS and in TCP that nothing more will come from here.
    pub async fn half_close(&mut self) {
        // That the node has closed already shows in what is read.
        let _ = self.stream.shutdown().await;
    }

    /// Reads until the node ends the connection, however long that takes, and keeps nothing.
    pub async fn drain(&mut self) {
        let mut buffer = vec![0; 64 * 1024];
        while self.stream.read(&mut buffer).await.is_ok_and(|len| len > 0) {}
    }

    /// Everything that comes until the end.
    pub async fn rest(&mut self) -> Vec<Told> {
        in_time("the node closes the connection", async {
            let mut told = Vec::new();
            while let Some(message) = self.read().await {
                told.push(message);
            }
            told
        })
        .await
    }
}
