use std::{net::IpAddr, path::Path, time::Duration};

use bt2c_p2p::{MemoryNet, P2PConfig, P2PManager};
use bt2c_proto::{Network, Time};
use bt2c_security::{Credentials, fixtures};

use super::*;
use crate::{
    DiskStore, DiskStoreConfig, Event, MemoryStore, SubmitError,
    testing::{GENESIS_TIME, SLOT, TestConsensus, checked},
};

const NOW: Time = Time::from_secs(GENESIS_TIME + 50_000);

struct Node {
    manager: P2PManager,
    synchronizer: BlockchainSynchronizer,
    handle: Handle,
    addr: std::net::SocketAddr,
}

fn ip(index: usize) -> IpAddr {
    IpAddr::from([192, 0, u8::try_from(index).unwrap() + 2, 1])
}

async fn start(network: &MemoryNet, index: usize, store: Arc<dyn ChainStore>) -> Node {
    let seed = [u8::try_from(index).unwrap(); 32];
    let env = Env::simulated(network.host(ip(index)), NOW, seed);
    let credentials = Credentials::issue(fixtures::identity(index), None, NOW).unwrap();
    let consensus = Arc::new(TestConsensus::new());
    let mut config = P2PConfig::for_network(Network::Devnet, consensus.genesis().hash());
    let addr = (ip(index), 8336).into();
    config.listen = vec![addr];
    let manager = P2PManager::start(config, env.clone(), credentials, store.tip().tip()).await.unwrap();
    let synchronizer =
        BlockchainSynchronizer::start(SyncConfig::default(), env, manager.handle(), store, consensus)
            .unwrap();
    let handle = synchronizer.handle();
    Node { manager, synchronizer, handle, addr }
}

impl Node {
    async fn connect(&self, other: &Self) {
        self.manager.handle().connect_to_peer(other.addr.into()).await.unwrap();
    }

    async fn stop(self) {
        self.synchronizer.stop().await;
        self.manager.stop().await;
    }
}

fn chain(count: u64) -> Arc<MemoryStore> {
    let test = TestConsensus::new();
    let store = MemoryStore::new(test.genesis_block());
    let row = test.row(&store.tip(), count, 0);
    if let Some(last) = row.last() {
        store.append(&checked(&row), last.hash()).unwrap();
    }
    Arc::new(store)
}

