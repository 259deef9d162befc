//! The settings of discovery, each with its reason.

use std::{num::NonZeroU16, time::Duration};

use bt2c_proto::{Defences, Network, PeerAddr};

/// What an operator can set about discovery. [`Default`] is the testnet with every number of the reference.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiscoveryConfig {
    /// The network whose addresses are kept. Mainnet keeps globally reachable ones only. Default: testnet.
    pub network: Network,
    /// Where a node that knows nobody begins. Default: none, and then it learns only from those who dial it.
    pub seeds: Vec<PeerAddr>,
    /// Peers to stay connected to at any time, beyond `outbound_wanted` if need be. Default: none.
    pub connect: Vec<PeerAddr>,
    /// How many outbound connections are wanted. Default 8: fewer make it easier to surround a node with liars, more
    /// fill the inbound slots of others.
    pub outbound_wanted: usize,
    /// How often connected peers are asked for addresses. Default 60 s: shorter spends the request limits of others,
    /// longer heals a partition later. While peers are short it is asked sooner, from 2 s doubling up to this.
    pub interval: Duration,
    /// First wait before an address that failed is dialled again; it doubles with each failure. Default 2 s, at least 1 s:
    /// others take no more than 100 attempts a minute over their limit, and do not say what it is.
    pub backoff_base: Duration,
    /// Longest such wait. Default 5 min: longer heals a partition later, shorter knocks on dead doors.
    pub backoff_max: Duration,
    /// How often an address that never answered is checked while all outbound slots are taken. Default 2 min: shorter
    /// burdens others with handshakes, longer leaves the tried half of the book thin.
    pub feeler_interval: Duration,
    /// Buckets of 64 addresses that others named. Default 1024, at least 64 to keep sources apart; memory is used only
    /// for what is in them.
    pub new_buckets: NonZeroU16,
    /// Buckets of 64 addresses that answered a dial. Default 256.
    pub tried_buckets: NonZeroU16,
    /// Largest share of the book told to anybody, in hundredths. Default 23: more makes it cheap to copy the whole book.
    pub answer_percent: u8,
    /// How long askers of one netgroup get the same answer. Default 10 min: shorter makes it cheap to copy the book.
    pub answer_lifetime: Duration,
    /// How often one more address is taken from the same peer, once its burst is used up. Default 10 s.
    pub intake_spacing: Duration,
    /// How many addresses are taken from one peer at once. Default 1000, the most that fit one answer.
    pub intake_burst: u32,
    /// Least time between two writes of the peers file. Default 60 s: shorter writes much, longer forgets more at a crash.
    pub persist_interval: Duration,
    /// All on; a simulation can switch one off.
    pub defences: Defences,
}

impl Default for DiscoveryConfig {
    fn default() -> Self {
        Self {
            network: Network::Testnet,
            seeds: Vec::new(),
            connect: Vec::new(),
            outbound_wanted: 8,
            interval: Duration::from_secs(60),
            backoff_base: Duration::from_secs(2),
            backoff_max: Duration::from_secs(5 * 60),
            feeler_interval: Duration::from_secs(2 * 60),
            new_buckets: NonZeroU16::new(1024).expect("1024 is not 0"),
            tried_buckets: NonZeroU16::new(256).expect("256 is not 0"),
            answer_percent: 23,
            answer_lifetime: Duration::from_secs(10 * 60),
            intake_spacing: Duration::from_secs(10),
            intake_burst: 1000,
            persist_interval: Duration::from_secs(60),
            defences: Defences::default(),
        }
    }
}

impl DiscoveryConfig {
    /// The defaults on a given network.
    pub fn for_network(network: Network) -> Self {
        Self { network, ..Self::default() }
    }

    /// Checks the settings against each other.
    ///
    /// # Errors
    /// Names the first setting that cannot be used, and why.
    pub fn validate(&self) -> Result<(), DiscoveryConfigError> {
        let durations = [
            ("interval", self.interval),
            ("feeler_interval", self.feeler_interval),
            ("answer_lifetime", self.answer_lifetime),
            ("intake_spacing", self.intake_spacing),
        ];
        if let Some((field, _)) = durations.into_iter().find(|(_, value)| value.as_millis() == 0) {
            return Err(DiscoveryConfigError::TooShort { field });
        }
        if self.backoff_base < MIN_BACKOFF {
            return Err(DiscoveryConfigError::Hammering(self.backoff_base));
        }
        if self.backoff_max < self.backoff_base {
            return Err(DiscoveryConfigError::Backoff { base: self.backoff_base, max: self.backoff_max });
        }
        if self.answer_percent > 100 {
            return Err(DiscoveryConfigError::Percent(self.answer_percent));
        }
        let named = self.seeds.len().saturating_add(self.connect.len());
        if named > MAX_NAMED {
            return Err(DiscoveryConfigError::TooManyNamed(named));
        }
        Ok(())
    }
}

/// Why a [`DiscoveryConfig`] cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DiscoveryConfigError {
    /// A duration that would make a loop spin.
    #[error("{field} is below one millisecond")]
    TooShort {
        /// Which setting.
        field: &'static str,
    },
    /// Others would take it for an attack.
    #[error("backoff_base of {0:?} is below {MIN_BACKOFF:?}: others ban who redials that fast")]
    Hammering(Duration),
    /// The longest backoff is shorter than the first.
    #[error("backoff_max ({max:?}) is shorter than backoff_base ({base:?})")]
    Backoff {
        /// `backoff_base`.
        base: Duration,
        /// `backoff_max`.
        max: Duration,
    },
    /// A share above the whole.
    #[error("answer_percent is {0}; it takes 0 to 100")]
    Percent(u8),
    /// More named addresses than a node looks through at each dial.
    #[error("{0} addresses in seeds and connect; at most {MAX_NAMED} are of use")]
    TooManyNamed(usize),
}

/// Most addresses in `seeds` and `connect` together: they are looked through one by one at each dial.
const MAX_NAMED: usize = 1000;

/// Least wait before an address is dialled again.
const MIN_BACKOFF: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_usable_on_every_network() {
        for network in [Network::Mainnet, Network::Testnet, Network::Devnet] {
            assert!(DiscoveryConfig::for_network(network).validate().is_ok());
        }
    }

    #[test]
    fn settings_that_would_spin_or_contradict_are_refused() {
        let default = DiscoveryConfig::default;
        let zero = DiscoveryConfig { interval: Duration::ZERO, ..default() };
        assert_eq!(zero.validate(), Err(DiscoveryConfigError::TooShort { field: "interval" }));
        let backoff = DiscoveryConfig { backoff_max: Duration::from_secs(1), ..default() };
        assert!(matches!(backoff.validate(), Err(DiscoveryConfigError::Backoff { .. })));
        let hammering = Duration::from_millis(999);
        let fast = DiscoveryConfig { backoff_base: hammering, ..default() };
        assert_eq!(fast.validate(), Err(DiscoveryConfigError::Hammering(hammering)));
        let percent = DiscoveryConfig { answer_percent: 101, ..default() };
        assert_eq!(percent.validate(), Err(DiscoveryConfigError::Percent(101)));
        let seed: PeerAddr = "seed.example.org:8338".parse().unwrap();
        let many = DiscoveryConfig { seeds: vec![seed; 1001], ..default() };
        assert_eq!(many.validate(), Err(DiscoveryConfigError::TooManyNamed(1001)));
    }
}
