//! The hosts of a world: starting, stopping and killing what runs on them.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, Result};
use bt2c_node::{P2PNode, StartError, config::NodeConfig};
use bt2c_p2p::{
    Env, Tip,
    env::{InlineCompute, MemoryDisk},
};
use bt2c_proto::{Defences, Network, PeerId};
use bt2c_security::{Credentials, Identity, fixtures};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio_util::sync::CancellationToken;

use super::{HOME, World};
use crate::simulate::{
    attack::Stage,
    identity::identity,
    net::{HostSpec, SimHost, SimNet},
    plan::{HostPlan, Role},
};

/// Where nodes listen.
pub const PORT: u16 = 8336;

/// A host and what runs on it.
#[derive(Debug)]
pub struct Host {
    /// Who it is.
    pub peer_id: PeerId,
    identity: Identity,
    /// What runs on it.
    pub life: Life,
    /// How often something was started on it.
    pub lives: u64,
    disk: MemoryDisk,
}

/// What runs on a host.
#[derive(Debug)]
pub enum Life {
    /// Nothing.
    None,
    /// A node.
    Node(Box<P2PNode>),
    /// An attacker's program, which ends with this.
    Attacker(CancellationToken),
}

impl Host {
    pub(super) fn new(number: usize, plan: &HostPlan, disk: MemoryDisk, net: &SimNet) -> Result<Self> {
        let spec = HostSpec { ip: plan.ip, region: plan.region, link: plan.link, nat: plan.nat };
        net.add_host(spec).with_context(|| format!("host {number}"))?;
        net.crash(plan.ip);
        let identity = identity(number)?;
        Ok(Self { peer_id: identity.peer_id(), identity, life: Life::None, lives: 0, disk })
    }

    /// The node, if one is up.
    pub fn node(&self) -> Option<&P2PNode> {
        if let Life::Node(node) = &self.life { Some(node) } else { None }
    }

    /// Its disk.
    pub const fn disk(&self) -> &MemoryDisk {
        &self.disk
    }

    pub(super) async fn stop(&mut self) {
        match std::mem::replace(&mut self.life, Life::None) {
            Life::None => {}
            Life::Node(node) => node.stop().await,
            Life::Attacker(stop) => stop.cancel(),
        }
    }
}

impl World {
    /// Starts what belongs on a host. A node that cannot start for its disk's sake is noted, and stays away.
    pub(super) async fn start(&mut self, number: usize) -> Result<()> {
        let plan = self.plan.hosts[number].clone();
        self.hosts[number].stop().await;
        let net = self.net.restart(plan.ip)?;
        self.hosts[number].lives += 1;
        if let Role::Attacker(attack) = plan.role {
            let stage = self.stage(number, net)?;
            self.hosts[number].life = Life::Attacker(stage.stop.clone());
            self.watchers.spawn(attack.run(stage));
            return Ok(());
        }
        match self.start_node(number, &plan, net).await? {
            Ok(node) => {
                let tip = node.handle().sync().tip();
                self.record.starts(self.passed(), number, Tip { height: tip.height, hash: tip.hash });
                self.watch(number, &node);
                self.hosts[number].life = Life::Node(Box::new(node));
            }
            Err(error) => {
                self.net.crash(plan.ip);
                let causes = anyhow::Error::from(error);
                self.record.note(self.passed(), format!("host {number} does not start: {causes:#}"));
            }
        }
        Ok(())
    }

    async fn start_node(
        &self,
        number: usize,
        plan: &HostPlan,
        net: SimHost,
    ) -> Result<Result<P2PNode, StartError>> {
        let credentials = Credentials::issue(self.hosts[number].identity.clone(), None, self.now())?;
        let net = if self.setup.tls { net } else { net.declaring(credentials.certificate_der()) };
        let env = Env {
            net: Arc::new(net),
            clock: Arc::new(self.clock(plan.skew_ms, plan.drift_ppm)),
            disk: Arc::new(self.hosts[number].disk.clone()),
            compute: Arc::new(InlineCompute),
            seed: self.seed(number),
            tap: Some(self.record.tap(self.started)),
        };
        let builder = P2PNode::builder(self.config(number, plan)?);
        let mut builder = builder.env(env).genesis(self.genesis.clone()).credentials(credentials);
        if let Role::Proposer(validator) = plan.role {
            builder = builder.producer(fixtures::devnet_validator(validator));
        }
        Ok(builder.start().await)
    }

