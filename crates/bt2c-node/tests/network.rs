//! Whole nodes in memory on virtual time: they meet, agree, relay, part and come together again.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking, in their helpers too")]

use std::{net::IpAddr, sync::Arc, time::Duration};

use bt2c_node::{NodeEvent, P2PNode, config::NodeConfig, genesis::devnet_genesis_with};
use bt2c_p2p::{Env, MemoryNet, env::MemoryDisk};
use bt2c_proto::{Genesis, Network, Time};
use bt2c_security::{CertificateManager, Credentials, fixtures};
use bt2c_sync::signed_transaction;

const START: Time = Time::from_secs(1_767_225_600);
const BLOCK_TIME: Duration = Duration::from_secs(2);

struct World {
    network: MemoryNet,
    genesis: Genesis,
    nodes: Vec<P2PNode>,
}

fn ip(index: usize) -> IpAddr {
    format!("10.{index}.0.1").parse().expect("an address")
}

impl World {
    /// Nodes that all know the first one; none proposes yet.
    async fn new(count: usize) -> Self {
        let genesis = devnet_genesis_with(START.as_secs(), BLOCK_TIME, 4).unwrap();
        let mut world =
            Self { network: MemoryNet::new(Duration::from_millis(20)), genesis, nodes: Vec::new() };
        for index in 0..count {
            let node = world.start(index, MemoryDisk::new()).await;
            world.nodes.push(node);
        }
        for node in &world.nodes {
            if count > 1 {
                node.connect_to_network().await;
            }
        }
        world
    }

    async fn start(&self, index: usize, disk: MemoryDisk) -> P2PNode {
        let seed = [u8::try_from(index).unwrap(); 32];
        let now = self.nodes.first().map_or(START, |node| node.handle().now());
        let mut env = Env::simulated(self.network.host(ip(index)), now, seed);
        env.disk = Arc::new(disk);
        let mut config = NodeConfig::simulation(Network::Devnet);
        config.p2p.listen = vec![(ip(index), 8336).into()];
        config.p2p.discovery.seeds = vec![format!("{}:8336", ip(0)).parse().unwrap()];
        config.data_dir = Some("home".into());
        let credentials = Credentials::issue(fixtures::identity(index), None, START).unwrap();
        let builder = P2PNode::builder(config).env(env).genesis(self.genesis.clone());
        builder.credentials(credentials).start().await.unwrap()
    }

    fn produce(&self, proposers: &[(usize, usize)]) {
        for &(node, key) in proposers {
            self.nodes[node].start_producing(fixtures::devnet_validator(key));
        }
    }

    fn agreed(&self) -> bool {
        let mut tips = self.nodes.iter().map(|node| node.handle().sync().tip());
        let first = tips.next();
        tips.all(|tip| Some(tip) == first)
    }

