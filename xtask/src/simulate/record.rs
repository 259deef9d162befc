//! What came of a run, noted while it runs: for expectations, reports and the trace.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bt2c_node::NodeEvent;
use bt2c_p2p::Tip;
use bt2c_p2p::env::Tap;
use bt2c_proto::{BlockHash, Height, PeerId, Time};
use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};
use tokio::time::Instant;

use super::trace::{Trace, strings};

/// Everything noted of a run; cloning shares it.
#[derive(Debug, Clone)]
pub struct Record(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    interval: Duration,
    trace: Trace,
    history: History,
}

/// What happened in a run. Times count from its start; hosts are the numbers of the plan.
#[derive(Debug, Default)]
pub struct History {
    /// The steps that were taken, and what else a person would want to see on a time line.
    pub notes: Vec<(Duration, String)>,
    /// Each block that came onto some node's main chain.
    pub blocks: BTreeMap<BlockHash, Spread>,
    /// Each change of a node's tip: when, host, height, hash.
    pub tips: Vec<(Duration, usize, Height, BlockHash)>,
    /// Reorganisations: when, host, how many blocks left the main chain.
    pub reorganisations: Vec<(Duration, usize, usize)>,
    /// Peers that came and went: when, host, the peer, whether it came, and the reason if it went.
    pub peers: Vec<(Duration, usize, PeerId, Option<String>)>,
    /// Bans: when, by which host.
    pub bans: Vec<(Duration, usize, BanNote)>,
    /// Bans that ended or were lifted: when, by which host, whose.
    pub unbans: Vec<(Duration, usize, String)>,
    /// What nodes warned of: when, host, what.
    pub warnings: Vec<(Duration, usize, String)>,
    /// Bytes of messages received, by interval and type.
    pub traffic: BTreeMap<(u64, &'static str), u64>,
}

/// How a block spread.
#[derive(Debug)]
pub struct Spread {
    /// Its height.
    pub height: Height,
    /// When each host had it on its main chain first.
    pub seen: BTreeMap<usize, Duration>,
}

/// A ban as it was announced.
#[derive(Debug, Clone)]
pub struct BanNote {
    /// IP, CIDR or PeerId.
    pub subject: String,
    /// The rule.
    pub reason: String,
    /// What proves it.
    pub evidence: String,
    /// How long it is to last.
    pub lasts: Duration,
}

/// Types whose traffic is told apart; what strangers invent is `other`.
const KINDS: [&str; 12] = [
    "hello",
    "ping",
    "pong",
    "get_peers",
    "peers",
    "get_blocks",
    "blocks",
    "new_block",
    "new_transaction",
    "disconnect",
    "throttled",
    "announce",
];

impl Record {
    /// An empty record; traffic is summed over each `interval`.
    pub fn new(interval: Duration) -> Self {
        let interval = interval.max(Duration::from_millis(1));
        let (trace, history) = (Trace::default(), History::default());
        Self(Arc::new(Mutex::new(State { interval, trace, history })))
    }

    /// What shows it the messages that a node receives, in a run that began at `started`.
    pub fn tap(&self, started: Instant) -> Arc<dyn Tap> {
        Arc::new(HostTap { record: self.clone(), started })
    }

    /// Notes the tip with which a host's node starts.
    pub fn starts(&self, at: Duration, host: usize, tip: Tip) {
        self.0.lock().history.tip(at, host, tip.height, tip.hash);
    }

    /// What was noted so far.
    pub fn history(&self) -> MappedMutexGuard<'_, History> {
        MutexGuard::map(self.0.lock(), |state| &mut state.history)
    }

    /// The trace so far, and how many messages are in it.
    pub fn digest(&self) -> (String, u64) {
        self.0.lock().trace.digest()
    }

    /// Notes something for the time line; it is part of the trace.
    pub fn note(&self, at: Duration, what: String) {
        let mut state = self.0.lock();
        state.trace.line(&format!("{} {what}", at.as_millis()));
        state.history.notes.push((at, what));
    }

