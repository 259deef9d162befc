//! The genesis file: JSON that a person can check and a program can read.

use std::{num::NonZeroU64, path::Path, time::Duration};

use bt2c_proto::{Address, Blob, BlockHash, Genesis, Network, Validator};
use serde::{Deserialize, Serialize};

use super::{GenesisFileError, check};

/// A genesis as it stands in a file. The derived values are written for people, and checked where a file states them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisFile {
    /// The network's name.
    pub network: Network,
    /// Genesis time, in seconds since the Unix epoch.
    pub timestamp: u64,
    /// Length of a slot in milliseconds.
    pub block_time_ms: u64,
    /// The proposers, in order.
    pub validators: Vec<ValidatorEntry>,
    /// Derived: the hash of the genesis block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<BlockHash>,
}

/// One proposer in a genesis file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidatorEntry {
    /// Base64 of its DER SubjectPublicKeyInfo.
    pub public_key: Blob,
    /// Its share of the slots, relative to the sum of all weights.
    pub weight: NonZeroU64,
    /// Derived: the address of the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
}

impl GenesisFile {
    /// The genesis that these values make.
    ///
    /// # Errors
    /// Values outside their limits, a key that breaks the key rule, a stated hash or address that is not the derived
    /// one, a published devnet key on another network.
    pub fn genesis(&self) -> Result<Genesis, GenesisFileError> {
        let validators = self
            .validators
            .iter()
            .map(|entry| Validator { public_key: entry.public_key.clone(), weight: entry.weight })
            .collect();
        let block_time = Duration::from_millis(self.block_time_ms);
        let genesis = Genesis::new(self.network, self.timestamp, block_time, validators)?;
        check(&genesis)?;
        let derived = Self::from(&genesis);
        for (stated, derived) in self.validators.iter().zip(&derived.validators) {
            agree("address", stated.address.as_ref(), derived.address.as_ref())?;
        }
        agree("hash", self.hash.as_ref(), derived.hash.as_ref())?;
        Ok(genesis)
    }

    /// Reads and checks a file.
    ///
    /// # Errors
    /// As [`GenesisFile::genesis`], and if the file cannot be read or is no such JSON.
    pub fn read(path: &Path) -> Result<Genesis, GenesisFileError> {
        let read = |source| GenesisFileError::Read { path: path.to_owned(), source };
        Self::parse(&std::fs::read(path).map_err(read)?, path)
    }

    /// Checks the bytes of the file at `path`.
    ///
    /// # Errors
    /// As [`GenesisFile::genesis`], and if the bytes are no such JSON.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Genesis, GenesisFileError> {
        let form = |source| GenesisFileError::Form { path: path.to_owned(), source };
        serde_json::from_slice::<Self>(bytes).map_err(form)?.genesis()
    }

    /// The file's text, indented, with a line break at the end.
    pub fn to_text(&self) -> String {
        let mut text =
            serde_json::to_string_pretty(self).expect("a genesis file has text keys and no failing parts");
        text.push('\n');
        text
    }
}

impl From<&Genesis> for GenesisFile {
    fn from(genesis: &Genesis) -> Self {
        let entry = |validator: &Validator| ValidatorEntry {
            public_key: validator.public_key.clone(),
            weight: validator.weight,
            address: Some(validator.address()),
        };
        Self {
            network: genesis.network(),
            timestamp: genesis.timestamp(),
            block_time_ms: u64::try_from(genesis.block_time().as_millis())
                .expect("a block time is at most a day"),
            validators: genesis.validators().iter().map(entry).collect(),
            hash: Some(genesis.hash()),
        }
    }
}

fn agree<T: PartialEq + ToString>(
    what: &'static str,
    stated: Option<&T>,
    computed: Option<&T>,
) -> Result<(), GenesisFileError> {
    match (stated, computed) {
        (Some(stated), Some(computed)) if stated != computed => {
            Err(GenesisFileError::Stated { what, stated: stated.to_string(), computed: computed.to_string() })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::genesis::devnet_genesis;

    #[test]
    fn a_file_gives_back_its_genesis_with_and_without_derived_values() {
        let genesis = devnet_genesis();
        let file = GenesisFile::from(&genesis);
        assert_eq!(GenesisFile::parse(file.to_text().as_bytes(), Path::new("g")).unwrap(), genesis);
        let mut bare = file;
        bare.hash = None;
        bare.validators.iter_mut().for_each(|entry| entry.address = None);
        assert_eq!(bare.genesis().unwrap(), genesis);
    }

    #[test]
    fn an_edited_file_is_noticed() {
        let mut file = GenesisFile::from(&devnet_genesis());
        file.timestamp += 1;
        assert!(matches!(file.genesis(), Err(GenesisFileError::Stated { what: "hash", .. })));
        file.hash = None;
        assert!(file.genesis().is_ok());
        file.validators.swap(0, 1);
        let (first, second) = (file.validators[0].address, file.validators[1].address);
        file.validators[0].address = second;
        file.validators[1].address = first;
        assert!(matches!(file.genesis(), Err(GenesisFileError::Stated { what: "address", .. })));
    }

    #[test]
    fn published_keys_are_refused_elsewhere() {
        for network in [Network::Mainnet, Network::Testnet] {
            let file = GenesisFile { network, hash: None, ..GenesisFile::from(&devnet_genesis()) };
            let error = file.genesis().unwrap_err();
            assert!(matches!(error, GenesisFileError::PublishedKey { .. }), "{error}");
            assert!(error.to_string().contains("published devnet keys"));
        }
    }

    #[test]
    fn unknown_fields_are_refused() {
        let text = GenesisFile::from(&devnet_genesis()).to_text().replacen("\"network\"", "\"netwrok\"", 1);
        let error = GenesisFile::parse(text.as_bytes(), Path::new("g.json")).unwrap_err().to_string();
        assert!(error.contains("g.json") && error.contains("netwrok"), "{error}");
    }
}
