//! Handing checked blocks to the store, one batch at a time, and what follows from it.

use bt2c_proto::{PeerId, Time};
use bt2c_security::Deed;

use super::{Action, BlockVerdict, Core, SubmitError, pushes::Senders, window::PieceState};
use crate::{
    chain::{BlockRef, CheckedBlock},
    consensus::{Invalid, InvalidBlock, Unknown, Verdict},
    event::Event,
    import::{Imported, Reorganisation},
    store::StoreError,
};

/// The batch that is with the store.
#[derive(Debug)]
pub(super) struct Importing {
    pub(super) batch: Vec<CheckedBlock>,
    origin: Origin,
    /// When a failed import is tried again.
    pub(super) retry_at: Option<Time>,
}

#[derive(Debug)]
enum Origin {
    /// Fetched, each block from its peer.
    Fetched(Vec<PeerId>),
    /// Pushed: one block, to be relayed.
    Pushed(Senders),
}

impl Core {
    /// Blocks were checked, in the order of the job.
    pub fn handle_checked(
        &mut self,
        now: Time,
        job: u64,
        mut results: Vec<Result<CheckedBlock, InvalidBlock>>,
    ) {
        if !self.pushed_block_checked(job, &mut results) {
            self.fetched_blocks_checked(job, results);
        }
        self.advance(now);
    }

    /// An import is done, or failed and left the store as it was.
    pub fn handle_imported(&mut self, now: Time, result: Result<Imported, StoreError>) {
        let Some(mut importing) = self.importing.take() else { return };
        match result {
            Ok(imported) => self.imported(now, importing, imported),
            Err(error) => {
                self.emit(Event::StoreFailed { error: error.to_string() });
                importing.retry_at = Some(now + self.config.store_retry);
                self.importing = Some(importing);
            }
        }
        self.advance(now);
    }

    pub(super) fn retry_import(&mut self, now: Time) {
        if let Some(importing) = &mut self.importing
            && importing.retry_at.is_some_and(|at| at <= now)
        {
            importing.retry_at = None;
            self.actions.push_back(Action::Import(importing.batch.clone()));
        }
    }

    /// Gives the store the next batch, if it is free: what was pushed first, for it is single blocks that others wait for.
    pub(super) fn store_next(&mut self, now: Time) {
        while self.importing.is_none() {
            let Some((block, senders)) = self.pushes.ready.pop_front() else { break };
            match self.attach_pushed(now, &block.place) {
                Ok(()) => self.start_import(vec![block], Origin::Pushed(senders)),
                Err(error) => self.refuse_block(&senders, &block.place, error),
            }
        }
        if self.importing.is_none() {
            let (batch, from) = self.fetched_batch(now);
            if !batch.is_empty() {
                self.start_import(batch, Origin::Fetched(from));
            }
        }
    }

    fn start_import(&mut self, batch: Vec<CheckedBlock>, origin: Origin) {
        self.actions.push_back(Action::Import(batch.clone()));
        self.importing = Some(Importing { batch, origin, retry_at: None });
    }

    /// Whether a pushed block can follow what is stored, now.
    fn attach_pushed(&mut self, now: Time, place: &BlockRef) -> Result<(), SubmitError> {
        if self.recent.contains(&place.hash) {
            return Err(Unknown::Known.into());
        }
        if self.recent.in_slot(self.consensus.slot(place.timestamp)).len() >= 2 {
            self.counters.slot_full += 1;
            return Err(Unknown::SlotFull.into());
        }
        let parent = self.recent.get(&place.parent).ok_or(Unknown::Parent)?;
        match self.consensus.check_header(place, parent, now) {
            Verdict::Valid => Ok(()),
            Verdict::Invalid(reason) => Err(reason.into()),
            Verdict::Unknown(reason) => Err(reason.into()),
        }
    }

    /// The next row of fetched blocks that are checked and known to be of the leader's branch.
    fn fetched_batch(&mut self, now: Time) -> (Vec<CheckedBlock>, Vec<PeerId>) {
        let (mut batch, mut senders, mut bytes) = (Vec::new(), Vec::new(), 0);
        while let Some(pursuit) = &mut self.pursuit {
            let cursor = pursuit.cursor;
            let Some(head) = pursuit.head() else { break };
            let (from, place) = (head.from, head.place);
            let stored = self.recent.contains(&place.hash);
            match &head.state {
                _ if stored && batch.is_empty() => {
                    pursuit.advance();
                    continue;
                }
                PieceState::Stored if !stored => {
                    self.abandon_too_deep();
                    break;
                }
                PieceState::Checked(_) if !stored => {}
                _ => break,
            }
            if batch.is_empty() && !self.recent.contains(&cursor.hash) {
                // The branch left the chain so deep, or the chain grew so fast meanwhile, that it cannot win any more.
                self.abandon_too_deep();
                break;
            }
            match self.consensus.check_header(&place, &cursor, now) {
                Verdict::Valid => {}
                Verdict::Invalid(reason) => {
                    self.blame_block(from, &place, reason);
                    self.pursuit = None;
                    break;
                }
                Verdict::Unknown(_) => {
                    let until = self.consensus.earliest(place.timestamp);
                    self.mute_leader(until);
                    break;
                }
            }
            let Some(PieceState::Checked(block)) = pursuit.advance().map(|piece| piece.state) else { break };
            bytes += block.bytes.len();
            batch.push(block);
            senders.push(from);
            if batch.len() >= self.config.batch_blocks || bytes >= self.config.batch_bytes {
                break;
            }
        }
        (batch, senders)
    }

