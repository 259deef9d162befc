//! What the core knows of each peer.

use std::time::Duration;

use bt2c_p2p::Tip;
use bt2c_proto::{Block, BlockHash, Height, PeerId, Time, limits::FRAME_LIMIT};
use bt2c_security::RequestPace;

use super::ledger::{Contribution, Throughput};

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
    /// Whether it streams blocks, and we take streams: `block-stream`.
    pub streams: bool,
    /// Whether it tells headers, and we ask for them: `headers`.
    pub tells_headers: bool,
    /// The lowest height from which on it has every block.
    pub first_block: Height,
}

impl PeerFacts {
    /// A peer that knows the base protocol, has every block of its chain, and of which nothing else is known.
    pub const fn new(
        id: PeerId,
        height: Height,
        hash: Option<BlockHash>,
        genesis: Option<BlockHash>,
    ) -> Self {
        Self {
            id,
            height,
            hash,
            genesis,
            requests_per_minute: None,
            standing: 0,
            streams: false,
            tells_headers: false,
            first_block: Height::GENESIS,
        }
    }
}

/// The smallest answer that a slow peer is asked for, in bytes.
const MIN_RANGE_BYTES: usize = 32 * 1024;

/// What a peer is asked for that nothing is known of, in bytes: a second of a line of 2 Mbit/s.
const FIRST_RANGE_BYTES: usize = 256 * 1024;

/// How long an answer in one message is meant to take; one that is late is waited for all the same.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// How long a stream is meant to take: longer than the pace of requests makes a peer wait for the next (two seconds), so
/// that the line of a peer that serves the usual hundred requests a minute is never idle.
const STREAM_TIME: Duration = Duration::from_secs(8);

#[derive(Debug)]
pub(super) struct PeerState {
    /// The branch that it says it has, until shown otherwise.
    pub(super) claim: Option<Claim>,
    /// The height that its hello told.
    pub(super) told: u64,
    /// The greatest height at which it has shown a sealed block.
    pub(super) proven: u64,
    pub(super) genesis: GenesisState,
    pub(super) pace: RequestPace,
    pub(super) streams: bool,
    pub(super) tells_headers: bool,
    /// The lowest height from which on it has every block.
    pub(super) first_block: u64,
    pub(super) request: Option<Request>,
    pub(super) headers_request: Option<HeadersRequest>,
    /// What it sent and was found good.
    pub(super) contribution: Contribution,
    pub(super) throughput: Throughput,
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
    /// The last height that is wanted of it. Of a stream it can become less than what was asked for.
    pub(super) end: u64,
    /// The last height that was asked for.
    pub(super) asked_end: u64,
    /// The height that comes next.
    pub(super) next: u64,
    /// If a stream was asked for, its number.
    pub(super) stream: Option<u32>,
    /// The stream was called off; what is still on its way may come.
    pub(super) cancelled: bool,
    pub(super) sent: Time,
    /// When the last part of the answer came, or the request went out.
    pub(super) progress: Time,
    /// Since when its throughput is measured, and the bytes that came since.
    pub(super) measured: Time,
    pub(super) unmeasured: usize,
    /// It said that it is asked too much, and will answer no sooner.
    pub(super) throttled_until: Option<Time>,
    /// Its time is over and its range is asked of others; the answer is still awaited.
    pub(super) late: bool,
}

/// The one `get_headers` that a peer has to answer.
#[derive(Debug)]
pub(super) struct HeadersRequest {
    pub(super) sent: Time,
    /// What was told: the answer starts above one of these, or above the genesis block.
    pub(super) locator: Vec<BlockHash>,
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
        self.throttled_until.map_or(self.progress, |until| until.max(self.progress))
    }

    /// Whether nothing came in all of an answer that ends with these blocks.
    pub(super) const fn is_empty(&self, last: &[Block]) -> bool {
        last.is_empty() && self.next == self.start
    }

    /// The blocks that are still wanted of it and may come, if any.
    pub(super) fn outstanding(&self) -> Option<(u64, u64)> {
        let open = self.purpose == Purpose::Range && !self.late && !self.cancelled && self.next <= self.end;
        open.then_some((self.next, self.end))
    }
}

impl PeerState {
    /// Whether it says that its branch reaches above this height, and may be asked for it.
    pub(super) fn is_ahead_of(&self, height: u64) -> bool {
        !self.ignored && self.claim.is_some_and(|claim| claim.height > height)
    }

    /// Whether it has the block of its branch at a height and all above, as far as it said.
    pub(super) const fn keeps(&self, height: u64) -> bool {
        self.first_block <= height
    }

    pub(super) fn new(facts: &PeerFacts, default_rate: u64) -> Self {
        let genesis = match facts.genesis {
            Some(_) => GenesisState::Agreed,
            None => GenesisState::Unasked,
        };
        Self {
            // Who keeps not even its tip has nothing that it could be asked for.
            claim: Some(Claim { height: facts.height.get(), hash: facts.hash })
                .filter(|_| facts.first_block <= facts.height),
            told: facts.height.get(),
            proven: 0,
            genesis,
            pace: RequestPace::for_blocks(Some(facts.requests_per_minute.unwrap_or(default_rate))),
            streams: facts.streams,
            tells_headers: facts.tells_headers,
            first_block: facts.first_block.get(),
            request: None,
            headers_request: None,
            contribution: Contribution::default(),
            throughput: Throughput::default(),
            demerits: 0,
            standing: facts.standing,
            unthanked: false,
            muted_until: Time::default(),
            ignored: false,
            diverged: false,
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
        self.throughput.halve(MIN_RANGE_BYTES, self.range_time());
    }

    /// How many blocks to ask for, given their size, and what may be fetched ahead in bytes: about what the peer sends in
    /// [`STREAM_TIME`], or in [`ANSWER_TIME`] if the answer is one message.
    pub(super) fn range_blocks(&self, average_block: usize, window_bytes: usize) -> u64 {
        let most = if self.streams { (window_bytes / 4).max(FRAME_LIMIT) } else { FRAME_LIMIT };
        let bytes = self.throughput.bytes_in(self.range_time()).unwrap_or(FIRST_RANGE_BYTES);
        (bytes.clamp(MIN_RANGE_BYTES, most) / average_block.max(1)).max(1) as u64
    }

    const fn range_time(&self) -> Duration {
        if self.streams { STREAM_TIME } else { ANSWER_TIME }
    }
}
