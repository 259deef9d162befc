//! `bench store`: the chain store alone, beside a flat file that is synced as often.

use std::{
    fs::{self, File},
    io::{BufReader, BufWriter, Write},
    path::Path,
};

use anyhow::{Result, ensure};
use bt2c_proto::Block;
use bt2c_sync::{CheckedBlock, Checkpoint, export_chain, import, import_chain};
use bytes::Bytes;
use serde::Serialize;

use super::{
    chain::{self, Recipe, cores},
    figures::{Scratch, as_float, directory, median, rate, table, timed},
    sync::bodies,
};

/// Options of `bench store`.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// Blocks, of one transaction each.
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1..))]
    blocks: u64,
    /// How often everything is measured; medians are shown.
    #[arg(long, value_name = "K", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Prints the figures as JSON.
    #[arg(long)]
    json: bool,
}

/// The figures of one kind of work.
#[derive(Debug, Serialize)]
struct Line {
    work: &'static str,
    blocks_per_second: f64,
    megabytes_per_second: f64,
    flat_blocks_per_second: f64,
    /// The median of the ratios within one run.
    ratio: f64,
}

/// Blocks between two commits, as in the synchroniser.
const BATCH: usize = 512;

/// What is measured, in order; the first two stand beside writing, the third beside reading and writing.
const WORK: [&str; 3] = ["append", "import, checkpoint at the tip", "export"];

struct Bench {
    bodies: Vec<Bytes>,
    checked: Vec<CheckedBlock>,
}

/// Measures everything `runs` times in turn, and prints the medians.
pub(super) fn run(root: &Path, args: &Args) -> Result<()> {
    let bench = directory(root)?;
    let (dir, _) = Recipe { blocks: args.blocks, transactions: 1 }.make(&bench)?;
    let bodies = bodies(&dir)?;
    let blocks =
        bodies.iter().map(|body| Ok(serde_json::from_slice(body)?)).collect::<Result<Vec<Block>>>()?;
    let checked = blocks.iter().map(CheckedBlock::trusted).collect();
    let data = Bench { bodies, checked };
    let mut runs = Vec::new();
    for number in 1..=args.runs {
        eprintln!("run {number} of {}", args.runs);
        let scratch = Scratch::new(&bench, "store")?;
        runs.push(data.measure(scratch.path())?);
    }
    let bytes: usize = data.bodies.iter().map(Bytes::len).sum();
    let block = as_float(bytes as u64) / as_float(args.blocks) / 1e6;
    let lines: Vec<Line> = (0..).zip(WORK).map(|(index, work)| line(work, block, &runs, index)).collect();
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&lines)?),
        false => print(&lines),
    }
    Ok(())
}

fn line(work: &'static str, block: f64, runs: &[[(f64, f64); 3]], index: usize) -> Line {
    let blocks_per_second = median(runs.iter().map(|run| run[index].0));
    Line {
        work,
        blocks_per_second,
        megabytes_per_second: blocks_per_second * block,
        flat_blocks_per_second: median(runs.iter().map(|run| run[index].1)),
        ratio: median(runs.iter().map(|run| run[index].0 / run[index].1)),
    }
}

impl Bench {
    /// Blocks a second of each kind of work, and of its limit.
    fn measure(&self, dir: &Path) -> Result<[(f64, f64); 3]> {
        let writing = self.write_flat(&dir.join("flat"))?;
        let appending = self.append(&dir.join("appended"))?;
        let exporting = self.export(&dir.join("appended"), &dir.join("exported"))?;
        let copying = self.copy_flat(&dir.join("flat"), &dir.join("copied"))?;
        let importing = self.import(&dir.join("exported"), &dir.join("imported"))?;
        Ok([(appending, writing), (importing, writing), (exporting, copying)])
    }

    fn rate(&self, work: impl FnOnce() -> Result<()>) -> Result<f64> {
        Ok(rate(self.bodies.len() as u64, timed(work)?.0))
    }

    fn write_flat(&self, path: &Path) -> Result<f64> {
        self.rate(|| {
            let mut file = File::create(path)?;
            for batch in self.bodies.chunks(BATCH) {
                file.write_all(&batch.concat())?;
                file.sync_data()?;
            }
            Ok(())
        })
    }

    fn copy_flat(&self, from: &Path, to: &Path) -> Result<f64> {
        self.rate(|| {
            let mut file = File::create(to)?;
            file.write_all(&fs::read(from)?)?;
            Ok(file.sync_data()?)
        })
    }

    fn append(&self, dir: &Path) -> Result<f64> {
        let (store, schedule) = (chain::open(dir)?, chain::schedule(None)?);
        self.rate(|| {
            for batch in self.checked.chunks(BATCH) {
                let imported = import(&*store, &*schedule, batch)?;
                ensure!(imported.stored == batch.len(), "not stored: {:?}", imported.rejected);
            }
            Ok(())
        })
    }

    fn export(&self, dir: &Path, to: &Path) -> Result<f64> {
        let store = chain::open(dir)?;
        self.rate(|| {
            let mut file = BufWriter::new(File::create(to)?);
            export_chain(&*store, &mut file, |_| ())?;
            Ok(file.get_ref().sync_data()?)
        })
    }

    fn import(&self, from: &Path, dir: &Path) -> Result<f64> {
        let tip = self.checked.last().map(|block| block.place);
        let checkpoint = tip.map(|tip| Checkpoint { height: tip.height, hash: tip.hash });
        let (store, schedule) = (chain::open(dir)?, chain::schedule(checkpoint)?);
        self.rate(|| {
            let mut file = BufReader::new(File::open(from)?);
            import_chain(&*store, &*schedule, &mut file, chain::NOW, cores(), |_| ())?;
            Ok(())
        })
    }
}

fn print(lines: &[Line]) {
    let mut table = table(&["work", "blocks/s", "MB/s", "flat file/s", "ratio"], 1);
    for line in lines {
        table.add_row([
            line.work.to_owned(),
            format!("{:.0}", line.blocks_per_second),
            format!("{:.1}", line.megabytes_per_second),
            format!("{:.0}", line.flat_blocks_per_second),
            format!("{:.2}", line.ratio),
        ]);
    }
    println!("{table}");
}
