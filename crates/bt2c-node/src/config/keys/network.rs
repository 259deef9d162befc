//! Keys of connections, their times, and discovery.

use std::{num::NonZeroU16, time::Duration};

use super::{Section, key};

pub(crate) const CONNECTIONS: Section = Section {
    title: "Connections",
    keys: &[
        key!(max_connections, p2p.max_connections: usize, "connections",
            "Connections in all. Too low starves the network of slots, too high this machine of memory (up to 5 MiB each \
             under load) and descriptors."),
        key!(min_peers, p2p.discovery.outbound_wanted: usize, "connections",
            "Outbound connections wanted at any time, as far as `max_connections` allows. Fewer make it easier to surround the \
             node with liars, more fill the inbound slots of others."),
        key!(inbound_per_ip, p2p.inbound_per_ip: usize, "connections",
            "Inbound connections from one IP (IPv6: a /64). Lower cuts off nodes that share an address, higher lets one \
             machine take many slots."),
        key!(inbound_per_subnet, p2p.inbound_per_subnet: usize, "connections",
            "Inbound connections from one IPv4 /24 or IPv6 /48. Lower cuts off neighbours, higher lets one operator take \
             many slots."),
        key!(pending_per_ip, p2p.pending_per_ip: usize, "handshakes",
            "Inbound handshakes under way from one IP. 1 refuses honest nodes behind one address at times, more lets one \
             machine hold the slots of `pending_total`."),
        key!(pending_total, p2p.pending_total: usize, "handshakes",
            "Inbound handshakes under way in all: bounds the RSA work that strangers can ask for at once. Too low refuses \
             honest nodes when many arrive, too high spends the processor on strangers."),
        key!(send_queue_bytes, p2p.send_queue_bytes: usize, "bytes",
            "What is queued for one peer. Below one full frame of 1 MiB nothing could be sent, much more multiplies by the \
             number of peers that do not read."),
    ],
};

pub(crate) const TIMES: Section = Section {
    title: "Times",
    keys: &[
        key!(connection_timeout, p2p.connection_timeout: Duration, "duration",
            "Dial, TLS and both hellos together. Shorter cuts off slow links, longer lets silent connections hold a slot."),
        key!(tls_timeout, p2p.tls_timeout: Duration, "duration",
            "TLS alone, on connections that others opened. Shorter cuts off slow machines, longer helps those who only hold \
             connections open."),
        key!(ping_interval, p2p.ping_interval: Duration, "duration",
            "How often a peer is asked whether it is there. Shorter wastes traffic, below 5 s peers drop the pings; longer \
             notices a lost peer late."),
        key!(silence_timeout, p2p.silence_timeout: Duration, "duration",
            "Silence after which a peer is gone; above `ping_interval`. Shorter cuts off peers on bad links, longer keeps \
             the slot of a lost one."),
        key!(idle_timeout, p2p.idle_timeout: Duration, "duration",
            "Time without a useful message after which a peer may be pruned if there are more than `min_peers`. Below a few \
             block times honest peers are pruned, much longer keeps useless ones."),
        key!(frame_timeout, p2p.frame_timeout: Duration, "duration",
            "A started frame must be complete after this and one second for each 8 KiB. Shorter cuts off slow links, longer \
             helps those who send a byte a minute."),
        key!(send_timeout, p2p.send_timeout: Duration, "duration",
            "Time without progress in writing after which a peer is too slow. Shorter cuts off bad links, longer holds its \
             queue in memory."),
    ],
};

pub(crate) const DISCOVERY: Section = Section {
    title: "Discovery",
    keys: &[
        key!(discovery_interval, p2p.discovery.interval: Duration, "duration",
            "How often connected peers are asked for addresses. Shorter spends the request limits of others, longer heals a \
             partition later."),
        key!(backoff_base, p2p.discovery.backoff_base: Duration, "duration",
            "First wait before an address that failed is dialled again; it doubles with each failure. Shorter knocks on dead \
             doors, longer comes back late."),
        key!(backoff_max, p2p.discovery.backoff_max: Duration, "duration",
            "Longest such wait. Longer heals a partition later, shorter knocks on dead doors."),
        key!(feeler_interval, p2p.discovery.feeler_interval: Duration, "duration",
            "How often an address that never answered is checked while all outbound slots are taken. Shorter burdens others \
             with handshakes, longer leaves the tried half of the book thin."),
        key!(new_buckets, p2p.discovery.new_buckets: NonZeroU16, "buckets of 64 addresses",
            "Room for addresses that others named. Fewer let one source crowd out the rest, more take memory."),
        key!(tried_buckets, p2p.discovery.tried_buckets: NonZeroU16, "buckets of 64 addresses",
            "Room for addresses that answered a dial. Fewer forget good peers, more take memory."),
        key!(answer_percent, p2p.discovery.answer_percent: u8, "hundredths",
            "Largest share of the book told to anybody. More makes it cheap to copy the whole book, less helps newcomers \
             little."),
        key!(answer_lifetime, p2p.discovery.answer_lifetime: Duration, "duration",
            "How long askers of one netgroup get the same answer. Shorter makes it cheap to copy the book."),
        key!(intake_spacing, p2p.discovery.intake_spacing: Duration, "duration",
            "How often one more address is taken from the same peer once its burst is used up. Shorter lets a liar fill the \
             book, longer learns slowly."),
        key!(intake_burst, p2p.discovery.intake_burst: u32, "addresses",
            "How many addresses are taken from one peer at once. Below 1000 part of an honest full answer is dropped."),
        key!(persist_interval, p2p.discovery.persist_interval: Duration, "duration",
            "Least time between two writes of the peers file. Shorter writes much, longer forgets more at a crash."),
    ],
};
