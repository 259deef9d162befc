//! What the core knows of each peer.

use bt2c_p2p::Tip;
use bt2c_proto::{BlockHash, Height, PeerId, Time, limits::FRAME_LIMIT};
use bt2c_security::RequestPace;

/// What a peer's hello says that matters here.
#[derive(Debug, Clone, Copy)]
pub struct PeerFacts {
    /// Who it is.
    pub id: PeerId,
    /// Height of its tip: a hint.
    pub height: Height,
    /// Hash of its tip: a hint.
    pub hash: Option<BlockHash>,
    /// Its genesis, if it said.
    pub genesis: Option<BlockHash>,
    /// Requests a minute that it serves, if it said.
    pub requests_per_minute: Option<u64>,
    /// What experience said of it when it connected, −100 to 100: of peers that would do equally well, the better is asked.
    pub standing: i32,
}

/// The smallest answer that a slow peer is asked for, in bytes.
const MIN_RANGE_BYTES: usize = 32 * 1024;

#[derive(Debug)]
pub(super) struct PeerState {
    /// The branch that it says it has, until shown otherwise.
    pub(super) claim: Option<Claim>,
    /// The greatest height at which it has shown a sealed block.
    pub(super) proven: u64,
    pub(super) genesis: GenesisState,
    pub(super) pace: RequestPace,
    pub(super) request: Option<Request>,
    /// Answers that were late, short or missing. Not offences: they only decide who is asked first.
    pub(super) demerits: u32,
    pub(super) standing: i32,
    /// It answered in time and was not thanked yet, for what it sent is not checked.
    pub(super) unthanked: bool,
    /// Its branch holds a block that is too early until then.
    pub(super) muted_until: Time,
    /// Its branch leaves ours too deep, or it is being closed: nothing is asked of it.
    pub(super) ignored: bool,
    /// It turned out to be on another branch than the one pursued.
    pub(super) diverged: bool,
    range_bytes: usize,
}

/// The end of the branch that a peer says it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) height: u64,
    pub(super) hash: Option<BlockHash>,
}

impl Claim {
    /// As fork choice sees it: a claim without a hash wins no tie.
    pub(super) fn tip(self) -> Tip {
        let hash = self.hash.unwrap_or(BlockHash::from_bytes([0xff; 32]));
        Tip { height: Height::new(self.height), hash }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GenesisState {
    /// Ours.
    Agreed,
    /// Its first request asks for it.
    Unasked,
    /// It did not show one: nothing more is asked of it.
    Withheld,
}

/// The one `get_blocks` that a peer has to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) purpose: Purpose,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) sent: Time,
    /// It said that it is asked too much, and will answer no sooner.
    pub(super) throttled_until: Option<Time>,
    /// Its time is over and its range is asked of others; the answer is still awaited.
    pub(super) late: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Whether it is of our network.
    Genesis,
    /// Whether it has the height that it claims.
    Probe,
    /// Whether it has our block at a height.
    Fork,
    /// Blocks to store.
    Range,
}

impl Request {
    /// From when on the connection is kept for the answer.
    pub(super) fn since(&self) -> Time {
        self.throttled_until.map_or(self.sent, |until| until.max(self.sent))
    }
}

impl PeerState {
    /// Whether it says that its branch reaches above this height, and may be asked for it.
    pub(super) fn is_ahead_of(&self, height: u64) -> bool {
        !self.ignored && self.claim.is_some_and(|claim| claim.height > height)
    }

    pub(super) fn new(facts: &PeerFacts, default_rate: u64) -> Self {
        let genesis = match facts.genesis {
            Some(_) => GenesisState::Agreed,
            None => GenesisState::Unasked,
        };
        Self {
            claim: Some(Claim { height: facts.height.get(), hash: facts.hash }),
            proven: 0,
            genesis,
            pace: RequestPace::for_blocks(Some(facts.requests_per_minute.unwrap_or(default_rate))),
            request: None,
            demerits: 0,
            standing: facts.standing,
            unthanked: false,
            muted_until: Time::default(),
            ignored: false,
            diverged: false,
            range_bytes: FRAME_LIMIT,
        }
    }

    /// Whether something can be asked of it at all.
    pub(super) fn usable(&self) -> bool {
        !self.ignored && self.genesis == GenesisState::Agreed
    }

    pub(super) fn is_late(&self) -> bool {
        self.request.is_some_and(|request| request.late)
    }

    /// It showed a sealed block.
    pub(super) fn shows(&mut self, tip: Tip) {
        let height = tip.height.get();
        self.proven = self.proven.max(height);
        if self.claim.is_none_or(|claim| claim.height <= height) {
            self.claim = Some(Claim { height, hash: Some(tip.hash) });
        }
    }

    /// It does not have what it claims.
    pub(super) fn disprove(&mut self) {
        self.claim = None;
        self.demerit();
    }

    pub(super) fn demerit(&mut self) {
        self.demerits = self.demerits.saturating_add(1);
    }

    /// An answer was late: ask for less.
    pub(super) fn slow_down(&mut self) {
        self.demerit();
        self.range_bytes = (self.range_bytes / 2).max(MIN_RANGE_BYTES);
    }

    /// An answer was in time: ask for more, up to a frame.
    pub(super) fn speed_up(&mut self) {
        self.range_bytes = (self.range_bytes * 2).min(FRAME_LIMIT);
    }

    /// How many blocks to ask for, given their size: about what one answer holds.
    pub(super) fn range_blocks(&self, average_block: usize) -> u64 {
        (self.range_bytes / average_block.max(1)).max(1) as u64
    }
}
