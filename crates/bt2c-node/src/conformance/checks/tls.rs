//! TLS as an honest dialer may speak it.

use super::{Check, check, hello::alive};
use crate::conformance::{
    client::Connection,
    lab::Lab,
    report::{Outcome, Stop, ensure},
    tls::Shown,
};
use bt2c_proto::Message;

pub(super) const CHECKS: &[Check] = &[
    check!("tls-mutual", "both sides present a certificate", mutual),
    check!("tls-no-tickets", "sessions start from scratch: no tickets", no_tickets),
    check!("tls-x25519", "X25519 is understood", x25519),
    check!("tls-server-name", "the server name is ignored", server_name),
    check!("alpn-offered", "bt2c/1 is chosen when it is offered", offered),
    check!("alpn-none", "a peer that offers no ALPN is served", none),
];

/// Dials with that change to what is shown, says hello, and is served.
async fn served(lab: &mut Lab, change: impl FnOnce(Shown) -> Shown) -> Result<Connection, Stop> {
    let visitor = lab.visitor().await;
    let shown = change(Shown::honest(&visitor.credentials));
    let mut connection = lab.dial(&visitor, &shown).await.map_err(Stop::Failed)?;
    let hello = lab.hello(connection.label());
    connection.say(&Message::Hello(Box::new(hello))).await;
    connection.hello().await?;
    alive(&mut connection).await?;
    Ok(connection)
}

async fn mutual(lab: &mut Lab) -> Outcome {
    let seen = served(lab, |shown| shown).await?.seen();
    ensure(seen.asked, || "TLS 1.3, but our certificate was not asked for".to_owned())?;
    Ok("TLS 1.3, our certificate was asked for".to_owned())
}

async fn no_tickets(lab: &mut Lab) -> Outcome {
    let tickets = served(lab, |shown| shown).await?.seen().tickets;
    ensure(tickets == 0, || format!("{tickets} tickets"))?;
    Ok("none".to_owned())
}

async fn x25519(lab: &mut Lab) -> Outcome {
    served(lab, Shown::only_x25519).await?;
    Ok("served with nothing else on offer".to_owned())
}

async fn server_name(lab: &mut Lab) -> Outcome {
    served(lab, |shown| shown.name("node.example.org")).await?;
    Ok("served under a name that it cannot know".to_owned())
}

async fn offered(lab: &mut Lab) -> Outcome {
    let alpn = served(lab, |shown| shown.alpn(&[b"other/9", bt2c_security::ALPN])).await?.alpn();
    ensure(alpn.as_deref() == Some(bt2c_security::ALPN), || {
        let chosen = alpn.as_deref().map_or_else(|| "nothing".into(), String::from_utf8_lossy);
        format!("{chosen} was chosen")
    })?;
    Ok("chosen, behind a name that nobody knows".to_owned())
}

async fn none(lab: &mut Lab) -> Outcome {
    let alpn = served(lab, |shown| shown.alpn(&[])).await?.alpn();
    ensure(alpn.is_none(), || "a protocol was chosen that was not offered".to_owned())?;
    Ok("served".to_owned())
}
