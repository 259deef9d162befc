//! The BT2C node: [`P2PNode`], the command line, the control API and metrics.

pub mod api;
mod chain;
mod cli;
pub mod config;
mod devnet;
pub mod genesis;
mod home;
mod node;
mod random;

pub use cli::main as cli_main;
pub use home::HomeError;
pub use node::*;
