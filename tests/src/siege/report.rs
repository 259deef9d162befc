//! What a siege found, as a table for people and as JSON.

use std::{collections::BTreeMap, fmt, time::Duration};

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::honest::Trips;

/// How long a pong may take at most: what a connection has for TLS and hello together (the seed), on a machine that runs
/// both sides and is overloaded on purpose. A node gives up on a peer that is silent for 75 s.
const PONG_WITHIN_MS: f64 = 10_000.0;

/// From this length on, every offence must have led to a ban.
const LONG_ENOUGH_S: u64 = 30;

/// From so many connections of all kinds on, every slot must have been taken, and some have made room.
const CROWD: usize = 200;

/// What a siege found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Hostile connections at a time.
    pub connections: usize,
    /// For how long, in seconds.
    pub duration_s: u64,
    /// The hostile kinds.
    pub kinds: Vec<KindReport>,
    /// Round trips of the honest peers before.
    pub before: RoundTrips,
    /// Round trips of the honest peers during the siege.
    pub during: RoundTrips,
    /// Resident memory of the node, in bytes.
    pub memory: Usage,
    /// Descriptors of the node; they have no bound here.
    pub descriptors: Usage,
    /// Seconds of processor time that the node took during the siege.
    pub processor_s: f64,
    /// Blocks that honest peers pushed, and that the node took.
    pub blocks: (u64, u64),
    /// Honest newcomers that tried to get in, and that did.
    pub newcomers: (u32, u32),
    /// Connections that ended, by whom and with which code, as the node counts them.
    pub endings: BTreeMap<String, u64>,
    /// Hostile identities that were banned.
    pub banned_identities: usize,
    /// Length of the node's log.
    pub log_bytes: u64,
    /// What did not hold.
    pub failures: Vec<String>,
}

/// A hostile kind.
#[derive(Debug, Clone, Serialize)]
pub struct KindReport {
    /// Its name.
    pub kind: &'static str,
    /// TCP connections that were made.
    pub made: u64,
    /// Of these, those that the node refused or ended.
    pub closed: u64,
    /// Addresses that were banned at the end, by the offence that was the last straw.
    pub banned: BTreeMap<String, u64>,
    /// Whether it is an offence that ends in a ban, given the time.
    pub is_offence: bool,
}

/// Something that is taken and given back.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Usage {
    /// Before the siege, with the honest peers connected.
    pub start: u64,
    /// At most.
    pub peak: u64,
    /// After it.
    pub end: u64,
    /// What it may not exceed.
    pub bound: u64,
}

/// Round trips in milliseconds: of pings, and of questions for one block.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct RoundTrips {
    /// Ping to pong.
    pub ping: Times,
    /// `get_blocks` to `blocks`.
    pub blocks: Times,
}

/// Times in milliseconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Times {
    /// How many there are.
    pub count: usize,
    /// Half are no longer.
    pub median: f64,
    /// 95 of 100 are no longer.
    pub most: f64,
    /// The longest.
    pub worst: f64,
}

impl RoundTrips {
    pub(super) fn new(trips: &Trips) -> Self {
        Self { ping: Times::new(&trips.pings), blocks: Times::new(&trips.blocks) }
    }
}

impl Times {
    fn new(times: &[Duration]) -> Self {
        let mut times: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1000.0).collect();
        times.sort_by(f64::total_cmp);
        let at = |hundredth: usize| times.get((times.len() * hundredth).div_ceil(100).saturating_sub(1));
        let at = |hundredth| at(hundredth).copied().unwrap_or_default();
        Self { count: times.len(), median: at(50), most: at(95), worst: at(100) }
    }
}

impl Report {
    /// Whether everything held.
    pub fn is_ok(&self) -> bool {
        self.failures.is_empty()
    }

