//! A connection that says whatever it is told to, reads what the page allows, and notes how it was written.

use std::{
    cell::RefCell,
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bt2c_proto::{
    Block, Blocks, Envelope, Frame, GetBlocks, Hello, Message, MessageKind, NodeId, Peers, Time,
    limits::{FRAME_LIMIT, HELLO_FRAME_LIMIT},
};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    form::Form,
    report::{Stop, failed},
    tls::{Seen, Shown},
};

/// What a connection is made of, besides what it shows.
#[derive(Clone)]
pub(super) struct Route {
    pub(super) target: SocketAddr,
    /// The address to dial from, if not any.
    pub(super) source: Option<IpAddr>,
    /// Longest wait for anything.
    pub(super) step: Duration,
    /// Seconds since the Unix epoch, for what is sent.
    pub(super) now: Time,
    /// The target's block 0, to answer with when it asks.
    pub(super) genesis: Option<Block>,
    pub(super) form: Rc<RefCell<Form>>,
}

/// A connection after TLS, as far as a dialer can tell: the listener may not have judged its certificate yet.
pub(super) struct Connection {
    stream: TlsStream<TcpStream>,
    route: Route,
    label: NodeId,
    limit: usize,
    /// What the other side said about itself.
    remote: Option<Hello>,
    /// Whether our hello says that we understand `disconnect` and `throttled`.
    extended: bool,
    told: Option<String>,
    seen: Arc<Mutex<Seen>>,
}

/// A message that came.
pub(super) struct Received {
    /// Its type; `None` if the page has none of that name.
    pub(super) kind: Option<MessageKind>,
    /// What it says.
    pub(super) message: Option<Message>,
    /// Its `data` as it stands.
    pub(super) data: Value,
}

/// What comes next on a connection.
pub(super) enum Event {
    Message(Box<Received>),
    /// The end, and how it came.
    Ended(String),
}

/// How a dial ends, first of all, when nobody ends TLS in time.
pub(super) const SLOW: &str = "TLS: not done";

/// How a dial ends at a port on which nobody listens.
pub(super) const NOBODY: &str = "TCP: nobody listens";

/// Opens a TCP connection.
pub(super) async fn tcp(route: &Route) -> Result<TcpStream, String> {
    let connect = async {
        let socket = if route.target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(source) = route.source {
            socket.bind(SocketAddr::new(source, 0))?;
        }
        let stream = socket.connect(route.target).await?;
        stream.set_nodelay(true)?;
        Ok::<_, io::Error>(stream)
    };
    match timeout(route.step, connect).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Err(NOBODY.to_owned()),
        Ok(Err(error)) => Err(format!("TCP: {error}")),
        Err(_) => Err(format!("TCP: no answer in {:?}", route.step)),
    }
}

impl Connection {
    /// Connects and does TLS; the error says how that failed.
    pub(super) async fn dial(route: &Route, shown: &Shown, label: NodeId) -> Result<Self, String> {
        let stream = tcp(route).await?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let connector = TlsConnector::from(shown.client_config(&seen));
        let stream = match timeout(route.step, connector.connect(shown.name.clone(), stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(format!("TLS: {error}")),
            Err(_) => return Err(format!("{SLOW} in {:?}", route.step)),
        };
        Ok(Self {
            stream,
            route: route.clone(),
            label,
            limit: HELLO_FRAME_LIMIT,
            remote: None,
            extended: false,
            told: None,
            seen,
        })
    }

    /// What was shown in TLS.
    pub(super) fn seen(&self) -> Seen {
        self.seen.lock().clone()
    }

    /// The protocol that the listener chose.
    pub(super) fn alpn(&self) -> Option<Vec<u8>> {
        self.stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec)
    }

    /// The label of this side.
    pub(super) const fn label(&self) -> &NodeId {
        &self.label
    }

    /// A message in the one form of the page.
    pub(super) fn encode(&self, message: &Message) -> Frame {
        Frame::encode(message, &self.label, self.route.now).expect("what is said here is short")
    }

    /// Sends a message in the one form of the page.
    pub(super) async fn say(&mut self, message: &Message) {
        if let Message::Hello(hello) = message {
            self.extended = hello.knows_extensions();
        }
        let frame = self.encode(message);
        self.raw(frame.bytes()).await;
    }

    /// Sends a frame with any body.
    pub(super) async fn body(&mut self, body: &[u8]) {
        self.raw(&frame(body)).await;
    }

    /// Sends any bytes. That the other side has closed shows in what is read, not here.
    pub(super) async fn raw(&mut self, bytes: &[u8]) {
        let write = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        let _ = timeout(self.route.step, write).await;
    }

