//! `genesis new` and `genesis show`.

use std::{fs, io::Write, num::NonZeroU64, path::Path};

use anyhow::{Context, Result, anyhow, bail};
use bt2c_p2p::env::{Clock, RealClock};
use bt2c_proto::{Blob, BlockHash, Genesis, Network};
use bt2c_security::RsaPublicKey;
use serde::Serialize;

use super::{
    args::{GenesisCommand, GenesisNewArgs, GenesisShowArgs},
    identity::read_public_key,
    outfile::OutFile,
    output::{self, moment, pairs, table},
    settings::Settings,
};
use crate::{
    config::format_duration,
    genesis::{GenesisFile, ValidatorEntry},
};

/// What `genesis new --out FILE --json` prints.
#[derive(Serialize)]
struct NewView<'a> {
    file: &'a Path,
    network: Network,
    hash: BlockHash,
}

pub(super) fn genesis(command: GenesisCommand) -> Result<()> {
    match command {
        GenesisCommand::New(args) => new(&args),
        GenesisCommand::Show(args) => show(&args),
    }
}

fn new(args: &GenesisNewArgs) -> Result<()> {
    let validators = args.validators.iter().map(|(path, weight)| validator(path, *weight));
    let file = GenesisFile {
        network: args.network,
        timestamp: args.time.unwrap_or_else(|| RealClock::new().now().as_secs()),
        block_time_ms: u64::try_from(args.block_time.as_millis()).context("block time")?,
        validators: validators.collect::<Result<_>>()?,
        hash: None,
    };
    let genesis = file.genesis()?;
    let text = GenesisFile::from(&genesis).to_text();
    match &args.out {
        None => output::text(&text),
        Some(path) => {
            write(path, &text, args.force)?;
            if args.json {
                let (network, hash) = (genesis.network(), genesis.hash());
                return output::json(&NewView { file: path, network, hash });
            }
            output::line(format_args!(
                "{}: genesis {} of {}",
                path.display(),
                genesis.hash(),
                genesis.network()
            ))
        }
    }
}

/// Another genesis under the same name is another network, so it is not replaced by accident.
fn write(path: &Path, text: &str, force: bool) -> Result<()> {
    if !force && path.is_file() {
        bail!("{} exists: give another name with --out, or --force to replace it", path.display());
    }
    let written = OutFile::create(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.finish(force)
    });
    written.with_context(|| format!("cannot write {}", path.display()))
}

fn validator(path: &Path, weight: NonZeroU64) -> Result<ValidatorEntry> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read validator key {}", path.display()))?;
    let spki = read_public_key(&text).ok_or_else(|| {
        anyhow!(
            "{} holds no public key: give the output of `bt2c-node id --public-key`, or of `openssl rsa -pubout`",
            path.display()
        )
    })?;
    let key =
        RsaPublicKey::from_spki_der(&spki).with_context(|| format!("validator key {}", path.display()))?;
    let public_key = Blob::try_from(key.spki_der()).context("validator key")?;
    Ok(ValidatorEntry { public_key, weight, address: Some(key.address()) })
}

fn show(args: &GenesisShowArgs) -> Result<()> {
    let genesis = Settings::load(&args.node)?.genesis()?;
    let file = GenesisFile::from(&genesis);
    if args.json { output::json(&file) } else { output::text(&describe(&genesis, &file)) }
}

fn describe(genesis: &Genesis, file: &GenesisFile) -> String {
    let head = pairs(&[
        ("network", genesis.network().to_string()),
        ("hash", genesis.hash().to_string()),
        ("time", moment(genesis.timestamp())),
        ("block time", format_duration(genesis.block_time())),
        ("validators", genesis.validators().len().to_string()),
    ]);
    let rows = file.validators.iter().enumerate().map(|(index, entry)| {
        let address = entry.address.map(|address| address.to_string());
        vec![(index + 1).to_string(), address.unwrap_or_default(), entry.weight.to_string()]
    });
    format!("{head}\n{}", table(&["#", "validator", "weight"], &[0, 2], rows.collect()))
}
