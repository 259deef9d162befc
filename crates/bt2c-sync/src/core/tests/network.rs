//! Cores with memory stores, joined by messages that take virtual time.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use bt2c_p2p::Inventory;
use bt2c_proto::{Block, BlockHeader, Blocks, GetBlocks, GetHeaders, Transaction};
use bt2c_security::Deed;

use super::*;
use crate::{
    ChainStore, MemoryStore, check_block, import,
    testing::{GENESIS_TIME, TestConsensus, checked},
};

/// The node that is watched where only one is.
pub(super) const NODE: usize = 0;

const LATENCY: Duration = Duration::from_millis(40);
const COMPUTE: Duration = Duration::from_millis(3);

/// How a node answers `get_blocks`.
#[derive(Debug, Clone)]
pub(super) enum Behaviour {
    Honest,
    /// Never answers, and takes no part in anything.
    Silent,
    Empty,
    WrongRange,
    /// Right headers, wrong transactions.
    WrongBodies,
    ForgedSeals,
    FalseHeight(u64),
    /// Says that its tip, at this height, has another hash than any block.
    FalseHash(u64),
    Late(Duration),
    OneBlock,
    OtherGenesis,
    /// Tells headers, and sends no block of theirs.
    Withholds,
    /// Streams one block in so much time.
    Trickles(Duration),
    /// Streams all but the last block.
    StopsShort,
    /// Streams blocks that were not asked for.
    Overshoots,
    /// Answers twice.
    Twice,
    /// Tells headers of nobody's chain.
    StrayHeaders,
    /// Answers a question for one block from its chain, and for more from another branch that leaves at the genesis block.
    TwoFaced,
}

pub(super) struct Node {
    pub(super) core: Core,
    pub(super) store: MemoryStore,
    pub(super) behaviour: Behaviour,
    /// Gives no genesis hash in its hello.
    pub(super) base: bool,
    /// Knows `block-stream` and `headers`.
    pub(super) modern: bool,
    /// Bytes a second that it sends at most; no limit if none.
    pub(super) line: Option<u64>,
    line_free: Time,
    /// Answers that are not taken yet.
    held: VecDeque<Input>,
    /// Who is sent a stream, and what is left of it.
    streams: BTreeMap<usize, GetBlocks>,
    /// The lowest height from which on it has bodies, and says so.
    pub(super) first_block: Height,
    /// Requests a minute that its hello says it serves.
    pub(super) limit: Option<u64>,
    pub(super) events: Vec<Event>,
    pub(super) replies: Vec<Result<(), SubmitError>>,
    pub(super) served: usize,
    pub(super) failing_imports: usize,
    links: BTreeSet<usize>,
    /// What each peer is known to have.
    seen: BTreeSet<(usize, Inventory)>,
    relayed: BTreeSet<Inventory>,
}

/// What happens at a node at a time.
enum Input {
    Asked {
        by: usize,
        range: GetBlocks,
    },
    AskedHeaders {
        by: usize,
        question: GetHeaders,
    },
    Cancelled {
        by: usize,
        request_id: u32,
    },
    /// It is time for the next part of a stream.
    Part {
        to: usize,
        request_id: u32,
    },
    Answered {
        by: usize,
        answer: Blocks,
    },
    Headers {
        by: usize,
        headers: Vec<BlockHeader>,
    },
    Block {
        from: Option<usize>,
        block: Block,
    },
    Transaction {
        from: Option<usize>,
        transaction: Transaction,
    },
    Checked {
        job: u64,
        blocks: Vec<Unchecked>,
    },
    HeadersChecked {
        job: u64,
        headers: Arc<[BlockHeader]>,
    },
    TransactionChecked {
        job: u64,
        transaction: Arc<Transaction>,
    },
    Import(Vec<CheckedBlock>),
}

