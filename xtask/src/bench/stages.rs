//! `bench stages`: what each step of a block's way costs on one core, to see where the time of a sync can go.

use std::{hint::black_box, path::Path, time::Duration};

use anyhow::{Result, bail, ensure};
use bt2c_proto::{Block, BlockHash, Envelope, Frame, Height, Message};
use bt2c_sync::{CheckedBlock, Checkpoint, ValidatorSchedule, check_block, import};
use bytes::Bytes;
use serde::Serialize;

use super::{
    chain::{self, Recipe},
    figures::{Scratch, as_float, directory, median, table, timed},
    limit::link,
    sync::bodies,
};

/// Options of `bench stages`.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// How often everything is measured; medians are shown.
    #[arg(long, value_name = "K", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Prints the figures as JSON.
    #[arg(long)]
    json: bool,
}

/// Blocks that are measured.
const BLOCKS: u64 = 10_000;

/// Blocks in one frame and in one commit, as in a sync.
const BATCH: usize = 512;

#[derive(Debug, Serialize)]
struct Line {
    stage: &'static str,
    microseconds_per_block: f64,
}

/// The stages, in the order in which they are measured.
const STAGES: [&str; 5] = [
    "flat: header typed and hashed, transactions left as text",
    "parse: envelope, every field typed, header hashed",
    "check, checkpoint above: seal, root, hashes, canonical form",
    "check: the same, and the signature of one transaction",
    "import: index, segments, two fsyncs for 512 blocks",
];

struct Bench {
    bodies: Vec<Bytes>,
    frames: Vec<Bytes>,
    blocks: Vec<Block>,
    checked: Vec<CheckedBlock>,
}

/// Measures every stage `runs` times in turn, and prints the medians.
pub(super) fn run(root: &Path, args: &Args) -> Result<()> {
    let bench = directory(root)?;
    let (dir, tip) = Recipe { blocks: BLOCKS, transactions: 1 }.make(&bench)?;
    let data = Bench::new(bodies(&dir)?)?;
    let checkpoint = Checkpoint { height: tip.height, hash: tip.hash };
    let mut runs = Vec::new();
    for _ in 0..args.runs {
        let scratch = Scratch::new(&bench, "stages")?;
        runs.push([
            data.link(chain::genesis()?.hash())?,
            data.parse()?,
            data.check(&*chain::schedule(Some(checkpoint))?)?,
            data.check(&*chain::schedule(None)?)?,
            data.import(scratch.path())?,
        ]);
    }
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / as_float(BLOCKS);
    let lines: Vec<Line> = (0..)
        .zip(STAGES)
        .map(|(index, stage)| Line {
            stage,
            microseconds_per_block: median(runs.iter().map(|run: &[Duration; 5]| micros(run[index]))),
        })
        .collect();
    if args.json {
        println!("{}", serde_json::to_string_pretty(&lines)?);
        return Ok(());
    }
    let mut table = table(&["stage, on one core", "µs a block"], 1);
    for line in lines {
        table.add_row([line.stage.to_owned(), format!("{:.1}", line.microseconds_per_block)]);
    }
    println!("{table}");
    Ok(())
}

impl Bench {
    fn new(bodies: Vec<Bytes>) -> Result<Self> {
        let sender = "bench".parse()?;
        let frame = |bodies: &[Bytes]| Ok(Frame::blocks(bodies, &sender, chain::NOW)?.body());
        let frames = bodies.chunks(BATCH).map(frame).collect::<Result<_>>()?;
        let blocks =
            bodies.iter().map(|body| Ok(serde_json::from_slice(body)?)).collect::<Result<Vec<Block>>>()?;
        let checked = blocks.iter().map(CheckedBlock::trusted).collect();
        Ok(Self { bodies, frames, blocks, checked })
    }

    fn link(&self, genesis: BlockHash) -> Result<Duration> {
        let linked = timed(|| {
            let mut parent = genesis;
            for (height, body) in (1..).zip(&self.bodies) {
                parent = link(body, parent, Height::new(height))?;
            }
            Ok(parent)
        })?;
        Ok(linked.0)
    }

    fn parse(&self) -> Result<Duration> {
        let parsed = timed(|| {
            for frame in &self.frames {
                let Some(Message::Blocks(answer)) = Envelope::split(frame)?.message()? else {
                    bail!("a frame of blocks is none");
                };
                black_box(answer.blocks);
            }
            Ok(())
        })?;
        Ok(parsed.0)
    }

    fn check(&self, schedule: &ValidatorSchedule) -> Result<Duration> {
        let checked = timed(|| {
            for block in &self.blocks {
                black_box(check_block(schedule, block, false)?);
            }
            Ok(())
        })?;
        Ok(checked.0)
    }

    fn import(&self, dir: &Path) -> Result<Duration> {
        let (store, schedule) = (chain::open(dir)?, chain::schedule(None)?);
        let imported = timed(|| {
            for batch in self.checked.chunks(BATCH) {
                let imported = import(&*store, &*schedule, batch)?;
                ensure!(imported.stored == batch.len(), "not stored: {:?}", imported.rejected);
            }
            Ok(())
        })?;
        Ok(imported.0)
    }
}
