//! What the actor does about the core's actions.

use std::{sync::Arc, time::Duration};

use bt2c_p2p::Inventory;
use bt2c_proto::{BlockHeader, Cancel, Frame, FrameError, Message, NewTransaction, PeerId, Transaction};
use bt2c_security::Offence;

use super::{Actor, Checked, Done, is_included};
use crate::{
    chain::CheckedBlock,
    consensus::check_block,
    core::{Action, Blame, TransactionVerdict, Unchecked},
    cost,
    event::Event,
    import::import,
};

/// How often at most the log tells of what a peer brings about.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

impl Actor {
    /// Does what the core wants.
    pub(super) async fn act(&mut self) {
        while let Some(action) = self.core.poll_action() {
            self.perform(action).await;
        }
        self.metrics.follow(&self.core, &mut self.counted);
        if self.core.is_synced() {
            for reply in self.waiting.drain(..) {
                // Nobody waits any more: no harm.
                let _ = reply.send(self.core.tip().tip());
            }
        }
    }

    async fn perform(&mut self, action: Action) {
        match action {
            Action::Request { peer, range } => self.send(&peer, &Message::GetBlocks(range)),
            Action::Cancel { peer, request_id } => self.send(&peer, &Message::Cancel(Cancel { request_id })),
            Action::RequestHeaders { peer, question } => self.send(&peer, &Message::GetHeaders(question)),
            Action::Close { peer, code } => {
                let p2p = self.p2p.clone();
                self.tasks.spawn(async move { p2p.disconnect_from_peer(peer, code).await });
            }
            Action::Blame { peer, blame } => {
                self.p2p.report(peer, offence(&blame), blame.to_string()).await;
            }
            Action::CheckBlocks { job, blocks } => self.check_blocks(job, blocks),
            Action::CheckHeaders { job, headers } => self.check_headers(job, headers),
            Action::CheckTransaction { job, transaction } => self.check_transaction(job, transaction),
            Action::Import(batch) => self.import(batch),
            Action::RelayBlock { hash, bytes } => {
                let frame = Frame::new_block(&bytes, &self.p2p.local().node_id, self.now());
                self.relay(Inventory::Block(hash), frame).await;
            }
            Action::RelayTransaction(transaction) => {
                let inventory = Inventory::Transaction(transaction.hash);
                let push = NewTransaction { transaction: (*transaction).clone() };
                self.relay(inventory, self.p2p.frame(&Message::NewTransaction(push))).await;
            }
            Action::MarkSeen { peer, inventory } => self.p2p.mark_seen(inventory, peer).await,
            Action::SetTip(tip) => {
                self.p2p.set_tip(tip);
                self.p2p.set_first_block(self.store.first_body());
            }
            Action::Credit { peer, deed } => self.p2p.credit(peer, deed).await,
            Action::Emit(event) => {
                // That costs it preference, and nothing else: a slow line is no fault.
                if let Event::Stalled { peer, start, end } = &event {
                    let evidence = format!("blocks {start} to {end} were not answered in time");
                    self.p2p.report(*peer, Offence::Stall, evidence).await;
                }
                self.emit(event);
            }
            Action::Reply { request, result } => {
                if let Some(reply) = self.replies.remove(&request) {
                    let _ = reply.send(result);
                }
            }
        }
    }

    fn send(&self, peer: &PeerId, message: &Message) {
        let Some(connected) = self.peers.up.get(peer) else { return };
        // A frame that is not queued is a question that is not answered: it runs into its time-out.
        if let Ok(frame) = self.p2p.frame(message)
            && let Err(error) = connected.peer.send(frame)
        {
            tracing::debug!(%error, peer = %peer.short(), "request not sent");
        }
    }

    async fn relay(&self, inventory: Inventory, frame: Result<Frame, FrameError>) {
        match frame {
            Ok(frame) => self.p2p.relay(inventory, frame).await,
            Err(error) => tracing::debug!(%error, "not relayed"),
        }
    }

