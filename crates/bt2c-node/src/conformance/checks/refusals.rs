//! Hellos that are refused and cost nothing: whoever says one is welcome again with another.

use bt2c_proto::{BlockHash, CloseCode, Hello, Message, Text, Version};

use super::{Check, check, hello::named};
use crate::conformance::{
    client::Connection,
    lab::Lab,
    report::{Outcome, Stop, failed},
};

pub(super) const CHECKS: &[Check] = &[
    check!("refused-network", "another network ends the connection, and is no fault", network),
    check!("refused-genesis", "another genesis_hash ends the connection, and is no fault", genesis),
    check!("refused-version", "another major version ends the connection, and is no fault", version),
];

async fn network(lab: &mut Lab) -> Outcome {
    if lab.known()?.hello.network.is_none() {
        return Err(Stop::Skipped("its hello tells no network".to_owned()));
    }
    let change = |hello: &mut Hello| {
        hello.network = Some(Text::cut("elsewhere"));
        hello.genesis_hash = None;
    };
    refused(lab, CloseCode::Network, change).await
}

async fn genesis(lab: &mut Lab) -> Outcome {
    if lab.known()?.hello.genesis_hash.is_none() {
        return Err(Stop::Skipped("its hello tells no genesis_hash".to_owned()));
    }
    refused(lab, CloseCode::Genesis, |hello| hello.genesis_hash = Some(BlockHash::from_bytes([0x5a; 32])))
        .await
}

async fn version(lab: &mut Lab) -> Outcome {
    refused(lab, CloseCode::Version, |hello| hello.version = Version { major: 2, minor: 0, patch: 0 }).await
}

/// Times that each is refused: more than any number of faults for which the page bans.
const TIMES: usize = 6;

/// Says such a hello some times, is refused with that code each time, and is let in with a good one.
async fn refused(lab: &mut Lab, code: CloseCode, change: impl Fn(&mut Hello)) -> Outcome {
    let visitor = lab.visitor().await;
    let mut ending = String::new();
    for time in 1..=TIMES {
        let mut connection = lab.knock(&visitor).await?;
        let mut hello = lab.hello(connection.label());
        change(&mut hello);
        connection.say(&Message::Hello(Box::new(hello))).await;
        ending = end(&mut connection, code).await.map_err(|stop| named(&format!("time {time}"), stop))?;
    }
    lab.enter(&visitor).await.map_err(|stop| named("a good hello afterwards", stop))?;
    Ok(format!("{ending}, {TIMES} times, and then let in"))
}

async fn end(connection: &mut Connection, code: CloseCode) -> Outcome {
    let ending = connection.ended().await?;
    match ending.split_once("telling ") {
        Some((_, told)) if told != code.name() => failed(format!("{ending} where {code} is why")),
        _ => Ok(ending),
    }
}
