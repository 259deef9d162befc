//! Any inputs in any order: what must hold whatever peers and workers do.

use std::{collections::BTreeSet, time::Duration};

use bt2c_proto::{Blob, Block, BlockHeader, Blocks, GetBlocks};
use proptest::prelude::*;

use super::*;
use crate::{MemoryStore, check_block, import, testing::TestConsensus};

/// One input; numbers are reduced to what there is.
#[derive(Debug, Clone)]
enum Step {
    Up {
        peer: u8,
        hello: Hello,
    },
    Down {
        peer: u8,
    },
    /// Any blocks, as an answer or without a question.
    Blocks {
        peer: u8,
        first: u8,
        count: u8,
        forged: bool,
    },
    /// What was asked for, from one of the branches.
    Answer {
        peer: u8,
        branch: u8,
        keep: u8,
        forged: bool,
    },
    NewBlock {
        peer: u8,
        block: u8,
        forged: bool,
    },
    /// The oldest job, or the newest, is done.
    Job {
        newest: bool,
    },
    Import,
    Wait {
        seconds: u16,
    },
}

/// What a peer says of itself.
#[derive(Debug, Clone)]
struct Hello {
    height: u8,
    block: u8,
    names_genesis: bool,
    streams: bool,
    first_block: u64,
}

fn first_block() -> impl Strategy<Value = u64> {
    prop_oneof![4 => Just(0), 3 => 0..70_u64, 1 => Just(bt2c_proto::limits::MAX_INTEGER)]
}

prop_compose! {
    fn hello()(
        height in any::<u8>(), block in any::<u8>(), names_genesis in any::<bool>(), streams in any::<bool>(),
        first_block in first_block(),
    ) -> Hello {
        Hello { height, block, names_genesis, streams, first_block }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (0..4_u8, hello()).prop_map(|(peer, hello)| Step::Up { peer, hello }),
        1 => (0..4_u8).prop_map(|peer| Step::Down { peer }),
        1 => (0..4_u8, any::<u8>(), 0..20_u8, any::<bool>())
            .prop_map(|(peer, first, count, forged)| Step::Blocks { peer, first, count, forged }),
        8 => (0..4_u8, 0..3_u8, 1..40_u8, prop::bool::weighted(0.1))
            .prop_map(|(peer, branch, keep, forged)| Step::Answer { peer, branch, keep, forged }),
        3 => (0..4_u8, any::<u8>(), any::<bool>())
            .prop_map(|(peer, block, forged)| Step::NewBlock { peer, block, forged }),
        6 => any::<bool>().prop_map(|newest| Step::Job { newest }),
        6 => Just(Step::Import),
        3 => (0..70_u16).prop_map(|seconds| Step::Wait { seconds }),
    ];
    prop::collection::vec(step, 1..120)
}

/// Three branches: one from the genesis block, one that leaves it at 20, one that leaves that at 40.
fn branches(test: &TestConsensus) -> [Vec<Block>; 3] {
    let a = test.row(&test.genesis_ref(), 60, 0);
    let mut b = a[..20].to_vec();
    b.extend(test.row(&BlockRef::from(&a[19].header), 50, 1));
    let mut c = b[..40].to_vec();
    c.extend(test.row(&BlockRef::from(&b[39].header), 25, 2));
    [a, b, c]
}

fn forge(block: &Block) -> Block {
    let content = (*block.header).clone();
    Block { header: BlockHeader::new(content, Blob::default()), transactions: Vec::new() }
}

struct World {
    test: TestConsensus,
    core: Core,
    store: MemoryStore,
    now: Time,
    branches: [Vec<Block>; 3],
    up: BTreeSet<u8>,
    asked: BTreeMap<u8, GetBlocks>,
    jobs: Vec<(u64, Vec<Unchecked>)>,
    import: Option<Vec<CheckedBlock>>,
    /// The heights that hellos told.
    told: BTreeMap<u8, u64>,
    /// Peers that sent something forged.
    guilty: BTreeSet<u8>,
}

fn id(peer: u8) -> PeerId {
    PeerId::from_bytes([peer + 1; 32])
}

impl World {
    fn new() -> Self {
        let test = TestConsensus::new();
        let core = Core::new(SyncConfig::default(), Arc::new(TestConsensus::new()), [test.genesis_ref()]);
        Self {
            core,
            store: MemoryStore::new(test.genesis_block()),
            now: Time::from_secs(GENESIS_TIME + 10_000),
            branches: branches(&test),
            up: BTreeSet::new(),
            asked: BTreeMap::new(),
            jobs: Vec::new(),
            import: None,
            told: BTreeMap::new(),
            guilty: BTreeSet::new(),
            test,
        }
    }

    fn any_block(&self, number: u8) -> Block {
        let all: Vec<&Block> = self.branches.iter().flatten().collect();
        all[usize::from(number) % all.len()].clone()
    }

    fn send(&mut self, peer: u8, blocks: Vec<Block>) {
        let request_id = self.asked.remove(&peer).and_then(|range| range.request_id);
        let size = blocks.len() * 700;
        let answer = Blocks { request_id, done: request_id.is_some(), ..Blocks::whole(blocks) };
        self.core.handle_blocks(self.now, id(peer), answer, size);
    }

