//! From an address or an accepted stream to a running session: dial, TLS, the manager's consent.

use std::{io, net::SocketAddr, sync::Arc};

use bt2c_proto::{CloseCode, Defence, Host, PeerAddr, Time};
use bt2c_security::{Credentials, Offence, TlsError, tls_offence};
use tokio::sync::oneshot;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::{
    Command, Consent, Link, Note, Shared,
    core::{SessionConfig, SessionCore},
    queue::SendQueue,
    task::Session,
};
use crate::{
    env::{Clock, Connection, Net, Stream, TlsClock},
    local::{Local, dial_source},
    peer::{ConnectionId, Direction},
    reason::{CloseReason, HandshakeFailure},
};

/// What every connection of a manager is made with.
#[derive(Clone)]
pub(crate) struct Workshop {
    pub(crate) shared: Shared,
    pub(crate) local: Arc<Local>,
    pub(crate) session: SessionConfig,
    pub(crate) send_queue_bytes: usize,
    pub(crate) net: Arc<dyn Net>,
    pub(crate) listen: Arc<[SocketAddr]>,
    pub(crate) tls: Tls,
}

/// Both sides of TLS with one certificate.
#[derive(Clone)]
pub(crate) struct Tls {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

impl Tls {
    pub(crate) fn new(credentials: &Credentials, clock: Arc<dyn Clock>) -> Result<Self, TlsError> {
        let clock: Arc<dyn rustls::time_provider::TimeProvider> = Arc::new(TlsClock(clock));
        Ok(Self {
            acceptor: bt2c_security::server_config(credentials, Arc::clone(&clock))?.into(),
            connector: bt2c_security::client_config(credentials, clock)?.into(),
        })
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

/// Deadlines of a handshake.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadlines {
    /// TLS must be done by then.
    pub(crate) tls: Time,
    /// Both hellos must be in by then.
    pub(crate) hello: Time,
}

/// Where a connection comes from.
pub(crate) enum Origin {
    /// Someone dialled us.
    Accepted(Connection),
    /// We are to dial this.
    Dial(PeerAddr),
}

/// Why there is no session, and what the remote did wrong, if it did.
struct Failed {
    reason: CloseReason,
    fault: Option<Offence>,
}

impl From<HandshakeFailure> for Failed {
    fn from(failure: HandshakeFailure) -> Self {
        Self { reason: CloseReason::Handshake(failure), fault: None }
    }
}

impl Workshop {
    /// Runs a connection from its first byte to its last and tells the manager how it ended.
    pub(crate) async fn run(self, origin: Origin, link: Link, deadlines: Deadlines) {
        let (notes, connection) = (self.shared.notes.clone(), link.connection);
        let (reason, fault) = match self.connect(origin, link, deadlines).await {
            Ok(session) => (session.run().await, None),
            Err(Failed { reason, fault }) => (reason, fault),
        };
        // The manager outlives its connections.
        let _ = notes.send(Note::Closed { connection, reason, fault }).await;
    }

    async fn connect(self, origin: Origin, mut link: Link, deadlines: Deadlines) -> Result<Session, Failed> {
        let shutdown = self.shared.shutdown.clone();
        let out_of_time = self.shared.clock.sleep_until(deadlines.tls);
        let has_deadline = self.session.defences.has(Defence::HandshakeDeadline);
        let (secured, consent) = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Err(closed(CloseCode::Shutdown)),
            command = link.commands.recv() => return Err(closed(match command {
                Some(Command::Close(code)) => code,
                Some(Command::Refuse(refusal)) => refusal.code(),
                Some(Command::Admit(_) | Command::Probe) | None => CloseCode::Shutdown,
            })),
            () = out_of_time, if has_deadline => return Err(HandshakeFailure::Timeout.into()),
            secured = self.secure(origin, link.connection) => secured?,
        };
        let now = self.shared.clock.now();
        let Secured { direction, remote, stream } = secured;
        let peer = consent.peer;
        let core =
            SessionCore::new(now, self.session, self.local, direction, remote, consent, deadlines.hello);
        link.outbox.open(SendQueue::new(now, self.send_queue_bytes));
        Ok(Session::new(self.shared, link, core, peer, stream))
    }

