//! `cargo xtask simulate`: networks of the real node in one process, on virtual time.
//!
//! What runs is the shipping code, TLS with real certificates included; only the four seams are replaced. A [`Scenario`]
//! says with a [`Plan`] what is there and what happens, and judges the [`World`] that results by named [`Expectation`]s.
//! The same seed gives the same trace.

mod attack;
mod cli;
mod clock;
mod identity;
mod jobs;
mod mutations;
pub mod net;
mod outcome;
mod plan;
mod record;
pub mod report;
mod scenario;
mod scenarios;
mod schedule;
mod shrink;
mod tables;
mod trace;
mod world;

pub use attack::{Attack, Behaviour, Line, Stage, serve};
pub use cli::{Args, run};
pub use clock::SimClock;
pub use identity::{MAX_IDENTITIES, identity, transaction};
pub use jobs::{Job, Played};
pub use outcome::{Expectation, Outcome};
pub use plan::{HostPlan, Plan, Role, Setup, Tune};
pub use record::{BanNote, History, Record, Spread};
pub use scenario::{Judge, Scenario, play, play_plan, replay};
pub use scenarios::{SCENARIOS, scenario};
pub use schedule::{Schedule, Step, Timed};
pub use shrink::{Shrunk, shrink};
pub use world::{BLOCK_TIME, ChainPlan, EPOCH, Host, Life, PORT, World};

#[cfg(test)]
mod tests;

/// The page's example, as a test.
#[cfg(doctest)]
#[doc = include_str!("../../docs/simulation.md")]
struct Page;
