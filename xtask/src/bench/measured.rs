//! The fixed pieces of work that callgrind counts, one in each process.
//!
//! Only what runs inside [`bt2c_measured_part`] is counted; what it needs is made before.

use std::{hint::black_box, path::PathBuf, sync::Arc};

use anyhow::{Context, Result, bail, ensure};
use bt2c_p2p::env::MemoryDisk;
use bt2c_proto::{Envelope, Frame, Message, limits::FRAME_LIMIT};
use bt2c_security::fixtures;
use bt2c_sync::{CheckedBlock, Consensus, DiskStore, DiskStoreConfig, check_block, import};
use bytes::Bytes;

use super::fixed;
use crate::simulate::{self, Setup};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(super) enum Work {
    /// Frames with the fixed chain, from bytes to blocks.
    Parse,
    /// The checks of the fixed chain's blocks, signatures included.
    Check,
    /// Storing the fixed chain in a store on a disk in memory.
    Import,
    /// A small network on virtual time, without TLS.
    Simulate,
}

/// What the hidden command is told.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    work: Work,
    /// The fixed chain.
    chain: PathBuf,
}

/// Blocks in one import: what the synchroniser stores at once, scaled to the length of the chain.
const BATCH: usize = 64;

/// Blocks in one frame.
const FRAME_BLOCKS: usize = 128;

/// Nodes of the simulation.
const NODES: usize = 5;

pub(super) fn run(args: &Args) -> Result<()> {
    match args.work {
        Work::Parse => parse(args),
        Work::Check => check(args),
        Work::Import => import_chain(args),
        Work::Simulate => simulate(),
    }
}

/// What is counted: callgrind is told this name. It must be one function, not inlined, and called once.
#[inline(never)]
fn bt2c_measured_part(work: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    let result = work();
    // Without something behind the call it would be a jump, and this function over before the work begins.
    black_box(result)
}

fn parse(args: &Args) -> Result<()> {
    let sender = "bench".parse().context("a label")?;
    let frames = fixed::read(&args.chain)?
        .chunks(FRAME_BLOCKS)
        .map(|lines| Ok(Frame::blocks(lines, &sender, fixed::NOW)?.body()))
        .collect::<Result<Vec<Bytes>>>()?;
    ensure!(frames.iter().all(|frame| frame.len() > FRAME_LIMIT / 8), "the frames are not those of a sync");
    bt2c_measured_part(&mut || {
        for frame in &frames {
            let Some(Message::Blocks(answer)) = Envelope::split(frame)?.message()? else {
                bail!("a frame of blocks is none");
            };
            black_box(answer.blocks);
        }
        Ok(())
    })
}

fn check(args: &Args) -> Result<()> {
    let (blocks, schedule) = (fixed::blocks(&fixed::read(&args.chain)?)?, fixed::schedule()?);
    bt2c_measured_part(&mut || {
        for block in &blocks {
            black_box(check_block(&schedule, block, false)?);
        }
        Ok(())
    })
}

fn import_chain(args: &Args) -> Result<()> {
    let schedule = fixed::schedule()?;
    let blocks = fixed::blocks(&fixed::read(&args.chain)?)?;
    let checked: Vec<_> = blocks.iter().map(CheckedBlock::trusted).collect();
    let disk = Arc::new(MemoryDisk::new());
    let config = DiskStoreConfig::default();
    let store = DiskStore::open(disk, "chain".as_ref(), schedule.genesis(), config)?;
    bt2c_measured_part(&mut || {
        for batch in checked.chunks(BATCH) {
            let imported = import(&store, &schedule, batch)?;
            ensure!(imported.stored == batch.len(), "the fixed chain is not taken: {:?}", imported.rejected);
        }
        Ok(())
    })
}

fn simulate() -> Result<()> {
    let smoke = simulate::scenario("smoke").context("there is a scenario smoke")?;
    let setup = Setup { nodes: NODES, tls: false, ..smoke.setup(1) };
    // The library gathers its first randomness for as long as the machine's timers take: not part of the work.
    fixtures::identity(0).sign(&[0; 32]);
    bt2c_measured_part(&mut || {
        let outcome = simulate::play(smoke, setup.clone())?;
        if let Some(unmet) = outcome.unmet().next() {
            bail!("{}: {}", unmet.name, unmet.found);
        }
        Ok(())
    })
}