    fn come_up(&mut self, peer: u8, hello: &Hello) {
        if self.up.insert(peer) {
            self.told.insert(peer, hello.height.into());
            let facts = PeerFacts {
                requests_per_minute: Some(u64::from(hello.block) * 20),
                streams: hello.streams,
                first_block: Height::new(hello.first_block),
                ..PeerFacts::new(
                    id(peer),
                    Height::new(hello.height.into()),
                    Some(self.any_block(hello.block).hash()),
                    hello.names_genesis.then(|| self.test.genesis_ref().hash),
                )
            };
            self.core.handle_peer_up(self.now, &facts);
        }
    }

    fn answer(&mut self, peer: u8, branch: usize, keep: usize, forged: bool) {
        let Some(range) = self.asked.get(&peer) else { return };
        let chain = std::iter::once(self.test.genesis_block()).chain(&self.branches[branch]);
        let wanted = range.start_height..=range.end_height;
        let blocks = chain.filter(|block| wanted.contains(&block.height())).take(keep);
        let blocks = if forged { blocks.map(forge).collect() } else { blocks.cloned().collect() };
        if forged {
            self.guilty.insert(peer);
        }
        self.send(peer, blocks);
    }

    fn take(&mut self, step: Step) {
        let now = self.now;
        match step {
            Step::Up { peer, hello } => self.come_up(peer, &hello),
            Step::Down { peer } => {
                self.up.remove(&peer);
                self.asked.remove(&peer);
                self.core.handle_peer_down(now, &id(peer));
            }
            Step::Blocks { peer, first, count, forged } => {
                let mut blocks: Vec<Block> =
                    (0..count).map(|index| self.any_block(first.wrapping_add(index))).collect();
                if forged {
                    blocks = blocks.iter().map(forge).collect();
                }
                // It may be no answer, or not to the question.
                self.guilty.insert(peer);
                self.send(peer, blocks);
            }
            Step::Answer { peer, branch, keep, forged } => {
                self.answer(peer, branch.into(), keep.into(), forged)
            }
            Step::NewBlock { peer, block, forged } => {
                let block = self.any_block(block);
                let block = if forged { forge(&block) } else { block };
                if forged {
                    self.guilty.insert(peer);
                }
                self.core.handle_new_block(now, Source::Peer(id(peer)), block, 700);
            }
            Step::Job { newest } => {
                if !self.jobs.is_empty() {
                    let (job, blocks) = self.jobs.remove(if newest { self.jobs.len() - 1 } else { 0 });
                    let results = blocks
                        .iter()
                        .map(|block| check_block(&self.test, &block.block, block.sealed))
                        .collect();
                    self.core.handle_checked(now, job, results);
                }
            }
            Step::Import => {
                if let Some(batch) = self.import.take() {
                    let result = import(&self.store, &self.test, &batch);
                    self.core.handle_imported(now, result);
                    assert_eq!(self.core.tip(), self.store.tip());
                }
            }
            Step::Wait { seconds } => {
                self.now = now + Duration::from_secs(seconds.into());
                self.core.handle_timeout(self.now);
                assert!(self.core.poll_timeout().is_none_or(|at| at > self.now));
            }
        }
    }

    fn drain(&mut self) {
        while let Some(action) = self.core.poll_action() {
            match action {
                Action::Request { peer, range } => {
                    let peer = peer.as_bytes()[0] - 1;
                    assert!(self.up.contains(&peer), "asked a peer that is not there");
                    assert!(range.start_height <= range.end_height);
                    assert!(self.asked.insert(peer, range).is_none(), "asked twice");
                }
                Action::CheckBlocks { job, blocks } => self.jobs.push((job, blocks)),
                Action::Import(batch) => assert!(self.import.replace(batch).is_none(), "two imports at once"),
                // Its answer was short of it, as these answers are at times.
                Action::Blame { peer, blame: Blame::Height { height } } => {
                    assert_eq!(self.told.get(&(peer.as_bytes()[0] - 1)), Some(&height.get()));
                }
                Action::Blame { peer, blame } => {
                    assert!(self.guilty.contains(&(peer.as_bytes()[0] - 1)), "{blame} is not proven");
                }
                Action::Close { code, .. } => assert_eq!(code, CloseCode::Timeout),
                _ => {}
            }
        }
        assert!(self.core.orphans().0 <= 64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_comes_nobody_is_asked_twice_nor_blamed_without_proof(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
            world.drain();
        }
        // However it went, an honest peer with the longest branch brings the node there.
        let goal = BlockRef::from(&world.branches[1].last().unwrap().header);
        for peer in 0..4 {
            world.take(Step::Down { peer });
            world.drain();
        }
        let facts = PeerFacts::new(id(9), goal.height, Some(goal.hash), Some(world.test.genesis_ref().hash));
        world.up.insert(9);
        world.core.handle_peer_up(world.now, &facts);
        world.drain();
        for _ in 0..400 {
            for step in [
                Step::Answer { peer: 9, branch: 1, keep: 39, forged: false },
                Step::Job { newest: false },
                Step::Import,
                Step::Wait { seconds: 2 },
            ] {
                world.take(step);
                world.drain();
            }
        }
        prop_assert_eq!(world.store.tip(), goal);
        prop_assert!(world.core.is_synced());
    }
}
