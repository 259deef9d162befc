//! What is fuzzed: each target is a function over any bytes that panics when something does not hold.
//!
//! `cargo xtask fuzz` runs them under libFuzzer; `cargo test -p bt2c-fuzz` runs them over the committed corpora in
//! `corpus/`, so that what was found once stays found with nothing but the stable toolchain.
//!
//! ```
//! let frame = bt2c_fuzz::target("frame").expect("there is such a target");
//! (frame.run)(b"any bytes");
//! ```

mod files;
mod security_ops;
mod wire;

use std::sync::LazyLock;

use bt2c_proto::Time;
use bt2c_security::{Credentials, fixtures};

/// A function that is fuzzed.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name on the command line, and of its directory in `corpus/`.
    pub name: &'static str,
    /// Takes one input; panics if something does not hold.
    pub run: fn(&[u8]),
}

/// Every target.
pub const TARGETS: [Target; 10] = [
    Target { name: "frame", run: wire::frame },
    Target { name: "envelope", run: wire::envelope },
    Target { name: "message", run: wire::message },
    Target { name: "certificate", run: files::certificate },
    Target { name: "bans_file", run: files::bans },
    Target { name: "reputation_file", run: files::reputation },
    Target { name: "peers_file", run: files::peers },
    Target { name: "security_ops", run: security_ops::run },
    Target { name: "handshake", run: bt2c_p2p::fuzzing::session },
    Target { name: "manager", run: manager },
];

/// The target of that name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// When all of it happens.
const NOW: Time = Time::from_secs(1_712_352_000);

fn manager(bytes: &[u8]) {
    static CERTIFICATES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        let issue =
            |i| Credentials::issue(fixtures::identity(i), None, NOW).expect("fixtures have good keys");
        (0..8).map(|i| issue(i).certificate_der().to_vec()).collect()
    });
    bt2c_p2p::fuzzing::manager(bytes, &CERTIFICATES);
}
