//! The nodes of a devnet.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use bt2c_p2p::Env;
use bt2c_proto::{Genesis, Network};
use bt2c_security::fixtures;
use bt2c_sync::BlockRef;

use super::{
    Options, Screen,
    screen::Row,
    watch::{Feed, Summary},
};
use crate::{
    config::{ApiAddr, NodeConfig},
    genesis::DEVNET_VALIDATORS,
    node::{P2PNode, StartError},
};

/// The running nodes, in order.
#[derive(Debug)]
pub(super) struct Nodes(Vec<P2PNode>);

impl Nodes {
    /// Starts them one after the other; the first is the seed of the rest.
    pub(super) async fn start(
        options: &Options,
        env: &Env,
        genesis: &Genesis,
        screen: &Screen,
        feed: Feed,
    ) -> Result<Self> {
        let mut nodes = Self(Vec::with_capacity(options.nodes));
        for index in 0..options.nodes {
            let config = nodes.config(options, index)?;
            match start(config, env, genesis, options.api_may_move).await {
                Ok(node) => {
                    screen.node_up(index, &node);
                    feed.follow(index, &node.handle());
                    nodes.0.push(node);
                }
                Err(error) => {
                    nodes.stop().await;
                    return Err(error).with_context(|| format!("node {}", index + 1));
                }
            }
        }
        Ok(nodes)
    }

    fn config(&self, options: &Options, index: usize) -> Result<NodeConfig> {
        let host = u8::try_from(index + 1).context("a devnet has at most 255 nodes")?;
        let mut config = NodeConfig::for_network(Network::Devnet);
        config.node_id = Some(format!("node{host}").parse().context("node id")?);
        config.data_dir = Some(options.data_dir.join(format!("node{host}")));
        config.p2p.listen = vec![SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), options.port))];
        config.p2p.discovery.seeds = self.seed().into_iter().map(Into::into).collect();
        config.api = ApiAddr(options.api.filter(|_| index == 0));
        Ok(config)
    }

    fn seed(&self) -> Option<SocketAddr> {
        self.0.first()?.handle().p2p().local().listen.first().copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &P2PNode> {
        self.0.iter()
    }

    /// Completes when every node has a peer.
    pub(super) async fn meet(&self) {
        if self.0.len() > 1 {
            for node in &self.0 {
                node.connect_to_network().await;
            }
        }
    }

    /// Node i proposes with the published key i, as far as there are keys.
    pub(super) fn start_producing(&self) {
        for (index, node) in self.0.iter().take(DEVNET_VALIDATORS).enumerate() {
            node.start_producing(fixtures::devnet_validator(index));
        }
    }

    pub(super) fn stop_producing(&self) {
        self.0.iter().for_each(P2PNode::stop_producing);
    }

    pub(super) fn tips(&self) -> Vec<BlockRef> {
        self.0.iter().map(|node| node.handle().sync().tip()).collect()
    }

    /// What the closing table says.
    pub(super) async fn rows(&self, summary: &Arc<Summary>) -> Vec<Row> {
        let mut rows = Vec::with_capacity(self.0.len());
        for (index, node) in self.0.iter().enumerate() {
            let status = node.status().await;
            let (produced, transactions) = summary.of(index);
            rows.push(Row {
                name: format!("node {}", index + 1),
                peers: status.peers.inbound + status.peers.outbound,
                height: status.height,
                tip: status.tip_hash,
                produced,
                transactions,
            });
        }
        rows
    }

    /// Stops them all at once, so that none of them spends its last moments on reconnecting.
    pub(super) async fn stop(self) {
        futures_util::future::join_all(self.0.into_iter().map(P2PNode::stop)).await;
    }
}

/// Starts a node; one whose API address is taken gets another port, if that is allowed.
async fn start(config: NodeConfig, env: &Env, genesis: &Genesis, api_may_move: bool) -> Result<P2PNode> {
    let attempt = |config: NodeConfig| -> Result<_> {
        // Each node has its own randomness, but all share the machine's threads.
        let env = Env { seed: crate::random::bytes()?, ..env.clone() };
        Ok(P2PNode::builder(config).env(env).genesis(genesis.clone()).start())
    };
    match attempt(config.clone())?.await {
        Err(StartError::Api { addr, source })
            if api_may_move && source.kind() == io::ErrorKind::AddrInUse =>
        {
            let elsewhere = NodeConfig { api: ApiAddr(Some(SocketAddr::new(addr.ip(), 0))), ..config };
            Ok(attempt(elsewhere)?.await?)
        }
        // The node's own advice names a flag that `run` has.
        Err(StartError::P2P(error @ bt2c_p2p::StartError::Listen { .. })) => {
            bail!("{error}; choose another port with --port, or leave it out for free ones")
        }
        outcome => Ok(outcome?),
    }
}
