//! The synchroniser's decisions, without its hands.

mod action;
mod ask;
mod elect;
mod fetch;
mod fork;
mod headers;
mod late;
mod ledger;
mod orphans;
mod peers;
mod progress;
mod pursuit;
mod pushes;
mod recent;
mod stall;
mod storing;
mod verdicts;
mod window;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bt2c_proto::{BlockHash, CloseCode, Height, PeerId, Time, TxHash};

pub use action::{Action, Blame, RequestId, Source, SubmitError, TransactionVerdict, Unchecked};
pub use ledger::Contribution;
pub use peers::PeerFacts;
pub use progress::Bottleneck;
pub use verdicts::{BlockDecision, BlockVerdict};

use self::{
    headers::CheckingHeaders,
    orphans::Orphans,
    peers::{GenesisState, PeerState, Purpose},
    progress::Progress,
    pursuit::Pursuit,
    pushes::Pushes,
    recent::Recent,
    stall::Stall,
    storing::Importing,
    verdicts::Verdicts,
};
use crate::{
    chain::{BlockRef, CheckedBlock},
    config::SyncConfig,
    consensus::{Consensus, Invalid},
    event::Event,
    pool::TransactionPool,
};

/// The synchroniser's decisions: what to fetch, from whom, what to store, whom to follow, what to pass on.
///
/// Inputs are `handle_*`; what to do about them comes out of [`Core::poll_action`], to be drained after every input;
/// [`Core::poll_timeout`] says when [`Core::handle_timeout`] is due. Time is a parameter, and never goes back. No input
/// blocks, and none is remembered without a limit. The core reads no store: it knows the top of the chain, and hands out
/// checks and imports, which are heavy, as jobs whose results come back as inputs.
///
/// Who is blamed: the sender of an object that is proven invalid by itself or by verified ancestors, or of an answer that
/// is not what was asked. A late, short or empty answer only costs preference.
#[derive(Debug)]
pub struct Core {
    config: SyncConfig,
    consensus: Arc<dyn Consensus>,
    recent: Recent,
    peers: BTreeMap<PeerId, PeerState>,
    pursuit: Option<Pursuit>,
    /// Fetched blocks that are with the workers, by job.
    checking: BTreeMap<u64, Checking>,
    /// Headers that are with the workers, by job.
    checking_headers: BTreeMap<u64, CheckingHeaders>,
    /// How long an answer may keep us waiting.
    stall: Stall,
    /// Whether what peers send was not taken after the last input, for enough was here.
    saturated: bool,
    /// When that was last so.
    saturated_at: Time,
    next_stream: u32,
    pushes: Pushes,
    orphans: Orphans,
    pool: TransactionPool,
    importing: Option<Importing>,
    /// The last block that was fetched: told to others if it ends up as the tip.
    fetched_tip: Option<CheckedBlock>,
    /// The time of the last input.
    now: Time,
    next_job: u64,
    /// Bytes of a fetched block, on average: how much to ask for. None before the first.
    average_block: Option<usize>,
    progress: Progress,
    counters: Counters,
    verdicts: Verdicts,
    actions: VecDeque<Action>,
}

/// The longest that a connection is kept for an answer that is late because the peer is asked too much: what an honest one
/// can owe when others at our address asked it as well, three minutes' worth of requests.
const MAX_THROTTLE: Duration = Duration::from_secs(180);

/// What a block is taken to have before one was seen, in bytes.
const GUESSED_BLOCK: usize = 8 * 1024;

/// Batches that may wait for the one that is being stored: enough that the store never waits, and no more, for this is what a
/// sync holds in memory.
const BATCHES_READY: u64 = 2;

/// Leaders given up in a row at one input, each for cause, before waiting for the next input.
const MAX_ELECTIONS: usize = 16;

/// Fetched blocks that are with the workers.
#[derive(Debug)]
struct Checking {
    from: PeerId,
    bytes: usize,
}

/// Counts of what was dropped without a word, and of what was fetched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// `blocks` messages that answered nothing that was asked.
    pub unasked_answers: u64,
    /// Answers that came after their time.
    pub late_answers: u64,
    /// Pushed blocks and transactions dropped because too many were being checked.
    pub busy: u64,
    /// Pushed blocks beyond two of their slot.
    pub slot_full: u64,
    /// Fetched blocks that were stored.
    pub fetched_blocks: u64,
    /// Bytes of their canonical forms.
    pub fetched_bytes: u64,
}

