//! Pings and addresses.

use std::{net::SocketAddr, time::Duration};

use bt2c_proto::{
    GetBlocks, GetPeers, Height, Message, MessageKind, Ping,
    limits::{DEFAULT_PEERS, MAX_INTEGER, MAX_PEERS},
};

use super::{Check, check, hello::named};
use crate::conformance::{
    client::{Connection, Event, Received},
    lab::{Lab, blocks_of},
    report::{Outcome, Stop, ensure, failed},
};

pub(super) const CHECKS: &[Check] = &[
    check!("ping", "the pong carries the ping's timestamp, whatever it is", ping),
    check!("peers-count", "at most as many peers as were asked for", count),
    check!("peers-default", "10 are asked for where count is missing", default),
    check!("peers-entries", "entries are IP literals with a port", entries),
    check!("requests-in-order", "answers of a kind come in the order of their questions", in_order),
    check!("requests-not-lost", "a burst within the limit is answered in full", not_lost),
];

async fn ping(lab: &mut Lab) -> Outcome {
    // Of several pings within 5 seconds one is answered, so each has a connection.
    let sent = [1_712_352_000, 0, MAX_INTEGER];
    for timestamp in sent {
        let (mut connection, _) = lab.visit().await?;
        connection.say(&Message::Ping(Ping { timestamp })).await;
        let pong = connection.answer(MessageKind::Pong).await?;
        ensure(pong.message == Some(Message::Pong(Ping { timestamp })), || {
            format!("{} came back for {timestamp}", pong.data["timestamp"])
        })?;
    }
    Ok(format!("{sent:?} came back"))
}

async fn peers(connection: &mut Connection, count: u64) -> Result<Vec<String>, Stop> {
    connection.say(&Message::GetPeers(GetPeers { count })).await;
    texts(&connection.answer(MessageKind::Peers).await?)
}

/// The entries as they stand; reading them drops what is no address.
fn texts(answer: &Received) -> Result<Vec<String>, Stop> {
    let entries = answer.data["peers"].as_array().into_iter().flatten();
    let texts: Option<Vec<_>> = entries.map(|entry| entry.as_str().map(str::to_owned)).collect();
    texts.ok_or_else(|| Stop::Failed("an entry is no string".to_owned()))
}

async fn count(lab: &mut Lab) -> Outcome {
    let (mut connection, _) = lab.visit().await?;
    let mut given = Vec::new();
    for count in [1, 3] {
        let entries = peers(&mut connection, count).await?.len();
        ensure(u64::try_from(entries).is_ok_and(|entries| entries <= count), || {
            format!("{entries} for a count of {count}")
        })?;
        given.push(entries);
    }
    Ok(format!("{} for 1, {} for 3", given[0], given[1]))
}

async fn default(lab: &mut Lab) -> Outcome {
    let (mut connection, _) = lab.visit().await?;
    let asked = connection.encode(&Message::GetPeers(GetPeers { count: 10 })).body();
    let asked = String::from_utf8_lossy(&asked).replace(r#""count":10"#, "");
    connection.body(asked.as_bytes()).await;
    let entries = texts(&connection.answer(MessageKind::Peers).await?)?.len();
    ensure(entries <= DEFAULT_PEERS, || format!("{entries} entries"))?;
    Ok(format!("{entries} entries"))
}

async fn entries(lab: &mut Lab) -> Outcome {
    let (mut connection, _) = lab.visit().await?;
    let most = u64::try_from(MAX_PEERS).unwrap_or(u64::MAX);
    let entries = peers(&mut connection, most).await?;
    ensure(entries.len() <= MAX_PEERS, || format!("{} entries", entries.len()))?;
    for entry in &entries {
        let addr: Option<SocketAddr> = entry.parse().ok();
        let is_right = addr.is_some_and(|addr| {
            addr.port() != 0 && bt2c_proto::canonical(addr) == addr && !entry.contains('%')
        });
        ensure(is_right, || format!("{entry:?}"))?;
    }
    Ok(format!("{} entries", entries.len()))
}

async fn in_order(lab: &mut Lab) -> Outcome {
    let (mut connection, hello) = lab.visit().await?;
    let beyond = hello.block_height.saturating_add(100_000);
    for height in [Height::GENESIS, beyond, Height::GENESIS] {
        let asked = GetBlocks::range(height, height);
        connection.say(&Message::GetBlocks(asked)).await;
    }
    let mut counts = Vec::new();
    for number in 1..=3 {
        let answer = connection.answer(MessageKind::Blocks).await;
        counts.push(blocks_of(answer.map_err(|stop| named(&format!("answer {number}"), stop))?)?.len());
    }
    ensure(counts == [1, 0, 1], || format!("{counts:?} blocks, and not [1, 0, 1]"))?;
    Ok("three questions in a row, three answers".to_owned())
}

/// Questions of a burst: within what every limit of the page takes at once.
const BURST: usize = 12;

async fn not_lost(lab: &mut Lab) -> Outcome {
    let (mut connection, _) = lab.visit().await?;
    let burst = connection.encode(&Message::GetPeers(GetPeers { count: 1 })).bytes().repeat(BURST);
    connection.raw(&burst).await;
    for number in 1..=BURST {
        if let Err(stop) = connection.answer(MessageKind::Peers).await {
            return Err(named(&format!("answer {number} of {BURST}"), stop));
        }
    }
    match connection.within(Duration::from_millis(50)).await? {
        Some(Event::Message(more)) if more.kind == Some(MessageKind::Peers) => {
            failed("more answers than questions")
        }
        _ => Ok(format!("{BURST} questions in one write, {BURST} answers")),
    }
}
