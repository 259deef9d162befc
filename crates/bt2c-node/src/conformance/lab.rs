//! What the checks share: identities, source addresses, and what was learnt about the peer.

use std::{
    cell::RefCell,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use bt2c_p2p::env::{Clock, RealClock};
use bt2c_proto::{
    Block, BlockHash, Feature, GetBlocks, Height, Hello, Message, MessageKind, NodeId, Text, Time, Version,
};
use bt2c_security::{Credentials, Identity};
use tokio::sync::mpsc;

use super::{
    Options,
    client::{Connection, NOBODY, Received, Route},
    form::Form,
    report::{Stop, failed},
    tls::{Seen, Shown},
};

/// Fresh identities, made on a thread of their own.
pub(crate) struct Identities(mpsc::Receiver<Identity>);

impl Identities {
    /// Begins to make them, a few ahead. The thread ends with this value.
    pub(crate) fn make() -> Self {
        let (sender, receiver) = mpsc::channel(AHEAD);
        std::thread::spawn(move || {
            while let Ok(identity) = Identity::generate() {
                if sender.blocking_send(identity).is_err() {
                    break;
                }
            }
        });
        Self(receiver)
    }

    async fn next(&mut self) -> Identity {
        self.0.recv().await.expect("RSA keys can be made on every system that this runs on")
    }
}

/// Identities that wait to be used.
const AHEAD: usize = 4;

/// Between two connections from one address: a peer bans above 100 attempts a minute.
const PACE: Duration = Duration::from_millis(700);

/// Identities that take turns in what is no violation.
const HONEST: usize = 4;

/// Violations in one name: the page bans at five of 20 points.
const VIOLATIONS_EACH: u32 = 4;

/// Somebody who dials, and from where.
#[derive(Clone)]
pub(super) struct Visitor {
    pub(super) credentials: Credentials,
    pub(super) source: Option<IpAddr>,
}

/// What the first contact told about the peer.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) hello: Hello,
    /// What it showed in TLS.
    pub(super) seen: Seen,
    /// Its block 0, unless it did not serve one.
    pub(super) genesis: Option<Block>,
}

/// What the checks share.
pub(super) struct Lab {
    target: SocketAddr,
    step: Duration,
    network: Option<Text<64>>,
    genesis: Option<BlockHash>,
    /// What is known of the peer, after the first contact.
    pub(super) known: Option<Known>,
    /// How everything that came was written.
    pub(super) form: Rc<RefCell<Form>>,
    /// Nothing is done that costs points.
    pub(super) gentle: bool,
    /// A connection on which nothing was ever said.
    pub(super) silent: Option<Connection>,
    identities: Identities,
    honest: Vec<Credentials>,
    turn: usize,
    offender: Option<(Identity, u32)>,
    sources: Sources,
    violations: u32,
    /// How an honest visitor was turned away after violations; from then on nothing is tried.
    shut_out: Option<Stop>,
    clock: RealClock,
}

/// Where to dial from.
enum Sources {
    /// Wherever the system says.
    One,
    /// From all over 127.0.0.0/8, the next one at that offset.
    Loopback(u32),
}

impl Sources {
    fn new(target: SocketAddr) -> Self {
        let is_loopback = matches!(target.ip(), IpAddr::V4(ip) if ip.is_loopback());
        // Not every system lets a program have all of 127.0.0.0/8.
        let all_ours = || std::net::TcpListener::bind((Ipv4Addr::new(127, 16, 0, 1), 0)).is_ok();
        if is_loopback && all_ours() {
            let start = u32::from_be_bytes(crate::random::bytes().unwrap_or_default());
            Self::Loopback(start % LOOPBACK)
        } else {
            Self::One
        }
    }

    fn next(&mut self) -> Option<IpAddr> {
        let Self::Loopback(next) = self else { return None };
        *next = (*next + 1) % LOOPBACK;
        Some(IpAddr::V4(Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 16, 0, 0)) + *next)))
    }
}

/// How many addresses are used from 127.16.0.0 on: most of the network, so that two runs hardly meet.
const LOOPBACK: u32 = 0x00d0_0000;

impl Lab {
    pub(super) fn new(options: &Options, identities: Identities) -> Self {
        Self {
            target: options.target,
            step: options.step,
            network: options.network.map(|network| Text::cut(network.name())),
            genesis: options.genesis,
            known: None,
            form: Rc::default(),
            gentle: options.gentle,
            silent: None,
            identities,
            honest: Vec::new(),
            turn: 0,
            offender: None,
            sources: if options.one_address { Sources::One } else { Sources::new(options.target) },
            violations: 0,
            shut_out: None,
            clock: RealClock::new(),
        }
    }

    /// The time.
    pub(super) fn now(&self) -> Time {
        self.clock.now()
    }

    /// What the first contact told; checks that need it come after it.
    pub(super) fn known(&self) -> Result<Known, Stop> {
        self.known.clone().ok_or_else(|| Stop::Skipped("the first hello did not come".to_owned()))
    }

    /// The hash of the peer's block 0, as given or as served.
    pub(super) const fn genesis(&self) -> Option<BlockHash> {
        self.genesis
    }

    /// Learns who the peer is and what its genesis is.
    pub(super) async fn meet(&mut self) -> Result<Hello, Stop> {
        let (mut connection, hello) = self.visit().await?;
        self.network = self.network.take().or_else(|| hello.network.clone());
        self.genesis = self.genesis.or(hello.genesis_hash);
        let served = blocks(&mut connection, 0, 0).await.unwrap_or_default();
        let genesis = served.into_iter().next();
        self.genesis = self.genesis.or(genesis.as_ref().map(Block::hash));
        self.known = Some(Known { hello: hello.clone(), seen: connection.seen(), genesis });
        Ok(hello)
    }

