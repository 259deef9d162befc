//! File descriptors: how many a node takes, and what it does with when it may not have as many.
//!
//! A connection is a descriptor. A process that runs out of them refuses connections at random and, worse, cannot write
//! its chain, so the limit is looked at before anything is opened: raised as far as the system lets us, and if that is not
//! enough there are fewer slots from the start.

use std::fmt;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::NodeConfig;

/// Descriptors that are no connections, at most: standard streams, signals and the runtime (11), the chain's segments (16),
/// its index and locks (3), files while they are replaced or read at the start (6), look-ups of names (8), and a few.
const RESERVED: u64 = 48;

/// The fewest of each that a node is any good with.
const LEAST_CONNECTIONS: u64 = 2;
const LEAST_PENDING: u64 = 2;
const LEAST_API: u64 = 2;

/// A node was configured for more descriptors than there are, and takes fewer connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shortage {
    limit: u64,
    needed: u64,
    connections: usize,
    pending: usize,
    api: usize,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, needed, connections, pending, api } = self;
        write!(
            f,
            "{needed} file descriptors are needed and {limit} allowed: going on with max_connections = {connections}, \
             pending_total = {pending}, api_connections = {api}; allow more with `ulimit -n {needed}` or, under systemd, \
             LimitNOFILE={needed}"
        )
    }
}

/// There are too few descriptors for any node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{limit} file descriptors are allowed, and no node works with fewer than {least}: allow {needed} with \
     `ulimit -n {needed}` or, under systemd, LimitNOFILE={needed}"
)]
pub(crate) struct TooFew {
    limit: u64,
    least: u64,
    needed: u64,
}

/// Makes this process and the configuration fit each other; what had to be cut, if anything.
///
/// # Errors
/// Not even a node with hardly any connections fits.
pub(crate) fn fit(config: &mut NodeConfig) -> Result<Option<Shortage>, TooFew> {
    let limit = raise(Demand::of(config).total());
    fit_to(config, limit)
}

/// Raises the soft limit of open files so that `needed` are allowed, as far as the hard limit lets us; what is allowed then.
pub(crate) fn raise(needed: u64) -> u64 {
    let before = getrlimit(Resource::Nofile);
    let allowed = |limit: Rlimit| limit.current.unwrap_or(u64::MAX);
    if allowed(before) >= needed {
        return allowed(before);
    }
    let current = Some(needed.min(before.maximum.unwrap_or(u64::MAX)));
    // A system may have a bound of its own below the hard limit; then what there is has to do.
    match setrlimit(Resource::Nofile, Rlimit { current, maximum: before.maximum }) {
        Ok(()) => allowed(getrlimit(Resource::Nofile)),
        Err(_) => allowed(before),
    }
}

/// The descriptors that a node of this configuration takes at most.
pub(crate) fn needed(config: &NodeConfig) -> u64 {
    Demand::of(config).total()
}

/// What a configuration asks for.
#[derive(Debug, Clone, Copy)]
struct Demand {
    /// What is needed with no connection at all.
    fixed: u64,
    connections: u64,
    /// Handshakes under way; as many connections may wait to be looked at.
    pending: u64,
    api: u64,
}

impl Demand {
    fn of(config: &NodeConfig) -> Self {
        // A listener holds one connection in its hand.
        let listeners = 2 * count(config.p2p.listen.len());
        let (api, api_listener) = config.api.0.map_or((0, 0), |_| (count(config.api_connections), 1));
        Self {
            fixed: RESERVED + listeners + api_listener,
            connections: count(config.p2p.max_connections),
            pending: count(config.p2p.pending_total),
            api,
        }
    }

    /// Descriptors of connections; so wide that absurd settings do not overflow it.
    fn connections(self) -> u128 {
        u128::from(self.connections) + 2 * u128::from(self.pending) + u128::from(self.api)
    }

    fn total(self) -> u64 {
        u64::try_from(self.connections() + u128::from(self.fixed)).unwrap_or(u64::MAX)
    }

