//! The beginning of a connection.

use std::time::Duration;

use bt2c_proto::{GetPeers, Message, MessageKind, NodeId, Ping, limits::HELLO_FRAME_LIMIT};
use bt2c_security::Credentials;

use super::{super::vectors, Check, check};
use crate::conformance::{
    client::{self, Connection, Event},
    lab::{self, Lab, Visitor},
    report::{Outcome, Stop, Tally, ensure, failed},
};

pub(super) const CHECKS: &[Check] = &[
    check!("hello-dialer-first", "the listener sends nothing before the dialer's hello", dialer_first),
    check!("hello-exchange", "a hello is answered by a hello, and by that first", exchange).vital(),
    check!("hello-fields", "version 1, node_id is the sender, height and tip are there", fields),
    check!("hello-tip", "height and hash are of the sender's best block", tip),
    check!("hello-base", "the first four fields make a complete hello", base),
    check!("hello-own-hex-label", "40 hex digits are a label if they begin one's own PeerId", own_hex_label),
    check!("hello-tolerated", "the hellos of tolerated.json are taken", tolerated),
    check!("hello-longest", "a hello of 16,384 bytes is taken", longest),
    check!("hello-newer-stays", "of two connections dialled by one peer the newer stays", newer_stays),
];

/// How long the listener has for speaking out of turn.
const QUIET: Duration = Duration::from_millis(400);

async fn dialer_first(lab: &mut Lab) -> Outcome {
    let visitor = lab.visitor().await;
    let mut connection = lab.knock(&visitor).await?;
    match connection.within(QUIET).await? {
        None => {
            if !lab.gentle {
                // Goes on saying nothing, for the last check of all.
                lab.silent = Some(connection);
            }
            Ok(format!("nothing in {QUIET:?}"))
        }
        Some(Event::Ended(why)) => failed(format!("{why} before our hello")),
        Some(Event::Message(message)) => {
            failed(format!("{} came before our hello", client::name(message.kind)))
        }
    }
}

async fn exchange(lab: &mut Lab) -> Outcome {
    let hello = lab.meet().await?;
    let agent = hello.user_agent.as_ref().map_or("no user_agent", |text| text.as_str());
    Ok(format!("{} ({agent}) at height {}", hello.node_id, hello.block_height))
}

async fn fields(lab: &mut Lab) -> Outcome {
    let known = lab.known()?;
    ensure(known.hello.version.major == 1, || format!("version {}", known.hello.version))?;
    let network = known.hello.network.as_ref().map_or("none", |text| text.as_str());
    if let (Some(told), Some(genesis)) = (known.hello.genesis_hash, lab.genesis()) {
        ensure(told == genesis, || format!("genesis_hash {told}, and block 0 is {genesis}"))?;
    }
    Ok(format!("version {}, network {network}", known.hello.version))
}

async fn tip(lab: &mut Lab) -> Outcome {
    let (mut connection, hello) = lab.visit().await?;
    let height = hello.block_height.get();
    let blocks = lab::blocks(&mut connection, height, height).await?;
    match (blocks.first(), hello.last_block_hash) {
        (Some(block), Some(tip)) if block.hash() == tip => Ok(format!("block {height} is {}", tip.short())),
        (Some(block), Some(tip)) => failed(format!("hello names {tip}, block {height} is {}", block.hash())),
        (_, None) => failed("last_block_hash is no hash, though there is a genesis at least"),
        (None, _) => failed(format!("hello tells of height {height}, and that block is not served")),
    }
}

async fn base(lab: &mut Lab) -> Outcome {
    let visitor = lab.visitor().await;
    let mut connection = lab.knock(&visitor).await?;
    let hello = lab.base_hello(connection.label());
    connection.say(&Message::Hello(Box::new(hello))).await;
    connection.hello().await?;
    alive(&mut connection).await?;
    Ok("taken and served".to_owned())
}

async fn own_hex_label(lab: &mut Lab) -> Outcome {
    let visitor = lab.visitor().await;
    let own = NodeId::derived_from(&visitor.credentials.peer_id());
    let (mut connection, _) = lab.enter(&relabelled(lab, &visitor, own)).await?;
    alive(&mut connection).await?;
    Ok("taken and served".to_owned())
}

async fn tolerated(lab: &mut Lab) -> Outcome {
    let mut tally = Tally::default();
    for vector in vectors::tolerated() {
        // Well-formed, and refused for what they say; see the refusals.
        let refused = ["hello-other-major-version", "hello-other-network"].contains(&vector.name.as_str());
        let Some(label) = vectors::label(&vector.body).filter(|_| !refused) else { continue };
        let visitor = lab.visitor().await;
        let mut connection = lab.knock(&relabelled(lab, &visitor, label)).await?;
        connection.body(vector.body.as_bytes()).await;
        let heard = async {
            connection.hello().await?;
            alive(&mut connection).await
        };
        if !tally.add(&vector.name, heard.await)? {
            break;
        }
    }
    tally.finish()
}

async fn longest(lab: &mut Lab) -> Outcome {
    let visitor = lab.visitor().await;
    let mut connection = lab.knock(&visitor).await?;
    let hello = Message::Hello(Box::new(lab.hello(connection.label())));
    let mut body = connection.encode(&hello).body().to_vec();
    body.resize(HELLO_FRAME_LIMIT, b' ');
    connection.body(&body).await;
    connection.hello().await?;
    Ok("taken, with white space behind it".to_owned())
}

async fn newer_stays(lab: &mut Lab) -> Outcome {
    let visitor = lab.visitor().await;
    let (mut older, _) = lab.enter(&visitor).await?;
    let (mut newer, _) = lab.enter(&visitor).await?;
    let ended = older.ended().await.map_err(|stop| named("the older one", stop))?;
    alive(&mut newer).await.map_err(|stop| named("the newer one", stop))?;
    Ok(format!("the older one was {ended}"))
}

/// The same visitor under another label.
pub(super) fn relabelled(lab: &Lab, visitor: &Visitor, label: NodeId) -> Visitor {
    let identity = visitor.credentials.identity().clone();
    let credentials = Credentials::issue(identity, Some(label), lab.now());
    Visitor { credentials: credentials.expect("today can be written into a certificate"), ..visitor.clone() }
}

/// Whether the other side answers a ping and a question.
pub(super) async fn alive(connection: &mut Connection) -> Result<(), Stop> {
    connection.say(&Message::Ping(Ping { timestamp: 41 })).await;
    connection.answer(MessageKind::Pong).await?;
    connection.say(&Message::GetPeers(GetPeers { count: 1 })).await;
    connection.answer(MessageKind::Peers).await.map(drop)
}

/// A failure, with what it is about.
pub(super) fn named(name: &str, stop: Stop) -> Stop {
    match stop {
        Stop::Failed(seen) => Stop::Failed(format!("{name}: {seen}")),
        other => other,
    }
}
