//! How a devnet is shown: one line an event, with the time since the start, and a closing table.

use std::{io, sync::Arc, time::Duration};

use bt2c_p2p::env::Clock;
use bt2c_proto::{BlockHash, Genesis, Height, Time};

use super::Options;
use crate::{
    cli::output::{self, Paint, colours, table},
    config::format_duration,
    node::{P2PNode, Reorganisation},
};

/// A line of the closing table.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(super) name: String,
    pub(super) peers: usize,
    pub(super) height: Height,
    pub(super) tip: BlockHash,
    pub(super) produced: u64,
    pub(super) transactions: u64,
}

/// How far a block came, and in what time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach {
    pub(super) nodes: usize,
    pub(super) reached: usize,
    pub(super) spread: Duration,
}

/// Standard output, seen as a diary.
#[derive(Debug, Clone)]
pub(crate) struct Screen {
    clock: Arc<dyn Clock>,
    start: Time,
    paint: Paint,
}

impl Screen {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { start: clock.now(), clock, paint: Paint(colours(&io::stdout())) }
    }

    pub(super) fn title(&self, options: &Options, genesis: &Genesis) {
        let nodes = if options.nodes == 1 { "1 node".to_owned() } else { format!("{} nodes", options.nodes) };
        show(&format!(
            "{} {nodes}, a block every {}, {} transactions a block, for {}",
            self.paint.bold("BT2C devnet"),
            format_duration(genesis.block_time()),
            options.txs_per_block,
            format_duration(options.duration),
        ));
        show(&self.paint.dim(format!(
            "genesis {}, data in {}",
            genesis.hash().short(),
            options.data_dir.display()
        )));
    }

    /// The directory was started with another block time than the one asked for.
    pub(super) fn kept_block_time(&self, asked: Duration, options: &Options) {
        show(&self.paint.bad(format!(
            "blocks come every {}, not every {}: {} was started so; use another --data-dir for another block time",
            format_duration(options.block_time),
            format_duration(asked),
            options.data_dir.display()
        )));
    }

    pub(super) fn node_up(&self, index: usize, node: &P2PNode) {
        let handle = node.handle();
        let local = handle.p2p().local();
        let addr = local.listen.first().map(ToString::to_string).unwrap_or_default();
        let height = handle.sync().tip().height;
        let at = if height == Height::GENESIS { String::new() } else { format!(", at height {height}") };
        let api = node.api().map_or_else(String::new, |(addr, _)| format!(", status page http://{addr}/"));
        self.event(&format!("node {} up     {addr}, peer id {}{at}{api}", index + 1, local.peer_id.short()));
    }

    pub(super) fn met(&self, node: usize, other: usize) {
        self.event(&format!("node {} met    node {}", node + 1, other + 1));
    }

    pub(super) fn lost(&self, node: usize, other: &str, reason: &str) {
        self.event(&format!("node {} {}   {other} ({reason})", node + 1, self.paint.bad("lost")));
    }

    pub(super) fn block(&self, height: Height, producer: usize, transactions: usize, reach: Reach) {
        let Reach { nodes, reached, spread } = reach;
        let transactions = if transactions == 1 { "1 tx".to_owned() } else { format!("{transactions} txs") };
        let reached = match (reached == nodes, nodes) {
            (true, 1) => String::new(),
            (true, _) => self.paint.good(format!("on all {nodes} nodes after {} ms", spread.as_millis())),
            (false, _) => self.paint.bad(format!("on {reached} of {nodes} nodes")),
        };
        let height = self.paint.bold(format!("block {height:<5}"));
        self.event(format!("{height} by node {}  {transactions:>7}   {reached}", producer + 1).trim_end());
    }

    pub(super) fn reorganised(&self, node: usize, change: &Reorganisation) {
        let Reorganisation { height, hash, fork_height, reverted } = change;
        let blocks = if *reverted == 1 { "block" } else { "blocks" };
        let text = format!(
            "node {} switched to {height} {}, leaving {reverted} {blocks} above {fork_height}",
            node + 1,
            hash.short()
        );
        self.event(&text);
    }

    pub(super) fn warn(&self, text: &str) {
        self.event(&self.paint.bad(text));
    }

    pub(super) fn summary(&self, rows: &[Row], agreed: bool) {
        let cells = rows.iter().map(|row| {
            vec![
                row.name.clone(),
                row.peers.to_string(),
                row.height.to_string(),
                row.tip.short(),
                row.produced.to_string(),
                row.transactions.to_string(),
            ]
        });
        let header = ["node", "peers", "height", "tip", "blocks produced", "txs"];
        show("");
        show(table(&header, &[1, 2, 4, 5], cells.collect()).trim_end());
        show("");
        show(&match (agreed, rows.first()) {
            (true, Some(row)) => {
                self.paint.good(format!("all nodes are on the same tip: {} {}", row.height, row.tip.short()))
            }
            _ => self.paint.bad("the nodes are on different tips"),
        });
    }

    /// A line with the seconds since the start.
    fn event(&self, text: &str) {
        let elapsed = self.clock.now().since(self.start).as_millis() / 100;
        let stamp = format!("{:>4}.{}s", elapsed / 10, elapsed % 10);
        show(&format!("{}  {text}", self.paint.dim(stamp)));
    }
}

/// A lost standard output is no reason to stop a network.
fn show(text: &str) {
    let _ = output::line(text);
}
