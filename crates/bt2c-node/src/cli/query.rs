//! `status`, `peers`, `bans`, `verify`: what the running node knows.

use anyhow::{Context, Result, bail};
use bt2c_proto::{Height, NodeId, PeerId};

use super::{
    args::{PeersArgs, QueryArgs},
    client::Client,
    output::{self, grouped, moment, pairs, size, table},
    progress::Progress,
};
use crate::{
    api::{BanView, KnownPeerView, PeerView, StatusView, VerifyView},
    config::humane_duration,
};

pub(super) fn status(args: &QueryArgs) -> Result<()> {
    let status: StatusView = Client::find(&args.target)?.get("/status")?;
    if args.json {
        return output::json(&status);
    }
    let chain = if status.syncing {
        format!("{} of {}, syncing", grouped(status.height.get()), grouped(status.target_height.get()))
    } else {
        format!("{}, up to date", grouped(status.height.get()))
    };
    let mut lines = vec![
        ("network", format!("{} (genesis {})", status.network, status.genesis_hash.short())),
        ("node", name(&status.node_id, &status.peer_id)),
        ("peer id", status.peer_id.to_string()),
        ("version", status.version),
        ("up for", seconds(status.uptime_s)),
        ("height", chain),
        ("held up by", status.slowed_by.unwrap_or_else(|| "nothing".to_owned())),
        ("tip", status.tip_hash.to_string()),
        ("waiting", format!("{} transactions", grouped(u64::try_from(status.pending_transactions)?))),
        ("peers", format!("{} inbound, {} outbound", status.peers.inbound, status.peers.outbound)),
    ];
    if status.first_block > Height::GENESIS {
        lines.push(("kept", format!("blocks from {} on", grouped(status.first_block.get()))));
    }
    if let Some(error) = status.store_error {
        lines.push(("cannot store", format!("{error}; tried again every few seconds")));
    }
    output::text(&pairs(&lines))
}

pub(super) fn verify(args: &QueryArgs) -> Result<()> {
    let client = Client::find(&args.target)?;
    let mut progress: Option<Progress> = None;
    let mut last = None;
    client.post_lines("/verify", |line: VerifyView| match line {
        VerifyView::Progress { checked, of } => {
            progress.get_or_insert_with(|| Progress::new("checking", Some(of))).at(checked);
        }
        VerifyView::Whole(view) => last = Some(Ok(view)),
        VerifyView::Fault { fault } => last = Some(Err(fault)),
    })?;
    if let Some(progress) = progress {
        progress.finish();
    }
    let view = match last.context("the node stopped before the check was done")? {
        Ok(view) => view,
        Err(fault) => bail!("the chain is damaged: {fault}"),
    };
    if args.json {
        return output::json(&view);
    }
    output::line(format_args!(
        "every block is whole up to {} at {}",
        view.tip_hash,
        grouped(view.height.get())
    ))?;
    output::text(&pairs(&[
        ("peers on our chain", view.agreeing.len().to_string()),
        ("peers ahead, or unknown", view.ahead.len().to_string()),
        ("peers on another chain", view.differing.len().to_string()),
    ]))
}

pub(super) fn peers(args: &PeersArgs) -> Result<()> {
    let client = Client::find(&args.query.target)?;
    if args.known {
        return known(&client, args.query.json);
    }
    let peers: Vec<PeerView> = client.get("/peers")?;
    if args.query.json {
        return output::json(&peers);
    }
    if peers.is_empty() {
        return output::line(
            "no peers: name some with `bt2c-node connect ADDR`, or `seeds` in the configuration",
        );
    }
    let row = |peer: &PeerView| {
        vec![
            name(&peer.node_id, &peer.peer_id),
            peer.addr.to_string(),
            peer.direction.clone(),
            seconds(peer.connected_s),
            peer.rtt_ms.map_or_else(|| "-".to_owned(), |rtt| format!("{rtt} ms")),
            grouped(peer.height.get()),
            size(peer.bytes_in),
            size(peer.bytes_out),
            peer.score.to_string(),
        ]
    };
    let header = ["node", "address", "direction", "connected", "rtt", "height", "in", "out", "score"];
    output::text(&table(&header, &[3, 4, 5, 6, 7, 8], peers.iter().map(row).collect()))
}

fn known(client: &Client, json: bool) -> Result<()> {
    let known: Vec<KnownPeerView> = client.get("/peers/known")?;
    if json {
        return output::json(&known);
    }
    if known.is_empty() {
        return output::line("the address book is empty");
    }
    let row = |peer: &KnownPeerView| {
        vec![
            peer.addr.to_string(),
            peer.peer_id.map_or_else(|| "-".to_owned(), |id| id.short()),
            moment(peer.seen),
            peer.answered.map_or_else(|| "never".to_owned(), moment),
            peer.failures.to_string(),
        ]
    };
    let header = ["address", "peer", "last seen", "last answered", "failures"];
    output::text(&table(&header, &[4], known.iter().map(row).collect()))
}

pub(super) fn bans(args: &QueryArgs) -> Result<()> {
    let bans: Vec<BanView> = Client::find(&args.target)?.get("/bans")?;
    if args.json {
        return output::json(&bans);
    }
    if bans.is_empty() {
        return output::line("nobody is banned");
    }
    let row = |ban: &BanView| {
        vec![
            ban.subject.clone(),
            ban.reason.clone(),
            moment(ban.since),
            moment(ban.until),
            ban.evidence.clone(),
        ]
    };
    output::text(&table(
        &["subject", "reason", "since", "until", "evidence"],
        &[],
        bans.iter().map(row).collect(),
    ))
}

/// A label with the start of the PeerId, for labels are not unique; the PeerId alone if the label is made from it.
fn name(node_id: &NodeId, peer_id: &PeerId) -> String {
    if *node_id == NodeId::derived_from(peer_id) {
        peer_id.short()
    } else {
        format!("{node_id} ({})", peer_id.short())
    }
}

fn seconds(seconds: u64) -> String {
    humane_duration(std::time::Duration::from_secs(seconds))
}
