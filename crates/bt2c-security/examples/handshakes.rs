//! How many TLS handshakes a listener does in a second of one core:
//! `cargo run --release -p bt2c-security --example handshakes [identity.key]`, with a fresh key if none is named.
//!
//! Only the listener's side is measured, for that is what strangers can ask of a node: one RSA signature, one check of a
//! certificate and of its owner's signature, one key exchange. The default of `handshakes_per_second` is derived from
//! what this prints.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bt2c_proto::Time;
use bt2c_security::{Credentials, Identity, client_config, server_config, server_name};
use rustls::{
    ClientConfig, ClientConnection, ServerConfig, ServerConnection, time_provider::DefaultTimeProvider,
};

/// Handshakes in a batch; the best of some batches is told, for others use the machine too.
const BATCH: u32 = 200;
const BATCHES: u32 = 10;

type Failure = Box<dyn std::error::Error>;

#[expect(clippy::disallowed_methods, reason = "a measurement asks the machine's clocks")]
fn main() -> Result<(), Failure> {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let now = Time::from_secs(since_epoch.as_secs());
    let issue =
        || -> Result<Credentials, Failure> { Ok(Credentials::issue(Identity::generate()?, None, now)?) };
    let client = client_config(&issue()?, Arc::new(DefaultTimeProvider))?;
    let listener = match std::env::args().nth(1) {
        Some(path) => Credentials::issue(Identity::from_pem(&std::fs::read_to_string(path)?)?, None, now)?,
        None => issue()?,
    };
    let server = server_config(&listener, Arc::new(DefaultTimeProvider))?;
    let mut best = Duration::MAX;
    for _ in 0..BATCHES {
        let mut spent = Duration::ZERO;
        for _ in 0..BATCH {
            spent += handshake(&client, &server)?;
        }
        best = best.min(spent / BATCH);
    }
    println!("{:.2} ms a handshake, {:.0} a second", best.as_secs_f64() * 1e3, 1.0 / best.as_secs_f64());
    Ok(())
}

/// One handshake; the time that the listener spent.
#[expect(clippy::disallowed_methods, reason = "a measurement asks the machine's clocks")]
fn handshake(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Result<Duration, Failure> {
    let mut client = ClientConnection::new(Arc::clone(client), server_name())?;
    let (mut spent, mut wire) = (Duration::ZERO, Vec::new());
    let start = Instant::now();
    let mut server = ServerConnection::new(Arc::clone(server))?;
    spent += start.elapsed();
    while client.is_handshaking() || server.is_handshaking() {
        wire.clear();
        while client.wants_write() {
            client.write_tls(&mut wire)?;
        }
        let start = Instant::now();
        let mut received = wire.as_slice();
        while !received.is_empty() {
            server.read_tls(&mut received)?;
            server.process_new_packets()?;
        }
        let mut answer = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut answer)?;
        }
        spent += start.elapsed();
        let mut answer = answer.as_slice();
        while !answer.is_empty() {
            client.read_tls(&mut answer)?;
            client.process_new_packets()?;
        }
    }
    Ok(spent)
}