    /// Notes an event of a host's node.
    pub fn event(&self, at: Duration, host: usize, event: &NodeEvent) {
        let mut state = self.0.lock();
        let State { trace, history, .. } = &mut *state;
        // What follows from messages alone is not in the trace.
        let line = match event {
            NodeEvent::PeerUp(up) => {
                history.peers.push((at, host, up.peer_id, None));
                Some(format!("{} {} {}", up.peer_id, up.addr, up.direction))
            }
            NodeEvent::PeerDown(down) => {
                history.peers.push((at, host, down.peer.peer_id, Some(down.reason.clone())));
                Some(format!("{} {}", down.peer.peer_id, down.reason))
            }
            NodeEvent::Block(block) => {
                history.tip(at, host, block.height, block.hash);
                None
            }
            NodeEvent::Reorganisation(reorg) => {
                history.reorganisations.push((at, host, reorg.reverted));
                history.tip(at, host, reorg.height, reorg.hash);
                Some(format!("{} {}", reorg.height, reorg.reverted))
            }
            NodeEvent::Ban(ban) => {
                let lasts = Duration::from_secs(ban.until.saturating_sub(ban.since));
                let note = BanNote {
                    subject: ban.subject.clone(),
                    reason: ban.reason.clone(),
                    evidence: ban.evidence.clone(),
                    lasts,
                };
                history.bans.push((at, host, note));
                Some(format!("{} {}", ban.subject, ban.reason))
            }
            NodeEvent::Unban(unban) => {
                history.unbans.push((at, host, unban.subject.clone()));
                Some(unban.subject.clone())
            }
            NodeEvent::Warning(warning) => {
                history.warnings.push((at, host, warning.what.clone()));
                Some(warning.what.clone())
            }
            NodeEvent::Lagged(lagged) => {
                history.warnings.push((at, host, format!("{} events were missed", lagged.missed)));
                None
            }
            NodeEvent::Transaction(_) | NodeEvent::Sync(_) => None,
        };
        if let Some(line) = line {
            trace.line(&format!("{} {host} {} {line}", at.as_millis(), event.kind()));
        }
    }
}

/// Shows a record what one host's node receives.
#[derive(Debug)]
struct HostTap {
    record: Record,
    started: Instant,
}

impl Tap for HostTap {
    /// The host's own time does not count: its clock may be wrong.
    fn message(&self, _: Time, from: PeerId, to: PeerId, body: &[u8]) {
        let at = self.started.elapsed();
        let mut state = self.record.0.lock();
        state.trace.message(at, from, to, body);
        let mut expected = false;
        let kind = strings(body).find_map(|(_, string, is_name)| {
            let found = expected && !is_name;
            expected = is_name && string == b"type";
            found.then_some(string)
        });
        let kind = KINDS.into_iter().find(|known| Some(known.as_bytes()) == kind).unwrap_or("other");
        let interval = u64::try_from(at.as_millis() / state.interval.as_millis()).unwrap_or(u64::MAX);
        *state.history.traffic.entry((interval, kind)).or_default() += body.len() as u64;
    }
}

impl History {
    fn tip(&mut self, at: Duration, host: usize, height: Height, hash: BlockHash) {
        self.tips.push((at, host, height, hash));
        let spread = self.blocks.entry(hash).or_insert_with(|| Spread { height, seen: BTreeMap::new() });
        spread.seen.entry(host).or_insert(at);
    }

    /// A host's tip at a moment; `None` if its node had taken no block by then.
    pub fn tip_at(&self, host: usize, at: Duration) -> Option<(Height, BlockHash)> {
        let earlier = self.tips.iter().rev().find(|(when, whose, ..)| *whose == host && *when <= at);
        earlier.map(|(_, _, height, hash)| (*height, *hash))
    }

    /// When a host's node had a lower tip than before, from which height it fell to which, unless by reorganisation:
    /// blocks that it lost.
    pub fn losses(&self, host: usize) -> Vec<(Duration, Height, Height)> {
        let reorganised: BTreeSet<_> =
            self.reorganisations.iter().filter(|(_, whose, _)| *whose == host).map(|(at, ..)| *at).collect();
        let own: Vec<_> = self.tips.iter().filter(|(_, whose, ..)| *whose == host).collect();
        let falls = own.windows(2).filter(|pair| pair[1].2 < pair[0].2 && !reorganised.contains(&pair[1].0));
        falls.map(|pair| (pair[1].0, pair[0].2, pair[1].2)).collect()
    }
}
