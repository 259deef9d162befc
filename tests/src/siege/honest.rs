//! The honest peers: managers that stay connected, ping, ask for blocks, and push the blocks that follow.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use bt2c_p2p::{Env, Event, Inbound, P2PConfig, P2PManager, Peer, Tip, env::Tap};
use bt2c_proto::{Frame, GetBlocks, Height, Message, MessageKind, Network, PeerId, Ping, Time};
use bt2c_security::fixtures;
use parking_lot::Mutex;
use tokio::{sync::mpsc, task::JoinSet, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{
    instant,
    world::{SERVED, World},
};
use crate::victim::{credentials, ip};

/// How many they are.
pub(super) const HONEST: u8 = 8;

/// How often each pings: the node answers one in 5 s, and two may come closer together than they were sent.
const PING_EVERY: Duration = Duration::from_secs(7);

/// How often each asks for a block: half of what the request limit allows.
const ASK_EVERY: Duration = Duration::from_millis(1200);

/// How often one of them pushes the next block.
pub(super) const PUSH_EVERY: Duration = Duration::from_secs(2);

/// Round trips: of pings, and of questions for a block.
#[derive(Debug, Default)]
pub(super) struct Trips {
    /// Ping to pong.
    pub(super) pings: Vec<Duration>,
    /// Question to answer.
    pub(super) blocks: Vec<Duration>,
}

/// What all honest peers measure together.
#[derive(Debug, Default)]
struct Measured {
    trips: Mutex<Trips>,
    /// Pings without a pong yet, by their number.
    open: Mutex<BTreeMap<u64, Instant>>,
    pings: AtomicU64,
}

impl Tap for Measured {
    fn message(&self, _: Time, _: PeerId, _: PeerId, body: &[u8]) {
        let arrived = instant();
        let Ok(message) = serde_json::from_slice::<serde_json::Value>(body) else { return };
        if message["type"] == "pong"
            && let Some(number) = message["data"]["timestamp"].as_u64()
            && let Some(sent) = self.open.lock().remove(&number)
        {
            self.trips.lock().pings.push(arrived - sent);
        }
    }
}

/// The honest peers.
pub(super) struct Honest {
    managers: Vec<P2PManager>,
    measured: Arc<Measured>,
    tasks: JoinSet<()>,
    stop: CancellationToken,
    /// Connections that ended, and why.
    lost: Arc<Mutex<Vec<String>>>,
    pushing: Arc<Pushing>,
}

/// Whether blocks are pushed, and how many were.
#[derive(Debug, Default)]
struct Pushing {
    begun: AtomicBool,
    count: AtomicU64,
}

impl Honest {
    /// Connects them all, from addresses of their own.
    pub(super) async fn connect(node: SocketAddr, world: &World) -> Result<Self> {
        let mut honest = Self {
            managers: Vec::new(),
            measured: Arc::default(),
            tasks: JoinSet::new(),
            stop: CancellationToken::new(),
            lost: Arc::default(),
            pushing: Arc::default(),
        };
        for number in 1..=HONEST {
            honest.connect_one(number, node, world).await.with_context(|| format!("honest peer {number}"))?;
        }
        Ok(honest)
    }

    async fn connect_one(&mut self, number: u8, node: SocketAddr, world: &World) -> Result<()> {
        let mut config = P2PConfig::for_network(Network::Mainnet, world.genesis);
        config.listen = vec![SocketAddr::new(ip(1, number), 0)];
        // The pings that are measured are our own; the manager's would use up the node's limit.
        (config.ping_interval, config.silence_timeout) =
            (Duration::from_secs(600), Duration::from_secs(1200));
        let env = Env { tap: Some(self.measured.clone()), ..Env::real()? };
        let tip = Tip { height: Height::GENESIS, hash: world.genesis };
        let manager =
            P2PManager::start(config, env, credentials(usize::from(number), crate::now()), tip).await?;
        let handle = manager.handle();
        let mut events = handle.subscribe();
        let (answers, answers_in) = mpsc::channel(8);
        handle.register_message_handler(MessageKind::Blocks, answers)?;
        let id = handle.connect_to_peer(node.into()).await?;
        let peer = handle.peer(id).await.context("it has just connected")?;
        let lost = Arc::clone(&self.lost);
        self.tasks.spawn(async move {
            while let Ok(event) = events.recv().await {
                if let Event::PeerDown { reason, .. } = event {
                    lost.lock().push(format!("honest peer {number} was disconnected: {reason}"));
                }
            }
        });
        let (measured, stop) = (Arc::clone(&self.measured), self.stop.clone());
        let frame = move |message: &Message| handle.frame(message).expect("these are small");
        let asking = ask(Arc::clone(&measured), peer.clone(), frame.clone(), answers_in);
        self.spawn(stop.clone(), asking);
        self.spawn(stop.clone(), ping(measured, peer.clone(), number, frame));
        let blocks: Vec<_> =
            world.kept_back.iter().skip(usize::from(number) - 1).step_by(HONEST.into()).cloned().collect();
        self.spawn(stop, push(Arc::clone(&self.pushing), peer, number, blocks));
        self.managers.push(manager);
        Ok(())
    }

    fn spawn(&mut self, stop: CancellationToken, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = work => {}
            }
        });
    }

    /// Begins to push the blocks that were kept back.
    pub(super) fn push_blocks(&self) {
        self.pushing.begun.store(true, Ordering::Relaxed);
    }

    /// How many were pushed.
    pub(super) fn pushed(&self) -> u64 {
        self.pushing.count.load(Ordering::Relaxed)
    }

    /// What was measured since this was last asked.
    pub(super) fn take_trips(&self) -> Trips {
        std::mem::take(&mut self.measured.trips.lock())
    }

    /// Pings that were sent longer ago than this, and whose pongs are not in.
    pub(super) fn overdue(&self, age: Duration) -> usize {
        let now = instant();
        self.measured.open.lock().values().filter(|sent| now.duration_since(**sent) > age).count()
    }

    /// The connections that ended.
    pub(super) fn lost(&self) -> Vec<String> {
        self.lost.lock().clone()
    }

    /// Their PeerIds and addresses.
    pub(super) fn subjects(&self) -> Vec<String> {
        let ids = self.managers.iter().map(|manager| manager.handle().local().peer_id.to_string());
        ids.chain((1..=HONEST).map(|number| ip(1, number).to_string())).collect()
    }

    /// Disconnects and ends.
    pub(super) async fn stop(mut self) {
        self.stop.cancel();
        for manager in self.managers {
            manager.stop().await;
        }
        self.tasks.shutdown().await;
    }
}

