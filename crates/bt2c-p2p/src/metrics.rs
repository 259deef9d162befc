//! What the manager counts. One value a node, so that nodes in one process do not mix.

use bt2c_security::Offence;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::{peer::Direction, reason::CloseReason};

/// Counters and gauges of a [`P2PManager`](crate::P2PManager). Every label value comes from a closed set.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Peers whose hello was accepted, now.
    pub(crate) peers: Family<DirectionLabel, Gauge>,
    /// Connections that ended or never came to be.
    pub(crate) closed: Family<ClosedLabels, Counter>,
    /// Messages received, by type; `unknown` for types that are not known here.
    pub(crate) received: Family<KindLabel, Counter>,
    /// Messages sent, by type.
    pub(crate) sent: Family<KindLabel, Counter>,
    /// Messages that were not passed on, by cause.
    pub(crate) dropped: Family<CauseLabel, Counter>,
    /// Bytes received, TLS excluded.
    pub(crate) bytes_in: Counter,
    /// Bytes sent, TLS excluded.
    pub(crate) bytes_out: Counter,
    /// Offences charged, by name.
    pub(crate) offences: Family<OffenceLabel, Counter>,
    /// Bans made since the start.
    pub(crate) bans: Counter,
    /// Bans that were due and not made, for the table was full.
    pub(crate) bans_missed: Counter,
    /// Relayed objects.
    pub(crate) relayed: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct DirectionLabel {
    pub(crate) direction: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ClosedLabels {
    pub(crate) by: &'static str,
    pub(crate) code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct KindLabel {
    pub(crate) r#type: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct CauseLabel {
    pub(crate) cause: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OffenceLabel {
    pub(crate) offence: &'static str,
}

impl Metrics {
    /// Registers everything under `bt2c_p2p_`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("bt2c_p2p");
        registry.register("peers", "Peers whose hello was accepted", self.peers.clone());
        let help = "Connections that ended or never came to be, by whom and why";
        registry.register("connections_closed", help, self.closed.clone());
        registry.register("messages_received", "Messages received, by type", self.received.clone());
        registry.register("messages_sent", "Messages sent, by type", self.sent.clone());
        registry.register("messages_dropped", "Messages not passed on, by cause", self.dropped.clone());
        registry.register("bytes_received", "Bytes received, TLS excluded", self.bytes_in.clone());
        registry.register("bytes_sent", "Bytes sent, TLS excluded", self.bytes_out.clone());
        registry.register("offences", "Offences charged to peers, by name", self.offences.clone());
        registry.register("bans", "Bans made since the start", self.bans.clone());
        let help = "Bans that were due and not made, for the table was full";
        registry.register("bans_missed", help, self.bans_missed.clone());
        registry.register("relayed", "Blocks and transactions relayed", self.relayed.clone());
    }

    /// Connections that ended for this reason so far.
    pub fn closed_for(&self, reason: CloseReason) -> u64 {
        self.closed.get_or_create(&ClosedLabels { by: reason.by(), code: reason.code() }).get()
    }

    /// Messages that were not passed on for this cause so far.
    pub fn dropped_for(&self, cause: DropCause) -> u64 {
        self.dropped.get_or_create(&CauseLabel { cause: cause.name() }).get()
    }

    /// Offences of one kind that were charged so far.
    pub fn offences_for(&self, offence: Offence) -> u64 {
        self.offences.get_or_create(&OffenceLabel { offence: offence.name() }).get()
    }

    pub(crate) fn count_closed(&self, reason: CloseReason) {
        self.closed.get_or_create(&ClosedLabels { by: reason.by(), code: reason.code() }).inc();
    }

    pub(crate) fn count_offence(&self, offence: Offence) {
        self.offences.get_or_create(&OffenceLabel { offence: offence.name() }).inc();
    }

    pub(crate) fn count_dropped(&self, cause: DropCause) {
        self.dropped.get_or_create(&CauseLabel { cause: cause.name() }).inc();
    }

    pub(crate) fn count_received(&self, kind: &'static str) {
        self.received.get_or_create(&KindLabel { r#type: kind }).inc();
    }

    pub(crate) fn count_sent(&self, kind: &'static str) {
        self.sent.get_or_create(&KindLabel { r#type: kind }).inc();
    }

    pub(crate) fn count_peer(&self, direction: Direction, up: bool) {
        let gauge = self.peers.get_or_create(&DirectionLabel { direction: direction.name() });
        if up {
            gauge.inc();
        } else {
            gauge.dec();
        }
    }
}

/// Why a message was not passed on although its connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropCause {
    /// Its type is not known here.
    UnknownType,
    /// An answer to nothing that was asked.
    Unasked,
    /// A push above the limits.
    PushLimit,
    /// A ping too soon after the last.
    PingLimit,
    /// A request above the limits, when no more may wait.
    RequestLimit,
    /// Nobody handles its type.
    NoHandler,
    /// Its `sender` is not the peer's label; the message itself is passed on.
    ForeignSender,
}

impl DropCause {
    const fn name(self) -> &'static str {
        match self {
            Self::UnknownType => "unknown_type",
            Self::Unasked => "unasked",
            Self::PushLimit => "push_limit",
            Self::PingLimit => "ping_limit",
            Self::RequestLimit => "request_limit",
            Self::NoHandler => "no_handler",
            Self::ForeignSender => "foreign_sender",
        }
    }
}
