//! The node that is attacked.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use bt2c_p2p::{
    CloseReason, Env, Event, Handle, P2PConfig, P2PManager, Tip,
    env::{Clock, RealClock},
};
use bt2c_proto::{BlockHash, Height, Network, Time};
use bt2c_security::{Credentials, fixtures};
use prometheus_client::registry::Registry;
use tokio::sync::broadcast;

use crate::{Attacker, Shown};

/// The chain that everyone here is on.
pub const GENESIS: BlockHash = BlockHash::from_bytes([7; 32]);

/// After this a test has failed: generous for a slow machine, and never waited for by a test that passes.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A node on real sockets.
pub struct Victim {
    manager: P2PManager,
    events: broadcast::Receiver<Event>,
    /// Ends of connections that nobody has asked about yet: those of one moment come in any order.
    ended: Vec<(SocketAddr, CloseReason)>,
    registry: Registry,
}

impl Victim {
    /// Starts a node of a devnet on 127.0.0.1, with a change to its configuration.
    pub async fn start(change: impl FnOnce(&mut P2PConfig)) -> Self {
        let mut config = P2PConfig::for_network(Network::Devnet, GENESIS);
        config.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        change(&mut config);
        let credentials = Credentials::issue(fixtures::identity(0), None, now()).expect("it is dated today");
        let tip = Tip { height: Height::GENESIS, hash: GENESIS };
        let env = Env::real().expect("the system gives randomness");
        let manager = P2PManager::start(config, env, credentials, tip).await.expect("the port is free");
        let mut registry = Registry::default();
        manager.handle().metrics().register(&mut registry);
        Self { events: manager.handle().subscribe(), ended: Vec::new(), manager, registry }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.handle().local().listen[0]
    }

    /// Its client side.
    pub fn handle(&self) -> Handle {
        self.manager.handle()
    }

    /// Waits for the end of the connection from this address, and says how the node saw it.
    pub async fn end_of(&mut self, attacker: SocketAddr) -> CloseReason {
        in_time("the node ends the connection", async {
            loop {
                if let Some(place) = self.ended.iter().position(|(addr, _)| *addr == attacker) {
                    return self.ended.swap_remove(place).1;
                }
                match self.events.recv().await.expect("the node runs") {
                    Event::Failed { addr, reason, .. } => self.ended.push((addr, reason)),
                    Event::PeerDown { peer, reason } => self.ended.push((peer.addr(), reason)),
                    _ => {}
                }
            }
        })
        .await
    }

    /// Waits for a ban and returns its reason.
    pub async fn ban(&mut self) -> String {
        in_time("the node bans", async {
            loop {
                if let Event::Banned(ban) = self.events.recv().await.expect("the node runs") {
                    return ban.reason;
                }
            }
        })
        .await
    }

    /// A counter, by the start of its line in `/metrics`.
    pub fn counter(&self, line: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).expect("a string takes it");
        let found = text.lines().find_map(|found| found.strip_prefix(line));
        found.map_or(0, |value| value.trim().parse().expect("a counter is a number"))
    }

    /// How many connections ended by whom and with which code.
    pub fn closed(&self, by: &str, code: &str) -> u64 {
        self.counter(&format!("bt2c_p2p_connections_closed_total{{by=\"{by}\",code=\"{code}\"}}"))
    }

    /// An honest peer from another address connects, says hello, asks, and is answered. Ends the node.
    pub async fn is_well(self) {
        let shown = Shown::credentials(&credentials(9, now()));
        let mut honest = Attacker::tls(ip(2, 9), self.addr(), &shown).await;
        honest.greet().await;
        honest.send("ping", serde_json::json!({"timestamp": 77})).await;
        let (kind, data) = in_time("the ping is answered", honest.read()).await.expect("the node answers");
        assert_eq!((kind.as_str(), &data["timestamp"]), ("pong", &serde_json::json!(77)));
        in_time("the node stops", self.manager.stop()).await;
    }
}

/// The fixture's `index`th identity, with a certificate issued then.
pub(crate) fn credentials(index: usize, when: Time) -> Credentials {
    Credentials::issue(fixtures::identity(index), None, when).expect("the date can be expressed")
}

/// 127.0.`net`.`host`.
pub fn ip(net: u8, host: u8) -> IpAddr {
    IpAddr::from([127, 0, net, host])
}

/// What the system's clock says.
pub fn now() -> Time {
    RealClock::new().now()
}

/// Waits for something that must happen.
///
/// # Panics
/// It does not happen.
pub async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("not in {PATIENCE:?}: {what}"),
    }
}
