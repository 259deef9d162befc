//! What goes beyond the base protocol, where the peer's hello offers it.

use bt2c_proto::{
    BlockHash, BlockHeader, Cancel, Feature, GetBlocks, GetHeaders, Height, Message, MessageKind,
    limits::MAX_HEADERS,
};

use super::{Check, check, hello::named};
use crate::conformance::{
    client::Connection,
    lab::{self, Lab},
    report::{Outcome, Stop, ensure, failed},
};

pub(super) const CHECKS: &[Check] = &[
    check!("stream-whole", "a stream brings what was asked for, and `done` in its last message", whole),
    check!("stream-beyond-the-tip", "a stream ends where the chain does", beyond),
    check!("stream-cancel", "a cancelled stream ends, and the next question is answered", cancel),
    check!("headers-from-genesis", "headers are those of the blocks, above what the locator shares", headers),
    check!("headers-count", "no more headers than were asked for", count),
    check!("headers-unknown-locator", "without a shared block they start above the genesis block", unknown),
    check!("headers-at-the-tip", "an empty list means that there is nothing above", at_the_tip),
];

/// The number of our streams.
const ID: u32 = 7;

fn offered(lab: &Lab, feature: Feature) -> Result<(), Stop> {
    match lab.known()?.hello.knows(feature) {
        true => Ok(()),
        false => Err(Stop::Skipped(format!("its hello does not offer {}", feature.name()))),
    }
}

/// Asks for a stream; returns the heights that it brought until it was done.
async fn stream(connection: &mut Connection, start: u64, end: u64) -> Result<Vec<u64>, Stop> {
    let question = GetBlocks::stream(ID, Height::new(start), Height::new(end));
    connection.say(&Message::GetBlocks(question)).await;
    drain(connection, start).await
}

async fn drain(connection: &mut Connection, start: u64) -> Result<Vec<u64>, Stop> {
    let mut heights = Vec::new();
    loop {
        let answer = connection.answer(MessageKind::Blocks).await?;
        let Some(Message::Blocks(part)) = answer.message else { return failed("no blocks") };
        ensure(part.request_id == Some(ID), || format!("request_id is {:?}, and not {ID}", part.request_id))?;
        heights.extend(part.blocks.iter().map(|block| block.height().get()));
        let expected = start..start + heights.len() as u64;
        ensure(heights.iter().copied().eq(expected), || format!("heights {heights:?}"))?;
        if part.done {
            return Ok(heights);
        }
    }
}

async fn whole(lab: &mut Lab) -> Outcome {
    offered(lab, Feature::BlockStream)?;
    let (mut connection, hello) = lab.visit().await?;
    let end = hello.block_height.get().min(5000);
    let heights = stream(&mut connection, 0, end).await?;
    ensure(heights.len() as u64 == end + 1, || format!("{} blocks of {}", heights.len(), end + 1))?;
    let next = stream(&mut connection, end, end).await.map_err(|stop| named("the next", stop))?;
    ensure(next == [end], || format!("the next stream brought {next:?}"))?;
    Ok(format!("{} blocks", heights.len()))
}

async fn beyond(lab: &mut Lab) -> Outcome {
    offered(lab, Feature::BlockStream)?;
    let (mut connection, hello) = lab.visit().await?;
    let tip = hello.block_height.get();
    let heights = stream(&mut connection, tip, tip + 100_000).await?;
    ensure(heights.first() == Some(&tip), || format!("{heights:?} from the tip {tip} on"))?;
    let none = stream(&mut connection, tip + 50_000, tip + 100_000).await?;
    ensure(none.is_empty(), || format!("{none:?} far above the tip"))?;
    Ok(format!("{} from the tip on, none above", heights.len()))
}

async fn cancel(lab: &mut Lab) -> Outcome {
    offered(lab, Feature::BlockStream)?;
    let (mut connection, hello) = lab.visit().await?;
    let question = GetBlocks::stream(ID, Height::GENESIS, hello.block_height);
    connection.say(&Message::GetBlocks(question)).await;
    connection.say(&Message::Cancel(Cancel { request_id: ID })).await;
    let brought = drain(&mut connection, 0).await?;
    let blocks = lab::blocks(&mut connection, 0, 0).await.map_err(|stop| named("the next question", stop))?;
    ensure(blocks.len() == 1, || format!("{} blocks for the next question", blocks.len()))?;
    Ok(format!("{} blocks came before the end", brought.len()))
}

async fn ask(
    connection: &mut Connection,
    locator: Vec<BlockHash>,
    count: u64,
) -> Result<Vec<BlockHeader>, Stop> {
    connection.say(&Message::GetHeaders(GetHeaders { locator, count })).await;
    let answer = connection.answer(MessageKind::Headers).await?;
    let Some(Message::Headers(answer)) = answer.message else { return failed("no headers") };
    Ok(answer.headers)
}

async fn headers(lab: &mut Lab) -> Outcome {
    offered(lab, Feature::Headers)?;
    let (mut connection, _) = lab.visit().await?;
    let blocks = lab::blocks(&mut connection, 0, 100).await?;
    let shared: Vec<BlockHash> = blocks.first().map(|block| block.hash()).into_iter().collect();
    let headers = ask(&mut connection, shared, MAX_HEADERS as u64).await?;
    for (block, header) in blocks.iter().skip(1).zip(&headers) {
        ensure(block.header == *header, || {
            format!("header {} is not that of block {}", header.hash(), block.height())
        })?;
    }
    let expected = blocks.len().saturating_sub(1);
    ensure(headers.len() >= expected, || format!("{} headers of {expected}", headers.len()))?;
    Ok(format!("{} headers", headers.len()))
}

async fn count(lab: &mut Lab) -> Outcome {
    offered(lab, Feature::Headers)?;
    let (mut connection, hello) = lab.visit().await?;
    let expected = hello.block_height.get().min(2);
    let headers = ask(&mut connection, Vec::new(), 2).await?;
    ensure(headers.len() as u64 == expected, || format!("{} headers for 2", headers.len()))?;
    Ok(format!("{} for 2", headers.len()))
}

async fn unknown(lab: &mut Lab) -> Outcome {
    offered(lab, Feature::Headers)?;
    let (mut connection, _) = lab.visit().await?;
    let headers = ask(&mut connection, vec![BlockHash::from_bytes([0x5a; 32])], 1).await?;
    let first = headers.first().map_or(1, |header| header.height.get());
    ensure(first == 1, || format!("the first is {first}"))?;
    Ok(format!("{} header", headers.len()))
}

async fn at_the_tip(lab: &mut Lab) -> Outcome {
    offered(lab, Feature::Headers)?;
    let (mut connection, hello) = lab.visit().await?;
    let Some(tip) = hello.last_block_hash else {
        return Err(Stop::Skipped("its hello has no last_block_hash".to_owned()));
    };
    let headers = ask(&mut connection, vec![tip], 10).await?;
    let grown = headers.first().is_some_and(|header| header.previous_hash == tip);
    ensure(headers.is_empty() || grown, || format!("{} headers above the tip", headers.len()))?;
    Ok("none, or what came meanwhile".to_owned())
}
