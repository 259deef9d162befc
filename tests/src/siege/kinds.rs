//! The kinds of hostile connections.

/// What a hostile connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A good hello, pongs, and nothing else, to hold a slot for ever.
    Squatter,
    /// TCP, then silence.
    HalfOpen,
    /// A byte of TLS a second.
    SlowTls,
    /// Bytes that are no TLS.
    Garbage,
    /// Certificates of another organisation, without the key they name, with too short a key.
    WrongCertificate,
    /// No certificate.
    NoCertificate,
    /// Good TLS, then silence.
    NoHello,
    /// A byte of a hello a second.
    SlowHello,
    /// Lengths of frames that are too long or nothing.
    GiantLength,
    /// Frames of a megabyte that is deep, wide, full of escapes, of numbers.
    JsonBomb,
    /// Requests as fast as they can be written.
    RequestFlood,
    /// Transactions with false signatures.
    FalseTransactions,
    /// Blocks of who may not propose.
    FalseBlocks,
    /// Blocks without parents.
    Orphans,
    /// Pings as fast as they can be written.
    PingFlood,
    /// Questions for blocks whose answers are never read.
    SlowReader,
    /// Questions, and then the end of this half of the connection.
    HalfClose,
    /// Answers that nobody asked for.
    Unasked,
    /// Connections that are opened and closed as fast as can be.
    Storm,
    /// A frame of a megabyte whose last byte never comes.
    UnfinishedFrame,
    /// A height that does not exist, and empty answers when asked for it.
    FalseHeight,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 21] = [
        Self::Squatter,
        Self::HalfOpen,
        Self::SlowTls,
        Self::Garbage,
        Self::WrongCertificate,
        Self::NoCertificate,
        Self::NoHello,
        Self::SlowHello,
        Self::GiantLength,
        Self::JsonBomb,
        Self::RequestFlood,
        Self::FalseTransactions,
        Self::FalseBlocks,
        Self::Orphans,
        Self::PingFlood,
        Self::SlowReader,
        Self::HalfClose,
        Self::Unasked,
        Self::Storm,
        Self::UnfinishedFrame,
        Self::FalseHeight,
    ];

    /// Its name, its share of the connections in two hundredths, and whether it is an offence that ends in a ban.
    ///
    /// Those that only hold handshakes up are 24: with as many as the node has places for handshakes (32) nobody else would
    /// come to try anything. Squatters and those that stay after their hello are more than the node has slots.
    const fn entry(self) -> (&'static str, usize, bool) {
        match self {
            Self::Squatter => ("squatter", 56, false),
            Self::HalfOpen => ("half-open", 6, false),
            Self::SlowTls => ("slow-tls", 6, false),
            Self::Garbage => ("tls-garbage", 8, true),
            Self::WrongCertificate => ("wrong-certificate", 8, true),
            Self::NoCertificate => ("no-certificate", 8, true),
            Self::NoHello => ("no-hello", 6, false),
            Self::SlowHello => ("slow-hello", 6, false),
            Self::GiantLength => ("giant-frame-length", 8, true),
            Self::JsonBomb => ("json-bomb", 8, true),
            Self::RequestFlood => ("request-flood", 8, true),
            Self::FalseTransactions => ("false-transactions", 8, true),
            Self::FalseBlocks => ("false-blocks", 8, true),
            Self::Orphans => ("orphan-blocks", 4, false),
            Self::PingFlood => ("ping-flood", 4, false),
            Self::SlowReader => ("slow-reader", 16, false),
            Self::HalfClose => ("half-close", 6, false),
            Self::Unasked => ("unasked-answers", 6, false),
            Self::Storm => ("reconnect-storm", 8, true),
            Self::UnfinishedFrame => ("unfinished-frame", 8, false),
            Self::FalseHeight => ("false-height", 4, true),
        }
    }

    /// The kind of that name.
    ///
    /// # Errors
    /// There is none; the message lists all.
    pub fn from_name(name: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| format!("the kinds are {}", names()))
    }

    /// Its name in tables.
    pub const fn name(self) -> &'static str {
        self.entry().0
    }

    /// Whether it is an offence that ends in a ban, given the time.
    pub const fn is_offence(self) -> bool {
        self.entry().2
    }

    /// How many of so many connections are of this kind; at least one.
    const fn share(self, connections: usize) -> usize {
        let share = (self.entry().1 * connections + TOTAL / 2) / TOTAL;
        if share == 0 { 1 } else { share }
    }

    /// Its place in [`Kind::ALL`], which is also what its addresses have in common: 127.(16 + index).x.y.
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Which kinds take part, with how many connections.
#[derive(Debug, Clone)]
pub struct Mix(Vec<(Kind, usize)>);

impl Mix {
    /// All kinds; about so many connections in all.
    pub fn of_all(connections: usize) -> Self {
        Self(Kind::ALL.iter().map(|kind| (*kind, kind.share(connections))).collect())
    }

    /// One kind alone.
    pub fn only(kind: Kind, connections: usize) -> Self {
        Self(vec![(kind, connections)])
    }

    pub(super) fn kinds(&self) -> impl Iterator<Item = (Kind, usize)> + '_ {
        self.0.iter().copied()
    }

    /// Connections of these kinds.
    pub(super) fn count(&self, kinds: &[Kind]) -> usize {
        self.kinds().filter(|(kind, _)| kinds.contains(kind)).map(|(_, count)| count).sum()
    }

    /// Connections in all.
    pub(super) fn total(&self) -> usize {
        self.count(&Kind::ALL)
    }
}

/// The sum of all shares.
const TOTAL: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_each_kind_knows_its_place() {
        assert_eq!(Mix::of_all(TOTAL).total(), TOTAL);
        assert!(
            Kind::ALL.iter().enumerate().all(|(index, kind)| kind.index() == index && kind.share(1) == 1)
        );
    }
}
