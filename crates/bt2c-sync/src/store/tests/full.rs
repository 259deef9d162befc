//! A node whose disk is full: it says so, serves what it has, and goes on when there is room.

use std::{net::IpAddr, time::Duration};

use bt2c_p2p::{Env, MemoryNet, P2PConfig, P2PManager, env::DiskFault};
use bt2c_proto::{Network, Time};
use bt2c_security::{Credentials, fixtures};

use super::*;
use crate::{BlockchainSynchronizer, Consensus, Event, SyncConfig};

const NOW: Time = Time::from_secs(GENESIS_TIME + 50_000);

struct Node {
    manager: P2PManager,
    chain: BlockchainSynchronizer,
    ip: IpAddr,
}

async fn start(network: &MemoryNet, index: u8, store: Arc<dyn ChainStore>) -> Node {
    let ip = IpAddr::from([192, 0, index + 2, 1]);
    let env = Env::simulated(network.host(ip), NOW, [index; 32]);
    let credentials = Credentials::issue(fixtures::identity(index.into()), None, NOW).unwrap();
    let rules = Arc::new(TestConsensus::new());
    let mut config = P2PConfig::for_network(Network::Devnet, rules.genesis().hash());
    config.listen = vec![(ip, 8336).into()];
    let manager = P2PManager::start(config, env.clone(), credentials, store.tip().tip()).await.unwrap();
    let chain =
        BlockchainSynchronizer::start(SyncConfig::default(), env, manager.handle(), store, rules).unwrap();
    Node { manager, chain, ip }
}

impl Node {
    async fn connect(&self, to: &Self) {
        let addr = std::net::SocketAddr::from((to.ip, 8336));
        self.manager.handle().connect_to_peer(addr.into()).await.unwrap();
    }

    fn height(&self) -> u64 {
        self.chain.handle().tip().height.get()
    }

    async fn reach(&self, height: u64) {
        let mut events = self.chain.handle().subscribe();
        while self.height() < height {
            let _ = events.recv().await;
        }
    }

    async fn stop(self) {
        self.chain.stop().await;
        self.manager.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_on_a_full_disk_says_so_serves_on_and_catches_up() {
    let network = MemoryNet::new(Duration::from_millis(30));
    let test = TestConsensus::new();
    let source = Arc::new(MemoryStore::new(test.genesis_block()));
    let row = test.row(&source.tip(), 3000, 0);
    source.append(&checked(&row), row[2999].hash()).unwrap();
    let disk = MemoryDisk::new();
    let store = Arc::new(open(Arc::new(disk.clone())).unwrap());
    let a = start(&network, 0, source).await;
    let b = start(&network, 1, Arc::clone(&store) as Arc<dyn ChainStore>).await;
    let mut events = b.chain.handle().subscribe();
    b.connect(&a).await;
    b.reach(300).await;
    disk.set_fault(Some(DiskFault::Full));
    let error = loop {
        if let Event::StoreFailed { error } = events.recv().await.unwrap() {
            break error;
        }
    };
    let held = b.height();
    assert!((300..3000).contains(&held), "{held}");
    assert!(error.contains("chain store"), "{error}");
    assert_eq!(store.failure().as_deref(), Some(&*error));

    // It serves what it has.
    let c = start(&network, 2, Arc::new(MemoryStore::new(test.genesis_block()))).await;
    c.connect(&b).await;
    c.reach(held).await;
    assert_eq!((c.chain.handle().tip().hash, b.height()), (store.tip().hash, held));
    let consistent = b.chain.verify_chain_consistency(|_, _| ()).await.unwrap();
    assert_eq!(consistent.tip.height.get(), held);

    disk.set_fault(None);
    b.reach(3000).await;
    assert_eq!((store.tip(), store.failure()), (BlockRef::from(&row[2999].header), None));
    c.reach(3000).await;
    for node in [a, b, c] {
        node.stop().await;
    }
    drop(store);
    let store = open(Arc::new(disk)).unwrap();
    assert_eq!(store.bodies(heights(0..=4000), usize::MAX).unwrap().len(), 3001);
}