    /// An honest dialer, from an address of its own where that is possible.
    pub(super) async fn visitor(&mut self) -> Visitor {
        if self.honest.len() < HONEST {
            let identity = self.identities.next().await;
            self.honest.push(issue(identity, label(self.honest.len()), self.now()));
        }
        self.turn += 1;
        let credentials = self.honest[self.turn % self.honest.len()].clone();
        Visitor { credentials, source: self.sources.next() }
    }

    /// Somebody who is about to violate the page, under that label.
    pub(super) async fn offender(&mut self, wanted: Option<NodeId>) -> Result<Visitor, Stop> {
        if self.violations > 0 && self.shut_out.is_none() {
            self.shut_out = self.visit().await.err();
        }
        match &self.shut_out {
            None => {}
            // No peer has reason to close its port to an address that it never saw: it is gone.
            Some(Stop::Failed(how)) if how == NOBODY && matches!(self.sources, Sources::Loopback(_)) => {
                return failed(format!("{how} after {} violations", self.violations));
            }
            Some(Stop::Failed(how) | Stop::Banned(how) | Stop::Skipped(how)) => {
                let seen = format!("nobody is let in after {} violations: {how}", self.violations);
                return Err(Stop::Banned(seen));
            }
        }
        self.violations += 1;
        let identity = match self.offender.take() {
            Some((identity, used)) if used < VIOLATIONS_EACH => {
                self.offender = Some((identity.clone(), used + 1));
                identity
            }
            _ => {
                let identity = self.identities.next().await;
                self.offender = Some((identity.clone(), 1));
                identity
            }
        };
        let credentials = issue(identity, wanted.unwrap_or_else(|| label(99)), self.now());
        Ok(Visitor { credentials, source: self.sources.next() })
    }

    /// The way to the peer.
    pub(super) fn route(&self, source: Option<IpAddr>) -> Route {
        Route {
            target: self.target,
            source,
            step: self.step,
            now: self.now(),
            genesis: self.known.as_ref().and_then(|known| known.genesis.clone()),
            form: Rc::clone(&self.form),
        }
    }

    /// Dials and shows that in TLS.
    pub(super) async fn dial(&self, visitor: &Visitor, shown: &Shown) -> Result<Connection, String> {
        if matches!(self.sources, Sources::One) {
            tokio::time::sleep(PACE).await;
        }
        let label = visitor.credentials.node_id().clone();
        Connection::dial(&self.route(visitor.source), shown, label).await
    }

    /// Dials honestly.
    pub(super) async fn knock(&self, visitor: &Visitor) -> Result<Connection, Stop> {
        self.dial(visitor, &Shown::honest(&visitor.credentials)).await.or_else(failed)
    }

    /// Dials honestly and exchanges hellos.
    pub(super) async fn enter(&self, visitor: &Visitor) -> Result<(Connection, Hello), Stop> {
        let mut connection = self.knock(visitor).await?;
        let hello = self.hello(connection.label());
        connection.say(&Message::Hello(Box::new(hello))).await;
        let hello = connection.hello().await?;
        Ok((connection, hello))
    }

    /// Somebody honest comes by.
    pub(super) async fn visit(&mut self) -> Result<(Connection, Hello), Stop> {
        let visitor = self.visitor().await;
        self.enter(&visitor).await
    }

    /// The hello of an honest peer without a chain.
    pub(super) fn hello(&self, label: &NodeId) -> Hello {
        Hello {
            network: self.network.clone(),
            genesis_hash: self.genesis,
            user_agent: Some(Text::cut(concat!("bt2c-node/", env!("CARGO_PKG_VERSION"), " conformance"))),
            features: Some(Feature::ALL.iter().map(|feature| Text::cut(feature.name())).collect()),
            ..self.base_hello(label)
        }
    }

    /// The same with the four fields that must be there, and no more.
    pub(super) fn base_hello(&self, label: &NodeId) -> Hello {
        Hello {
            version: Version::CURRENT,
            node_id: label.clone(),
            block_height: Height::GENESIS,
            last_block_hash: self.genesis,
            network: None,
            genesis_hash: None,
            listen_port: None,
            user_agent: None,
            features: None,
            limits: None,
            your_addr: None,
            first_block: None,
        }
    }
}

fn label(number: usize) -> NodeId {
    format!("conformance-{number}").parse().expect("letters, digits and a dash")
}

fn issue(identity: Identity, label: NodeId, now: Time) -> Credentials {
    Credentials::issue(identity, Some(label), now).expect("today can be written into a certificate")
}

/// Asks for blocks.
pub(super) async fn blocks(connection: &mut Connection, start: u64, end: u64) -> Result<Vec<Block>, Stop> {
    let asked = GetBlocks::range(Height::new(start), Height::new(end));
    connection.say(&Message::GetBlocks(asked)).await;
    blocks_of(connection.answer(MessageKind::Blocks).await?)
}

/// The blocks of an answer.
pub(super) fn blocks_of(answer: Received) -> Result<Vec<Block>, Stop> {
    match answer.message {
        Some(Message::Blocks(blocks)) => Ok(blocks.blocks),
        _ => failed("no blocks"),
    }
}
