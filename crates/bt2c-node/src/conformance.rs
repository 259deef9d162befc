//! A black-box check of any implementation against `docs/protocol.md`: dials it as real peers, does what the page
//! allows and then what it forbids, and reports what came of it.
//!
//! Nothing is assumed about the other side but the page. Its certificate, its hello, the form of its messages and its
//! blocks are held to it; what it should tolerate and refuse are the golden vectors of `bt2c-proto`. Violations come
//! last, because the page lets their victim ban whoever commits them. A peer on 127.0.0.0/8 is dialled from many
//! addresses, so that each violation is a stranger's; elsewhere a ban is an answer like any other.

mod certificates;
mod checks;
mod client;
mod form;
mod lab;
mod report;
mod tls;
mod vectors;

use std::{net::SocketAddr, pin::pin, time::Duration};

use bt2c_proto::{BlockHash, Network};

pub(crate) use checks::Check;
pub(crate) use lab::Identities;
pub(crate) use report::{Report, Row, Verdict};

use lab::Lab;
use report::failed;

/// What to check, and how patiently.
pub(crate) struct Options {
    /// The peer.
    pub(crate) target: SocketAddr,
    /// Its network, if it is not to be learnt from its hello.
    pub(crate) network: Option<Network>,
    /// The hash of its block 0, if that is not to be learnt.
    pub(crate) genesis: Option<BlockHash>,
    /// Only checks whose name contains one of these; all, if there is none.
    pub(crate) only: Vec<String>,
    /// Leave out what costs points.
    pub(crate) gentle: bool,
    /// Dial from one address, even where there are many.
    pub(crate) one_address: bool,
    /// Longest wait for any one thing.
    pub(crate) step: Duration,
    /// Longest time for everything.
    pub(crate) whole: Duration,
}

/// The names of all checks.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    checks::all().into_iter().map(|check| check.name)
}

/// Runs the checks, one after the other; `before` hears the name of each.
pub(crate) async fn run(options: &Options, identities: Identities, mut before: impl FnMut(&Check)) -> Report {
    let mut lab = Lab::new(options, identities);
    let mut rows = Vec::new();
    let mut late = pin!(tokio::time::sleep(options.whole));
    let wanted = |check: &&Check| {
        check.vital || options.only.is_empty() || options.only.iter().any(|text| check.name.contains(text))
    };
    for check in checks::all().into_iter().filter(wanted).filter(|check| !(options.gentle && check.costly)) {
        before(check);
        let outcome = tokio::select! {
            biased;
            outcome = (check.run)(&mut lab) => outcome,
            () = &mut late => failed(format!("not done when the {:?} of the whole run were over", options.whole)),
        };
        let stop = late.is_elapsed() || check.vital && outcome.is_err();
        rows.push(Row::new(check.name, check.says, outcome));
        if stop {
            break;
        }
    }
    summary(options, &lab, rows)
}

fn summary(options: &Options, lab: &Lab, checks: Vec<Row>) -> Report {
    let count = |verdict| checks.iter().filter(|row| row.result == verdict).count();
    let hello = lab.known.as_ref().map(|known| &known.hello);
    Report {
        target: options.target.to_string(),
        node_id: hello.map(|hello| hello.node_id.to_string()),
        user_agent: hello.and_then(|hello| hello.user_agent.as_ref()).map(|text| text.as_str().to_owned()),
        network: hello.and_then(|hello| hello.network.as_ref()).map(|text| text.as_str().to_owned()),
        genesis_hash: lab.genesis().map(|hash| hash.to_string()),
        passed: count(Verdict::Passed),
        failed: count(Verdict::Failed),
        skipped: count(Verdict::Skipped),
        banned: count(Verdict::Banned),
        checks,
    }
}
