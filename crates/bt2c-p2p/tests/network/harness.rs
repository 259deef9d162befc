//! Nodes on an in-memory network, and waiting for what they do.

use std::{
    fmt::Debug,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bt2c_p2p::{Env, Event, Handle, MemoryNet, P2PConfig, P2PManager, PeerInfo, Tip, env::MemoryDisk};
use bt2c_proto::{BlockHash, Height, Network, PeerId, Time, Transaction};
use bt2c_security::{Credentials, fixtures};
use tokio::sync::broadcast;

pub(crate) const START: Time = Time::from_secs(1_712_352_000);
pub(crate) const GENESIS: BlockHash = BlockHash::from_bytes([7; 32]);
pub(crate) const PORT: u16 = 8338;

/// A network whose links have one latency.
pub(crate) struct World {
    pub(crate) net: MemoryNet,
    started: tokio::time::Instant,
    pub(crate) epoch: Time,
}

/// A node that runs.
pub(crate) struct Node {
    pub(crate) manager: P2PManager,
    pub(crate) handle: Handle,
    pub(crate) events: broadcast::Receiver<Event>,
    pub(crate) addr: SocketAddr,
}

/// The identities of the fixtures, lowest PeerId first.
pub(crate) fn credentials(index: usize) -> Credentials {
    let mut all: Vec<_> = (0..16).map(fixtures::identity).collect();
    all.sort_by_key(bt2c_security::Identity::peer_id);
    Credentials::issue(all[index].clone(), None, START).unwrap()
}

pub(crate) fn ip(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

impl World {
    pub(crate) fn new(latency_ms: u64) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the epoch of virtual time")]
        let started = tokio::time::Instant::now();
        Self { net: MemoryNet::new(Duration::from_millis(latency_ms)), started, epoch: START }
    }

    /// The node with the `index`th identity, at 10.0.0.index, on a devnet.
    pub(crate) async fn node(&self, index: u8) -> Node {
        self.node_with(index, ip(index), MemoryDisk::new(), |_| {}).await
    }

    /// A node in every particular.
    pub(crate) async fn node_with(
        &self,
        identity: u8,
        at: IpAddr,
        disk: MemoryDisk,
        change: impl FnOnce(&mut P2PConfig),
    ) -> Node {
        let mut env = Env::simulated(self.net.host(at), self.now(), [identity; 32]);
        env.disk = Arc::new(disk);
        let mut config = P2PConfig::for_network(Network::Devnet, GENESIS);
        config.listen = vec![SocketAddr::new(at, PORT)];
        change(&mut config);
        let tip = Tip { height: Height::GENESIS, hash: GENESIS };
        let manager = P2PManager::start(config, env, credentials(identity.into()), tip).await.unwrap();
        let handle = manager.handle();
        Node { events: handle.subscribe(), handle, manager, addr: SocketAddr::new(at, PORT) }
    }

    /// The same network as seen by nodes whose clocks are ahead.
    pub(crate) fn ahead_by(&self, ahead: Duration) -> Self {
        Self { net: self.net.clone(), started: self.started, epoch: self.epoch + ahead }
    }

    pub(crate) fn now(&self) -> Time {
        self.epoch + self.started.elapsed()
    }
}

impl Node {
    pub(crate) fn id(&self) -> PeerId {
        self.handle.local().peer_id
    }

    pub(crate) async fn peers(&self) -> Vec<PeerInfo> {
        self.handle.peers().await
    }

    /// The next event that `pick` takes.
    pub(crate) async fn event<T>(&mut self, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
        within(300, async {
            loop {
                if let Some(found) = pick(&self.events.recv().await.unwrap()) {
                    return found;
                }
            }
        })
        .await
    }

    /// The next end of a connection to a peer that was up.
    pub(crate) async fn down(&mut self) -> bt2c_p2p::CloseReason {
        self.event(|event| if let Event::PeerDown { reason, .. } = event { Some(*reason) } else { None })
            .await
    }

    /// The next peer that comes up.
    pub(crate) async fn up(&mut self) -> bt2c_p2p::Peer {
        self.event(|event| if let Event::PeerUp(peer) = event { Some(peer.clone()) } else { None }).await
    }
}

/// Lets virtual time pass: what is to happen by then has happened.
pub(crate) async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// Ends a wait that should have been over long ago.
pub(crate) async fn within<T>(seconds: u64, future: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(seconds);
    tokio::time::timeout(limit, future).await.expect("what is waited for happens in time")
}

/// Waits until `what` yields something that `enough` takes, looking again and again.
pub(crate) async fn until<T: Debug>(
    seconds: u64,
    what: impl AsyncFn() -> T,
    enough: impl Fn(&T) -> bool,
) -> T {
    for _ in 0..seconds * 10 {
        let found = what().await;
        if enough(&found) {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("after {seconds} s it is still {:?}", what().await)
}

/// A transaction that parses; nobody here checks more.
pub(crate) fn transaction(nonce: u64, payload: &str) -> Transaction {
    let address = fixtures::identity(0).address().to_string();
    serde_json::from_value(serde_json::json!({
        "sender": address, "recipient": address, "amount": 1, "fee": 1, "nonce": nonce, "timestamp": 1,
        "payload": payload, "public_key": "AAAA", "signature": "AAAA",
        "hash": format!("{nonce:064x}"),
    }))
    .unwrap()
}
