//! The fuzzer around one target, which the environment names. `cargo xtask fuzz` builds and runs it.

#![no_main]

use std::sync::LazyLock;

use bt2c_fuzz::{Target, target};

/// Names the target.
const NAME: &str = "BT2C_FUZZ_TARGET";

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var(NAME).unwrap_or_default();
    target(&name).unwrap_or_else(|| panic!("{NAME} names no target: {name:?}"))
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (TARGET.run)(bytes));
