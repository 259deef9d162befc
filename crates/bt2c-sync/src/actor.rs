//! The task around the core: turns messages, requests and results into inputs, and actions into deeds.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bt2c_p2p::{ConnectionId, Env, Handle as P2PHandle, Inbound, Inventory, Peer, Tip};
use bt2c_proto::{
    Frame, GetBlocks, Message, NewTransaction, PeerId, Time, Transaction, TxHash,
    limits::{MAX_BLOCK_BYTES, MAX_TRANSACTIONS},
};
use bt2c_security::Offence;
use tokio::sync::{
    broadcast::{self, error::RecvError},
    mpsc, oneshot,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    chain::{CheckedBlock, TxKey},
    consensus::{Consensus, InvalidBlock, check_block},
    core::{Action, Blame, Core, Counters, PeerFacts, RequestId, Source, SubmitError, TransactionVerdict},
    cost,
    event::Event,
    import::{Imported, import},
    ingress::{Request, SyncStatus, Template},
    metrics::SyncMetrics,
    serve::{QUESTIONS, Server},
    store::{ChainStore, StoreError},
};

/// Room that a block's header takes, at most, in canonical form: what is left is for transactions.
const HEADER_ROOM: usize = 2048;

/// Ended connections that are remembered, for messages of theirs that are still in a channel.
const ENDED: usize = 256;

/// The channels that bring something.
pub(crate) struct Inputs {
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) peers: broadcast::Receiver<bt2c_p2p::Event>,
    pub(crate) blocks: mpsc::Receiver<Inbound>,
    pub(crate) new_blocks: mpsc::Receiver<Inbound>,
    pub(crate) new_transactions: mpsc::Receiver<Inbound>,
    pub(crate) questions: mpsc::Receiver<Inbound>,
    pub(crate) done: mpsc::Receiver<Done>,
}

/// A job is done.
pub(crate) enum Done {
    Checked {
        job: u64,
        results: Vec<Result<CheckedBlock, InvalidBlock>>,
    },
    TransactionChecked {
        job: u64,
        verdict: TransactionVerdict,
    },
    Imported(Box<Result<Imported, StoreError>>),
    /// Waiting transactions that are on the chain already.
    Included(Vec<TxHash>),
}

pub(crate) struct Actor {
    pub(crate) core: Core,
    pub(crate) env: Env,
    pub(crate) p2p: P2PHandle,
    pub(crate) store: Arc<dyn ChainStore>,
    pub(crate) consensus: Arc<dyn Consensus>,
    pub(crate) metrics: Arc<SyncMetrics>,
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) done: mpsc::Sender<Done>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    pub(crate) peers: Peers,
    pub(crate) replies: BTreeMap<RequestId, oneshot::Sender<Result<(), SubmitError>>>,
    pub(crate) waiting: Vec<oneshot::Sender<Tip>>,
    pub(crate) counted: Counters,
    pub(crate) next_request: RequestId,
}

/// The connected peers.
#[derive(Default)]
pub(crate) struct Peers {
    up: BTreeMap<PeerId, Connected>,
    ended: BTreeSet<ConnectionId>,
}

struct Connected {
    peer: Peer,
    /// Leads to the task that answers it, once it has asked something.
    questions: Option<mpsc::Sender<GetBlocks>>,
}

