//! BT2C chain synchronisation: plan, fetch, import, serve; chain store and consensus.
mod chain;
mod config;
mod consensus;
mod core;
mod event;
mod import;
mod pool;
mod produce;
mod schedule;
mod store;
#[cfg(test)]
mod testing;

pub use self::core::{
    Action, Blame, Core, Counters, PeerFacts, RequestId, Source, SubmitError, TransactionVerdict,
};
pub use chain::{BlockRef, CheckedBlock, TxKey};
pub use config::SyncConfig;
pub use consensus::{Consensus, Invalid, InvalidBlock, InvalidTransaction, Unknown, Verdict, check_block};
pub use event::{Event, SyncProgress};
pub use import::{Applied, Imported, Reorganisation, import};
pub use pool::{PoolConfig, PoolError, TransactionPool};
pub use produce::{public_key_blob, sealed_block, signed_transaction};
pub use schedule::{ScheduleError, TRANSACTION_LIFETIME, ValidatorSchedule};
pub use store::{ChainStore, DiskStore, DiskStoreConfig, MemoryStore, StoreError, branch_of};
