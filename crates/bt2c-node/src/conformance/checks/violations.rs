//! What must end the connection. The first five are all that is really tried where the peer bans us: one from each part
//! of the page.

mod vectors;

use std::time::Duration;

use bt2c_proto::limits::{FRAME_LIMIT, HELLO_FRAME_LIMIT};
use bt2c_proto::{GetBlocks, GetPeers, Height, Message, NodeId, PeerId};
use bt2c_security::Credentials;

use super::{Check, check};
use crate::conformance::{
    certificates::{self, Says},
    client::{Connection, SLOW, tcp},
    lab::{Lab, Visitor},
    report::{Outcome, Stop, failed},
    tls::Shown,
};

pub(super) use vectors::VECTORS;

/// What takes time, so that most of it has passed.
pub(super) const LAST: &[Check] =
    &[check!(costly "violation-silence", "TCP, TLS and hello have 10 seconds together", silence)];

pub(super) const CHECKS: &[Check] = &[
    check!(costly "violation-no-certificate", "a dialer without a certificate is not served", no_certificate),
    check!(costly "violation-frame-over-limit", "a length over 1,048,576 is refused without the body", over_limit),
    check!(costly "violation-second-hello", "hello is sent exactly once", second_hello),
    check!(costly "violation-first-no-hello", "anything but hello first is a violation", first_no_hello),
    check!(costly "violation-range-inverted", "a start above the end is a violation", range_inverted),
    check!(costly "violation-tls-1.2", "TLS 1.3 is the only version", tls12),
    check!(costly "violation-alpn", "a peer that offers other protocols only is not served", alpn),
    check!(costly "violation-organisation", "a certificate of another organisation is refused", organisation),
    check!(costly "violation-chain", "a certificate that is not the only one is refused", chain),
    check!(costly "violation-long-certificate", "a certificate of over 4096 bytes is refused", long_certificate),
    check!(costly "violation-elliptic", "a key that is not RSA is refused", elliptic),
    check!(costly "violation-stolen", "a certificate without proof of its key is refused", stolen),
    check!(costly "violation-expired", "a certificate outside its dates is refused", expired),
    check!(costly "violation-label", "a node_id that is not the certificate's is refused", label),
    check!(costly "violation-hex-label", "40 hex digits of another PeerId are refused", hex_label),
    check!(costly "violation-frame-before-hello", "a length over 16,384 is refused before hello", before_hello),
    check!(costly "violation-empty-frame", "a length of 0 is a violation", empty_frame),
];

/// What shows that a dialer was let in though it should not have been.
async fn turned_away(lab: &Lab, visitor: &Visitor, shown: &Shown) -> Outcome {
    let mut connection = match lab.dial(visitor, shown).await {
        Ok(connection) => connection,
        Err(how) if how.starts_with("TCP") || how.starts_with(SLOW) => return failed(how),
        Err(how) => return Ok(how),
    };
    let hello = lab.hello(connection.label());
    connection.say(&Message::Hello(Box::new(hello))).await;
    match connection.hello().await {
        Ok(_) => failed("it said hello"),
        Err(Stop::Failed(why)) if why.ends_with(" before its hello") => Ok(why),
        Err(stop) => Err(stop),
    }
}

/// A session of somebody who is about to violate the page in it.
async fn session(lab: &mut Lab) -> Result<Connection, Stop> {
    let visitor = lab.offender(None).await?;
    Ok(lab.enter(&visitor).await?.0)
}

async fn no_certificate(lab: &mut Lab) -> Outcome {
    let visitor = lab.offender(None).await?;
    turned_away(lab, &visitor, &Shown::nothing()).await
}

async fn alpn(lab: &mut Lab) -> Outcome {
    let visitor = lab.offender(None).await?;
    let shown = Shown::honest(&visitor.credentials).alpn(&[b"h2", b"bt2c/9"]);
    turned_away(lab, &visitor, &shown).await
}

async fn organisation(lab: &mut Lab) -> Outcome {
    let visitor = lab.offender(None).await?;
    let certificate = with(&visitor, |says| says.organisation = "Another Network");
    turned_away(lab, &visitor, &Shown::chain(vec![certificate], visitor.credentials.identity())).await
}

async fn chain(lab: &mut Lab) -> Outcome {
    let visitor = lab.offender(None).await?;
    let own = visitor.credentials.certificate_der().to_vec();
    let shown = Shown::chain(vec![own.clone(), own], visitor.credentials.identity());
    turned_away(lab, &visitor, &shown).await
}

async fn long_certificate(lab: &mut Lab) -> Outcome {
    let visitor = lab.offender(None).await?;
    let certificate = with(&visitor, |says| says.extra = 4096);
    turned_away(lab, &visitor, &Shown::chain(vec![certificate], visitor.credentials.identity())).await
}

