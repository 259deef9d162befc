//! `ban`, `unban`, `allow`, `disallow`, `connect`, `disconnect`: changes to the running node.

use anyhow::{Context, Result, bail};
use bt2c_proto::PeerId;

use super::{
    args::{BanArgs, ConnectArgs, DisconnectArgs, SubjectArgs},
    client::Client,
    output::{json, line, moment},
};
use crate::api::{AllowRequest, BanRequest, BanView, ConnectRequest, ConnectView, PeerView};

pub(super) fn ban(args: BanArgs) -> Result<()> {
    let request = BanRequest {
        subject: args.subject,
        duration_s: args.duration.map(|duration| duration.as_secs()),
        reason: args.reason,
    };
    let ban: BanView = Client::find(&args.query.target)?.post("/bans", &request)?;
    if args.query.json {
        return json(&ban);
    }
    line(format_args!("{} is banned until {}", ban.subject, moment(ban.until)))
}

pub(super) fn unban(args: &SubjectArgs) -> Result<()> {
    Client::find(&args.target)?.delete(&format!("/bans/{}", segment(&args.subject)))?;
    line(format_args!("{} is no longer banned", args.subject))
}

pub(super) fn allow(args: &SubjectArgs) -> Result<()> {
    let request = AllowRequest { subject: args.subject };
    Client::find(&args.target)?.post_empty("/allow", &request)?;
    line(format_args!("{} is neither limited nor banned until the node stops", args.subject))
}

pub(super) fn disallow(args: &SubjectArgs) -> Result<()> {
    Client::find(&args.target)?.delete(&format!("/allow/{}", segment(&args.subject)))?;
    line(format_args!("{} is limited like anyone else", args.subject))
}

pub(super) fn connect(args: ConnectArgs) -> Result<()> {
    let client = Client::find(&args.query.target)?;
    let view: ConnectView = client.post("/peers", &ConnectRequest { addr: args.addr.clone() })?;
    if args.query.json {
        return json(&view);
    }
    line(format_args!("connected to {} at {}", view.peer_id, args.addr))
}

pub(super) fn disconnect(args: &DisconnectArgs) -> Result<()> {
    let client = Client::find(&args.target)?;
    let peer = resolve(&client.get::<Vec<PeerView>>("/peers")?, &args.peer)?;
    client.delete(&format!("/peers/{peer}"))?;
    line(format_args!("disconnected from {peer}; it may be dialled again unless it is banned"))
}

/// The peer that a person means by a PeerId, the start of one, or an address.
fn resolve(peers: &[PeerView], text: &str) -> Result<PeerId> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let meant = |peer: &&PeerView| {
        peer.addr.to_string() == text || (text.len() >= 4 && peer.peer_id.to_string().starts_with(text))
    };
    let mut found = peers.iter().filter(meant);
    let first = found.next().with_context(|| {
        format!("no connected peer is named {text:?}: give a PeerId, the start of one (4 digits or more), or ip:port")
    })?;
    if found.next().is_some() {
        bail!("several peers begin with {text:?}: give more digits");
    }
    Ok(first.peer_id)
}

/// A subject as one segment of a path.
pub(super) fn segment(subject: &impl ToString) -> String {
    subject.to_string().replace('/', "%2F")
}

#[cfg(test)]
mod tests {
    use bt2c_proto::Height;

    use super::*;

    fn peer(id: [u8; 32], addr: &str) -> PeerView {
        let peer_id = PeerId::from_bytes(id);
        PeerView {
            node_id: bt2c_proto::NodeId::derived_from(&peer_id),
            peer_id,
            addr: addr.parse().unwrap(),
            direction: "inbound".into(),
            connected_s: 1,
            rtt_ms: None,
            height: Height::GENESIS,
            user_agent: None,
            features: vec![],
            bytes_in: 0,
            bytes_out: 0,
            score: 0,
        }
    }

    #[test]
    fn peers_are_named_by_id_prefix_or_address() {
        let peers = [peer([0xaa; 32], "127.0.0.1:1"), peer([0xab; 32], "127.0.0.2:1")];
        assert_eq!(resolve(&peers, "abab").unwrap(), peers[1].peer_id);
        assert_eq!(resolve(&peers, "127.0.0.1:1").unwrap(), peers[0].peer_id);
        assert_eq!(resolve(&peers, &"cd".repeat(32)).unwrap(), PeerId::from_bytes([0xcd; 32]));
        assert!(resolve(&peers, "a").is_err() && resolve(&peers, "ffff").is_err());
        let twins = [peer([0xaa; 32], "127.0.0.1:1"), peer([0xaa; 32], "127.0.0.1:2")];
        assert!(resolve(&twins, "aaaa").unwrap_err().to_string().contains("several"));
    }

    #[test]
    fn networks_fit_one_path_segment() {
        assert_eq!(segment(&"10.0.0.0/8"), "10.0.0.0%2F8");
    }
}