/// Waits until a store's tip is at a height.
async fn reach(handle: &Handle, height: u64) {
    let mut events = handle.subscribe();
    while handle.tip().height.get() < height {
        let _ = events.recv().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_catches_up_over_tls_and_then_gets_what_is_new() {
    let network = MemoryNet::new(Duration::from_millis(30));
    let a = start(&network, 0, chain(1500)).await;
    let b = start(&network, 1, chain(0)).await;
    b.connect(&a).await;
    reach(&b.handle, 1500).await;
    assert_eq!(b.synchronizer.sync().await, Some(a.handle.tip().tip()));

    let test = TestConsensus::new();
    let mut events = b.handle.subscribe();
    let transaction = test.transaction(1, NOW.as_secs(), 7);
    a.handle.submit_transaction(transaction.clone()).await.unwrap();
    let event = events.recv().await.unwrap();
    let Event::TransactionAdded { hash, from } = event else { panic!("{event:?}") };
    assert_eq!((hash, from), (transaction.hash, Some(a.manager.handle().local().peer_id)));

    let template = b.handle.template(NOW.as_secs() + 100).await.unwrap();
    assert_eq!(template.transactions, std::slice::from_ref(&transaction));
    let slot = test.slot(NOW.as_secs());
    let block = test.block(&template.parent, slot, 3, template.transactions);
    b.handle.submit_block(block.clone()).await.unwrap();
    reach(&a.handle, 1501).await;
    assert_eq!(a.handle.tip().hash, block.hash());
    assert!(a.handle.template(NOW.as_secs() + 100).await.unwrap().transactions.is_empty());

    let again = a.handle.submit_transaction(transaction).await.unwrap_err();
    assert_eq!(again, SubmitError::Transaction(crate::PoolError::Included));
    let mut steps = Vec::new();
    let consistency =
        b.synchronizer.verify_chain_consistency(|done, total| steps.push((done, total))).await.unwrap();
    assert_eq!(consistency.agreeing, [a.manager.handle().local().peer_id]);
    assert_eq!(steps.last(), Some(&(1502, 1502)));
    a.stop().await;
    b.stop().await;
}

#[tokio::test(start_paused = true)]
async fn two_halves_that_grew_apart_become_one() {
    let network = MemoryNet::new(Duration::from_millis(30));
    let (left, right) = (chain(200), chain(200));
    let test = TestConsensus::new();
    for (store, count, salt) in [(&left, 30, 1), (&right, 45, 2)] {
        let row = test.row(&store.tip(), count, salt);
        store.append(&checked(&row), row.last().unwrap().hash()).unwrap();
    }
    let a = start(&network, 0, left).await;
    let b = start(&network, 1, right).await;
    let mut events = a.handle.subscribe();
    b.connect(&a).await;
    reach(&a.handle, 245).await;
    assert_eq!(a.handle.tip(), b.handle.tip());
    let reorganised = loop {
        if let Event::Reorganised { fork, reverted, .. } = events.recv().await.unwrap() {
            break (fork.height.get(), reverted.len());
        }
    };
    assert_eq!(reorganised, (200, 30));
    a.stop().await;
    b.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_sync_that_is_cut_off_goes_on_from_disk() {
    let network = MemoryNet::new(Duration::from_millis(30));
    let a = start(&network, 0, chain(3000)).await;
    let disk = bt2c_p2p::env::MemoryDisk::new();
    let open = || {
        let test = TestConsensus::new();
        let config = DiskStoreConfig::default();
        let store = DiskStore::open(Arc::new(disk.clone()), Path::new("chain"), test.genesis_block(), config);
        Arc::new(store.unwrap())
    };
    let b = start(&network, 1, open()).await;
    b.connect(&a).await;
    reach(&b.handle, 1).await;
    let stopped_at = b.handle.tip();
    assert!(stopped_at.height.get() < 3000);
    b.stop().await;
    let c = start(&network, 2, open()).await;
    assert!(c.handle.tip().height >= stopped_at.height);
    c.connect(&a).await;
    reach(&c.handle, 3000).await;
    assert_eq!(c.handle.tip(), a.handle.tip());
    a.stop().await;
    c.stop().await;
}

#[tokio::test(start_paused = true)]
async fn questions_are_answered_in_their_order_from_stored_bytes() {
    let network = MemoryNet::new(Duration::from_millis(30));
    let node = start(&network, 0, chain(50)).await;
    // A peer that asks without waiting for answers, and has no chain of its own.
    let asker = start(&network, 1, chain(0)).await;
    asker.synchronizer.stop().await;
    let p2p = asker.manager.handle();
    let (sender, mut answers) = mpsc::channel(64);
    p2p.register_message_handler(MessageKind::Blocks, sender).unwrap();
    p2p.connect_to_peer(node.addr.into()).await.unwrap();
    let peer = p2p.peers().await.remove(0).peer;
    let ranges = [(0, 50), (49, 80), (51, 60), (7, 7), (50, 50)];
    for (start, end) in ranges {
        let (start_height, end_height) = (Height::new(start), Height::new(end));
        let question = bt2c_proto::GetBlocks::range(start_height, end_height);
        peer.send(p2p.frame(&bt2c_proto::Message::GetBlocks(question)).unwrap()).unwrap();
    }
    for (start, end) in ranges {
        let bt2c_proto::Message::Blocks(answer) = answers.recv().await.unwrap().message else { panic!() };
        let stored = node.handle.store().bodies(Height::new(start)..=Height::new(end), usize::MAX).unwrap();
        let sent: Vec<_> = answer.blocks.iter().map(Block::canonical_bytes).collect();
        assert_eq!(sent, stored, "{start} to {end}");
    }
    asker.manager.stop().await;
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn answers_wait_for_room_when_their_peer_reads_slowly() {
    let network = MemoryNet::new(Duration::from_millis(30));
    let node = start(&network, 0, chain(1500)).await;
    let asker = start(&network, 1, chain(0)).await;
    asker.synchronizer.stop().await;
    let p2p = asker.manager.handle();
    let (sender, mut answers) = mpsc::channel(1);
    p2p.register_message_handler(MessageKind::Blocks, sender).unwrap();
    p2p.connect_to_peer(node.addr.into()).await.unwrap();
    let peer = p2p.peers().await.remove(0).peer;
    let (start_height, end_height) = (Height::new(1), Height::new(1500));
    let question = bt2c_proto::GetBlocks::range(start_height, end_height);
    for _ in 0..20 {
        peer.send(p2p.frame(&bt2c_proto::Message::GetBlocks(question)).unwrap()).unwrap();
    }
    // All the answers together are far more than the queue of a peer takes.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let mut bytes = 0;
    for _ in 0..20 {
        let answer = tokio::time::timeout(Duration::from_secs(60), answers.recv()).await;
        bytes += answer.expect("every question is answered").expect("the peer is there").len;
    }
    assert!(bytes > 10 << 20, "{bytes}");
    asker.manager.stop().await;
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_submitted_in_vain_says_why() {
    let network = MemoryNet::new(Duration::from_millis(30));
    let node = start(&network, 0, chain(1)).await;
    let test = TestConsensus::new();
    let tip = node.handle.tip();
    let ahead = test.block(&tip, test.slot(NOW.as_secs()) + 2, 0, Vec::new());
    let early = node.handle.submit_block(ahead).await.unwrap_err();
    assert_eq!(early, SubmitError::Block(crate::Unknown::TooEarly));
    let known = test.row(&test.genesis_ref(), 1, 0).remove(0);
    let known = node.handle.submit_block(known).await.unwrap_err();
    assert_eq!(known, SubmitError::Block(crate::Unknown::Known));
    let same_slot = test.block(&tip, 1, 1, Vec::new());
    let invalid = node.handle.submit_block(same_slot).await.unwrap_err();
    assert_eq!(invalid, SubmitError::InvalidBlock(crate::Invalid::Slot));
    let mut forged = test.transaction(1, NOW.as_secs() - SLOT, 1);
    forged.nonce += 1;
    let forged = node.handle.submit_transaction(forged).await.unwrap_err();
    assert_eq!(forged, SubmitError::InvalidTransaction(crate::InvalidTransaction::Hash));
    let handle = node.handle.clone();
    node.stop().await;
    let late = handle.submit_transaction(test.transaction(2, NOW.as_secs(), 1)).await;
    assert_eq!(late, Err(SubmitError::Stopped));
    assert!(handle.status().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn every_metric_has_a_name_and_follows() {
    let network = MemoryNet::new(Duration::from_millis(30));
    let a = start(&network, 0, chain(700)).await;
    let b = start(&network, 1, chain(0)).await;
    b.connect(&a).await;
    reach(&b.handle, 700).await;
    b.synchronizer.sync().await;
    let text = |node: &Node| {
        let mut registry = prometheus_client::registry::Registry::default();
        node.handle.metrics().register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    };
    let (served, fetched) = (text(&a), text(&b));
    // One of them twice: b asked for the tip to see whether it is there.
    assert!(served.contains("bt2c_sync_served_blocks_total 701"), "{served}");
    assert!(fetched.contains("bt2c_sync_height 700"), "{fetched}");
    assert!(fetched.contains("bt2c_sync_blocks_total 700"), "{fetched}");
    a.stop().await;
    b.stop().await;
}
