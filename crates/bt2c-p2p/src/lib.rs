//! x
pub mod env;
