//! The genesis of a network: its file, the built-in one of the devnet, and the rule that published keys stay there.

mod devnet;
mod file;

use std::{
    io,
    path::{Path, PathBuf},
};

use bt2c_p2p::env::Disk;
use bt2c_proto::{Address, BlockHash, Genesis, GenesisError, Network};
use bt2c_security::{KeyError, RsaPublicKey, fixtures};

use crate::{config::NodeConfig, home::GENESIS_FILE};

pub use devnet::{
    DEVNET_BLOCK_TIME, DEVNET_GENESIS_TIME, DEVNET_VALIDATORS, devnet_genesis, devnet_genesis_with,
};
pub use file::{GenesisFile, ValidatorEntry};

/// Why there is no genesis to run on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenesisFileError {
    /// The file cannot be read.
    #[error("genesis {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The file is not JSON of the right form.
    #[error("genesis {}: {source}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and where.
        #[source]
        source: serde_json::Error,
    },
    /// A validator's key breaks the key rule.
    #[error("genesis: the key of validator {index} ({address}) cannot be used: {source}")]
    Key {
        /// Its place in the list.
        index: usize,
        /// The address of its key.
        address: Address,
        /// What is wrong with it.
        #[source]
        source: KeyError,
    },
    /// The values do not make a genesis.
    #[error("genesis: {0}")]
    Values(#[from] GenesisError),
    /// The file states a hash or an address that its values do not have.
    #[error(
        "genesis: it states the {what} {stated}, but its values give {computed}: it was edited or damaged"
    )]
    Stated {
        /// What is stated.
        what: &'static str,
        /// As stated.
        stated: String,
        /// As computed.
        computed: String,
    },
    /// A devnet key on a network that is not the devnet.
    #[error(
        "genesis: validator {address} is one of the published devnet keys, which anyone can sign with: \
         {network} needs keys of its own (`bt2c-node id` makes one)"
    )]
    PublishedKey {
        /// The address of the key.
        address: Address,
        /// The network.
        network: Network,
    },
    /// Mainnet and testnet have none built in.
    #[error(
        "no genesis for {0}{note}: none is published yet; give one with --genesis FILE, or make one with \
         `bt2c-node genesis new --network {0} --validator KEYFILE --out FILE`; --network devnet has one built in",
        note = default_note(*.0)
    )]
    Missing(Network),
    /// The file is another network's.
    #[error(
        "genesis is for {found}, but the network is {expected}: give the other with --network or --genesis"
    )]
    OtherNetwork {
        /// Of the genesis.
        found: Network,
        /// Asked for.
        expected: Network,
    },
    /// The data directory belongs to another network.
    #[error("{} belongs to {found}, not to {expected}: use another --data-dir", dir.display())]
    OtherHome {
        /// The data directory.
        dir: PathBuf,
        /// Its network.
        found: Network,
        /// The network asked for.
        expected: Network,
    },
    /// The data directory belongs to another chain.
    #[error("{} belongs to genesis {found}, not to {expected}: use another --data-dir", dir.display())]
    OtherChain {
        /// The data directory.
        dir: PathBuf,
        /// The hash of its genesis.
        found: BlockHash,
        /// The hash of the genesis asked for.
        expected: BlockHash,
    },
    /// The data directory's copy cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// Whoever named no network may not know which one they asked for.
fn default_note(network: Network) -> &'static str {
    if network == NodeConfig::default().network { ", the network unless --network names another" } else { "" }
}

impl GenesisFileError {
    pub(crate) fn other_chain(dir: &Path, found: &Genesis, expected: &Genesis) -> Self {
        Self::OtherChain { dir: dir.to_owned(), found: found.hash(), expected: expected.hash() }
    }
}

/// The genesis that a data directory was started with, if it was.
pub(crate) fn remembered(disk: &dyn Disk, dir: &Path) -> Result<Option<Genesis>, GenesisFileError> {
    let path = dir.join(GENESIS_FILE);
    match disk.read(&path) {
        Ok(bytes) => GenesisFile::parse(&bytes, &path).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(GenesisFileError::Read { path, source }),
    }
}

/// Makes a data directory the one of this genesis, so that it needs not be named again and cannot be mixed up.
pub(crate) fn remember(disk: &dyn Disk, dir: &Path, genesis: &Genesis) -> Result<(), GenesisFileError> {
    match remembered(disk, dir)? {
        Some(found) if found == *genesis => Ok(()),
        Some(found) => Err(GenesisFileError::other_chain(dir, &found, genesis)),
        None => {
            let path = dir.join(GENESIS_FILE);
            let text = GenesisFile::from(genesis).to_text();
            disk.write_atomic(&path, text.as_bytes(), false)
                .map_err(|source| GenesisFileError::Write { path, source })
        }
    }
}

/// Refuses a genesis outside the devnet that names a published key, and any key that breaks the key rule.
pub(crate) fn check(genesis: &Genesis) -> Result<(), GenesisFileError> {
    for (index, validator) in genesis.validators().iter().enumerate() {
        let address = validator.address();
        let key = RsaPublicKey::from_spki_der(validator.public_key.as_bytes())
            .map_err(|source| GenesisFileError::Key { index, address, source })?;
        if genesis.network() != Network::Devnet && fixtures::is_published(&key) {
            return Err(GenesisFileError::PublishedKey { address, network: genesis.network() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bt2c_p2p::env::MemoryDisk;

    use super::*;

    #[test]
    fn a_data_directory_keeps_its_genesis() {
        let (disk, dir) = (MemoryDisk::new(), Path::new("home"));
        assert_eq!(remembered(&disk, dir).unwrap(), None);
        remember(&disk, dir, &devnet_genesis()).unwrap();
        remember(&disk, dir, &devnet_genesis()).unwrap();
        assert_eq!(remembered(&disk, dir).unwrap(), Some(devnet_genesis()));
        let other = devnet_genesis_with(7, DEVNET_BLOCK_TIME, 1).unwrap();
        assert!(matches!(remember(&disk, dir, &other), Err(GenesisFileError::OtherChain { .. })));
    }
}