    fn check_blocks(&self, job: u64, blocks: Vec<Unchecked>) {
        let consensus = Arc::clone(&self.consensus);
        let cost = cost::check(&blocks);
        self.work(cost, move || {
            let results = blocks.iter().map(|one| check_block(&*consensus, &one.block, one.sealed)).collect();
            Done::Checked { job, result: Checked::Blocks(results) }
        });
    }

    fn check_headers(&self, job: u64, headers: Arc<[BlockHeader]>) {
        let consensus = Arc::clone(&self.consensus);
        self.work(cost::headers(headers.len()), move || {
            let bad = |header: &BlockHeader| consensus.check_seal(header).err();
            let first = headers.iter().enumerate().find_map(|(index, header)| Some((index, bad(header)?)));
            Done::Checked { job, result: Checked::Headers(first.map_or(Ok(()), Err)) }
        });
    }

    fn import(&self, batch: Vec<CheckedBlock>) {
        let (store, consensus) = (Arc::clone(&self.store), Arc::clone(&self.consensus));
        self.work(cost::import(batch.len()), move || {
            Done::Imported(Box::new(import(&*store, &*consensus, &batch)))
        });
    }

    fn check_transaction(&self, job: u64, transaction: Arc<Transaction>) {
        let (store, consensus) = (Arc::clone(&self.store), Arc::clone(&self.consensus));
        self.work(cost::TRANSACTION, move || {
            let verdict = match consensus.check_transaction(&transaction, None) {
                Err(reason) => TransactionVerdict::Invalid(reason),
                // A store that fails will say so where it matters.
                Ok(()) if is_included(&*store, &transaction).unwrap_or(false) => TransactionVerdict::Included,
                Ok(()) => TransactionVerdict::Valid,
            };
            Done::Checked { job, result: Checked::Transaction(verdict) }
        });
    }

    /// Runs a job off the reactor. The core bounds how many there are.
    fn work(&self, cost: Duration, job: impl FnOnce() -> Done + Send + 'static) {
        let (compute, done) = (Arc::clone(&self.env.compute), self.done.clone());
        self.tasks.spawn(async move {
            let result = compute.compute(cost, job).await;
            // The actor is gone: nobody wants the result.
            let _ = done.send(result).await;
        });
    }

    /// Whether the operator may be told of what any peer can bring about as often as it likes: once a minute.
    fn may_complain(&mut self) -> bool {
        let now = self.now();
        let due = self.complained.is_none_or(|last| now.since(last) >= COMPLAIN_EVERY);
        if due {
            self.complained = Some(now);
        }
        due
    }

    fn emit(&mut self, event: Event) {
        match &event {
            Event::BranchTooDeep { peer, below, claimed } if self.may_complain() => tracing::warn!(
                peer = %peer.short(), below = below.get(), claimed = claimed.get(),
                "peer's chain leaves ours too deep to be followed: one of the two is a dead branch"
            ),
            Event::StoreFailed { error } => tracing::error!(%error, "blocks cannot be stored; trying again"),
            Event::Reorganised { old_tip, new_tip, fork, reverted } => tracing::info!(
                old = old_tip.height.get(),
                new = new_tip.height.get(),
                fork = fork.height.get(),
                reverted = reverted.len(),
                "reorganised"
            ),
            Event::Equivocation { slot, first, second } => tracing::debug!(
                slot, first = %first.short(), second = %second.hash.short(), "two blocks of one slot"
            ),
            _ => {}
        }
        self.metrics.count(&event);
        // Nobody listens: fine.
        let _ = self.events.send(event);
    }
}

const fn offence(blame: &Blame) -> Offence {
    match blame {
        Blame::Block { .. } => Offence::InvalidBlock,
        Blame::Transaction { .. } => Offence::InvalidTransaction,
        Blame::Height { .. } => Offence::FalseHeight,
        Blame::Range { .. } | Blame::Headers { .. } => Offence::Protocol,
    }
}