    fn imported(&mut self, now: Time, importing: Importing, imported: Imported) {
        let stored: Vec<BlockRef> =
            importing.batch[..imported.stored].iter().map(|block| block.place).collect();
        let before = self.tip();
        for place in &stored {
            self.note_stored(*place);
        }
        let bytes: usize = importing.batch[..imported.stored].iter().map(|block| block.bytes.len()).sum();
        self.progress.stored(stored.len() as u64, bytes as u64);
        if matches!(importing.origin, Origin::Fetched(_)) {
            self.counters.fetched_blocks += stored.len() as u64;
            self.counters.fetched_bytes += bytes as u64;
        }
        self.recent.extend_main(imported.applied.iter().map(|block| block.place));
        self.orphans.drop_up_to(self.recent.lowest().height.get());
        if let Some(change) = &imported.reorganisation {
            self.tell_reorganisation(now, change, &imported);
        }
        for block in &imported.applied {
            for hash in &block.transactions {
                self.pool.remove(hash);
            }
            let from = importing.sender_of(block.place.height.get());
            let evidence = "all rules hold, and no known branch is better".to_owned();
            self.verdicts.note(now, &block.place, BlockVerdict::Main, from, evidence);
            let (height, hash) = (block.place.height, block.place.hash);
            self.emit(Event::BlockAdded { height, hash, transactions: block.transactions.len(), from });
        }
        for transaction in imported.reorganisation.into_iter().flat_map(|change| change.returned) {
            // It was checked when it came; if it is too old by now, or pays too little, it is not taken.
            let _ = self.pool.insert(now, transaction.into());
        }
        for place in stored.iter().filter(|place| self.recent.main_at(place.height.get()) != Some(place)) {
            let from = importing.sender_of(place.height.get());
            let evidence = "all rules hold; the main chain is better".to_owned();
            self.verdicts.note(now, place, BlockVerdict::Branch, from, evidence);
        }
        if self.tip() != before {
            self.actions.push_back(Action::SetTip(self.tip().tip()));
        }
        self.thank(&importing, &stored, imported.rejected);
        for place in &stored {
            self.adopt_orphans(now, place);
        }
    }

    /// Notes a stored block; two of one slot are an equivocation.
    fn note_stored(&mut self, place: BlockRef) {
        let slot = self.consensus.slot(place.timestamp);
        let other = self.recent.in_slot(slot).first().copied();
        if let Some(first) =
            other.filter(|first| *first != place.hash && self.recent.in_slot(slot).len() == 1)
        {
            self.emit(Event::Equivocation { slot, first, second: place });
        }
        self.recent.insert(place, slot);
    }

    fn tell_reorganisation(&mut self, now: Time, change: &Reorganisation, imported: &Imported) {
        let better =
            format!("the branch of {} at height {} is better", imported.tip.hash, imported.tip.height);
        for place in &change.reverted {
            self.verdicts.note(now, place, BlockVerdict::Reverted, None, better.clone());
        }
        self.emit(Event::Reorganised {
            old_tip: change.old_tip.tip(),
            new_tip: imported.tip.tip(),
            fork: change.fork.tip(),
            reverted: change.reverted.iter().map(|place| place.hash).collect(),
        });
    }

    /// Credits or blames those who sent the batch; relays what was pushed.
    fn thank(&mut self, importing: &Importing, stored: &[BlockRef], rejected: Option<Invalid>) {
        match &importing.origin {
            Origin::Fetched(senders) => {
                for (peer, block) in senders.iter().zip(&importing.batch[..stored.len()]) {
                    if let Some(state) = self.peers.get_mut(peer) {
                        state.proven = state.proven.max(block.place.height.get());
                        state.contribution.blocks += 1;
                        state.contribution.bytes += block.bytes.len() as u64;
                    }
                }
                if !stored.is_empty() {
                    self.stall.shorten();
                }
                if let (Some(reason), Some(block)) = (rejected, importing.batch.get(stored.len())) {
                    self.blame_block(senders[stored.len()], &block.place, reason);
                    self.pursuit = None;
                } else if let Some(last) = importing.batch.last() {
                    self.fetched_tip = Some(last.clone());
                }
            }
            Origin::Pushed(senders) => {
                let block = &importing.batch[0];
                if let Some(reason) = rejected {
                    self.refuse_block(senders, &block.place, reason.into());
                    return;
                }
                for peer in &senders.peers {
                    if let Some(state) = self.peers.get_mut(peer) {
                        state.shows(block.place.tip());
                    }
                }
                match senders.peers.first() {
                    // Whoever is first with the block that becomes the tip.
                    Some(&peer) if self.tip() == block.place => {
                        self.actions.push_back(Action::Credit { peer, deed: Deed::Block });
                    }
                    _ => {}
                }
                let (hash, bytes) = (block.place.hash, block.bytes.clone());
                self.actions.push_back(Action::RelayBlock { hash, bytes });
                self.reply(senders, Ok(()));
            }
        }
    }
}

impl Importing {
    /// Who sent the block of the batch at this height.
    fn sender_of(&self, height: u64) -> Option<PeerId> {
        let first = self.batch.first()?.place.height.get();
        let index = usize::try_from(height.checked_sub(first)?).ok()?;
        match &self.origin {
            Origin::Fetched(senders) => senders.get(index).copied(),
            Origin::Pushed(senders) => senders.peers.first().copied().filter(|_| index == 0),
        }
    }
}
