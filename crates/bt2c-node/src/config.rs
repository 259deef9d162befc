//! Configuration: one table of keys, four layers, no key that does nothing.
//!
//! Defaults are the numbers of the reference; the fields live in the configuration types of the crates that use them, so
//! that a number is written once. Precedence: defaults < file < environment `BT2C_*` < flags.

mod duration;
mod file;
mod key_source;
mod keys;
mod layers;
mod nearest;
mod node_config;
mod print;
mod size;
mod units;
mod value;

pub(crate) use duration::MAX_DURATION;
pub use duration::{DurationError, format_duration, humane_duration, parse_duration};
pub use key_source::{KeyNumberError, KeySource, KeySourceError};
pub use layers::{ConfigError, Layers, Origin};
pub use node_config::{ApiAddr, ApiAddrError, Contradiction, LogFormat, LogFormatError, NodeConfig};
pub use print::default_file;
pub use size::{SizeError, parse_size};
pub use value::ValueError;
pub(crate) use value::{Raw, Setting, parse_addr};