    async fn secure(&self, origin: Origin, connection: ConnectionId) -> Result<(Secured, Consent), Failed> {
        let (direction, raw) = match origin {
            Origin::Accepted(accepted) => (Direction::Inbound, accepted),
            Origin::Dial(addr) => (Direction::Outbound, self.dial(&addr).await?),
        };
        let remote = raw.remote;
        let (stream, certificate) = self.authenticate(direction, raw).await?;
        let consent = self.ask_consent(connection, remote, certificate).await?;
        Ok((Secured { direction, remote, stream }, consent))
    }

    /// The TLS handshake: the stream above it, and the certificate of the other side.
    async fn authenticate(
        &self,
        direction: Direction,
        raw: Connection,
    ) -> Result<(Box<dyn Stream>, Vec<u8>), Failed> {
        #[cfg(feature = "simulation")]
        if let Some(declared) = raw.declared {
            return Ok((raw.stream, declared.to_vec()));
        }
        let stream: io::Result<TlsStream<_>> = match direction {
            Direction::Inbound => self.tls.acceptor.accept(raw.stream).await.map(Into::into),
            Direction::Outbound => {
                let connecting = self.tls.connector.connect(bt2c_security::server_name(), raw.stream);
                connecting.await.map(Into::into)
            }
        };
        let stream = stream.map_err(|error| tls_failure(&error, direction))?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let certificate = certificate.ok_or(HandshakeFailure::Certificate)?.to_vec();
        Ok((Box::new(stream), certificate))
    }

    async fn dial(&self, addr: &PeerAddr) -> Result<Connection, Failed> {
        let ips = match &addr.host {
            Host::Ip(ip) => vec![*ip],
            Host::Name(name) => {
                self.net.resolve(name.clone()).await.map_err(|_| HandshakeFailure::Resolve)?
            }
        };
        let mut failure = HandshakeFailure::Resolve;
        for ip in ips.into_iter().take(MAX_ADDRESSES) {
            let remote = SocketAddr::new(ip, addr.port);
            match self.net.dial(dial_source(&self.listen, ip), remote).await {
                Ok(connection) => return Ok(connection),
                Err(error) => failure = HandshakeFailure::Dial(error.kind()),
            }
        }
        Err(failure.into())
    }

    /// Shows the certificate to the manager, which checks bans, dates and pins.
    async fn ask_consent(
        &self,
        connection: ConnectionId,
        remote: SocketAddr,
        certificate: Vec<u8>,
    ) -> Result<Consent, Failed> {
        let (reply, verdict) = oneshot::channel();
        let note = Note::Secured { connection, remote, certificate, reply };
        self.shared.notes.send(note).await.map_err(|_| closed(CloseCode::Shutdown))?;
        let verdict = verdict.await.map_err(|_| closed(CloseCode::Shutdown))?;
        verdict.map_err(|reason| Failed { reason, fault: None })
    }
}

/// A stream whose TLS handshake is done.
struct Secured {
    direction: Direction,
    remote: SocketAddr,
    stream: Box<dyn Stream>,
}

const fn closed(code: CloseCode) -> Failed {
    Failed { reason: CloseReason::Local(code), fault: None }
}

/// How many addresses of one name are tried in one dial.
const MAX_ADDRESSES: usize = 4;

/// What a failed TLS handshake was: the remote's certificate, its TLS, or only the transport.
fn tls_failure(error: &io::Error, direction: Direction) -> Failed {
    let fault = tls_offence(error).filter(|_| direction == Direction::Inbound);
    let failure = match (error.kind(), tls_offence(error)) {
        (_, Some(Offence::BadCertificate)) => HandshakeFailure::Certificate,
        (io::ErrorKind::InvalidData, _) => HandshakeFailure::Tls,
        (io::ErrorKind::UnexpectedEof, _) => return Failed { reason: CloseReason::Ended, fault: None },
        (kind, _) => return Failed { reason: CloseReason::Io(kind), fault: None },
    };
    tracing::debug!(%error, %direction, "TLS failed");
    Failed { reason: CloseReason::Handshake(failure), fault }
}
