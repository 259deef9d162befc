//! The chain of a BT2C node: rules, storage, and staying in step with everyone else's.
//!
//! A [`BlockchainSynchronizer`] fetches what peers have and this node has not, checks and stores it, serves it to others,
//! and passes on what is new. Around it are
//! - the rules: [`Consensus`], the default rule [`ValidatorSchedule`], and [`Checkpoints`];
//! - the chain: [`ChainStore`], kept on disk by [`DiskStore`] or in memory by [`MemoryStore`], and [`import`], the one way
//!   into it;
//! - the transactions that wait for a block: [`TransactionPool`];
//! - tools for a node that does not run: [`export_chain`], [`import_chain`], [`Generate`], [`ChainCheck`].
//!
//! All decisions are in [`Core`], which is pure: it is told what happened and when, and says what to do. The synchroniser
//! is a task around it that moves messages, and hands signature checks and disk writes to the
//! [`Compute`](bt2c_p2p::env::Compute) seam.
//!
//! ```
//! use std::{num::NonZeroU64, sync::Arc, time::Duration};
//!
//! use bt2c_p2p::{Env, MemoryNet, P2PConfig, P2PManager};
//! use bt2c_proto::{Genesis, Network, Time, Validator};
//! use bt2c_security::{Credentials, fixtures};
//! use bt2c_sync::{
//!     BlockRef, BlockchainSynchronizer, ChainStore, Consensus, MemoryStore, SyncConfig, ValidatorSchedule,
//!     public_key_blob, sealed_block,
//! };
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?.block_on(async {
//! // A network with one validator, and two nodes in it.
//! let validator = fixtures::devnet_validator(0);
//! let public_key = public_key_blob(validator.public_key());
//! let start = 1_712_352_000;
//! let proposers = vec![Validator { public_key, weight: NonZeroU64::MIN }];
//! let genesis = Genesis::new(Network::Devnet, start, Duration::from_secs(10), proposers)?;
//! let now = Time::from_secs(start + 60);
//!
//! let network = MemoryNet::new(Duration::from_millis(20));
//! let mut nodes = Vec::new();
//! for (index, ip) in ["192.0.2.1", "198.51.100.1"].into_iter().enumerate() {
//!     let ip = ip.parse()?;
//!     let rules = Arc::new(ValidatorSchedule::new(genesis.clone())?);
//!     let store = Arc::new(MemoryStore::new(rules.genesis()));
//!     let env = Env::simulated(network.host(ip), now, [index as u8; 32]);
//!     let credentials = Credentials::issue(fixtures::identity(index), None, now)?;
//!     let mut config = P2PConfig::for_network(Network::Devnet, genesis.hash());
//!     config.listen = vec![(ip, 8336).into()];
//!     let manager = P2PManager::start(config, env.clone(), credentials, store.tip().tip()).await?;
//!     let chain =
//!         BlockchainSynchronizer::start(SyncConfig::default(), env, manager.handle(), store, rules)?;
//!     nodes.push((manager, chain));
//! }
//!
//! // The first makes a block before they meet; the second has it soon after.
//! let block = sealed_block(&BlockRef::from(&genesis.block().header), start + 20, &validator, Vec::new());
//! nodes[0].1.handle().submit_block(block.clone()).await?;
//! let mut events = nodes[1].1.handle().subscribe();
//! nodes[1].0.handle().connect_to_peer("192.0.2.1:8336".parse()?).await?;
//! while nodes[1].1.handle().tip().hash != block.hash() {
//!     events.recv().await?;
//! }
//! for (manager, chain) in nodes {
//!     chain.stop().await;
//!     manager.stop().await;
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod actor;
mod chain;
mod check;
mod checkpoint;
mod config;
mod consensus;
mod core;
mod cost;
mod event;
mod files;
mod generate;
mod import;
mod ingress;
mod metrics;
mod parallel;
mod pool;
mod produce;
mod schedule;
mod serve;
mod store;
mod synchronizer;
#[cfg(test)]
mod testing;

pub use self::core::{
    Action, Blame, BlockDecision, BlockVerdict, Bottleneck, Contribution, Core, Counters, PeerFacts,
    RequestId, Source, SubmitError, TransactionVerdict, Unchecked,
};
pub use chain::{BlockRef, CheckedBlock, TxKey};
pub use check::{ChainCheck, ChainFault, Consistency};
pub use checkpoint::{Checkpoint, CheckpointError, CheckpointFormError, Checkpoints};
pub use config::{SyncConfig, SyncConfigError};
pub use consensus::{Consensus, Invalid, InvalidBlock, InvalidTransaction, Unknown, Verdict, check_block};
pub use event::{Event, SyncProgress};
pub use files::{
    ExportError, ExportSummary, ImportError, ImportFault, ImportSummary, export_chain, import_chain,
};
pub use generate::{Generate, GenerateError};
pub use import::{Applied, Imported, Reorganisation, import};
pub use ingress::{Handle, SyncStatus, Template};
pub use metrics::SyncMetrics;
pub use pool::{PoolConfig, PoolError, TransactionPool};
pub use produce::{public_key_blob, sealed_block, signed_transaction};
pub use schedule::{ScheduleError, TRANSACTION_LIFETIME, ValidatorSchedule};
pub use store::{ChainStore, DiskStore, DiskStoreConfig, MemoryStore, Pruned, StoreError, branch_of};
pub use synchronizer::{BlockchainSynchronizer, StartError};
