//! What peers push at us, and what is submitted here: new blocks and transactions.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use bt2c_p2p::Inventory;
use bt2c_proto::{Block, BlockHash, PeerId, Time, Transaction, TxHash};
use bt2c_security::Deed;

use super::{
    Action, Blame, BlockVerdict, Core, RequestId, Source, SubmitError, TransactionVerdict, orphans::Orphan,
};
use crate::{
    chain::{BlockRef, CheckedBlock},
    consensus::{InvalidBlock, Unknown, Verdict},
    event::Event,
};

/// Pushed objects between their arrival and the store or the pool.
#[derive(Debug, Default)]
pub(super) struct Pushes {
    /// Blocks with the workers, by job.
    blocks: BTreeMap<u64, Push<Block>>,
    block_bytes: usize,
    /// Checked blocks that wait for the store.
    pub(super) ready: VecDeque<(CheckedBlock, Senders)>,
    /// Transactions with the workers, by job.
    transactions: BTreeMap<u64, Push<Transaction>>,
    /// Their jobs, by the hash that they claim.
    by_hash: BTreeSet<(TxHash, u64)>,
}

#[derive(Debug)]
struct Push<T> {
    object: Arc<T>,
    senders: Senders,
    size: usize,
}

/// Everyone who sent the same object, to the byte that matters: all are blamed for it, or thanked.
#[derive(Debug, Clone, Default)]
pub(super) struct Senders {
    pub(super) peers: Vec<PeerId>,
    pub(super) requests: Vec<RequestId>,
}

impl Senders {
    pub(super) fn add(&mut self, source: Source) {
        match source {
            Source::Peer(peer) if !self.peers.contains(&peer) => self.peers.push(peer),
            Source::Peer(_) => {}
            Source::Local(request) => self.requests.push(request),
        }
    }
}

impl From<Source> for Senders {
    fn from(source: Source) -> Self {
        let mut senders = Self::default();
        senders.add(source);
        senders
    }
}

impl Pushes {
    /// Whether this block is on its way into the store.
    pub(super) fn contains(&self, hash: &BlockHash) -> bool {
        self.blocks.values().any(|push| push.object.hash() == *hash)
            || self.ready.iter().any(|(block, _)| block.place.hash == *hash)
    }

    fn waiting(&self) -> usize {
        self.blocks.len() + self.ready.len()
    }
}

impl Core {
    /// A block was pushed or submitted; its message had `size` bytes.
    pub fn handle_new_block(&mut self, now: Time, source: Source, block: Block, size: usize) {
        self.now = now;
        let place = BlockRef::from(&block.header);
        if let Source::Peer(peer) = source {
            self.actions.push_back(Action::MarkSeen { peer, inventory: Inventory::Block(place.hash) });
        }
        if let Err(error) = self.take_block(now, source, block, place, size) {
            self.refuse_block(&source.into(), &place, error);
        }
        self.advance(now);
    }

    /// Sends a block to the workers, or keeps it for when its parent comes.
    fn take_block(
        &mut self,
        now: Time,
        source: Source,
        block: Block,
        place: BlockRef,
        size: usize,
    ) -> Result<(), SubmitError> {
        if self.recent.contains(&place.hash) {
            self.shown(source, &place);
            return Err(Unknown::Known.into());
        }
        if place.height <= self.recent.lowest().height {
            return Err(Unknown::TooOld.into());
        }
        let same = |push: &&mut Push<Block>| *push.object == block;
        if let Some(push) = self.pushes.blocks.values_mut().find(same) {
            push.senders.add(source);
            return Ok(());
        }
        if self.recent.in_slot(self.consensus.slot(place.timestamp)).len() >= 2 {
            self.counters.slot_full += 1;
            return Err(Unknown::SlotFull.into());
        }
        let Some(parent) = self.recent.get(&place.parent).copied() else {
            return self.take_orphan(source, block, place, size);
        };
        match self.consensus.check_header(&place, &parent, now) {
            Verdict::Valid => self.check_pushed(source.into(), Arc::new(block), size),
            Verdict::Invalid(reason) => Err(reason.into()),
            Verdict::Unknown(reason) => {
                // Its sender has a block that will be wanted once it is due.
                self.consensus.check_seal(&block.header)?;
                self.shown(source, &place);
                self.mute(source, self.consensus.earliest(place.timestamp));
                Err(reason.into())
            }
        }
    }

    fn take_orphan(
        &mut self,
        source: Source,
        block: Block,
        place: BlockRef,
        size: usize,
    ) -> Result<(), SubmitError> {
        let Source::Peer(from) = source else { return Err(Unknown::Parent.into()) };
        self.consensus.check_seal(&block.header)?;
        self.orphans.insert(Orphan { block: Arc::new(block), from, size });
        let evidence = format!("its parent {} is not here", place.parent);
        self.verdicts.note(self.now, &place, BlockVerdict::Orphan, Some(from), evidence);
        self.shown(source, &place);
        Ok(())
    }

    fn check_pushed(&mut self, senders: Senders, block: Arc<Block>, size: usize) -> Result<(), SubmitError> {
        let pushes = &mut self.pushes;
        if pushes.waiting() >= self.config.max_pushed_blocks
            || pushes.block_bytes + size > self.config.max_pushed_bytes
        {
            self.counters.busy += 1;
            return Err(Unknown::Busy.into());
        }
        pushes.block_bytes += size;
        let job = self.job();
        self.actions.push_back(Action::CheckBlocks {
            job,
            blocks: vec![super::Unchecked { block: Arc::clone(&block), sealed: false }],
        });
        self.pushes.blocks.insert(job, Push { object: block, senders, size });
        Ok(())
    }