    fn config(&self, number: usize, plan: &HostPlan) -> Result<NodeConfig> {
        let mut config = NodeConfig::simulation(Network::Devnet);
        config.p2p.listen = vec![SocketAddr::new(plan.ip, PORT)];
        config.data_dir = self.plan.needs_disk(number).then(|| HOME.into());
        let seeds = plan.seeds.iter().filter(|seed| **seed != number);
        config.p2p.discovery.seeds = seeds.map(|seed| self.addr(*seed).into()).collect();
        (self.plan.tune)(number, &mut config);
        for (key, value) in &plan.settings {
            config.set(key, value)?;
        }
        for (key, value) in &self.setup.settings {
            config.set(key, value)?;
        }
        let defences = self.setup.without.map_or_else(Defences::default, Defences::without);
        config.p2p.security.defences = defences;
        config.p2p.discovery.defences = defences;
        config.sync.defences = defences;
        Ok(config)
    }

    /// Where others reach a host's node.
    pub fn addr(&self, number: usize) -> SocketAddr {
        let plan = &self.plan.hosts[number];
        let spec = HostSpec { ip: plan.ip, region: plan.region, link: plan.link, nat: plan.nat };
        SocketAddr::new(spec.public(), PORT)
    }

    /// The seed of one life of a host, whatever happens to the others.
    fn seed(&self, number: usize) -> [u8; 32] {
        let mut rng = ChaCha8Rng::seed_from_u64(self.setup.seed);
        rng.set_stream(((number as u64) << 16) + self.hosts[number].lives);
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        seed
    }

    fn stage(&self, number: usize, net: SimHost) -> Result<Stage> {
        let attackers = (0..self.hosts.len()).filter(|host| !self.plan.hosts[*host].is_honest());
        Ok(Stage {
            number,
            net,
            clock: self.clock(0, 0),
            genesis: self.genesis.clone(),
            tip: self.tip,
            tip_block: self.tip_block.clone(),
            chain: Arc::clone(&self.chain.store),
            branch: Arc::clone(&self.chain.branch),
            honest: self.plan.honest().map(|host| self.addr(host)).collect(),
            accomplices: attackers.map(|host| self.addr(host)).collect(),
            tls: self.setup.tls,
            rng: ChaCha8Rng::from_seed(self.seed(number)),
            counts: Arc::clone(&self.counts),
            stop: CancellationToken::new(),
        })
    }

    fn watch(&self, host: usize, node: &P2PNode) {
        let (mut events, record, started) = (node.subscribe(), self.record.clone(), self.started);
        self.watchers.spawn(async move {
            while let Some(event) = events.next().await {
                record.event(started.elapsed(), host, &event);
            }
        });
    }

    pub(super) async fn leave(&mut self, number: usize) {
        self.hosts[number].stop().await;
        self.net.crash(self.plan.hosts[number].ip);
    }

    /// Kills what runs on a host: no goodbye, no last write; its peers see resets. With its power a machine also loses
    /// whatever its disk did not have to keep.
    pub(super) fn kill(&mut self, number: usize, power_loss: bool) {
        self.net.crash(self.plan.hosts[number].ip);
        let host = &mut self.hosts[number];
        if let Life::Attacker(stop) = std::mem::replace(&mut host.life, Life::None) {
            stop.cancel();
        }
        // What the node's last tasks still write goes to the disk that is no more.
        let chance = self.setup.seed ^ ((number as u64) << 16) ^ host.lives;
        host.disk = if power_loss { host.disk.after_power_loss(chance) } else { host.disk.after_kill() };
    }
}
