//! How everything was written that came so far.

use super::{Check, check};
use crate::conformance::{
    lab::Lab,
    report::{Outcome, Stop, failed},
};

pub(super) const CHECKS: &[Check] = &[
    check!("writing-envelope", "type, data, timestamp and sender are there, and sender is node_id", envelope),
    check!("writing-form", "one spelling: fields in order, no white space, plain numbers", form),
    check!("writing-types", "peers without features get the nine base messages only", types),
];

fn judge(lab: &Lab, faults: impl Fn(&super::super::form::Form) -> &[String]) -> Outcome {
    let form = lab.form.borrow();
    if form.messages == 0 {
        return Err(Stop::Skipped("no message came".to_owned()));
    }
    match faults(&form) {
        [] => Ok(format!("{} messages, the largest of {} bytes", form.messages, form.largest)),
        [first] => failed(first.clone()),
        [first, rest @ ..] => failed(format!("{first} (and {} more)", rest.len())),
    }
}

async fn envelope(lab: &mut Lab) -> Outcome {
    judge(lab, |form| &form.envelope)
}

async fn form(lab: &mut Lab) -> Outcome {
    judge(lab, |form| &form.spelling)
}

async fn types(lab: &mut Lab) -> Outcome {
    judge(lab, |form| &form.types)
}