pub(super) struct Network {
    pub(super) test: TestConsensus,
    pub(super) now: Time,
    pub(super) nodes: Vec<Node>,
    pub(super) blamed: BTreeSet<usize>,
    pub(super) credited: Vec<(usize, Deed)>,
    pub(super) closed: Vec<(usize, CloseCode)>,
    /// What was asked of each peer first.
    pub(super) first_questions: Vec<(u64, u64)>,
    pub(super) pushes: usize,
    /// Blocks in an answer; as many as fit a frame if none.
    pub(super) fixed_answer: Option<usize>,
    asked: BTreeSet<(usize, usize)>,
    queue: BTreeMap<(Time, u64), (usize, Input)>,
    sequence: u64,
}

pub(super) fn id(node: usize) -> PeerId {
    PeerId::from_bytes([u8::try_from(node).unwrap() + 1; 32])
}

fn index(peer: PeerId) -> usize {
    usize::from(peer.as_bytes()[0]) - 1
}

impl Network {
    pub(super) fn new(count: usize) -> Self {
        let test = TestConsensus::new();
        let node = || Node {
            core: Core::new(SyncConfig::default(), Arc::new(TestConsensus::new()), [test.genesis_ref()]),
            store: MemoryStore::new(test.genesis_block()),
            behaviour: Behaviour::Honest,
            base: false,
            modern: false,
            line: None,
            line_free: Time::default(),
            held: VecDeque::new(),
            streams: BTreeMap::new(),
            first_block: Height::GENESIS,
            limit: None,
            events: Vec::new(),
            replies: Vec::new(),
            served: 0,
            failing_imports: 0,
            links: BTreeSet::new(),
            seen: BTreeSet::new(),
            relayed: BTreeSet::new(),
        };
        let nodes = (0..count).map(|_| node()).collect();
        Self {
            now: Time::from_secs(GENESIS_TIME + 80_000),
            nodes,
            blamed: BTreeSet::new(),
            credited: Vec::new(),
            closed: Vec::new(),
            first_questions: Vec::new(),
            pushes: 0,
            fixed_answer: None,
            asked: BTreeSet::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            test,
        }
    }

    /// A row of blocks on a node's tip.
    pub(super) fn row(&self, node: usize, count: u64, salt: u8) -> Vec<Block> {
        self.test.row(&self.nodes[node].store.tip(), count, salt)
    }

    /// Puts blocks into a node's store, as if it had started with them.
    pub(super) fn give(&mut self, node: usize, blocks: &[Block]) {
        let node = &mut self.nodes[node];
        if let Some(last) = blocks.last() {
            node.store.append(&checked(blocks), last.hash()).unwrap();
        }
        let tip = node.store.tip();
        let lowest = tip.height.get().saturating_sub(100);
        let main =
            (lowest..=tip.height.get()).map(|height| node.store.main(Height::new(height)).unwrap().unwrap());
        node.core = Core::new(SyncConfig::default(), Arc::new(TestConsensus::new()), main);
    }

    /// Starts a node over with other settings.
    pub(super) fn configure(&mut self, node: usize, change: impl FnOnce(&mut SyncConfig)) {
        let mut config = SyncConfig::default();
        change(&mut config);
        let tip = self.nodes[node].store.tip();
        self.nodes[node].core = Core::new(config, Arc::new(TestConsensus::new()), [tip]);
    }

    pub(super) fn grow(&mut self, node: usize, count: u64, salt: u8) {
        let row = self.row(node, count, salt);
        self.give(node, &row);
    }

    pub(super) fn connect_all(&mut self) {
        for a in 0..self.nodes.len() {
            for b in 0..a {
                self.link(a, b);
            }
        }
    }

    pub(super) fn connect_to(&mut self, node: usize, others: &[usize]) {
        for other in others {
            self.link(node, *other);
        }
    }

    pub(super) fn link(&mut self, a: usize, b: usize) {
        for (node, other) in [(a, b), (b, a)] {
            let modern = self.nodes[node].modern && self.nodes[other].modern;
            let facts = PeerFacts { streams: modern, tells_headers: modern, ..self.facts(other) };
            let node = &mut self.nodes[node];
            node.links.insert(other);
            node.core.handle_peer_up(self.now, &facts);
        }
        self.drain(a);
        self.drain(b);
    }