    /// The other side's hello, which is the first that comes.
    pub(super) async fn hello(&mut self) -> Result<Hello, Stop> {
        match self.next().await? {
            Event::Ended(why) => failed(format!("{why} before its hello")),
            Event::Message(message) => match message.message {
                Some(Message::Hello(hello)) => {
                    self.limit = FRAME_LIMIT;
                    self.remote = Some((*hello).clone());
                    Ok(*hello)
                }
                _ => failed(format!("{} came first, and no hello", name(message.kind))),
            },
        }
    }

    /// The next answer of that type; what the other side asks meanwhile is answered.
    pub(super) async fn answer(&mut self, kind: MessageKind) -> Result<Received, Stop> {
        let step = self.route.step;
        let wait = async {
            loop {
                match self.read().await? {
                    Event::Ended(why) => return failed(format!("{why} instead of {kind}")),
                    Event::Message(message) if message.kind == Some(kind) => return Ok(*message),
                    Event::Message(message) => self.serve(&message).await,
                }
            }
        };
        match timeout(step, wait).await {
            Ok(answer) => answer,
            Err(_) => failed(format!("no {kind} in {step:?}")),
        }
    }

    /// Waits until the other side ends the connection, and says how it did.
    pub(super) async fn ended(&mut self) -> Result<String, Stop> {
        self.ended_within(self.route.step).await
    }

    /// The same with another patience.
    pub(super) async fn ended_within(&mut self, step: Duration) -> Result<String, Stop> {
        let wait = async {
            loop {
                match self.read().await? {
                    Event::Ended(why) => return Ok(why),
                    Event::Message(message) => self.serve(&message).await,
                }
            }
        };
        match timeout(step, wait).await {
            Ok(ended) => ended,
            Err(_) => failed(format!("still open after {step:?}")),
        }
    }

    /// Whatever comes within that time, if anything does.
    pub(super) async fn within(&mut self, time: Duration) -> Result<Option<Event>, Stop> {
        timeout(time, self.read()).await.ok().transpose()
    }

    async fn next(&mut self) -> Result<Event, Stop> {
        match timeout(self.route.step, self.read()).await {
            Ok(event) => event,
            Err(_) => failed(format!("nothing came in {:?}", self.route.step)),
        }
    }

    async fn read(&mut self) -> Result<Event, Stop> {
        let len = match self.stream.read_u32().await {
            Ok(len) => usize::try_from(len).unwrap_or(usize::MAX),
            Err(error) => return Ok(Event::Ended(self.ending(&error))),
        };
        if len == 0 || len > self.limit {
            return failed(format!("it sent a frame of {len} bytes, and 1 to {} are allowed", self.limit));
        }
        let mut body = vec![0; len];
        if self.stream.read_exact(&mut body).await.is_err() {
            return failed(format!("it ended the connection inside a frame of {len} bytes"));
        }
        self.interpret(&body).map(|message| Event::Message(Box::new(message)))
    }

    fn ending(&self, error: &io::Error) -> String {
        let how = match error.kind() {
            io::ErrorKind::UnexpectedEof => "closed".to_owned(),
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "reset".to_owned(),
            _ => format!("ended ({error})"),
        };
        match &self.told {
            Some(code) => format!("{how}, telling {code}"),
            None => how,
        }
    }

    fn interpret(&mut self, body: &[u8]) -> Result<Received, Stop> {
        let envelope = match Envelope::split(body) {
            Ok(envelope) => envelope,
            Err(error) => return failed(format!("it sent what is no message: {error}")),
        };
        let message = match envelope.message() {
            Ok(message) => message,
            Err(error) => return failed(format!("its {} breaks the page: {error}", name(envelope.kind))),
        };
        let remote = self.remote.as_ref();
        self.route.form.borrow_mut().note(body, &envelope, message.as_ref(), remote, self.extended);
        if let Some(Message::Disconnect(disconnect)) = &message {
            self.told = Some(disconnect.code.name().to_owned());
        }
        let data = serde_json::from_str(envelope.data()).unwrap_or_default();
        Ok(Received { kind: envelope.kind, message, data })
    }

    /// Answers a question as an honest peer without a chain would.
    async fn serve(&mut self, asked: &Received) {
        let answer = match asked.message {
            Some(Message::Ping(ping)) => Message::Pong(ping),
            Some(Message::GetPeers(_)) => Message::Peers(Peers { peers: Vec::new() }),
            Some(Message::GetBlocks(GetBlocks { start_height, .. })) => {
                let genesis = self.route.genesis.iter().filter(|block| block.height() == start_height);
                Message::Blocks(Blocks::whole(genesis.cloned().collect()))
            }
            _ => return,
        };
        self.say(&answer).await;
    }
}

/// A message's type, for people.
pub(super) const fn name(kind: Option<MessageKind>) -> &'static str {
    match kind {
        Some(kind) => kind.name(),
        None => "a message of a type that the page does not have",
    }
}

/// A frame around any body.
pub(super) fn frame(body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).expect("no vector has 4 GiB");
    [&len.to_be_bytes(), body].concat()
}
