//! What a program can do that has nothing to defend: the limits that figures stand beside.

use std::{
    fs::File,
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    ops::Range,
    path::Path,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bt2c_p2p::env::{Clock, RealClock};
use bt2c_proto::{Address, BlockHash, HeaderContent, Height, MerkleRoot};
use bt2c_security::{Credentials, client_config, fixtures, server_config, server_name};
use bytes::{Bytes, BytesMut};
use rustls::{ClientConnection, ServerConnection, StreamOwned, time_provider::TimeProvider};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    chain::cores,
    figures::{rate, timed},
};

/// Bytes in one write of the sender: many TLS records, so that calls of the system do not show.
const WRITE: usize = 256 << 10;

/// Blocks between two fsyncs, as in the synchroniser.
const BATCH: usize = 512;

/// Batches that may wait for the disk.
const WAITING: usize = 8;

/// The blocks of a chain, as they go over the wire in the limit: each with its length before it, one after the other.
pub(super) struct Wire {
    bytes: Vec<u8>,
    pub(super) blocks: u64,
}

impl Wire {
    /// A chain above its genesis block, from its canonical bytes.
    pub(super) fn new(bodies: &[Bytes]) -> Result<Self> {
        let mut bytes = Vec::new();
        for body in bodies {
            bytes.extend_from_slice(&u32::try_from(body.len())?.to_be_bytes());
            bytes.extend_from_slice(body);
        }
        Ok(Self { bytes, blocks: bodies.len() as u64 })
    }

    /// How many bytes of blocks there are.
    pub(super) fn body_bytes(&self) -> u64 {
        self.bytes.len() as u64 - 4 * self.blocks
    }

    /// Sends everything through one TLS stream, and at its other end parses each block, hashes its header, looks whether it
    /// follows the one before, and writes it into a file that is synced once a batch, on a thread of its own. Signatures,
    /// roots and transaction hashes are not looked at. Returns the blocks a second.
    pub(super) fn stored(&self, dir: &Path, genesis: BlockHash) -> Result<f64> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listening")?;
        let addr = listener.local_addr()?;
        let file = File::create(dir.join("flat")).context("making a flat file")?;
        let (time, ()) = timed(|| {
            thread::scope(|scope| {
                let sender = scope.spawn(|| self.send(&listener));
                let received = self.receive(TcpStream::connect(addr)?, genesis, file);
                sender.join().expect("the sender does not panic")?;
                received
            })
        })?;
        Ok(rate(self.blocks, time))
    }

    fn send(&self, listener: &TcpListener) -> Result<()> {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let clock = Arc::new(TlsTime(RealClock::new()));
        let config = server_config(&credentials(0)?, clock)?;
        let mut connection = ServerConnection::new(config)?;
        connection.set_buffer_limit(Some(WRITE));
        let mut tls = StreamOwned::new(connection, stream);
        for part in self.bytes.chunks(WRITE) {
            tls.write_all(part)?;
        }
        tls.conn.send_close_notify();
        Ok(tls.flush()?)
    }

    fn receive(&self, stream: TcpStream, genesis: BlockHash, file: File) -> Result<()> {
        stream.set_nodelay(true)?;
        let clock = Arc::new(TlsTime(RealClock::new()));
        let config = client_config(&credentials(1)?, clock)?;
        let mut tls = StreamOwned::new(ClientConnection::new(config, server_name())?, stream);
        let (batches, waiting) = mpsc::sync_channel(WAITING);
        thread::scope(|scope| {
            let storing = scope.spawn(move || store(&waiting, file));
            let received = self.read_blocks(&mut tls, genesis, &batches);
            drop(batches);
            storing.join().expect("storing does not panic")?;
            received
        })
    }

    fn read_blocks(
        &self,
        tls: &mut impl Read,
        genesis: BlockHash,
        batches: &mpsc::SyncSender<Vec<Bytes>>,
    ) -> Result<()> {
        let mut buffer = BytesMut::new();
        let (mut parent, mut height, mut batch) = (genesis, 0, Vec::new());
        while height < self.blocks {
            let Some(len) = buffer.first_chunk().map(|len| u32::from_be_bytes(*len) as usize + 4) else {
                fill(&mut buffer, tls)?;
                continue;
            };
            if buffer.len() < len {
                fill(&mut buffer, tls)?;
                continue;
            }
            let body = buffer.split_to(len).freeze().slice(4..);
            height += 1;
            parent = link(&body, parent, Height::new(height))?;
            batch.push(body);
            if batch.len() == BATCH || height == self.blocks {
                batches.send(std::mem::take(&mut batch)).context("the disk failed")?;
            }
        }
        Ok(())
    }
}

