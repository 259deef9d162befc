//! `explain`: what was decided about a peer, an address or a block, and why.

use anyhow::{Result, ensure};

use super::{
    args::ExplainArgs,
    change::segment,
    client::Client,
    output::{self, grouped, moment, pairs, table},
};
use crate::api::{BlockExplanation, DecisionView, ExplainView, PeerExplanation};

pub(super) fn explain(args: &ExplainArgs) -> Result<()> {
    let printable = |c: char| c.is_ascii_graphic() && !matches!(c, '%' | '?' | '#');
    ensure!(
        !args.subject.is_empty() && args.subject.chars().all(printable),
        "{:?} names nothing: use an IP address, a network, a PeerId, or a block's hash or height",
        args.subject
    );
    let path = format!("/explain/{}", segment(&args.subject));
    let view: ExplainView = Client::find(&args.query.target)?.get(&path)?;
    if args.query.json {
        return output::json(&view);
    }
    if let Some(block) = &view.block {
        show_block(block)?;
    }
    match &view.peer {
        // A block's hash could be an identity's; of one that nothing is known of, nothing is said.
        Some(peer) if view.block.is_none() || !peer.decisions.is_empty() => show_peer(&view.subject, peer),
        _ => Ok(()),
    }
}

fn show_peer(subject: &str, peer: &PeerExplanation) -> Result<()> {
    let banned = peer.bans.iter().map(|ban| ban.until).max();
    let state = match (banned, peer.allowed, peer.connected) {
        (Some(until), false, _) => format!("banned until {}", moment(until)),
        (_, true, true) => "connected; on the allow-list".to_owned(),
        (_, true, false) => "on the allow-list".to_owned(),
        (None, false, true) => "connected".to_owned(),
        (None, false, false) => "neither connected nor banned".to_owned(),
    };
    output::text(&pairs(&[
        ("subject", subject.to_owned()),
        ("state", state),
        ("score", format!("{} (from -100 to 100; a stranger has 0)", peer.score)),
        ("points", format!("{} of 100 that ban, wearing off at one a minute", peer.points)),
    ]))?;
    for ban in &peer.bans {
        output::text(&pairs(&[
            ("ban of", ban.subject.clone()),
            ("  rule", ban.reason.clone()),
            ("  evidence", ban.evidence.clone()),
            ("  from", moment(ban.since)),
            ("  until", moment(ban.until)),
        ]))?;
    }
    if peer.decisions.is_empty() {
        return output::line("nothing was decided about it since the node started");
    }
    output::line("")?;
    let row = |decision: &DecisionView| {
        vec![
            moment(decision.last),
            decision.decision.clone(),
            grouped(decision.times),
            decision.rule.clone(),
            decision.evidence.clone(),
            decision.meaning.clone(),
        ]
    };
    let header = ["last", "decision", "times", "rule", "evidence", "what the rule says"];
    output::text(&table(&header, &[2], peer.decisions.iter().map(row).collect()))
}

fn show_block(block: &BlockExplanation) -> Result<()> {
    let state = match (block.stored, block.on_main_chain) {
        (true, true) => "on the main chain",
        (true, false) => "stored beside the main chain",
        (false, _) => "not stored",
    };
    output::text(&pairs(&[
        ("block", block.hash.to_string()),
        ("height", block.height.map_or_else(|| "-".to_owned(), |height| grouped(height.get()))),
        ("state", state.to_owned()),
    ]))?;
    if block.decisions.is_empty() {
        return output::line("nothing was decided about it since the node started");
    }
    output::line("")?;
    let rows = block.decisions.iter().map(|decision| {
        vec![
            moment(decision.at),
            decision.verdict.clone(),
            grouped(decision.times),
            decision.from.map_or_else(|| "this node".to_owned(), |peer| peer.to_string()),
            decision.evidence.clone(),
        ]
    });
    output::text(&table(&["last", "verdict", "times", "from", "evidence"], &[2], rows.collect()))
}