impl Core {
    /// A core that knows the end of the main chain: ascending, the last one being the tip, as many as may still be left by
    /// a branch (`max_reorg_depth + 1`) or as there are.
    ///
    /// # Panics
    /// If `main` is empty: there is always a genesis block.
    pub fn new(
        config: SyncConfig,
        consensus: Arc<dyn Consensus>,
        main: impl IntoIterator<Item = BlockRef>,
    ) -> Self {
        let slotted = main.into_iter().map(|place| (place, consensus.slot(place.timestamp)));
        let recent = Recent::new(config.max_reorg_depth, slotted);
        Self {
            peers: BTreeMap::new(),
            pursuit: None,
            checking: BTreeMap::new(),
            checking_headers: BTreeMap::new(),
            stall: Stall::new(config.request_timeout, config.request_timeout_max),
            saturated: false,
            saturated_at: Time::default(),
            next_stream: 0,
            pushes: Pushes::default(),
            orphans: Orphans::new(config.max_orphans, config.max_orphan_bytes),
            pool: TransactionPool::new(config.pool.clone()),
            importing: None,
            fetched_tip: None,
            now: Time::default(),
            next_job: 0,
            average_block: None,
            progress: Progress::default(),
            counters: Counters::default(),
            verdicts: Verdicts::default(),
            actions: VecDeque::new(),
            config,
            consensus,
            recent,
        }
    }