    /// The result of a job that was about a pushed block; says whether it was.
    pub(super) fn pushed_block_checked(
        &mut self,
        job: u64,
        results: &mut Vec<Result<CheckedBlock, InvalidBlock>>,
    ) -> bool {
        let Some(push) = self.pushes.blocks.remove(&job) else { return false };
        self.pushes.block_bytes -= push.size;
        match results.pop() {
            Some(Ok(checked)) => self.pushes.ready.push_back((checked, push.senders)),
            Some(Err(InvalidBlock { place, reason })) => {
                self.refuse_block(&push.senders, &place, reason.into());
            }
            None => {}
        }
        true
    }

    /// Checks the blocks that waited for this one.
    pub(super) fn adopt_orphans(&mut self, now: Time, parent: &BlockRef) {
        for orphan in self.orphans.take_children(&parent.hash) {
            let place = BlockRef::from(&orphan.block.header);
            let fetched = self.pursuit.as_ref().and_then(|pursuit| pursuit.piece(place.height.get()));
            if self.recent.contains(&place.hash)
                || fetched.is_some_and(|piece| piece.place.hash == place.hash)
            {
                continue;
            }
            let senders = Senders::from(Source::Peer(orphan.from));
            let outcome = match self.consensus.check_header(&place, parent, now) {
                Verdict::Valid => self.check_pushed(senders.clone(), orphan.block, orphan.size),
                Verdict::Invalid(reason) => Err(reason.into()),
                Verdict::Unknown(reason) => Err(reason.into()),
            };
            if let Err(error) = outcome {
                self.refuse_block(&senders, &place, error);
            }
        }
    }

    /// Blames the senders of an invalid block; tells those who submitted it.
    pub(super) fn refuse_block(&mut self, senders: &Senders, place: &BlockRef, error: SubmitError) {
        if let SubmitError::InvalidBlock(reason) = error {
            for peer in &senders.peers {
                self.blame_block(*peer, place, reason);
            }
        }
        let verdict = match &error {
            SubmitError::InvalidBlock(_) => Some(BlockVerdict::Invalid).filter(|_| senders.peers.is_empty()),
            // That is decided already.
            SubmitError::Block(Unknown::Known) => None,
            _ => Some(BlockVerdict::Unjudged),
        };
        if let Some(verdict) = verdict {
            self.verdicts.note(self.now, place, verdict, senders.peers.first().copied(), error.to_string());
        }
        self.reply(senders, Err(error));
    }

    pub(super) fn reply(&mut self, senders: &Senders, result: Result<(), SubmitError>) {
        for &request in &senders.requests {
            self.actions.push_back(Action::Reply { request, result: result.clone() });
        }
    }

    /// The source has this sealed block.
    fn shown(&mut self, source: Source, place: &BlockRef) {
        if let Source::Peer(peer) = source
            && let Some(state) = self.peers.get_mut(&peer)
        {
            state.shows(place.tip());
        }
    }

    fn mute(&mut self, source: Source, until: Time) {
        if let Source::Peer(peer) = source
            && let Some(state) = self.peers.get_mut(&peer)
        {
            state.muted_until = state.muted_until.max(until);
        }
    }

    /// A transaction was pushed or submitted.
    pub fn handle_new_transaction(
        &mut self,
        now: Time,
        source: Source,
        transaction: Transaction,
        size: usize,
    ) {
        if let Source::Peer(peer) = source {
            let inventory = Inventory::Transaction(transaction.hash);
            self.actions.push_back(Action::MarkSeen { peer, inventory });
        }
        if let Err(error) = self.take_transaction(now, source, transaction, size) {
            self.reply(&source.into(), Err(error));
        }
    }

    fn take_transaction(
        &mut self,
        now: Time,
        source: Source,
        transaction: Transaction,
        size: usize,
    ) -> Result<(), SubmitError> {
        self.pool.admits(now, &transaction)?;
        let hash = transaction.hash;
        for (_, job) in self.pushes.by_hash.range((hash, 0)..=(hash, u64::MAX)) {
            if let Some(push) =
                self.pushes.transactions.get_mut(job).filter(|push| *push.object == transaction)
            {
                push.senders.add(source);
                return Ok(());
            }
        }
        if self.pushes.transactions.len() >= self.config.max_pushed_transactions {
            self.counters.busy += 1;
            return Err(SubmitError::Busy);
        }
        let job = self.job();
        let transaction = Arc::new(transaction);
        self.actions.push_back(Action::CheckTransaction { job, transaction: Arc::clone(&transaction) });
        self.pushes.by_hash.insert((hash, job));
        self.pushes.transactions.insert(job, Push { object: transaction, senders: source.into(), size });
        Ok(())
    }

    /// What the check of a transaction found.
    pub fn handle_transaction_checked(&mut self, now: Time, job: u64, verdict: TransactionVerdict) {
        let Some(push) = self.pushes.transactions.remove(&job) else { return };
        let (transaction, senders) = (push.object, push.senders);
        self.pushes.by_hash.remove(&(transaction.hash, job));
        let result = match verdict {
            TransactionVerdict::Valid => {
                self.pool.insert(now, Arc::clone(&transaction)).map_err(SubmitError::from)
            }
            TransactionVerdict::Included => Err(crate::PoolError::Included.into()),
            TransactionVerdict::Invalid(reason) => {
                for &peer in &senders.peers {
                    self.blame(peer, Blame::Transaction { hash: transaction.hash, reason });
                }
                Err(reason.into())
            }
        };
        if result.is_ok() {
            let from = senders.peers.first().copied();
            self.emit(Event::TransactionAdded { hash: transaction.hash, from });
            if let Some(peer) = from {
                self.actions.push_back(Action::Credit { peer, deed: Deed::Transaction });
            }
            self.actions.push_back(Action::RelayTransaction(transaction));
        }
        self.reply(&senders, result);
    }
}
