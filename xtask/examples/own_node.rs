//! A node of one's own, simulated: it is built on `bt2c-p2p` alone, and takes transactions with a handler of its own.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bt2c_p2p::{
    Env, P2PConfig, P2PManager, Tip,
    env::{Clock, InlineCompute, MemoryDisk},
};
use bt2c_proto::{BlockHash, Height, Message, MessageKind, Network, NewTransaction};
use bt2c_security::Credentials;
use xtask::simulate::{
    EPOCH, SimClock, identity,
    net::{HostSpec, Link, Region, SimNet},
    transaction,
};

const GENESIS: BlockHash = BlockHash::from_bytes([7; 32]);

/// Starts node `index` at an address, on a DSL line somewhere.
async fn start(net: &SimNet, index: usize, addr: SocketAddr) -> anyhow::Result<P2PManager> {
    let region = Region::ALL[index % Region::ALL.len()];
    let host = net.add_host(HostSpec { link: Link::DSL, ..HostSpec::new(addr.ip(), region) })?;
    let env = Env {
        net: Arc::new(host),
        clock: Arc::new(SimClock::starting_at(EPOCH)),
        disk: Arc::new(MemoryDisk::new()),
        compute: Arc::new(InlineCompute),
        seed: [u8::try_from(index)?; 32],
        tap: None,
    };
    let mut config = P2PConfig::for_network(Network::Devnet, GENESIS);
    config.listen = vec![addr];
    let tip = Tip { height: Height::GENESIS, hash: GENESIS };
    Ok(P2PManager::start(config, env, Credentials::issue(identity(index)?, None, EPOCH)?, tip).await?)
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(async {
        let net = SimNet::new(1);
        let (one, other) = ("40.1.0.1:8336".parse()?, "40.2.0.1:8336".parse()?);
        let (one, other) = (start(&net, 0, one).await?, start(&net, 1, other).await?);
        let (sender, mut received) = tokio::sync::mpsc::channel(16);
        other.handle().register_message_handler(MessageKind::NewTransaction, sender)?;
        one.handle().connect_to_peer("40.2.0.1:8336".parse()?).await?;
        let clock = SimClock::starting_at(EPOCH);
        let transaction = transaction(0, GENESIS, 1, EPOCH.as_secs())?;
        one.handle().broadcast_message(&Message::NewTransaction(NewTransaction { transaction })).await?;
        let inbound = received.recv().await;
        let passed = clock.now().since(EPOCH);
        assert!(inbound.is_some() && passed > Duration::from_millis(30));
        println!("{inbound:?} after {passed:?} of virtual time");
        anyhow::Ok(())
    })
}