    /// What to do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Core::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Time> {
        let importing = self.importing.as_ref().and_then(|importing| importing.retry_at);
        [self.fetch_timeout(), importing, self.progress.due(), self.pool.next_expiry()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does what time asks for.
    pub fn handle_timeout(&mut self, now: Time) {
        self.expire_requests(now);
        self.expire_headers(now);
        self.retry_import(now);
        self.pool.expire(now);
        self.advance(now);
    }

    /// A peer's hello was accepted.
    pub fn handle_peer_up(&mut self, now: Time, facts: &PeerFacts) {
        let state = PeerState::new(facts, self.config.requests_per_minute);
        self.peers.insert(facts.id, state);
        if facts.genesis.is_some_and(|genesis| genesis != self.consensus.genesis().hash()) {
            self.close(facts.id, CloseCode::Genesis);
        }
        self.advance(now);
    }

    /// A peer will answer later than it was asked to. Its share is asked of others all the same when its time is over; but
    /// that is not held against it, and its connection is kept for the answer.
    pub fn handle_throttled(&mut self, now: Time, peer: &PeerId, retry_after: Duration) {
        let request = self.peers.get_mut(peer).and_then(|state| state.request.as_mut());
        if let Some(request) = request.filter(|request| request.throttled_until.is_none()) {
            request.throttled_until = Some(now + retry_after.min(MAX_THROTTLE));
        }
    }

    /// A peer is gone.
    pub fn handle_peer_down(&mut self, now: Time, peer: &PeerId) {
        self.peers.remove(peer);
        self.advance(now);
    }

    /// The end of the main chain.
    pub fn tip(&self) -> BlockRef {
        self.recent.tip()
    }

    /// Whether no peer is known to have a better chain.
    pub fn is_synced(&self) -> bool {
        self.pursuit.is_none() && self.importing.is_none() && !self.has_candidates()
    }

    /// The height that is aimed at: that of the branch that is followed, or our own.
    pub fn target(&self) -> Height {
        let claimed = self.pursuit.as_ref().and_then(|pursuit| self.peers.get(&pursuit.leader)?.claim);
        Height::new(claimed.map_or(0, |claim| claim.height)).max(self.tip().height)
    }

    /// What connected peers contributed to the chain, where it was anything.
    pub fn contributions(&self) -> impl Iterator<Item = (PeerId, Contribution)> {
        let sent = |state: &PeerState| state.contribution.blocks > 0;
        self.peers
            .iter()
            .filter(move |(_, state)| sent(state))
            .map(|(peer, state)| (*peer, state.contribution))
    }

    /// What holds up synchronisation most, lately; none while there is nothing to fetch.
    pub fn bottleneck(&self) -> Option<Bottleneck> {
        match self.pursuit {
            Some(_) => self.progress.bottleneck(),
            // Those who have a better chain do not show it, or have pruned what we lack of it.
            None => self.has_candidates().then_some(Bottleneck::Peers),
        }
    }

    /// Whether enough fetched blocks are here: what peers send should not be taken before some are stored. What is here
    /// needs nothing of theirs, so it will be.
    pub fn is_saturated(&self) -> bool {
        self.pursuit.as_ref().is_some_and(|pursuit| {
            let (ready, bytes) = (pursuit.ready(), pursuit.bytes());
            let enough = (self.config.window_blocks / 2).min(BATCHES_READY * self.config.batch_blocks as u64);
            ready > 0 && (ready >= enough || bytes >= self.config.window_bytes / 2)
        })
    }

    /// What peers say that their tips are, as far as they have not been shown wrong.
    pub fn claims(&self) -> impl Iterator<Item = (PeerId, Height, Option<BlockHash>)> {
        self.peers.iter().filter_map(|(peer, state)| {
            state.claim.map(|claim| (*peer, Height::new(claim.height), claim.hash))
        })
    }

    /// What was decided about a block lately, latest first.
    pub fn decisions_about(&self, hash: &BlockHash) -> Vec<BlockDecision> {
        self.verdicts.about(hash)
    }

    /// Every decision about blocks that is remembered, latest first.
    pub fn decisions(&self) -> Vec<BlockDecision> {
        self.verdicts.all()
    }

    /// The transactions that wait for a block.
    pub const fn pool(&self) -> &TransactionPool {
        &self.pool
    }

    /// Forgets a waiting transaction that turned out to be on the chain.
    pub fn drop_transaction(&mut self, hash: &TxHash) {
        self.pool.remove(hash);
    }

    /// What was dropped without a word.
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// How many blocks wait for a parent, and their bytes.
    pub fn orphans(&self) -> (usize, usize) {
        (self.orphans.len(), self.orphans.bytes())
    }

    /// Everything that may follow from an input, in one order: store what is ready, choose whom to follow, ask.
    fn advance(&mut self, now: Time) {
        self.count_wait(now);
        self.note_saturation(now);
        self.now = now;
        for _ in 0..MAX_ELECTIONS {
            self.settle();
            self.store_next(now);
            let leader = self.leader();
            self.elect(now);
            if self.leader() == leader {
                break;
            }
        }
        self.ask(now);
        self.note_saturation(now);
        self.tell_progress(now);
        self.note_wait(now);
    }

    fn average_block(&self) -> usize {
        self.average_block.unwrap_or(GUESSED_BLOCK)
    }

    /// Peers are not to blame for the time in which we took nothing.
    fn note_saturation(&mut self, now: Time) {
        if self.saturated {
            self.saturated_at = now;
        }
        self.saturated = self.is_saturated();
    }

    fn leader(&self) -> Option<PeerId> {
        self.pursuit.as_ref().map(|pursuit| pursuit.leader)
    }

    fn job(&mut self) -> u64 {
        self.next_job += 1;
        self.next_job
    }

    fn emit(&mut self, event: Event) {
        self.actions.push_back(Action::Emit(event));
    }

    fn blame(&mut self, peer: PeerId, blame: Blame) {
        if let Some(state) = self.peers.get_mut(&peer) {
            state.disprove();
        }
        self.actions.push_back(Action::Blame { peer, blame });
    }

    fn blame_block(&mut self, peer: PeerId, place: &BlockRef, reason: Invalid) {
        self.verdicts.note(self.now, place, BlockVerdict::Invalid, Some(peer), reason.to_string());
        self.blame(peer, Blame::Block { height: place.height, hash: place.hash, reason });
    }

    /// Closes a connection; until it is down, nothing more is asked of that peer.
    fn close(&mut self, peer: PeerId, code: CloseCode) {
        if let Some(state) = self.peers.get_mut(&peer) {
            state.ignored = true;
        }
        self.actions.push_back(Action::Close { peer, code });
    }
}

#[cfg(test)]
mod tests;
