//! The two cores under sequences of events that are decoded from bytes, for fuzz targets.
//!
//! Each run makes a core, plays what the bytes say, and panics where an invariant does not hold. Bytes that run out end
//! the run, so that every input is a valid one.

pub use crate::{manager::core::fuzzing::manager, session::core::fuzzing::session};