    fn facts(&self, node: usize) -> PeerFacts {
        let Node { store, behaviour, base, limit, first_block, .. } = &self.nodes[node];
        let tip = store.tip();
        let height = match behaviour {
            Behaviour::FalseHeight(height) | Behaviour::FalseHash(height) => Height::new(*height),
            Behaviour::OtherGenesis => Height::new(99),
            _ => tip.height,
        };
        PeerFacts {
            requests_per_minute: *limit,
            first_block: *first_block,
            ..PeerFacts::new(
                id(node),
                height,
                match behaviour {
                    Behaviour::FalseHash(_) => Some(BlockHash::from_bytes([0; 32])),
                    _ => Some(tip.hash).filter(|_| height == tip.height),
                },
                Some(self.test.genesis().hash()).filter(|_| !base),
            )
        }
    }

    pub(super) fn submit_block(&mut self, node: usize, block: Block) {
        self.schedule(Duration::ZERO, node, Input::Block { from: None, block });
    }

    pub(super) fn submit_transaction(&mut self, node: usize, transaction: Transaction) {
        self.schedule(Duration::ZERO, node, Input::Transaction { from: None, transaction });
    }

    pub(super) fn push(&mut self, from: usize, to: usize, block: Block) {
        self.schedule(LATENCY, to, Input::Block { from: Some(from), block });
    }

    pub(super) fn push_transaction(&mut self, from: usize, to: usize, transaction: Transaction) {
        self.schedule(LATENCY, to, Input::Transaction { from: Some(from), transaction });
    }

    pub(super) fn answer_unasked(&mut self, from: usize, to: usize, blocks: Vec<Block>) {
        self.schedule(LATENCY, to, Input::Answered { by: from, answer: Blocks::whole(blocks) });
    }

    #[track_caller]
    pub(super) fn assert_one_tip(&self) {
        let tips: Vec<_> = self.nodes.iter().map(|node| node.store.tip().to_string()).collect();
        assert!(tips.windows(2).all(|pair| pair[0] == pair[1]), "{tips:?}");
    }

    #[track_caller]
    pub(super) fn assert_nobody_blamed(&self) {
        assert!(self.blamed.is_empty(), "{:?}", self.blamed);
    }

    fn schedule(&mut self, delay: Duration, node: usize, input: Input) {
        self.sequence += 1;
        self.queue.insert((self.now + delay, self.sequence), (node, input));
    }

