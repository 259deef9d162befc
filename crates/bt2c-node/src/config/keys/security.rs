//! Keys of rate limits, penalties and bans.

use std::{num::NonZeroU32, time::Duration};

use bt2c_security::Subject;

use super::{Section, key};
use crate::config::value::TextSetting;

impl TextSetting for Subject {}

pub(crate) const RATES: Section = Section {
    title: "Rate limits",
    keys: &[
        key!(requests_per_minute, p2p.security.requests_per_minute: NonZeroU32, "requests a minute",
            "Requests served to one connection and one IP; more are delayed. Lower makes others sync slowly from here, \
             higher lets one of them take the disk and the line."),
        key!(ban_after_excess, p2p.security.ban_after_excess: u32, "requests",
            "How many requests above the limit within a minute close a connection and ban its IP. 0 bans at the first, the \
             reference to the letter, and hits honest peers; a high number lets floods go on."),
        key!(attempts_per_minute, p2p.security.attempts_per_minute: NonZeroU32, "attempts a minute",
            "Connection attempts of one IP. Lower bans machines with several nodes, higher costs handshakes."),
        key!(handshakes_per_second, p2p.security.handshakes_per_second: NonZeroU32, "handshakes a second",
            "TLS handshakes that strangers may begin. Each costs 0.5 ms of a core, 2 ms with a key of 4096 bits, so the \
             default spends a quarter of one at most. Lower keeps honest nodes out when many come at once, higher spends the processor on strangers."),
        key!(handshakes_burst, p2p.security.handshakes_burst: NonZeroU32, "handshakes",
            "Such handshakes at once. Lower keeps some out when everybody comes back to a node that was away, higher lets \
             strangers take the processor for longer."),
        key!(handshakes_per_group_per_second, p2p.security.handshakes_per_group_per_second: NonZeroU32, "handshakes a second",
            "TLS handshakes that strangers of one netgroup (IPv4 /16, IPv6 /32) may begin. Lower keeps out neighbours at a large \
             host, higher lets fewer networks use up `handshakes_per_second`."),
        key!(handshakes_per_group_burst, p2p.security.handshakes_per_group_burst: NonZeroU32, "handshakes",
            "Such handshakes at once. Lower keeps out neighbours at a large host, higher lets a few networks use up \
             `handshakes_burst`."),
        key!(tx_per_second, p2p.security.tx_per_second: NonZeroU32, "transactions a second",
            "Transactions that one connection may push in the long run. Lower drops honest relays, higher costs signature \
             checks."),
        key!(tx_burst, p2p.security.tx_burst: NonZeroU32, "transactions",
            "Transactions that it may push at once. Lower drops the rush after a block, higher costs signature checks."),
        key!(blocks_per_second, p2p.security.blocks_per_second: NonZeroU32, "blocks a second",
            "Blocks that one connection may push in the long run. Lower drops honest relays, higher costs checks."),
        key!(block_burst, p2p.security.block_burst: NonZeroU32, "blocks",
            "Blocks that it may push at once. Lower drops honest relays after a split, higher costs checks."),
        key!(push_bytes_per_second, p2p.security.push_bytes_per_second: NonZeroU32, "bytes a second",
            "Bytes of pushes of one connection in the long run. Lower drops full blocks, higher costs the line."),
        key!(push_bytes_burst, p2p.security.push_bytes_burst: NonZeroU32, "bytes",
            "Bytes of pushes at once. Below 1 MB full blocks are dropped, higher costs memory."),
        key!(ping_interval_min, p2p.security.ping_interval_min: Duration, "duration",
            "A connection's pings that come sooner than this are dropped. Above the `ping_interval` of others their pings \
             go unanswered."),
    ],
};

pub(crate) const BANS: Section = Section {
    title: "Bans",
    keys: &[
        key!(failed_attempts, p2p.security.failed_attempts: NonZeroU32, "attempts",
            "Failed attempts of one IP within `failed_window` that ban it; only its own faults in TLS or hello count. Lower \
             bans broken clients at once, higher lets scanners go on."),
        key!(unfinished_attempts, p2p.security.unfinished_attempts: NonZeroU32, "attempts",
            "Handshakes of one IP that were not finished when their time was over, within `failed_window`; one more bans it. \
             Lower bans whoever is on a bad line, higher lets silent connections go on."),
        key!(failed_window, p2p.security.failed_window: Duration, "duration",
            "The window of `failed_attempts`. Longer bans slow scanners, and who fails now and then."),
        key!(ban_duration, p2p.security.ban_duration: Duration, "duration",
            "How long a first ban lasts; it doubles on repeat. Shorter lets attackers come back soon, longer hits whoever \
             has the address next."),
        key!(ban_duration_max, p2p.security.ban_duration_max: Duration, "duration",
            "The longest ban, at least `ban_duration`. Longer hits whoever has the address next."),
        key!(max_bans, p2p.security.max_bans: usize, "bans",
            "Bans kept at once; live ones are never pushed out by newer ones. Too few let floods from many addresses \
             through, more takes memory."),
        key!(allow, p2p.security.allow: Vec<Subject>, "IPs, CIDRs or PeerIds",
            "Never limited and never banned. Everyone behind a listed address may do anything to this node."),
    ],
};
