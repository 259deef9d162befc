//! What must be understood, or ignored.

use bt2c_proto::{GetPeers, Message, MessageKind, Ping, limits::FRAME_LIMIT};

use super::{
    super::vectors,
    Check, check,
    hello::{alive, named},
};
use crate::conformance::{
    lab::Lab,
    report::{Outcome, Stop, Tally, ensure},
};

pub(super) const CHECKS: &[Check] = &[
    check!("reading-pings", "every ping of tolerated.json is answered with its timestamp", pings),
    check!("reading-questions", "every question of tolerated.json is answered", questions),
    check!("reading-unasked", "pongs, peers and blocks that nobody asked for are ignored", unasked),
    check!("reading-unknown-types", "messages of unknown types are ignored", unknown),
    check!("reading-other-sender", "a sender that is not the peer's label is ignored", other_sender),
    check!("reading-byte-by-byte", "a frame may come in any pieces", byte_by_byte),
    check!("reading-two-in-one", "several frames may come at once", two_in_one),
    check!("reading-longest-frame", "a frame of 1,048,576 bytes is taken after the hellos", longest),
];

async fn pings(lab: &mut Lab) -> Outcome {
    let mut tally = Tally::default();
    for vector in vectors::tolerated().iter().filter(|vector| vector.kind.as_deref() == Some("ping")) {
        let (mut connection, _) = lab.visit().await?;
        connection.body(vector.body.as_bytes()).await;
        let answered = async {
            let pong = connection.answer(MessageKind::Pong).await?;
            ensure(pong.data["timestamp"] == vector.data["timestamp"], || {
                format!("{} came back", pong.data["timestamp"])
            })
        };
        if !tally.add(&vector.name, answered.await)? {
            break;
        }
    }
    tally.finish()
}

async fn questions(lab: &mut Lab) -> Outcome {
    let mut tally = Tally::default();
    for vector in vectors::tolerated() {
        let kind = match vector.kind.as_deref() {
            Some("get_peers") => MessageKind::Peers,
            Some("get_blocks") => MessageKind::Blocks,
            _ => continue,
        };
        let (mut connection, _) = lab.visit().await?;
        connection.body(vector.body.as_bytes()).await;
        if !tally.add(&vector.name, connection.answer(kind).await)? {
            break;
        }
    }
    tally.finish()
}

/// Sends each vector of some types, and sees whether the connection goes on.
async fn ignored(lab: &mut Lab, is_meant: impl Fn(Option<&str>) -> bool) -> Outcome {
    let mut tally = Tally::default();
    for vector in vectors::tolerated().iter().filter(|vector| is_meant(vector.kind.as_deref())) {
        let (mut connection, _) = lab.visit().await?;
        connection.body(vector.body.as_bytes()).await;
        if !tally.add(&vector.name, alive(&mut connection).await)? {
            break;
        }
    }
    tally.finish()
}

async fn unasked(lab: &mut Lab) -> Outcome {
    ignored(lab, |kind| matches!(kind, Some("pong" | "peers" | "blocks"))).await
}

async fn unknown(lab: &mut Lab) -> Outcome {
    ignored(lab, |kind| kind.is_none()).await
}

async fn other_sender(lab: &mut Lab) -> Outcome {
    let (mut connection, _) = lab.visit().await?;
    let question = connection.encode(&Message::GetPeers(GetPeers { count: 1 })).body();
    let ours = format!("\"{}\"", connection.label());
    let question = String::from_utf8_lossy(&question).replace(&ours, "\"somebody-else\"");
    connection.body(question.as_bytes()).await;
    connection.answer(MessageKind::Peers).await?;
    Ok("answered".to_owned())
}

const PING: Message = Message::Ping(Ping { timestamp: 5 });

async fn byte_by_byte(lab: &mut Lab) -> Outcome {
    let (mut connection, _) = lab.visit().await?;
    let ping = connection.encode(&PING);
    for byte in ping.bytes() {
        connection.raw(std::slice::from_ref(byte)).await;
    }
    connection.answer(MessageKind::Pong).await?;
    Ok(format!("answered after {} writes", ping.bytes().len()))
}

async fn two_in_one(lab: &mut Lab) -> Outcome {
    let (mut connection, _) = lab.visit().await?;
    let question = Message::GetPeers(GetPeers { count: 1 });
    let both = [PING, question].map(|message| connection.encode(&message).bytes().clone()).concat();
    connection.raw(&both).await;
    // A pong goes ahead of everything that waits, so it is first if it is there at all.
    connection.answer(MessageKind::Pong).await.map_err(|stop| named("the first", stop))?;
    connection.answer(MessageKind::Peers).await.map_err(|stop| named("the second", stop))?;
    Ok("both answered".to_owned())
}

async fn longest(lab: &mut Lab) -> Outcome {
    let (mut connection, hello) = lab.visit().await?;
    if hello.limits.is_some_and(|limits| limits.frame_size < 1 << 20) {
        return Err(Stop::Skipped("its hello tells a lower frame_size".to_owned()));
    }
    let mut body = connection.encode(&PING).body().to_vec();
    body.resize(FRAME_LIMIT, b' ');
    connection.body(&body).await;
    connection.answer(MessageKind::Pong).await?;
    Ok("answered, with white space behind it".to_owned())
}