/// Pings in a rhythm, each peer at another moment.
async fn ping(measured: Arc<Measured>, peer: Peer, number: u8, frame: impl Fn(&Message) -> Frame) {
    let first =
        tokio::time::Instant::from_std(instant()) + PING_EVERY * u32::from(number) / (4 * u32::from(HONEST));
    let mut rhythm = tokio::time::interval_at(first, PING_EVERY);
    rhythm.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rhythm.tick().await;
        let timestamp = measured.pings.fetch_add(1, Ordering::Relaxed);
        measured.open.lock().insert(timestamp, instant());
        if peer.send(frame(&Message::Ping(Ping { timestamp }))).is_err() {
            return;
        }
    }
}

/// Asks for a block, and when it is there for the next.
async fn ask(
    measured: Arc<Measured>,
    peer: Peer,
    frame: impl Fn(&Message) -> Frame,
    mut answers: mpsc::Receiver<Inbound>,
) {
    let mut rhythm = tokio::time::interval(ASK_EVERY);
    rhythm.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for turn in 0.. {
        rhythm.tick().await;
        let height = Height::new(1 + turn % SERVED);
        let question = Message::GetBlocks(GetBlocks::range(height, height));
        let asked = instant();
        if peer.send(frame(&question)).is_err() || answers.recv().await.is_none() {
            return;
        }
        measured.trips.lock().blocks.push(instant() - asked);
    }
}

/// Pushes every eighth block, so that each block comes from another peer than the one before.
async fn push(pushing: Arc<Pushing>, peer: Peer, number: u8, blocks: Vec<bytes::Bytes>) {
    let sender = credentials(usize::from(number), crate::now()).node_id().clone();
    let mut rhythm = tokio::time::interval(PUSH_EVERY);
    let mut turn = 0;
    let mut blocks = blocks.into_iter();
    loop {
        rhythm.tick().await;
        if !pushing.begun.load(Ordering::Relaxed) {
            continue;
        }
        turn += 1;
        if turn % u32::from(HONEST) != u32::from(number) % u32::from(HONEST) {
            continue;
        }
        let Some(block) = blocks.next() else { return };
        let frame = Frame::new_block(&block, &sender, crate::now()).expect("a block fits a frame");
        if peer.send(frame).is_err() {
            return;
        }
        pushing.count.fetch_add(1, Ordering::Relaxed);
    }
}

/// The identity of the fixtures that newcomers have.
pub(super) const NEWCOMER: usize = HONEST as usize + 1;

/// The identities of the fixtures that are at the attackers' disposal.
pub(super) const HOSTILE: std::ops::Range<usize> = NEWCOMER + 1..fixtures::IDENTITIES;
