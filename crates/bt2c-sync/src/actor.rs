//! The task around the core: turns messages, requests and results into inputs, and actions into deeds.

mod deeds;
mod order;
mod peers;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bt2c_p2p::{Env, Handle as P2PHandle, Inbound, Tip};
use bt2c_proto::{
    Message, Time, Transaction, TxHash,
    limits::{MAX_BLOCK_BYTES, MAX_TRANSACTIONS},
};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use self::{order::InOrder, peers::Peers};
use crate::{
    chain::{CheckedBlock, TxKey},
    consensus::{Consensus, Invalid, InvalidBlock},
    core::{Core, Counters, RequestId, Source, SubmitError, TransactionVerdict},
    cost,
    event::Event,
    import::Imported,
    ingress::{Request, SyncStatus, Template},
    metrics::SyncMetrics,
    serve::Question,
    store::{ChainStore, StoreError},
};

/// Room that a block's header takes, at most, in canonical form: what is left is for transactions.
const HEADER_ROOM: usize = 2048;

/// The channels that bring something.
pub(crate) struct Inputs {
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) peers: broadcast::Receiver<bt2c_p2p::Event>,
    pub(crate) blocks: mpsc::Receiver<Inbound>,
    pub(crate) headers: mpsc::Receiver<Inbound>,
    pub(crate) new_blocks: mpsc::Receiver<Inbound>,
    pub(crate) new_transactions: mpsc::Receiver<Inbound>,
    pub(crate) questions: mpsc::Receiver<Inbound>,
    pub(crate) throttles: mpsc::Receiver<Inbound>,
    pub(crate) done: mpsc::Receiver<Done>,
}

/// A job is done.
pub(crate) enum Done {
    Checked {
        job: u64,
        result: Checked,
    },
    Imported(Box<Result<Imported, StoreError>>),
    /// Waiting transactions that are on the chain already.
    Included(Vec<TxHash>),
}

/// What a check found.
#[derive(Debug)]
pub(crate) enum Checked {
    Blocks(Vec<Result<CheckedBlock, InvalidBlock>>),
    Headers(Result<(), (usize, Invalid)>),
    Transaction(TransactionVerdict),
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
    pub(crate) checked: InOrder<Checked>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    pub(crate) peers: Peers,
    pub(crate) replies: BTreeMap<RequestId, oneshot::Sender<Result<(), SubmitError>>>,
    pub(crate) waiting: Vec<oneshot::Sender<Tip>>,
    pub(crate) counted: Counters,
    /// When the log last told of what a peer brought about.
    pub(crate) complained: Option<Time>,
    pub(crate) next_request: RequestId,
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
                // Deadlines come before messages: a peer that always has something to say must not put them off.
                () = timer => self.core.handle_timeout(self.env.clock.now()),
                // While enough is here, those who send more wait, by way of their connections.
                Some(inbound) = inputs.blocks.recv(), if !self.core.is_saturated() => self.handle_inbound(inbound),
                Some(inbound) = inputs.headers.recv() => self.handle_inbound(inbound),
                Some(inbound) = inputs.new_blocks.recv() => self.handle_inbound(inbound),
                Some(inbound) = inputs.questions.recv() => self.handle_inbound(inbound),
                Some(inbound) = inputs.throttles.recv() => self.handle_inbound(inbound),
                Some(inbound) = inputs.new_transactions.recv() => self.handle_inbound(inbound),
            }
        }
    }

    fn now(&self) -> Time {
        self.env.clock.now()
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
            Message::Blocks(answer) => self.core.handle_blocks(now, id, answer, inbound.len),
            Message::Headers(answer) => self.core.handle_headers(now, id, answer.headers),
            Message::NewBlock(push) => {
                self.core.handle_new_block(now, Source::Peer(id), push.block, inbound.len);
            }
            Message::NewTransaction(push) => {
                self.core.handle_new_transaction(now, Source::Peer(id), push.transaction, inbound.len);
            }
            Message::GetBlocks(question) => self.serve(id, Question::Blocks(question)),
            Message::GetHeaders(question) => self.serve(id, Question::Headers(question)),
            Message::Cancel(cancel) => self.serve(id, Question::Cancel(cancel.request_id)),
            Message::Throttled(throttled) => {
                let wait = Duration::from_millis(throttled.retry_after_ms);
                self.core.handle_throttled(now, &id, wait);
            }
            _ => {}
        }
    }

    fn handle_done(&mut self, done: Done) {
        let now = self.now();
        match done {
            Done::Checked { job, result } => {
                self.checked.put(job, result);
                while let Some((job, result)) = self.checked.take() {
                    match result {
                        Checked::Blocks(results) => self.core.handle_checked(now, job, results),
                        Checked::Headers(result) => self.core.handle_headers_checked(now, job, result),
                        Checked::Transaction(verdict) => {
                            self.core.handle_transaction_checked(now, job, verdict)
                        }
                    }
                }
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
            Request::Explain { hash, reply } => {
                // Nobody waits any more: no harm.
                let _ = reply.send(self.core.decisions_about(&hash));
            }
            Request::Decisions { reply } => {
                let _ = reply.send(self.core.decisions());
            }
            Request::Sync { reply } => self.waiting.push(reply),
            Request::Status { reply } => {
                let core = &self.core;
                // Nobody waits any more: no harm.
                let _ = reply.send(SyncStatus {
                    tip: core.tip(),
                    target: core.target(),
                    syncing: !core.is_synced(),
                    claims: core.claims().collect(),
                    contributions: core.contributions().collect(),
                    bottleneck: core.bottleneck(),
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
}

fn is_included(store: &dyn ChainStore, transaction: &Transaction) -> Result<bool, StoreError> {
    for holder in store.blocks_with(&TxKey::from(transaction))? {
        if store.main(holder.height)?.is_some_and(|main| main.hash == holder.hash) {
            return Ok(true);
        }
    }
    Ok(false)
}
