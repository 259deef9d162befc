//! BT2C chain synchronisation: plan, fetch, import, serve; chain store and consensus.
mod actor;
mod chain;
mod check;
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
    Action, Blame, Core, Counters, PeerFacts, RequestId, Source, SubmitError, TransactionVerdict,
};
pub use chain::{BlockRef, CheckedBlock, TxKey};
pub use check::{ChainCheck, ChainFault, Consistency};
pub use config::SyncConfig;
pub use consensus::{Consensus, Invalid, InvalidBlock, InvalidTransaction, Unknown, Verdict, check_block};
pub use event::{Event, SyncProgress};
pub use files::{ExportError, ImportError, ImportFault, ImportSummary, export_chain, import_chain};
pub use generate::{Generate, GenerateError};
pub use import::{Applied, Imported, Reorganisation, import};
pub use ingress::{Handle, SyncStatus, Template};
pub use metrics::SyncMetrics;
pub use pool::{PoolConfig, PoolError, TransactionPool};
pub use produce::{public_key_blob, sealed_block, signed_transaction};
pub use schedule::{ScheduleError, TRANSACTION_LIFETIME, ValidatorSchedule};
pub use store::{ChainStore, DiskStore, DiskStoreConfig, MemoryStore, StoreError, branch_of};
pub use synchronizer::BlockchainSynchronizer;