impl Actor {
    pub(crate) async fn run(mut self, mut inputs: Inputs) {
        let stop = self.stop.clone();
        self.start_over().await;
        loop {
            self.act().await;
            let clock = Arc::clone(&self.env.clock);
            let timeout = self.core.poll_timeout();
            let timer = async move {
                match timeout {
                    Some(at) => clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                event = inputs.peers.recv() => self.handle_peers(event).await,
                Some(done) = inputs.done.recv() => self.handle_done(done),
                Some(request) = inputs.requests.recv() => self.handle_request(request),
                Some(inbound) = inputs.blocks.recv() => self.handle_inbound(inbound),
                Some(inbound) = inputs.new_blocks.recv() => self.handle_inbound(inbound),
                Some(inbound) = inputs.questions.recv() => self.handle_inbound(inbound),
                Some(inbound) = inputs.new_transactions.recv() => self.handle_inbound(inbound),
                () = timer => self.core.handle_timeout(self.env.clock.now()),
            }
        }
    }

    fn now(&self) -> Time {
        self.env.clock.now()
    }

    async fn handle_peers(&mut self, event: Result<bt2c_p2p::Event, RecvError>) {
        match event {
            Ok(bt2c_p2p::Event::PeerUp(peer)) => self.peer_up(&peer),
            Ok(bt2c_p2p::Event::PeerDown { peer, .. }) => self.peer_down(&peer),
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => self.start_over().await,
            // The manager has stopped, and so will this, by whoever stops both.
            Err(RecvError::Closed) => self.stop.cancelled().await,
        }
    }

    /// Learns anew who is connected.
    async fn start_over(&mut self) {
        let now: Vec<Peer> = self.p2p.peers().await.into_iter().map(|info| info.peer).collect();
        let gone: Vec<Peer> = self
            .peers
            .up
            .values()
            .map(|connected| connected.peer.clone())
            .filter(|peer| now.iter().all(|other| other.connection() != peer.connection()))
            .collect();
        for peer in &gone {
            self.peer_down(peer);
        }
        for peer in &now {
            self.peer_up(peer);
        }
    }

    fn peer_up(&mut self, peer: &Peer) {
        let known = self.peers.up.get(&peer.id());
        // Of two connections of one peer, the newer has the greater number, and is the one that stays.
        if known.is_some_and(|known| known.peer.connection() >= peer.connection())
            || self.peers.ended.contains(&peer.connection())
        {
            return;
        }
        self.peers.up.insert(peer.id(), Connected { peer: peer.clone(), questions: None });
        let hello = peer.hello();
        let facts = PeerFacts {
            id: peer.id(),
            height: hello.block_height,
            hash: hello.last_block_hash,
            genesis: hello.genesis_hash,
            requests_per_minute: hello.limits.map(|limits| limits.requests_per_minute),
        };
        self.core.handle_peer_up(self.now(), &facts);
    }

    fn peer_down(&mut self, peer: &Peer) {
        self.peers.ended.insert(peer.connection());
        while self.peers.ended.len() > ENDED {
            self.peers.ended.pop_first();
        }
        if self.peers.up.get(&peer.id()).is_some_and(|known| known.peer.connection() == peer.connection()) {
            self.peers.up.remove(&peer.id());
            self.core.handle_peer_down(self.now(), &peer.id());
        }
    }

    fn handle_inbound(&mut self, inbound: Inbound) {
        // The first message can overtake the event that its sender is up.
        self.peer_up(&inbound.peer);
        let (now, id) = (self.now(), inbound.peer.id());
        let current = self.peers.up.get(&id);
        if current.is_none_or(|known| known.peer.connection() != inbound.peer.connection()) {
            return;
        }
        match inbound.message {
            Message::Blocks(answer) => self.core.handle_blocks(now, id, answer.blocks, inbound.len),
            Message::NewBlock(push) => {
                self.core.handle_new_block(now, Source::Peer(id), push.block, inbound.len);
            }
            Message::NewTransaction(push) => {
                self.core.handle_new_transaction(now, Source::Peer(id), push.transaction, inbound.len);
            }
            Message::GetBlocks(question) => self.serve(id, question),
            _ => {}
        }
    }

    fn serve(&mut self, id: PeerId, question: GetBlocks) {
        let Some(Connected { peer, questions }) = self.peers.up.get_mut(&id) else { return };
        let sender = questions.get_or_insert_with(|| {
            let (sender, receiver) = mpsc::channel(QUESTIONS);
            let server = Server {
                store: Arc::clone(&self.store),
                compute: Arc::clone(&self.env.compute),
                clock: Arc::clone(&self.env.clock),
                node_id: self.p2p.local().node_id.clone(),
                metrics: Arc::clone(&self.metrics),
                stop: self.stop.clone(),
            };
            self.tasks.spawn(server.run(peer.clone(), receiver));
            sender
        });
        if sender.try_send(question).is_err() {
            self.metrics.unserved.inc();
        }
    }

    fn handle_done(&mut self, done: Done) {
        let now = self.now();
        match done {
            Done::Checked { job, results } => self.core.handle_checked(now, job, results),
            Done::TransactionChecked { job, verdict } => {
                self.core.handle_transaction_checked(now, job, verdict);
            }
            Done::Imported(result) => self.core.handle_imported(now, *result),
            Done::Included(hashes) => hashes.iter().for_each(|hash| self.core.drop_transaction(hash)),
        }
    }

    fn handle_request(&mut self, request: Request) {
        let now = self.now();
        match request {
            Request::Transaction { transaction, reply } => {
                let source = self.expect_reply(reply);
                let size = transaction.canonical_bytes().len();
                self.core.handle_new_transaction(now, source, transaction, size);
            }
            Request::Block { block, reply } => {
                let source = self.expect_reply(reply);
                let size = block.canonical_bytes().len();
                self.core.handle_new_block(now, source, block, size);
            }
            Request::PushedBlock { block, from } => {
                let size = block.canonical_bytes().len();
                self.core.handle_new_block(now, Source::Peer(from), block, size);
            }
            Request::Template { timestamp, reply } => self.make_template(timestamp, reply),
            Request::Sync { reply } => self.waiting.push(reply),
            Request::Status { reply } => {
                let core = &self.core;
                // Nobody waits any more: no harm.
                let _ = reply.send(SyncStatus {
                    tip: core.tip(),
                    target: core.target(),
                    syncing: !core.is_synced(),
                    claims: core.claims().collect(),
                    pool_count: core.pool().len(),
                    pool_bytes: core.pool().bytes(),
                    counters: core.counters(),
                });
            }
        }
    }

    fn expect_reply(&mut self, reply: oneshot::Sender<Result<(), SubmitError>>) -> Source {
        self.next_request += 1;
        self.replies.insert(self.next_request, reply);
        Source::Local(self.next_request)
    }

    /// Picks from the pool, and leaves out what the chain has already: the pool does not know about blocks that were stored
    /// before a transaction came.
    fn make_template(&self, timestamp: u64, reply: oneshot::Sender<Template>) {
        let parent = self.core.tip();
        let room = MAX_BLOCK_BYTES - HEADER_ROOM;
        let picked = self.core.pool().select(timestamp, MAX_TRANSACTIONS, room);
        let (store, done) = (Arc::clone(&self.store), self.done.clone());
        let compute = Arc::clone(&self.env.compute);
        self.tasks.spawn(async move {
            let sort = move || {
                let (mut fresh, mut included) = (Vec::new(), Vec::new());
                for transaction in picked {
                    match is_included(&*store, &transaction) {
                        Ok(false) => fresh.push((*transaction).clone()),
                        Ok(true) => included.push(transaction.hash),
                        Err(error) => tracing::debug!(%error, "left out of a block"),
                    }
                }
                (fresh, included)
            };
            let (transactions, included) = compute.compute(cost::SERVE, sort).await;
            let _ = reply.send(Template { parent, transactions });
            if !included.is_empty() {
                let _ = done.send(Done::Included(included)).await;
            }
        });
    }

    /// Does what the core wants.
    async fn act(&mut self) {
        while let Some(action) = self.core.poll_action() {
            match action {
                Action::Request { peer, range } => self.request(&peer, range),
                Action::Close { peer, code } => {
                    let p2p = self.p2p.clone();
                    self.tasks.spawn(async move { p2p.disconnect_from_peer(peer, code).await });
                }
                Action::Blame { peer, blame } => {
                    self.p2p.report(peer, offence(&blame), blame.to_string()).await;
                }
                Action::CheckBlocks { job, blocks } => {
                    let consensus = Arc::clone(&self.consensus);
                    let cost = cost::check(blocks.iter().map(|block| &**block));
                    self.work(cost, move || Done::Checked {
                        job,
                        results: blocks.iter().map(|block| check_block(&*consensus, block)).collect(),
                    });
                }
                Action::CheckTransaction { job, transaction } => self.check_transaction(job, transaction),
                Action::Import(batch) => {
                    let (store, consensus) = (Arc::clone(&self.store), Arc::clone(&self.consensus));
                    self.work(cost::import(batch.len()), move || {
                        Done::Imported(Box::new(import(&*store, &*consensus, &batch)))
                    });
                }
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
                Action::SetTip(tip) => self.p2p.set_tip(tip),
                Action::Emit(event) => self.emit(event),
                Action::Reply { request, result } => {
                    if let Some(reply) = self.replies.remove(&request) {
                        let _ = reply.send(result);
                    }
                }
            }
        }
        self.metrics.follow(&self.core, &mut self.counted);
        if self.core.is_synced() {
            for reply in self.waiting.drain(..) {
                let _ = reply.send(self.core.tip().tip());
            }
        }
    }

    fn request(&self, peer: &PeerId, range: GetBlocks) {
        let Some(connected) = self.peers.up.get(peer) else { return };
        // A frame that is not queued is a question that is not answered: it runs into its time-out.
        if let Ok(frame) = self.p2p.frame(&Message::GetBlocks(range))
            && let Err(error) = connected.peer.send(frame)
        {
            tracing::debug!(%error, peer = %peer.short(), "request not sent");
        }
    }

    async fn relay(&self, inventory: Inventory, frame: Result<Frame, bt2c_proto::FrameError>) {
        match frame {
            Ok(frame) => self.p2p.relay(inventory, frame).await,
            Err(error) => tracing::debug!(%error, "not relayed"),
        }
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
            Done::TransactionChecked { job, verdict }
        });
    }

    /// Runs a job off the reactor. The core bounds how many there are.
    fn work(&self, cost: std::time::Duration, job: impl FnOnce() -> Done + Send + 'static) {
        let (compute, done) = (Arc::clone(&self.env.compute), self.done.clone());
        self.tasks.spawn(async move {
            let result = compute.compute(cost, job).await;
            // The actor is gone: nobody wants the result.
            let _ = done.send(result).await;
        });
    }

    fn emit(&self, event: Event) {
        match &event {
            Event::BranchTooDeep { peer, below, claimed } => tracing::warn!(
                peer = %peer.short(), %below, %claimed,
                "peer's chain leaves ours too deep to be followed: one of the two is a dead branch"
            ),
            Event::StoreFailed { error } => tracing::error!(%error, "blocks cannot be stored; trying again"),
            Event::Reorganised { old_tip, new_tip, fork, reverted } => tracing::info!(
                old = %old_tip.height, new = %new_tip.height, fork = %fork.height, reverted = reverted.len(),
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

fn is_included(store: &dyn ChainStore, transaction: &Transaction) -> Result<bool, StoreError> {
    for holder in store.blocks_with(&TxKey::from(transaction))? {
        if store.main(holder.height)?.is_some_and(|main| main.hash == holder.hash) {
            return Ok(true);
        }
    }
    Ok(false)
}

const fn offence(blame: &Blame) -> Offence {
    match blame {
        Blame::Block { .. } => Offence::InvalidBlock,
        Blame::Transaction { .. } => Offence::InvalidTransaction,
        Blame::Range { .. } => Offence::Protocol,
    }
}
