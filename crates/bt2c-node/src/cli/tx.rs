//! `tx send` and `tx submit`.

use std::{
    fs,
    io::{self, Read},
    path::Path,
};

use anyhow::{Context, Result};
use bt2c_p2p::env::{Clock, RealClock};
use bt2c_proto::{Transaction, limits::MAX_INTEGER};
use bt2c_security::CertificateManager;
use bt2c_sync::signed_transaction;

use super::{
    args::{TxCommand, TxSendArgs, TxSubmitArgs},
    client::Client,
    output,
};
use crate::{
    api::{StatusView, TransactionView},
    random,
};

/// Largest file read: above it no transaction is valid.
const FILE_LIMIT: u64 = 1 << 20;

pub(super) fn tx(command: TxCommand) -> Result<()> {
    match command {
        TxCommand::Send(args) => send(&args),
        TxCommand::Submit(args) => submit(&args),
    }
}

fn send(args: &TxSendArgs) -> Result<()> {
    let client = Client::find(&args.query.target)?;
    let status: StatusView = client.get("/status")?;
    let identity = match &args.key {
        Some(key) => key.read(status.network)?,
        None => CertificateManager::new(client.home())
            .load()
            .context("no key to sign with (give one with --key FILE)")?
            .identity()
            .clone(),
    };
    let nonce = u64::from_be_bytes(random::bytes()?) & MAX_INTEGER;
    let now = RealClock::new().now().as_secs();
    let (to, amount, fee) = (args.to, args.amount, args.fee);
    let transaction = signed_transaction(&identity, status.genesis_hash, to, amount, fee, nonce, now);
    post(&client, &transaction, args.query.json)
}

fn submit(args: &TxSubmitArgs) -> Result<()> {
    let mut text = String::new();
    let name = args.file.display();
    let read = if args.file == Path::new("-") {
        io::stdin().take(FILE_LIMIT).read_to_string(&mut text)
    } else {
        fs::File::open(&args.file).and_then(|file| file.take(FILE_LIMIT).read_to_string(&mut text))
    };
    read.with_context(|| format!("cannot read {name}"))?;
    let transaction: Transaction =
        serde_json::from_str(&text).with_context(|| format!("{name} holds no transaction"))?;
    post(&Client::find(&args.query.target)?, &transaction, args.query.json)
}

fn post(client: &Client, transaction: &Transaction, json: bool) -> Result<()> {
    let view: TransactionView = client.post("/transactions", transaction)?;
    if json { output::json(&view) } else { output::line(format_args!("sent {}", view.hash)) }
}
