//! The vectors of `refused.json`, by class.

use bt2c_proto::{Feature, limits::HELLO_FRAME_LIMIT};

use super::super::{
    super::vectors::{self, Bytes, Refused},
    Check, check,
};
use crate::conformance::{
    lab::Lab,
    report::{Outcome, Stop, Tally},
};

pub(in super::super) const VECTORS: &[Check] = &[
    check!(costly "refused-frames", "lengths of 0 and over the limit end the connection", frames),
    check!(costly "refused-bytes", "what is no UTF-8, and no JSON object, ends the connection", bytes),
    check!(costly "refused-depth", "deep nesting and long strings end the connection", depth),
    check!(costly "refused-data", "data that is no object, or of wrong fields, ends the connection", data),
    check!(costly "refused-hellos", "malformed hellos end the connection", hellos),
    check!(costly "refused-values", "values outside what a message allows end the connection", values),
    check!(costly "refused-chain-objects", "malformed blocks and transactions end the connection", objects),
    check!(costly "refused-extensions", "malformed disconnect and throttled end the connection", extensions),
    check!(costly "refused-features", "malformed messages of offered features end the connection", features),
];

async fn frames(lab: &mut Lab) -> Outcome {
    all(lab, |vector| matches!(vector.bytes, Bytes::Stream { .. })).await
}

async fn bytes(lab: &mut Lab) -> Outcome {
    all(lab, |vector| ["not-utf-8", "envelope"].contains(&vector.error.as_str())).await
}

async fn depth(lab: &mut Lab) -> Outcome {
    all(lab, |vector| ["too-deep", "string-too-long"].contains(&vector.error.as_str())).await
}

async fn data(lab: &mut Lab) -> Outcome {
    let errors = ["data", "data-not-object"];
    all(lab, |vector| {
        let kind = vector.kind();
        errors.contains(&vector.error.as_str())
            && matches!(kind.as_deref(), Some("ping" | "get_peers" | "get_blocks") | None)
            && !vector.is_hello()
    })
    .await
}

async fn hellos(lab: &mut Lab) -> Outcome {
    all(lab, Refused::is_hello).await
}

async fn values(lab: &mut Lab) -> Outcome {
    all(lab, |vector| vector.error == "invalid").await
}

async fn objects(lab: &mut Lab) -> Outcome {
    all(lab, |vector| {
        vector.error == "data" && matches!(vector.kind().as_deref(), Some("new_block" | "new_transaction"))
    })
    .await
}

async fn extensions(lab: &mut Lab) -> Outcome {
    if !lab.known()?.hello.knows_extensions() {
        return Err(Stop::Skipped("its hello has no features, so it does not know them".to_owned()));
    }
    all(lab, |vector| matches!(vector.kind().as_deref(), Some("disconnect" | "throttled"))).await
}

async fn features(lab: &mut Lab) -> Outcome {
    let known = lab.known()?.hello.clone();
    if Feature::ALL.iter().all(|feature| !known.knows(*feature)) {
        return Err(Stop::Skipped("its hello offers no feature".to_owned()));
    }
    each(lab, |vector| vector.feature().is_some_and(|feature| known.knows(feature))).await
}

/// Sends each of some vectors of the base protocol.
async fn all(lab: &mut Lab, is_meant: impl Fn(&Refused) -> bool) -> Outcome {
    each(lab, |vector| vector.feature().is_none() && is_meant(vector)).await
}

/// Sends each of some vectors on a connection of its own, and waits for its end. Answers and cancels are left out where what
/// is wrong is in their `data`: unasked, they are ignored unread.
async fn each(lab: &mut Lab, is_meant: impl Fn(&Refused) -> bool) -> Outcome {
    let unread =
        |vector: &Refused| vector.is_unasked() && matches!(vector.error.as_str(), "data" | "invalid");
    let meant = |vector: &Refused| is_meant(vector) && !unread(vector);
    let vectors: Vec<_> = vectors::refused().into_iter().filter(meant).collect();
    let mut tally = Tally::default();
    for vector in &vectors {
        let outcome = one(lab, vector).await;
        if !tally.add(&vector.name, outcome)? {
            break;
        }
    }
    tally.finish()
}

async fn one(lab: &mut Lab, vector: &Refused) -> Outcome {
    let visitor = lab.offender(vector.label()).await?;
    let comes_first = vector.is_hello()
        || matches!(&vector.bytes, Bytes::Stream { limit, .. } if *limit == HELLO_FRAME_LIMIT);
    let mut connection = if comes_first { lab.knock(&visitor).await? } else { lab.enter(&visitor).await?.0 };
    match &vector.bytes {
        Bytes::Stream { bytes, .. } => connection.raw(bytes).await,
        Bytes::Body(body) => connection.body(body).await,
    }
    connection.ended().await
}
