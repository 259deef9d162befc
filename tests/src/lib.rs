//! A real node on loopback and hand-made peers that attack it, for tests that need several crates at once.
//!
//! - [`Victim`] is a `P2PManager` on real sockets, with its counters as `/metrics` shows them.
//! - [`Shown`] is what a hand-made peer shows in TLS: any certificate, proven or not, any ALPN, or nothing.
//! - [`Attacker`] is such a peer's connection, from a source address of its choice.
//! - [`siege`] sets hundreds of such connections on a node that is a process of its own, and measures it.

mod attacker;
mod shown;
pub mod siege;
mod victim;

pub use attacker::{Attacker, Told, dial};
pub use shown::Shown;
pub use victim::{GENESIS, PATIENCE, Victim, in_time, ip, now};