async fn elliptic(lab: &mut Lab) -> Outcome {
    let visitor = lab.offender(None).await?;
    let certificate = Says::honest(visitor.credentials.node_id()).elliptic();
    turned_away(lab, &visitor, &Shown::unproven(certificate)).await
}

async fn stolen(lab: &mut Lab) -> Outcome {
    let visitor = lab.offender(None).await?;
    let shown = Shown::unproven(visitor.credentials.certificate_der().to_vec());
    turned_away(lab, &visitor, &shown).await
}

async fn expired(lab: &mut Lab) -> Outcome {
    const TWO_YEARS: u64 = 2 * 365 * 86_400;
    let visitor = lab.offender(None).await?;
    let then = bt2c_proto::Time::from_secs(lab.now().as_secs().saturating_sub(TWO_YEARS));
    let (identity, label) = (visitor.credentials.identity().clone(), visitor.credentials.node_id().clone());
    let stale = Credentials::issue(identity, Some(label), then).expect("the date can be written");
    turned_away(lab, &visitor, &Shown::honest(&stale)).await
}

async fn tls12(lab: &mut Lab) -> Outcome {
    let visitor = lab.offender(None).await?;
    let mut stream = match tcp(&lab.route(visitor.source)).await {
        Ok(stream) => stream,
        Err(how) => return failed(how),
    };
    certificates::tls12_hello_is_refused(&mut stream, lab.route(None).step).await
}

async fn first_no_hello(lab: &mut Lab) -> Outcome {
    let visitor = lab.offender(None).await?;
    let mut connection = lab.knock(&visitor).await?;
    connection.say(&Message::GetPeers(GetPeers { count: 1 })).await;
    connection.ended().await
}

async fn second_hello(lab: &mut Lab) -> Outcome {
    let mut connection = session(lab).await?;
    let hello = lab.hello(connection.label());
    connection.say(&Message::Hello(Box::new(hello))).await;
    connection.ended().await
}

/// A certificate with the visitor's key that says something else.
fn with(visitor: &Visitor, change: impl FnOnce(&mut Says<'_>)) -> Vec<u8> {
    let mut says = Says::honest(visitor.credentials.node_id());
    change(&mut says);
    says.with_key(visitor.credentials.identity())
}

/// Says hello under a label, on that certificate.
async fn mislabelled(lab: &Lab, visitor: &Visitor, shown: &Shown, label: &NodeId) -> Outcome {
    let route = lab.route(visitor.source);
    let mut connection = Connection::dial(&route, shown, label.clone()).await.or_else(failed)?;
    let hello = lab.hello(label);
    connection.say(&Message::Hello(Box::new(hello))).await;
    connection.ended().await
}

async fn label(lab: &mut Lab) -> Outcome {
    let visitor = lab.offender(None).await?;
    let other = "somebody-else".parse().expect("letters and a dash");
    mislabelled(lab, &visitor, &Shown::honest(&visitor.credentials), &other).await
}

async fn hex_label(lab: &mut Lab) -> Outcome {
    let visitor = lab.offender(None).await?;
    let other = NodeId::derived_from(&PeerId::from_spki_der(b"somebody else's key"));
    let certificate = Says::honest(&other).with_key(visitor.credentials.identity());
    let shown = Shown::chain(vec![certificate], visitor.credentials.identity());
    mislabelled(lab, &visitor, &shown, &other).await
}

async fn before_hello(lab: &mut Lab) -> Outcome {
    let visitor = lab.offender(None).await?;
    let mut connection = lab.knock(&visitor).await?;
    connection.raw(&header(HELLO_FRAME_LIMIT + 1)).await;
    connection.ended().await
}

async fn over_limit(lab: &mut Lab) -> Outcome {
    let mut connection = session(lab).await?;
    connection.raw(&header(FRAME_LIMIT + 1)).await;
    connection.ended().await
}

async fn empty_frame(lab: &mut Lab) -> Outcome {
    let mut connection = session(lab).await?;
    connection.raw(&header(0)).await;
    connection.ended().await
}

async fn range_inverted(lab: &mut Lab) -> Outcome {
    let mut connection = session(lab).await?;
    let asked = GetBlocks::range(Height::new(1), Height::GENESIS);
    connection.say(&Message::GetBlocks(asked)).await;
    connection.ended().await
}

/// How long a connection on which nothing is said may stay: the page's 10 seconds, and as long again for slow machines.
const SILENCE: Duration = Duration::from_secs(20);

async fn silence(lab: &mut Lab) -> Outcome {
    let mut connection = match lab.silent.take() {
        Some(connection) => connection,
        None => {
            let visitor = lab.offender(None).await?;
            lab.knock(&visitor).await?
        }
    };
    connection.ended_within(SILENCE).await
}

fn header(len: usize) -> [u8; 4] {
    u32::try_from(len).expect("limits are below 4 GiB").to_be_bytes()
}
