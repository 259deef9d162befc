//! The checks, in the order in which they run: what the page allows, then refusals that cost nothing, then violations.

mod blocks;
mod certificate;
mod features;
mod hello;
mod questions;
mod reading;
mod refusals;
mod tls;
mod violations;
mod writing;

use futures_util::future::LocalBoxFuture;

use super::{lab::Lab, report::Outcome};

/// One check.
pub(crate) struct Check {
    /// Its name, unique.
    pub(crate) name: &'static str,
    /// What the protocol page says.
    pub(crate) says: &'static str,
    /// Always run, and nothing after it if it fails.
    pub(super) vital: bool,
    /// A violation, for which the page lets the peer ban.
    pub(super) costly: bool,
    pub(super) run: for<'a> fn(&'a mut Lab) -> LocalBoxFuture<'a, Outcome>,
}

impl Check {
    const fn vital(self) -> Self {
        Self { vital: true, ..self }
    }
}

/// All of them.
pub(super) fn all() -> Vec<&'static Check> {
    let groups: [&[Check]; 12] = [
        hello::CHECKS,
        tls::CHECKS,
        certificate::CHECKS,
        questions::CHECKS,
        blocks::CHECKS,
        features::CHECKS,
        reading::CHECKS,
        writing::CHECKS,
        refusals::CHECKS,
        violations::CHECKS,
        violations::VECTORS,
        violations::LAST,
    ];
    groups.into_iter().flatten().collect()
}

/// Declares a check: its name, what the page says, and the function.
macro_rules! check {
    ($name:literal, $says:literal, $run:expr) => {
        $crate::conformance::checks::Check {
            name: $name,
            says: $says,
            vital: false,
            costly: false,
            run: |lab| Box::pin($run(lab)),
        }
    };
    (costly $name:literal, $says:literal, $run:expr) => {
        $crate::conformance::checks::Check {
            name: $name,
            says: $says,
            vital: false,
            costly: true,
            run: |lab| Box::pin($run(lab)),
        }
    };
}
use check;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_violations_come_last() {
        let checks = all();
        let names: BTreeSet<_> = checks.iter().map(|check| check.name).collect();
        assert_eq!(names.len(), checks.len());
        let harmless = checks.iter().take_while(|check| !check.costly).count();
        assert!(checks[harmless..].iter().all(|check| check.costly));
        assert!(harmless > 25 && checks.len() > harmless + 15, "{harmless} of {}", checks.len());
    }
}