fn fill(buffer: &mut BytesMut, tls: &mut impl Read) -> Result<()> {
    let old = buffer.len();
    buffer.resize(old + (64 << 10), 0);
    let read = tls.read(&mut buffer[old..])?;
    buffer.truncate(old + read);
    ensure!(read > 0, "the sender ended early");
    Ok(())
}

fn credentials(number: usize) -> Result<Credentials> {
    Ok(Credentials::issue(fixtures::identity(number), None, RealClock::new().now())?)
}

/// A block as a program reads it that only wants to link headers: nothing copied, transactions left as text.
#[derive(Deserialize)]
struct Header<'a> {
    height: u64,
    timestamp: u64,
    previous_hash: BlockHash,
    merkle_root: MerkleRoot,
    validator: Address,
    hash: BlockHash,
    #[serde(borrow, rename = "transactions")]
    _transactions: Vec<&'a RawValue>,
    #[serde(borrow, rename = "signature")]
    _signature: &'a str,
}

/// The hash of a block, if it follows `parent`.
pub(super) fn link(body: &[u8], parent: BlockHash, height: Height) -> Result<BlockHash> {
    let header: Header<'_> = serde_json::from_slice(body)?;
    let content = HeaderContent {
        height: Height::new(header.height),
        timestamp: header.timestamp,
        previous_hash: header.previous_hash,
        merkle_root: header.merkle_root,
        validator: Some(header.validator),
    };
    let hash = content.hash();
    let follows = content.height == height && content.previous_hash == parent && hash == header.hash;
    ensure!(follows, "block {height} does not follow");
    Ok(hash)
}

/// Writes batches one behind the other, each synced.
fn store(batches: &mpsc::Receiver<Vec<Bytes>>, mut file: File) -> Result<()> {
    let mut flat = Vec::new();
    while let Ok(batch) = batches.recv() {
        flat.clear();
        for body in &batch {
            flat.extend_from_slice(body);
        }
        file.write_all(&flat)?;
        file.sync_data()?;
    }
    Ok(())
}

/// RSA-2048 signatures that all cores check in a second, each with its key parsed beforehand.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub(super) fn verifications() -> Result<f64> {
    const LASTS: Duration = Duration::from_millis(500);
    const BETWEEN_LOOKS: Range<u64> = 0..64;
    let identity = fixtures::identity(0);
    let (message, key) = ([7; 32], identity.public_key());
    let signature = identity.sign(&message);
    let one = || {
        let (start, mut count) = (Instant::now(), 0);
        while start.elapsed() < LASTS {
            for _ in BETWEEN_LOOKS {
                key.verify(&message, &signature)?;
                count += 1;
            }
        }
        Ok(rate(count, start.elapsed()))
    };
    thread::scope(|scope| {
        let running: Vec<_> = (0..cores().get()).map(|_| scope.spawn(one)).collect();
        running.into_iter().map(|thread| thread.join().expect("checking does not panic")).sum()
    })
}

/// Shows the system's clock to rustls.
#[derive(Debug)]
struct TlsTime(RealClock);

impl TimeProvider for TlsTime {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        let since_epoch = Duration::from_millis(self.0.now().as_millis());
        Some(rustls::pki_types::UnixTime::since_unix_epoch(since_epoch))
    }
}
