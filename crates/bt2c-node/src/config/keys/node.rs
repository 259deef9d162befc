//! Keys of the node itself and of its control API.

use std::{net::SocketAddr, path::PathBuf};

use bt2c_proto::{Network, NodeId, PeerAddr};

use super::{Section, key};
use crate::config::{
    key_source::KeySource,
    node_config::{ApiAddr, LogFormat},
};

pub(crate) const NODE: Section = Section {
    title: "Node",
    keys: &[
        key!(network, network: Network, "mainnet, testnet or devnet",
            "The network to join; the default port and, on the devnet, the genesis follow from it."),
        key!(genesis, genesis: Option<PathBuf>, "path",
            "The genesis file of the network. Empty: the one the data directory was started with, or the built-in devnet \
             genesis. Another one is another network."),
        key!(node_id, node_id: Option<NodeId>, "1 to 54 of A-Z a-z 0-9 . _ -",
            "A label for people, shown to peers. Empty: the first 40 hex digits of the PeerId. No decision rests on it."),
        key!(listen, p2p.listen: Vec<SocketAddr>, "addresses",
            "Where to listen for peers; port 0 picks a free one. An empty list makes outbound connections only, and then \
             the node gives the network nothing to join by. One specific address is also the one dialled from."),
        key!(external_addr, p2p.external_addr: Option<SocketAddr>, "address",
            "The address at which others reach this node, if it is not one it listens on (behind a router that forwards \
             a port). Wrong: others try in vain."),
        key!(connect, p2p.discovery.connect: Vec<PeerAddr>, "addresses",
            "Peers to stay connected to, whatever discovery does; `peerid@host:port` accepts that identity alone. Many of \
             them take the slots that discovery would fill with diverse peers."),
        key!(seeds, p2p.discovery.seeds: Vec<PeerAddr>, "addresses",
            "Where a node that knows nobody begins: addresses or DNS names, optionally pinned as `peerid@host:port`. \
             None: the node learns only from those who dial it. A single one can show a newcomer a false network."),
        key!(produce, produce: bool, "true or false",
            "Whether to propose blocks in the slots of `key`. Two running nodes with the same key prove equivocation."),
        key!(key, key: Option<KeySource>, "path, or devnet:1 to devnet:4",
            "The validator's private key: PKCS#8 PEM in a file that its owner alone can read, or on the devnet one of the \
             published keys. Empty: the node's own identity."),
    ],
};

pub(crate) const CONTROL: Section = Section {
    title: "Control API and logs",
    keys: &[
        key!(api, api: ApiAddr, "address, or off",
            "Where the control API, the metrics and the status page are served; port 0 picks a free one. Anyone who reaches \
             it can read everything; changes need the token in `api.token`. Keep it on loopback."),
        key!(api_connections, api_connections: usize, "connections",
            "Connections to the control API at once, event streams among them. Too low: scripts wait for each other; too \
             high: a broken script takes the node's descriptors."),
        key!(log, log: String, "filter",
            "What is logged: error, warn, info, debug or trace, also by module (`info,bt2c_p2p=debug`). Too much hides what \
             matters and lets peers fill the disk; below warn, punished peers go unseen."),
        key!(log_format, log_format: LogFormat, "text or json",
            "How log lines are written to standard error: text for people, json for collectors."),
    ],
};