    pub(super) fn expect(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.failures.push(otherwise());
        }
    }

    /// Holds the numbers against what must hold.
    pub(super) fn judge(&mut self) {
        let (memory, descriptors, (pushed, taken)) = (self.memory, self.descriptors, self.blocks);
        self.expect(memory.peak <= memory.bound, || {
            format!("memory rose to {}, above {}", mebibytes(memory.peak), mebibytes(memory.bound))
        });
        self.expect(descriptors.end <= descriptors.start, || {
            format!("{} descriptors were open before, {} after", descriptors.start, descriptors.end)
        });
        self.expect(pushed > 0 && taken >= pushed, || {
            format!("of {pushed} blocks that honest peers pushed, the node has {taken}")
        });
        for (what, times) in [("ping", self.during.ping), ("block", self.during.blocks)] {
            self.expect(times.count > 0 && times.worst <= PONG_WITHIN_MS, || {
                format!(
                    "{} {what} round trips of honest peers, the longest of {:.0} ms",
                    times.count, times.worst
                )
            });
        }
        let is_long = self.duration_s >= LONG_ENOUGH_S;
        let crowded = is_long && self.connections >= CROWD && self.kinds.len() > 1;
        let evicted = self.endings.contains_key("local pruned");
        self.expect(!crowded || evicted, || "all slots were never taken: nobody made room".to_owned());
        for kind in self.kinds.clone() {
            self.expect(kind.made > 0, || format!("{}: no connection was made", kind.kind));
            self.expect(!is_long || !kind.is_offence || !kind.banned.is_empty(), || {
                format!("{}: nobody was banned", kind.kind)
            });
            self.expect(kind.is_offence || kind.banned.is_empty(), || {
                format!("{}: banned for what is no offence: {:?}", kind.kind, kind.banned)
            });
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |kind: &KindReport| {
            let banned: Vec<_> =
                kind.banned.iter().map(|(offence, count)| format!("{count} {offence}")).collect();
            let (made, closed) = (kind.made.to_string(), kind.closed.to_string());
            vec![kind.kind.to_owned(), made, closed, banned.join(", ")]
        };
        let kinds = self.kinds.iter().map(row);
        writeln!(f, "{}\n", table(&["hostile kind", "made", "closed by node", "addresses banned"], kinds))?;
        let trips = [
            ("ping, before", self.before.ping),
            ("ping, during", self.during.ping),
            ("block, before", self.before.blocks),
            ("block, during", self.during.blocks),
        ];
        let trips = trips.map(|(name, times)| {
            let ms = |value: f64| format!("{value:.1} ms");
            vec![name.to_owned(), times.count.to_string(), ms(times.median), ms(times.most), ms(times.worst)]
        });
        writeln!(f, "{}\n", table(&["honest round trips", "count", "median", "95 %", "worst"], trips))?;
        let (memory, files) = (self.memory, self.descriptors);
        let size = [memory.start, memory.peak, memory.end, memory.bound].map(mebibytes);
        let usage = [
            [&["memory".to_owned()][..], &size].concat(),
            vec![
                "descriptors".to_owned(),
                files.start.to_string(),
                files.peak.to_string(),
                files.end.to_string(),
                String::new(),
            ],
        ];
        writeln!(f, "{}\n", table(&["node", "start", "peak", "end", "bound"], usage))?;
        let Self { newcomers, blocks, .. } = self;
        writeln!(
            f,
            "{} of {} pushed blocks taken, {} of {} newcomers let in",
            blocks.1, blocks.0, newcomers.1, newcomers.0
        )?;
        let (processor, seconds) = (self.processor_s, self.duration_s);
        writeln!(
            f,
            "{processor:.1} s of processor time in {seconds} s, {} identities banned, {} KiB of log",
            self.banned_identities,
            self.log_bytes / 1024
        )?;
        let endings: Vec<_> = self.endings.iter().map(|(code, count)| format!("{code} {count}")).collect();
        writeln!(f, "ends of connections, as the node counts them: {}", endings.join(", "))?;
        self.failures.iter().try_for_each(|failure| writeln!(f, "FAILED: {failure}"))?;
        if self.is_ok() { writeln!(f, "ok") } else { Ok(()) }
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header).add_rows(rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Report {
        let times = Times { count: 1, ..Times::default() };
        let trips = RoundTrips { ping: times, blocks: times };
        Report { during: trips, blocks: (1, 1), duration_s: 60, ..Report::default() }
    }

    fn failures(change: impl FnOnce(&mut Report)) -> Vec<String> {
        let mut report = good();
        change(&mut report);
        report.judge();
        report.failures
    }

    #[test]
    fn each_expectation_fails_by_itself() {
        assert_eq!(failures(|_| ()), Vec::<String>::new());
        assert!(failures(|report| report.memory.peak = 1)[0].contains("memory rose to 1 MiB"));
        assert!(failures(|report| report.descriptors.end = 1)[0].contains("descriptors"));
        assert!(failures(|report| report.blocks.1 = 0)[0].contains("the node has 0"));
        assert!(failures(|report| report.during.ping.count = 0)[0].contains("0 ping round trips"));
        assert!(
            failures(|report| report.during.blocks.worst = 10_001.0)[0].contains("the longest of 10001 ms")
        );
        let kind = KindReport { kind: "x", made: 1, closed: 1, banned: BTreeMap::new(), is_offence: true };
        assert_eq!(failures(|report| report.kinds = vec![kind.clone()]), ["x: nobody was banned"]);
        let lonely = failures(|report| {
            (report.connections, report.kinds) =
                (200, vec![KindReport { is_offence: false, ..kind.clone() }; 2]);
        });
        assert_eq!(lonely, ["all slots were never taken: nobody made room"]);
        let banned = BTreeMap::from([("rate".to_owned(), 1)]);
        let framed = KindReport { banned: banned.clone(), is_offence: false, ..kind.clone() };
        assert!(failures(|report| report.kinds = vec![framed])[0].contains("no offence: {\"rate\": 1}"));
        let absent = KindReport { made: 0, banned, ..kind };
        assert_eq!(failures(|report| report.kinds = vec![absent]), ["x: no connection was made"]);
    }

    #[test]
    fn quantiles_are_of_those_that_were_measured() {
        let times: Vec<_> = (1..=20).map(Duration::from_millis).collect();
        let times = Times::new(&times);
        assert_eq!((times.count, times.median, times.most, times.worst), (20, 10.0, 19.0, 20.0));
        assert_eq!(Times::new(&[]).worst, 0.0);
    }
}
