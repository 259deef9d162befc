//! A proxy between the checker and a node: it bears the node's name on one side and the checker's on the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bt2c_proto::{NodeId, PeerId, Time};
use bt2c_security::{Credentials, Identity, ORGANISATION, PeerCertificate, fixtures};
use parking_lot::Mutex;
use rcgen::{CertificateParams, DistinguishedName, DnType};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, pem::PemObject},
    time_provider::DefaultTimeProvider,
    version::TLS13,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    net::{TcpListener, TcpSocket, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::{
    fault::{Fault, Up},
    support::{DEADLINE, Running},
};

/// A proxy that runs until it is dropped.
pub(crate) struct Proxy {
    addr: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

impl Proxy {
    /// Starts one in front of that node.
    #[expect(clippy::disallowed_methods, reason = "the tasks end with the runtime, which is the proxy's own")]
    pub(crate) fn start(node: &Running, fault: Fault) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("threads are free");
        let key = std::fs::read_to_string(node.home.join("identity.key")).unwrap();
        let identity = Identity::from_pem(&key).unwrap();
        let label = node.run_file()["node_id"].as_str().unwrap().parse().unwrap();
        let shared = Arc::new(Shared {
            node: node.p2p_addr().parse().unwrap(),
            fault,
            tls: server_config(identity, label, fault),
            names: Mutex::default(),
            banned: Mutex::default(),
        });
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let addr = listener.local_addr().unwrap();
        runtime.spawn(async move {
            while let Ok((stream, from)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move { shared.serve(stream, from.ip()).await });
            }
        });
        Self { addr, _runtime: runtime }
    }

    pub(crate) fn addr(&self) -> String {
        self.addr.to_string()
    }
}

fn now() -> Time {
    use bt2c_p2p::env::{Clock, RealClock};
    RealClock::new().now()
}

fn server_config(identity: Identity, label: NodeId, fault: Fault) -> Arc<ServerConfig> {
    let then = if fault == Fault::Expired { Time::from_secs(1_712_352_000) } else { now() };
    let credentials = Credentials::issue(identity, Some(label), then).unwrap();
    let good = bt2c_security::server_config(&credentials, Arc::new(DefaultTimeProvider)).unwrap();
    let mut config = ServerConfig::clone(&good);
    let own = credentials.certificate_der().to_vec();
    let chain = match fault {
        Fault::AnyAlpn => {
            config.alpn_protocols.clear();
            return Arc::new(config);
        }
        Fault::Tickets => {
            config.send_tls13_tickets = 2;
            config.ticketer = aws_lc_rs::Ticketer::new().unwrap();
            return Arc::new(config);
        }
        Fault::Organisation => vec![certificate(&credentials, "Another Network", "node")],
        Fault::OtherLabel => vec![certificate(&credentials, ORGANISATION, "BT2C Node somebody")],
        Fault::TwoCertificates => vec![own.clone(), own],
        Fault::NoClientCertificate => vec![own],
        _ => return good,
    };
    let key = PrivateKeyDer::from_pem_slice(credentials.identity().to_pem().as_bytes()).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap();
    let chain = chain.into_iter().map(Into::into).collect();
    let mut shown = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
    shown.alpn_protocols.clone_from(&config.alpn_protocols);
    shown.send_tls13_tickets = 0;
    if fault == Fault::NoClientCertificate {
        return Arc::new(shown);
    }
    config.cert_resolver = shown.cert_resolver;
    Arc::new(config)
}

fn certificate(credentials: &Credentials, organisation: &str, name: &str) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, organisation);
    params.distinguished_name.push(DnType::CommonName, name);
    params.self_signed(credentials.identity()).unwrap().der().to_vec()
}

struct Shared {
    node: SocketAddr,
    fault: Fault,
    tls: Arc<ServerConfig>,
    /// Which of the fixture's identities stands for whom.
    names: Mutex<BTreeMap<PeerId, usize>>,
    banned: Mutex<BTreeSet<IpAddr>>,
}

