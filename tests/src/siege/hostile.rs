//! The hostile camp: so many connections at a time, whoever is thrown out comes back, at a bounded rate.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use bt2c_proto::{Frame, Message, NodeId};
use bt2c_security::{Credentials, Identity, fixtures};
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::Mutex,
    task::JoinSet,
    time::{Interval, MissedTickBehavior, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    attacks::{Arsenal, Sortie},
    honest::HOSTILE,
    kinds::{Kind, Mix},
    world::World,
};
use crate::{Shown, now};

/// Connections that are begun a second, storms aside: what two cores bear, on which the node and all others run.
const PER_SECOND: u32 = 50;

/// Connections from one address, and of one identity, before the next is taken: some more than make a ban.
const FROM_ONE_ADDRESS: u64 = 10;

/// So often in a row nothing could be done: time for another address.
const REFUSALS: u32 = 2;

/// Longest time of one connection, but for those who are patient.
const IMPATIENT: Duration = Duration::from_secs(20);

/// How long connecting may take: the node's backlog may be full.
const CONNECT: Duration = Duration::from_secs(5);

/// Room for what is not read, asked of the kernel by those who do not read.
const SMALL: u32 = 4096;

/// What was done and what came of it, for each kind.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// TCP connections that were made.
    pub(super) made: AtomicU64,
    /// Connections that the node ended, or refused.
    pub(super) closed: AtomicU64,
}

/// What all hostile connections share.
pub(super) struct Camp {
    node: SocketAddr,
    pub(super) world: World,
    pub(super) arsenal: Arsenal,
    sender: NodeId,
    /// Nobody's at the moment; the one that was given back first comes first.
    identities: parking_lot::Mutex<VecDeque<Shown>>,
    tallies: Vec<Tally>,
    pace: Mutex<Interval>,
    wrong: Vec<Shown>,
}

impl Camp {
    /// Gets ready; `generated` identities are made besides the published ones.
    pub(super) fn new(node: SocketAddr, world: World, generated: usize) -> Result<Self> {
        let sender: NodeId = "mallory".parse()?;
        let mut identities: VecDeque<Shown> = HOSTILE.map(|index| Shown::identity(index, now())).collect();
        identities.extend(generate(generated)?);
        let mut pace = tokio::time::interval(Duration::from_secs(1) / PER_SECOND);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let room = world.served.iter().scan(0, |sum, block| {
            *sum += block.len() + 1;
            Some(*sum)
        });
        let fit = room.take_while(|sum| *sum < 1_000_000).count();
        let blocks = Frame::blocks(&world.served[..fit], &sender, now())?;
        Ok(Self {
            node,
            arsenal: Arsenal::new(&world.served, &blocks),
            world,
            sender,
            identities: parking_lot::Mutex::new(identities),
            tallies: Kind::ALL.iter().map(|_| Tally::default()).collect(),
            pace: Mutex::new(pace),
            wrong: vec![
                Shown::organisation(HOSTILE.start, "Other Network"),
                Shown::elliptic_curve(),
                Shown::stolen(fixtures_certificate()?),
            ],
        })
    }

    /// What was done by a kind.
    pub(super) fn tally(&self, kind: Kind) -> &Tally {
        &self.tallies[kind.index()]
    }

    /// Connects from an address; `None` if that fails.
    pub(super) async fn dial(&self, kind: Kind, from: IpAddr, small: bool) -> Option<TcpStream> {
        let socket = TcpSocket::new_v4().ok()?;
        if small {
            socket.set_recv_buffer_size(SMALL).ok()?;
        }
        socket.bind(SocketAddr::new(from, 0)).ok()?;
        let stream = timeout(CONNECT, socket.connect(self.node)).await.ok()?.ok()?;
        self.tally(kind).made.fetch_add(1, Ordering::Relaxed);
        Some(stream)
    }

    /// A message in a frame.
    pub(super) fn frame(&self, message: &Message) -> Vec<u8> {
        Frame::encode(message, &self.sender, now()).expect("these are small").bytes().to_vec()
    }