    /// Waits in virtual time until all have the same tip above `height`.
    async fn agree(&self, height: u64) {
        let reached = |node: &P2PNode| node.handle().sync().tip().height.get() > height;
        for _ in 0..600 {
            if self.nodes.iter().all(reached) && self.agreed() {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let tips: Vec<_> = self.nodes.iter().map(|node| node.handle().sync().tip()).collect();
        panic!("no agreement above {height}: {tips:?}");
    }

    async fn stop(self) {
        for node in self.nodes {
            node.stop().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nodes_agree_on_blocks_and_include_a_transaction_from_anyone() {
    let world = World::new(3).await;
    let mut events = world.nodes[2].subscribe();
    let genesis = world.genesis.hash();
    let (sender, to) = (fixtures::identity(9), fixtures::identity(8).address());
    let transaction = signed_transaction(&sender, genesis, to, 5, 1, 7, START.as_secs());
    let hash = transaction.hash;
    world.nodes[0].broadcast_transaction(transaction.clone()).await.unwrap();
    loop {
        match events.next().await.expect("the node runs") {
            NodeEvent::Transaction(seen) if seen.hash == hash => break,
            _ => {}
        }
    }
    world.produce(&[(0, 0), (1, 1), (2, 2), (2, 3)]);
    let block = loop {
        match events.next().await.expect("the node runs") {
            NodeEvent::Block(block) if block.transactions > 0 => break block,
            _ => {}
        }
    };
    let bytes = world.nodes[2].handle().block(block.hash).await.unwrap().unwrap();
    assert!(String::from_utf8(bytes.to_vec()).unwrap().contains(&hash.to_string()));
    assert!(world.nodes[1].broadcast_transaction(transaction).await.is_err());
    world.agree(5).await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_split_network_becomes_one_chain_again() {
    let world = World::new(4).await;
    world.produce(&[(0, 0), (1, 1), (2, 2), (3, 3)]);
    world.agree(2).await;
    let (left, right) = ([ip(0), ip(1)], [ip(2), ip(3)]);
    world.network.cut(&left, &right);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!world.agreed());
    world.network.heal();
    let height = world.nodes.iter().map(|node| node.handle().sync().tip().height.get()).max().unwrap();
    world.agree(height).await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_comes_back_to_its_own_chain_and_catches_up() {
    let mut world = World::new(2).await;
    world.produce(&[(0, 0), (0, 1), (0, 2), (0, 3)]);
    let disk = MemoryDisk::new();
    let third = world.start(2, disk.clone()).await;
    third.connect_to_network().await;
    world.nodes.push(third);
    world.agree(3).await;
    let third = world.nodes.pop().unwrap();
    let before = third.handle().sync().tip();
    third.stop().await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let third = world.start(2, disk).await;
    assert!(third.handle().sync().tip().height >= before.height);
    world.nodes.push(third);
    world.agree(before.height.get() + 5).await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_ends_soon_is_reissued_and_shown_while_the_node_runs() {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let world = World::new(0).await;
    let home = tempfile::tempdir().unwrap();
    let manager = CertificateManager::new(home.path());
    // It ends 31 days after the start, so it is due within two.
    let first = manager.load_or_generate(None, START - DAY * 333).unwrap();
    let env = Env::simulated(world.network.host(ip(0)), START, [0; 32]);
    let mut config = NodeConfig::simulation(Network::Devnet);
    config.p2p.listen = vec![(ip(0), 8336).into()];
    config.data_dir = Some(home.path().to_owned());
    let node = P2PNode::builder(config).env(env).genesis(world.genesis.clone()).start().await.unwrap();
    tokio::time::sleep(DAY * 3).await;
    let renewed = manager.load().unwrap();
    assert_eq!((renewed.peer_id(), renewed.node_id()), (first.peer_id(), first.node_id()));
    assert!(renewed.not_after() > first.not_after() + DAY * 300, "{}", renewed.not_after());

    // Somebody for whom the first one is over gets in.
    let late = START + DAY * 40;
    let mut config = NodeConfig::simulation(Network::Devnet);
    config.p2p.listen.clear();
    let env = Env::simulated(world.network.host(ip(1)), late, [1; 32]);
    let credentials = Credentials::issue(fixtures::identity(1), None, START).unwrap();
    let builder = P2PNode::builder(config).env(env).genesis(world.genesis.clone());
    let stranger = builder.credentials(credentials).start().await.unwrap();
    let addr = std::net::SocketAddr::from((ip(0), 8336));
    let met = stranger.handle().p2p().connect_to_peer(addr.into()).await;
    assert_eq!(met.unwrap(), first.peer_id());
    stranger.stop().await;
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_no_validators_does_not_start_producing() {
    let world = World::new(1).await;
    let env = Env::simulated(world.network.host(ip(7)), START, [7; 32]);
    let credentials = Credentials::issue(fixtures::identity(7), None, START).unwrap();
    let mut config = NodeConfig::simulation(Network::Devnet);
    config.p2p.listen.clear();
    config.produce = true;
    let builder = P2PNode::builder(config).env(env);
    let error = builder.genesis(world.genesis.clone()).credentials(credentials).start().await.unwrap_err();
    assert!(error.to_string().contains("no validator"), "{error}");
    world.stop().await;
}