impl Shared {
    async fn serve(&self, stream: TcpStream, from: IpAddr) -> Option<()> {
        if self.banned.lock().contains(&from) {
            return None;
        }
        let stream = if self.fault == Fault::OldTls { answer_old_tls(stream).await? } else { stream };
        let mut checker = TlsAcceptor::from(Arc::clone(&self.tls)).accept(stream).await.ok()?;
        let shown = checker.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let shown = shown.map(|der| PeerCertificate::parse(der).expect("TLS has checked it"));
        if self.fault == Fault::SpeaksFirst {
            let ping = br#"{"type":"ping","data":{"timestamp":1},"timestamp":1,"sender":"x"}"#;
            write(&mut checker, ping).await?;
        }
        let first = match &shown {
            Some(_) if self.fault != Fault::Patient => None,
            _ => Some(read(&mut checker).await?),
        };
        let (label, index) = match shown {
            Some(shown) => (shown.label?, self.index(shown.peer_id)),
            // Without a certificate, hello tells whom to stand for.
            None => {
                let hello: serde_json::Value = serde_json::from_slice(first.as_ref()?).ok()?;
                (hello["sender"].as_str()?.parse().ok()?, fixtures::IDENTITIES - 1)
            }
        };
        let node = self.dial(from, label, index).await?;
        let (node_in, mut node_out) = tokio::io::split(node);
        let (checker_in, checker_out) = tokio::io::split(checker);
        let mut number = 0;
        if let Some(first) = first {
            write(&mut node_out, &first).await?;
            number = 1;
        }
        tokio::select! {
            end = self.up(checker_in, node_out, number, from) => end,
            end = self.down(node_in, checker_out) => end,
        }
    }

    fn index(&self, peer: PeerId) -> usize {
        let mut names = self.names.lock();
        let next = names.len() % (fixtures::IDENTITIES - 1);
        *names.entry(peer).or_insert(next)
    }

    async fn dial(&self, from: IpAddr, label: NodeId, index: usize) -> Option<client::TlsStream<TcpStream>> {
        let credentials = Credentials::issue(fixtures::identity(index), Some(label), now()).ok()?;
        let config = bt2c_security::client_config(&credentials, Arc::new(DefaultTimeProvider)).unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(from, 0)).unwrap();
        let stream = socket.connect(self.node).await.ok()?;
        TlsConnector::from(config).connect(bt2c_security::server_name(), stream).await.ok()
    }

    /// From the checker to the node, until the checker ends it.
    async fn up(
        &self,
        mut checker: ReadHalf<server::TlsStream<TcpStream>>,
        mut node: WriteHalf<client::TlsStream<TcpStream>>,
        mut number: usize,
        from: IpAddr,
    ) -> Option<()> {
        loop {
            let len = checker.read_u32().await.ok()?;
            if len == 0 || len > 1 << 20 {
                if self.fault != Fault::KeepsLongFrame {
                    node.write_u32(len).await.ok()?;
                    node.flush().await.ok()?;
                }
                // Nothing that follows can be told apart.
                let mut rest = Vec::new();
                checker.read_to_end(&mut rest).await.ok()?;
                return Some(());
            }
            let mut body = vec![0; usize::try_from(len).unwrap()];
            checker.read_exact(&mut body).await.ok()?;
            if self.fault == Fault::BansStrangers && body.windows(9).any(|text| text == b"elsewhere") {
                self.banned.lock().insert(from);
            }
            match self.fault.up(number, &body) {
                Up::Pass => write(&mut node, &body).await?,
                Up::Swallow => {}
                Up::End => return Some(()),
            }
            number += 1;
        }
    }

    /// From the node to the checker, until the node ends it.
    async fn down(
        &self,
        mut node: ReadHalf<client::TlsStream<TcpStream>>,
        mut checker: WriteHalf<server::TlsStream<TcpStream>>,
    ) -> Option<()> {
        while let Some(body) = read(&mut node).await {
            for body in self.fault.down(body) {
                write(&mut checker, &body).await?;
            }
        }
        checker.shutdown().await.ok()
    }
}

async fn read(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<Vec<u8>> {
    let len = stream.read_u32().await.ok()?;
    let mut body = vec![0; usize::try_from(len).ok()?];
    stream.read_exact(&mut body).await.ok()?;
    Some(body)
}

async fn write(stream: &mut (impl AsyncWriteExt + Unpin), body: &[u8]) -> Option<()> {
    stream.write_u32(u32::try_from(body.len()).unwrap()).await.ok()?;
    stream.write_all(body).await.ok()?;
    stream.flush().await.ok()
}

/// Answers a ClientHello without the extension that offers TLS 1.3 as an old server would; gives back any other.
async fn answer_old_tls(mut stream: TcpStream) -> Option<TcpStream> {
    const SUPPORTED_VERSIONS_1_3: [u8; 2] = [0x03, 0x04];
    let mut hello = [0; 2048];
    let record = async {
        loop {
            let seen = stream.peek(&mut hello).await.ok()?;
            let len = usize::from(u16::from_be_bytes([hello[3], hello[4]]));
            if seen >= (5 + len).min(hello.len()) || seen == 0 {
                return Some(seen);
            }
        }
    };
    let seen = tokio::time::timeout(DEADLINE.min(Duration::from_secs(10)), record).await.ok()??;
    if hello[..seen].windows(2).any(|pair| pair == SUPPORTED_VERSIONS_1_3) {
        return Some(stream);
    }
    stream.write_all(&[22, 3, 3, 0, 4, 2, 0, 0, 0]).await.ok()?;
    None
}
