//! What is expected of a network, whatever happened to it.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use bt2c_node::P2PNode;
use bt2c_proto::{Block, Height, TxHash};
use bt2c_security::Subject;

use super::World;
use crate::simulate::outcome::Expectation;

impl World {
    /// Expects that all honest nodes that are up have one tip.
    pub async fn expect_one_tip(&self) -> Expectation {
        let tips = self.tips().await;
        let distinct: BTreeSet<_> = tips.iter().map(|(_, height, hash)| (*height, hash)).collect();
        let found = distinct.iter().map(|(height, hash)| format!("{height} {hash}")).collect::<Vec<_>>();
        let found = format!("{} on {} nodes", found.join(", "), tips.len());
        Expectation::new("all nodes are on one tip", distinct.len() < 2, found)
    }

    /// Expects that the chain of every honest node that is up has at least so many blocks.
    pub async fn expect_height(&self, least: u64) -> Expectation {
        let lowest = self.tips().await.into_iter().map(|(host, height, _)| (height.get(), host)).min();
        let found = lowest
            .map_or("no node".to_owned(), |(height, host)| format!("{height} at host {host}, the lowest"));
        let met = lowest.is_some_and(|(height, _)| height >= least);
        Expectation::new("the chain grows", met, format!("{found} (at least {least})"))
    }

    /// Expects that no honest node was banned by another one.
    pub fn expect_no_honest_bans(&self) -> Expectation {
        let history = self.record.history();
        let bans = history.bans.iter().filter(|(.., ban)| self.means_honest(&ban.subject));
        let bans: Vec<_> = bans
            .map(|(at, by, ban)| {
                format!(
                    "host {by} banned {} at {} s: {}, {}",
                    ban.subject,
                    at.as_secs(),
                    ban.reason,
                    ban.evidence
                )
            })
            .collect();
        let more = bans.len().saturating_sub(1);
        let found = bans.first().map_or("no bans".to_owned(), |first| format!("{first} (and {more} more)"));
        Expectation::new("no honest node is banned", bans.is_empty(), found)
    }

    /// Whether a ban's subject hits an honest host.
    pub fn means_honest(&self, subject: &str) -> bool {
        let Ok(subject) = subject.parse::<Subject>() else { return true };
        let honest = self.plan.honest();
        honest.into_iter().any(|host| subject.matches(self.addr(host).ip(), Some(&self.hosts[host].peer_id)))
    }

    /// Expects that every honest node that is up has at least that many honest peers.
    pub async fn expect_peers(&self, least: usize) -> Expectation {
        let honest: BTreeSet<_> = self.plan.honest().map(|host| self.hosts[host].peer_id).collect();
        // In a network of three nobody has three peers.
        let least = least.min(self.honest_nodes().count().saturating_sub(1));
        let mut fewest = None;
        for (number, node) in self.honest_nodes() {
            let peers = node.handle().p2p().peers().await;
            let peers = peers.iter().filter(|info| honest.contains(&info.peer.id())).count();
            fewest = [fewest, Some((peers, number))].into_iter().flatten().min();
        }
        let found =
            fewest.map(|(peers, number)| format!("host {number} has {peers}, the fewest (at least {least})"));
        let met = fewest.is_none_or(|(peers, _)| peers >= least);
        Expectation::new(
            "every node has found peers",
            met,
            found.unwrap_or_else(|| "no node is up".to_owned()),
        )
    }

    /// Expects that every transaction of a wallet is on the chain of every honest node that is up.
    ///
    /// # Errors
    /// If a node's chain cannot be read.
    pub async fn expect_transactions(&self) -> Result<Expectation> {
        let mut missing = Vec::new();
        for (number, node) in self.honest_nodes() {
            let chain = self.included(node).await?;
            for (hash, host, taken) in self.transactions.iter().filter(|(hash, ..)| !chain.contains(hash)) {
                missing.push(format!("host {number} lacks {} ({taken:?} at host {host})", hash.short()));
            }
        }
        let sent = self.transactions.len();
        let found = missing.first().map_or_else(|| format!("all {sent}"), Clone::clone);
        Ok(Expectation::new("transactions are on every node's chain", missing.is_empty(), found))
    }

    /// Expects that whatever an honest node decided has a rule and evidence: each ban that ever was, and each decision about
    /// peers and blocks that is remembered at the end; and that who is banned can be explained.
    pub async fn expect_reasons(&self) -> Expectation {
        let mut without = Vec::new();
        for (_, host, ban) in &self.record.history().bans {
            if ban.reason.is_empty() || ban.evidence.is_empty() {
                without.push(format!("host {host}: the ban of {}", ban.subject));
            }
        }
        let mut count = 0;
        for (host, node) in self.honest_nodes() {
            let handle = node.handle();
            for decision in handle.p2p().decisions().await {
                count += 1;
                if decision.rule.is_empty() || decision.evidence.is_empty() || decision.meaning.is_empty() {
                    without.push(format!("host {host}: {decision:?}"));
                }
            }
            for decision in handle.sync().decisions().await {
                count += 1;
                if decision.evidence.is_empty() {
                    without.push(format!("host {host}: {decision:?}"));
                }
            }
            for ban in handle.p2p().bans().await {
                let told = handle.p2p().explain(ban.subject).await;
                if told.is_none_or(|told| !told.bans.contains(&ban)) {
                    without.push(format!("host {host} cannot explain {}", ban.subject));
                }
            }
        }
        let found = without.first().map_or_else(|| format!("all {count} have"), Clone::clone);
        Expectation::new("every decision has a rule and evidence", without.is_empty(), found)
    }

    /// Expects that every node that was to start did.
    pub fn expect_starts(&self) -> Expectation {
        let history = self.record.history();
        let failed = history.notes.iter().find(|(_, what)| what.contains("does not start"));
        let found =
            failed.map_or("all did".to_owned(), |(at, what)| format!("at {} s: {what}", at.as_secs()));
        Expectation::new("every node starts", failed.is_none(), found)
    }

    /// Expects that no node lost a block that it had on its main chain, but by reorganisation.
    pub fn expect_no_losses(&self) -> Expectation {
        let history = self.record.history();
        let losses: Vec<_> = self
            .plan
            .honest()
            .flat_map(|host| history.losses(host).into_iter().map(move |loss| (host, loss)))
            .map(|(host, (at, from, to))| {
                format!("host {host} fell from {from} to {to} at {} s", at.as_secs())
            })
            .collect();
        Expectation::new("no stored block is lost", losses.is_empty(), losses.join("; "))
    }

    /// How often honest nodes reorganised.
    pub fn reorganisations(&self) -> usize {
        self.record.history().reorganisations.len()
    }

    /// Every transaction of a node's main chain.
    ///
    /// # Errors
    /// If the chain cannot be read.
    pub async fn included(&self, node: &P2PNode) -> Result<BTreeSet<TxHash>> {
        let handle = node.handle();
        let mut found = BTreeSet::new();
        for height in 1..=node.status().await.height.get() {
            let bytes =
                handle.block_at(Height::new(height)).await?.context("a block below the tip is missing")?;
            let block: Block = serde_json::from_slice(&bytes)?;
            found.extend(block.transactions.iter().map(|transaction| transaction.hash));
        }
        Ok(found)
    }
}
