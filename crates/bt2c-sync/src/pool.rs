//! Transactions that wait for a block.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bt2c_proto::{Time, Transaction, TxHash};

use crate::schedule::TRANSACTION_LIFETIME;

/// Limits of a [`TransactionPool`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PoolConfig {
    /// Most transactions; default 50,000. Too few drop what could be paid for, too many cost a kilobyte each.
    pub max_count: usize,
    /// Most bytes in canonical form; default 64 MiB, about sixty full blocks.
    pub max_bytes: usize,
    /// How far ahead of our clock a transaction may be dated; default 10 minutes, what honest clocks differ by. It waits
    /// until a block may have it.
    pub max_ahead: Duration,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self { max_count: 50_000, max_bytes: 64 << 20, max_ahead: Duration::from_secs(600) }
    }
}

/// Valid transactions outside any block, bounded in number and bytes. What pays the higher fee, and of equal ones what
/// came first, is picked first and dropped last.
#[derive(Debug)]
pub struct TransactionPool {
    config: PoolConfig,
    entries: BTreeMap<TxHash, Entry>,
    /// By fee, then arrival: the last is the best.
    ranked: BTreeSet<(u64, Reverse<u64>, TxHash)>,
    /// By date, for expiry.
    dated: BTreeSet<(u64, TxHash)>,
    bytes: usize,
    arrivals: u64,
}

#[derive(Debug)]
struct Entry {
    transaction: Arc<Transaction>,
    bytes: usize,
    arrival: u64,
}

/// Why a transaction was not taken into the pool. None of these is an offence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// It waits here already.
    #[error("transaction is already in the pool")]
    Known,
    /// It is on the main chain already.
    #[error("transaction is already in the chain")]
    Included,
    /// Too old for any block to come.
    #[error("transaction is dated more than 24 hours ago")]
    Stale,
    /// Dated too far ahead of our clock.
    #[error("transaction is dated too far ahead of this node's clock")]
    TooEarly,
    /// The pool is full of transactions that pay more.
    #[error("pool is full, and its transactions pay more than {fee}")]
    Full {
        /// What this one pays, in sa2shi.
        fee: u64,
    },
}

impl TransactionPool {
    /// An empty pool.
    pub fn new(config: PoolConfig) -> Self {
        Self {
            config,
            entries: BTreeMap::new(),
            ranked: BTreeSet::new(),
            dated: BTreeSet::new(),
            bytes: 0,
            arrivals: 0,
        }
    }

    /// Whether [`TransactionPool::insert`] has a chance, before anything expensive is done.
    ///
    /// # Errors
    /// Why it has none.
    pub fn admits(&self, now: Time, transaction: &Transaction) -> Result<(), PoolError> {
        let date = Time::from_secs(transaction.timestamp);
        if self.entries.contains_key(&transaction.hash) {
            Err(PoolError::Known)
        } else if date + TRANSACTION_LIFETIME < now {
            Err(PoolError::Stale)
        } else if date > now + self.config.max_ahead {
            Err(PoolError::TooEarly)
        } else if self.entries.len() >= self.config.max_count
            && self.ranked.first().is_some_and(|worst| worst.0 >= transaction.fee)
        {
            Err(PoolError::Full { fee: transaction.fee })
        } else {
            Ok(())
        }
    }

    /// Takes in a transaction that was checked; what pays least goes if there is no room.
    ///
    /// # Errors
    /// Why it was not taken.
    pub fn insert(&mut self, now: Time, transaction: Arc<Transaction>) -> Result<(), PoolError> {
        self.admits(now, &transaction)?;
        let bytes = transaction.canonical_bytes().len();
        let (hash, fee, arrival) = (transaction.hash, transaction.fee, self.arrivals);
        self.arrivals += 1;
        self.ranked.insert((fee, Reverse(arrival), hash));
        self.dated.insert((transaction.timestamp, hash));
        self.bytes += bytes;
        self.entries.insert(hash, Entry { transaction, bytes, arrival });
        while self.entries.len() > self.config.max_count || self.bytes > self.config.max_bytes {
            let (.., worst) = *self.ranked.first().expect("a pool over its limits is not empty");
            self.remove(&worst);
        }
        if self.entries.contains_key(&hash) { Ok(()) } else { Err(PoolError::Full { fee }) }
    }

    /// Removes a transaction.
    pub fn remove(&mut self, hash: &TxHash) -> Option<Arc<Transaction>> {
        let Entry { transaction, bytes, arrival } = self.entries.remove(hash)?;
        self.ranked.remove(&(transaction.fee, Reverse(arrival), *hash));
        self.dated.remove(&(transaction.timestamp, *hash));
        self.bytes -= bytes;
        Some(transaction)
    }

    /// Removes what is too old for any block to come.
    pub fn expire(&mut self, now: Time) {
        while let Some(&(timestamp, hash)) = self.dated.first() {
            if Time::from_secs(timestamp) + TRANSACTION_LIFETIME >= now {
                break;
            }
            self.remove(&hash);
        }
    }

    /// When [`TransactionPool::expire`] has something to do.
    pub fn next_expiry(&self) -> Option<Time> {
        let &(timestamp, _) = self.dated.first()?;
        Some(Time::from_secs(timestamp) + TRANSACTION_LIFETIME + Duration::from_millis(1))
    }

    /// The best transactions for a block with this date (seconds), best first, within `max_bytes` of canonical form.
    pub fn select(&self, block_timestamp: u64, max_count: usize, max_bytes: usize) -> Vec<Arc<Transaction>> {
        let mut picked = Vec::new();
        let mut room = max_bytes;
        for (.., hash) in self.ranked.iter().rev() {
            if picked.len() == max_count {
                break;
            }
            let entry = &self.entries[hash];
            let age = block_timestamp.checked_sub(entry.transaction.timestamp);
            // One more byte for the comma between two.
            if age.is_some_and(|age| age <= TRANSACTION_LIFETIME.as_secs()) && entry.bytes < room {
                room -= entry.bytes + 1;
                picked.push(Arc::clone(&entry.transaction));
            }
        }
        picked
    }

    /// The transaction of this hash.
    pub fn get(&self, hash: &TxHash) -> Option<&Arc<Transaction>> {
        self.entries.get(hash).map(|entry| &entry.transaction)
    }

    /// How many transactions wait.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Sum of their canonical forms, in bytes.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests;