    /// The least of this demand that makes a node.
    fn least(self) -> Self {
        Self {
            connections: self.connections.min(LEAST_CONNECTIONS),
            pending: self.pending.min(LEAST_PENDING),
            api: self.api.min(LEAST_API),
            ..self
        }
    }

    /// The same demand, each part cut in proportion, so that it fits.
    fn cut(self, limit: u64) -> Self {
        let (least, all) = (self.least(), self.connections().max(1));
        let room = limit.saturating_sub(self.fixed);
        let share = |part: u64, least: u64| {
            u64::try_from(u128::from(part) * u128::from(room) / all).unwrap_or(u64::MAX).max(least)
        };
        let (pending, api) = (share(self.pending, least.pending), share(self.api, least.api));
        let connections = room.saturating_sub(2 * pending + api).max(least.connections);
        Self { connections, pending, api, ..self }
    }
}

fn fit_to(config: &mut NodeConfig, limit: u64) -> Result<Option<Shortage>, TooFew> {
    let demand = Demand::of(config);
    let (needed, least) = (demand.total(), demand.least().total());
    if limit >= needed {
        return Ok(None);
    }
    if limit < least {
        return Err(TooFew { limit, least, needed });
    }
    let cut = demand.cut(limit);
    let size = |part: u64| usize::try_from(part).unwrap_or(usize::MAX);
    config.p2p.max_connections = size(cut.connections);
    config.p2p.pending_total = size(cut.pending);
    if config.api.0.is_some() {
        config.api_connections = size(cut.api);
    }
    Ok(Some(Shortage {
        limit,
        needed,
        connections: config.p2p.max_connections,
        pending: config.p2p.pending_total,
        api: config.api_connections,
    }))
}

fn count(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use bt2c_proto::Network;

    use super::*;
    use crate::config::ApiAddr;

    fn config() -> NodeConfig {
        NodeConfig::for_network(Network::Testnet)
    }

    #[test]
    fn the_defaults_fit_into_the_limit_that_most_systems_have() {
        let mut fitted = config();
        assert_eq!(fit_to(&mut fitted, 1024), Ok(None));
        assert_eq!(fitted.p2p.max_connections, config().p2p.max_connections);
        assert_eq!(needed(&config()), 48 + 2 + 1 + 100 + 64 + 64);
    }

    #[test]
    fn whatever_the_limit_is_what_is_left_fits_into_it_and_is_a_node() {
        let needed = needed(&config());
        let least = Demand::of(&config()).least().total();
        for limit in least..needed {
            let mut fitted = config();
            let shortage = fit_to(&mut fitted, limit).unwrap().unwrap();
            assert!(super::needed(&fitted) <= limit, "{limit}: {shortage}");
            assert!(fitted.p2p.max_connections >= 2 && fitted.p2p.pending_total >= 2, "{limit}: {shortage}");
            assert!(fitted.api_connections >= 2, "{limit}: {shortage}");
            fitted.validate().unwrap();
            assert!(shortage.to_string().contains(&format!("ulimit -n {needed}")));
        }
        assert_eq!(fit_to(&mut config(), least - 1), Err(TooFew { limit: least - 1, least, needed }));
    }

    #[test]
    fn a_small_node_needs_few_and_one_without_api_none_for_it() {
        let mut small = config();
        (small.p2p.max_connections, small.p2p.pending_total, small.api_connections) = (1, 1, 1);
        let own = needed(&small);
        assert_eq!(fit_to(&mut small, own), Ok(None));
        let with_api = needed(&config());
        let mut without = config();
        without.api = ApiAddr(None);
        assert_eq!(needed(&without), with_api - 65);
        fit_to(&mut without, 100).unwrap().unwrap();
        assert_eq!(without.api_connections, config().api_connections, "it is not asked for");
    }

    #[test]
    fn absurd_numbers_are_cut_to_what_there_is() {
        let mut absurd = config();
        absurd.p2p.max_connections = usize::MAX;
        absurd.p2p.pending_total = usize::MAX;
        fit_to(&mut absurd, 1000).unwrap().unwrap();
        assert!(needed(&absurd) <= 1000);
    }
}