    /// One place of a kind: a connection, and when it is over the next one.
    async fn place(self: Arc<Self>, kind: Kind, place: usize) {
        for age in 0.. {
            let shown = self.identities.lock().pop_front().unwrap_or_else(Shown::nothing);
            let from = source(kind, place, age);
            let mut refusals = 0;
            for turn in 0..FROM_ONE_ADDRESS {
                self.pace.lock().await.tick().await;
                let number = (u64::try_from(place).unwrap_or(0) << 32) + age * FROM_ONE_ADDRESS + turn;
                let ended = self.sally(kind, from, &shown, number).await;
                refusals = if ended.is_none() { refusals + 1 } else { 0 };
                if ended.unwrap_or(true) {
                    self.tally(kind).closed.fetch_add(1, Ordering::Relaxed);
                }
                if refusals == REFUSALS {
                    break;
                }
            }
            self.identities.lock().push_back(shown);
        }
    }

    async fn sally(&self, kind: Kind, from: IpAddr, shown: &Shown, number: u64) -> Option<bool> {
        let nothing = Shown::nothing();
        let shown = match kind {
            Kind::WrongCertificate => &self.wrong[usize::try_from(number).unwrap_or(0) % self.wrong.len()],
            Kind::NoCertificate => &nothing,
            _ => shown,
        };
        let sortie = Sortie { camp: self, kind, from, shown, number };
        match kind {
            Kind::Squatter | Kind::FalseHeight | Kind::SlowReader => sortie.run().await,
            _ => timeout(IMPATIENT, sortie.run()).await.unwrap_or(Some(false)),
        }
    }

    /// Lays siege until `stop`.
    pub(super) async fn besiege(self: Arc<Self>, mix: &Mix, stop: CancellationToken) -> Result<()> {
        let mut places = JoinSet::new();
        // Kinds take turns in beginning, so that each is there early.
        let most = mix.kinds().map(|(_, count)| count).max().unwrap_or(0);
        for place in 0..most {
            for (kind, _) in mix.kinds().filter(|(_, count)| place < *count) {
                let (camp, stop) = (Arc::clone(&self), stop.clone());
                places.spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = camp.place(kind, place) => {}
                    }
                });
            }
        }
        while let Some(done) = places.join_next().await {
            done?;
        }
        Ok(())
    }
}

/// Eight places of a kind share a /24, which is below the node's limit of ten; each address is another's neighbour.
fn source(kind: Kind, place: usize, age: u64) -> IpAddr {
    let byte = |value: u64| u8::try_from(value % 250).unwrap_or(0);
    let place = u64::try_from(place).unwrap_or(0);
    // Places of one /24 are 30 addresses apart, so that each has as many before it meets the next.
    IpAddr::from([127, group(kind), byte(place / 8 + 32 * (age / 30)), byte(place % 8 * 30 + age % 30) + 1])
}

/// What the addresses of a kind begin with: each has a netgroup of its own.
pub(super) fn prefix(kind: Kind) -> String {
    format!("127.{}.", group(kind))
}

fn group(kind: Kind) -> u8 {
    16 + u8::try_from(kind.index()).unwrap_or(0)
}

/// Credentials with keys of their own.
fn generate(count: usize) -> Result<Vec<Shown>> {
    let make = |count: usize| -> Result<Vec<Shown>> {
        let credentials =
            |_| Ok(Shown::credentials(&Credentials::issue(Identity::generate()?, None, now())?));
        (0..count).map(credentials).collect()
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| make(count / 2));
        let mut all = make(count - count / 2)?;
        all.extend(other.join().expect("it does not panic")?);
        Ok(all)
    })
}

/// A good certificate whose key is not at hand.
fn fixtures_certificate() -> Result<Vec<u8>> {
    let identity = fixtures::identity(HOSTILE.start);
    Ok(Credentials::issue(identity, None, now())?.certificate_der().to_vec())
}