    /// Lets virtual time pass.
    pub(super) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        for _ in 0..2_000_000 {
            let message = self.queue.keys().next().map(|(at, _)| *at);
            let timer = self.nodes.iter().filter_map(|node| node.core.poll_timeout()).min();
            let next = [message, timer].into_iter().flatten().min().unwrap_or(end);
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            if timer.is_some_and(|at| at <= self.now) {
                self.fire_timers();
            } else if let Some((_, (node, input))) = self.queue.pop_first() {
                self.feed(node, input);
            } else {
                break;
            }
        }
        self.now = end;
    }

    fn fire_timers(&mut self) {
        for node in 0..self.nodes.len() {
            if self.nodes[node].core.poll_timeout().is_some_and(|at| at <= self.now) {
                self.nodes[node].core.handle_timeout(self.now);
                let again = self.nodes[node].core.poll_timeout();
                assert!(again.is_none_or(|at| at > self.now), "a timer that was handled is not due again");
                self.drain(node);
            }
        }
    }

    fn feed(&mut self, at: usize, input: Input) {
        let now = self.now;
        let node = &mut self.nodes[at];
        let silent = matches!(node.behaviour, Behaviour::Silent);
        match input {
            _ if silent => {}
            Input::Asked { by, range } => self.answer(at, by, range),
            Input::AskedHeaders { by, question } => self.tell_headers(at, by, &question),
            Input::Cancelled { by, request_id } => self.end_stream(at, by, request_id),
            Input::Part { to, request_id } => self.send_part(at, to, request_id),
            // As the actor does: it is left where it is.
            input @ Input::Answered { .. } if !node.held.is_empty() || node.core.is_saturated() => {
                node.held.push_back(input);
            }
            Input::Answered { by, answer } => {
                let size = size_of(&answer.blocks);
                node.core.handle_blocks(now, id(by), answer, size);
            }
            Input::Headers { by, headers } => node.core.handle_headers(now, id(by), headers),
            Input::HeadersChecked { job, headers } => {
                let bad = |header| self.test.check_seal(header).err();
                let first =
                    headers.iter().enumerate().find_map(|(index, header)| Some((index, bad(header)?)));
                node.core.handle_headers_checked(now, job, first.map_or(Ok(()), Err));
            }
            Input::Block { from, block } => {
                let size = block.canonical_bytes().len();
                let source = from.map_or(Source::Local(0), |from| Source::Peer(id(from)));
                node.core.handle_new_block(now, source, block, size);
            }
            Input::Transaction { from, transaction } => {
                let source = from.map_or(Source::Local(0), |from| Source::Peer(id(from)));
                node.core.handle_new_transaction(now, source, transaction, 1000);
            }
            Input::Checked { job, blocks } => {
                let results =
                    blocks.iter().map(|block| check_block(&self.test, &block.block, block.sealed)).collect();
                node.core.handle_checked(now, job, results);
            }
            Input::TransactionChecked { job, transaction } => {
                let verdict = match self.test.check_transaction(&transaction, None) {
                    Ok(()) => TransactionVerdict::Valid,
                    Err(reason) => TransactionVerdict::Invalid(reason),
                };
                node.core.handle_transaction_checked(now, job, verdict);
            }
            Input::Import(batch) => {
                let result = if node.failing_imports > 0 {
                    node.failing_imports -= 1;
                    Err(crate::StoreError::Missing(batch[0].place.hash))
                } else {
                    import(&node.store, &self.test, &batch)
                };
                node.core.handle_imported(now, result);
            }
        }
        self.drain(at);
        self.feed_held(at);
    }

    /// Takes what waits, as far as it is taken.
    fn feed_held(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if !node.held.is_empty() && !node.core.is_saturated() {
            for input in std::mem::take(&mut node.held) {
                self.feed(at, input);
            }
        }
    }

    fn answer(&mut self, at: usize, by: usize, range: GetBlocks) {
        self.nodes[at].served += 1;
        if range.stream {
            self.nodes[at].streams.insert(by, range);
            return self.send_part(at, by, range.request_id.unwrap());
        }
        let behaviour = self.nodes[at].behaviour.clone();
        let mut bodies =
            self.nodes[at].store.bodies(range.start_height..=range.end_height, 1_000_000).unwrap();
        if range.start_height < self.nodes[at].first_block && !matches!(behaviour, Behaviour::FalseHash(_)) {
            bodies.clear();
        }
        let mut blocks: Vec<Block> =
            bodies.iter().map(|bytes| serde_json::from_slice(bytes).unwrap()).collect();
        blocks.truncate(self.fixed_answer.unwrap_or(usize::MAX));
        let mut delay = LATENCY;
        match behaviour {
            Behaviour::Withholds => return,
            Behaviour::Twice => {
                let answer = Blocks::whole(blocks.clone());
                self.schedule(delay * 2, by, Input::Answered { by: at, answer });
            }
            Behaviour::TwoFaced if blocks.len() > 1 => {
                let branch = self.test.row(&self.test.genesis_ref(), range.end_height.get(), 9);
                let heights = range.start_height..=range.end_height;
                blocks = branch.into_iter().filter(|block| heights.contains(&block.height())).collect();
            }
            Behaviour::Honest
            | Behaviour::Silent
            | Behaviour::FalseHeight(_)
            | Behaviour::FalseHash(_)
            | Behaviour::Trickles(_)
            | Behaviour::StopsShort
            | Behaviour::Overshoots
            | Behaviour::StrayHeaders
            | Behaviour::TwoFaced => {}
            Behaviour::Empty => blocks.clear(),
            Behaviour::WrongRange => {
                blocks = self.test.row(&self.test.genesis_ref(), 3, 0);
                blocks.retain(|block| block.height() != range.start_height);
            }
            Behaviour::WrongBodies => {
                for block in &mut blocks {
                    block.transactions.push(self.test.transaction(1, GENESIS_TIME, 1));
                }
            }
            Behaviour::ForgedSeals => {
                for block in &mut blocks {
                    let content = (*block.header).clone();
                    block.header = BlockHeader::new(content, bt2c_proto::Blob::default());
                }
            }
            Behaviour::Late(by) => delay = by,
            Behaviour::OneBlock => blocks.truncate(1),
            Behaviour::OtherGenesis => {
                blocks = vec![TestConsensus::of_network(7).genesis_block().clone()];
            }
        }
        let sent = self.transfer(at, size_of(&blocks));
        self.schedule(sent + delay, by, Input::Answered { by: at, answer: Blocks::whole(blocks) });
    }

    /// How long it takes from now until that many bytes are out.
    fn transfer(&mut self, at: usize, bytes: usize) -> Duration {
        let node = &mut self.nodes[at];
        let Some(line) = node.line else { return Duration::ZERO };
        node.line_free = node.line_free.max(self.now) + Duration::from_millis(bytes as u64 * 1000 / line);
        node.line_free.since(self.now)
    }

    /// Sends the next part of a stream, and comes back for the one after it when that is out.
    fn send_part(&mut self, at: usize, to: usize, request_id: u32) {
        let Some(range) = self.nodes[at].streams.get(&to).copied() else { return };
        if range.request_id != Some(request_id) {
            return;
        }
        let (store, behaviour) = (&self.nodes[at].store, self.nodes[at].behaviour.clone());
        let tip = store.tip().height;
        let end = match behaviour {
            Behaviour::StopsShort => range.end_height.min(tip.saturating_sub(1)),
            _ => range.end_height.min(tip),
        };
        let mut blocks: Vec<Block> = match (self.nodes[at].first_block..=end).contains(&range.start_height) {
            true => store.bodies(range.start_height..=end, 64 * 1024).unwrap(),
            false => Vec::new(),
        }
        .iter()
        .map(|bytes| serde_json::from_slice(bytes).unwrap())
        .collect();
        let mut delay = Duration::ZERO;
        match behaviour {
            Behaviour::Withholds => return,
            Behaviour::StopsShort if blocks.is_empty() => return,
            Behaviour::Empty => blocks.clear(),
            Behaviour::Trickles(by) => {
                blocks.truncate(1);
                delay = by;
            }
            Behaviour::WrongBodies => blocks
                .iter_mut()
                .for_each(|block| block.transactions.push(self.test.transaction(1, GENESIS_TIME, 1))),
            Behaviour::Overshoots => {
                blocks = vec![self.test.block(&self.nodes[at].store.tip(), 90_000, 1, Vec::new())];
            }
            Behaviour::Late(by) => delay = by,
            _ => {}
        }
        let next = range.start_height.saturating_add(blocks.len() as u64);
        let done = blocks.is_empty() || next > range.end_height;
        let sent = delay + self.transfer(at, size_of(&blocks));
        let answer = Blocks { blocks, request_id: range.request_id, done };
        self.schedule(sent + LATENCY, to, Input::Answered { by: at, answer });
        if done {
            self.nodes[at].streams.remove(&to);
        } else {
            self.nodes[at].streams.insert(to, GetBlocks { start_height: next, ..range });
            self.schedule(sent, at, Input::Part { to, request_id });
        }
    }

    fn end_stream(&mut self, at: usize, to: usize, request_id: u32) {
        if self.nodes[at].streams.get(&to).is_some_and(|range| range.request_id == Some(request_id)) {
            self.nodes[at].streams.remove(&to);
            let answer = Blocks { blocks: Vec::new(), request_id: Some(request_id), done: true };
            let sent = self.transfer(at, 100);
            self.schedule(sent + LATENCY, to, Input::Answered { by: at, answer });
        }
    }

    fn tell_headers(&mut self, at: usize, by: usize, question: &GetHeaders) {
        let (store, behaviour) = (&self.nodes[at].store, self.nodes[at].behaviour.clone());
        let main = |hash| {
            let place = store.block(hash).unwrap()?;
            store.main(place.height).unwrap().filter(|main| main.hash == place.hash)
        };
        let shared = question.locator.iter().find_map(main).unwrap_or(self.test.genesis_ref()).height;
        let bodies = store.bodies(shared.next()..=shared.saturating_add(question.count), 1_000_000).unwrap();
        let mut headers: Vec<BlockHeader> =
            bodies.iter().map(|bytes| serde_json::from_slice(bytes).unwrap()).collect();
        match behaviour {
            Behaviour::Silent => return,
            Behaviour::StrayHeaders => {
                headers = vec![self.test.block(&self.nodes[at].store.tip(), 90_000, 1, Vec::new()).header];
            }
            _ => {}
        }
        let sent = self.transfer(at, headers.len() * 600);
        self.schedule(sent + LATENCY, by, Input::Headers { by: at, headers });
    }

    fn drain(&mut self, at: usize) {
        while let Some(action) = self.nodes[at].core.poll_action() {
            self.act(at, action);
        }
    }

    fn act(&mut self, at: usize, action: Action) {
        match action {
            Action::Request { peer, range } => {
                if self.asked.insert((at, index(peer))) && at == NODE {
                    self.first_questions.push((range.start_height.get(), range.end_height.get()));
                }
                self.schedule(LATENCY, index(peer), Input::Asked { by: at, range });
            }
            Action::Cancel { peer, request_id } => {
                self.schedule(LATENCY, index(peer), Input::Cancelled { by: at, request_id });
            }
            Action::RequestHeaders { peer, question } => {
                self.schedule(LATENCY, index(peer), Input::AskedHeaders { by: at, question });
            }
            Action::CheckHeaders { job, headers } => {
                self.schedule(COMPUTE, at, Input::HeadersChecked { job, headers });
            }
            Action::Close { peer, code } => {
                self.closed.push((index(peer), code));
                self.unlink(at, index(peer));
            }
            Action::Credit { peer, deed } => self.credited.push((index(peer), deed)),
            Action::Blame { peer, blame: _ } => {
                self.blamed.insert(index(peer));
                self.unlink(at, index(peer));
            }
            Action::CheckBlocks { job, blocks } => {
                self.schedule(COMPUTE, at, Input::Checked { job, blocks });
            }
            Action::CheckTransaction { job, transaction } => {
                self.schedule(COMPUTE, at, Input::TransactionChecked { job, transaction });
            }
            Action::Import(batch) => self.schedule(COMPUTE, at, Input::Import(batch)),
            Action::RelayBlock { hash, bytes } => {
                let block: Block = serde_json::from_slice(&bytes).unwrap();
                self.relay(at, Inventory::Block(hash), |from| Input::Block { from, block: block.clone() });
            }
            Action::RelayTransaction(transaction) => {
                let inventory = Inventory::Transaction(transaction.hash);
                self.relay(at, inventory, |from| Input::Transaction {
                    from,
                    transaction: (*transaction).clone(),
                });
            }
            Action::MarkSeen { peer, inventory } => {
                self.nodes[at].seen.insert((index(peer), inventory));
            }
            Action::SetTip(tip) => assert_eq!(tip, self.nodes[at].store.tip().tip()),
            Action::Emit(event) => self.nodes[at].events.push(event),
            Action::Reply { result, .. } => self.nodes[at].replies.push(result),
        }
    }

    fn relay(&mut self, at: usize, inventory: Inventory, input: impl Fn(Option<usize>) -> Input) {
        if !self.nodes[at].relayed.insert(inventory) {
            return;
        }
        for peer in self.nodes[at].links.clone() {
            if self.nodes[at].seen.insert((peer, inventory)) {
                self.pushes += 1;
                self.schedule(LATENCY, peer, input(Some(at)));
            }
        }
    }

    fn unlink(&mut self, a: usize, b: usize) {
        for (node, other) in [(a, b), (b, a)] {
            self.nodes[node].links.remove(&other);
            self.nodes[node].streams.remove(&other);
            self.nodes[node].core.handle_peer_down(self.now, &id(other));
        }
        self.drain(b);
    }
}

fn size_of(blocks: &[Block]) -> usize {
    blocks.iter().map(|block| block.canonical_bytes().len() + 1).sum()
}
