//! `chain info`, `verify`, `export`, `import`, `prune`, `generate`.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter},
    path::Path,
};

use anyhow::{Context, Result};
use bt2c_proto::{BlockHash, Height, Network};
use bt2c_sync::ImportError;
use indicatif::ProgressBar;
use serde::Serialize;

use super::{
    args::{ChainCommand, ChainFileArgs, ChainGenerateArgs, ChainPruneArgs, ChainQueryArgs, NodeArgs},
    logging,
    outfile::OutFile,
    output::{self, grouped, moment, pairs, size},
    progress::Progress,
    settings::Settings,
};
use crate::{chain::Workbench, config::LogFormat};

/// What `chain info --json` and `chain verify --json` print.
#[derive(Serialize)]
struct ChainView {
    network: Network,
    genesis_hash: BlockHash,
    height: Height,
    tip_hash: BlockHash,
    /// Seconds since the Unix epoch.
    tip_timestamp: u64,
    /// Counted by `verify` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    transactions: Option<u64>,
    /// The lowest height from which on every block is kept.
    first_block: Height,
    size_bytes: u64,
}

/// What `chain export --json` prints.
#[derive(Serialize)]
struct ExportView<'a> {
    file: &'a Path,
    first_block: Height,
    blocks: u64,
}

/// What `chain prune --json` prints.
#[derive(Serialize)]
struct PruneView {
    removed_files: u32,
    removed_bytes: u64,
    first_block: Height,
    size_bytes: u64,
}

/// What `chain import --json` prints.
#[derive(Serialize)]
struct ImportView {
    imported: u64,
    known: u64,
    height: Height,
    tip_hash: BlockHash,
}

/// What `chain generate --json` prints.
#[derive(Serialize)]
struct GenerateView {
    blocks: u64,
    height: Height,
    tip_hash: BlockHash,
}

pub(super) fn chain(command: ChainCommand) -> Result<()> {
    // What is mended when a chain is opened is told.
    logging::init("warn", LogFormat::Text, &ProgressBar::hidden())?;
    match command {
        ChainCommand::Info(args) => info(&args),
        ChainCommand::Verify(args) => verify(&args),
        ChainCommand::Export(args) => export(&args),
        ChainCommand::Import(args) => import(&args),
        ChainCommand::Prune(args) => prune(&args),
        ChainCommand::Generate(args) => generate(&args),
    }
}

fn info(args: &ChainQueryArgs) -> Result<()> {
    let bench = open(&args.node)?;
    show(&view(&bench, None)?, args.json)
}

fn verify(args: &ChainQueryArgs) -> Result<()> {
    let settings = Settings::load_or_devnet(&args.node)?;
    let bench = Workbench::open_as_is(&settings.home, &settings.config, settings.genesis()?)?;
    let mut progress = Progress::new("checking", Some(bench.store().tip().height.get()));
    let verified = bench.verify(|done| progress.at(done));
    progress.finish();
    let verified = verified.context("the chain is damaged")?;
    show(&view(&bench, Some(verified.transactions))?, args.json)?;
    if args.json {
        return Ok(());
    }
    if verified.beside > 0 {
        output::line(format_args!(
            "{} blocks beside the main chain are as they were stored",
            grouped(verified.beside)
        ))?;
    }
    let from = match verified.first {
        Height::GENESIS => String::new(),
        first => format!(" from {} on, where what is kept begins,", grouped(first.get())),
    };
    output::line(format_args!("every block{from} is valid up to {}", verified.tip.hash))
}

fn export(args: &ChainFileArgs) -> Result<()> {
    let bench = open(&args.node)?;
    let store = bench.store();
    let blocks = store.tip().height.get() + 1 - store.first_body().get();
    let mut progress = Progress::new("exporting", Some(blocks));
    let name = args.file.display();
    if is_standard(&args.file) {
        let mut out = BufWriter::new(io::stdout().lock());
        return bench.export(&mut out, |done| progress.at(done)).map(drop);
    }
    let unwritable = || format!("cannot write {name}");
    let mut file = OutFile::create(&args.file).with_context(unwritable)?;
    let exported = bench.export(&mut file, |done| progress.at(done));
    progress.finish();
    let exported = exported.with_context(|| format!("export to {name}"))?;
    file.finish(true).with_context(unwritable)?;
    let (first_block, blocks) = (exported.first, exported.blocks);
    if args.json {
        return output::json(&ExportView { file: &args.file, first_block, blocks });
    }
    let from = match first_block.get() {
        0 => String::new(),
        first => format!(
            " from {} on, for older ones are pruned: it can be imported where block {} is",
            grouped(first),
            grouped(first - 1)
        ),
    };
    output::line(format_args!("{name}: {} blocks{from}", grouped(blocks)))
}

fn import(args: &ChainFileArgs) -> Result<()> {
    let name = args.file.display();
    let mut input: Box<dyn io::BufRead + Send> = if is_standard(&args.file) {
        Box::new(BufReader::new(io::stdin()))
    } else {
        Box::new(BufReader::new(File::open(&args.file).with_context(|| format!("cannot read {name}"))?))
    };
    let bench = create(&args.node)?;
    let mut progress = Progress::new("importing", None);
    let summary = bench.import(&mut input, |done| progress.at(done));
    progress.finish();
    let tip = bench.store().tip();
    let summary = summary.map_err(|error| {
        let hint = match error.downcast_ref::<ImportError>() {
            Some(error) if error.is_disk_full() => {
                format!("make room and start the import again: it goes on from block {}", tip.height.next())
            }
            _ => return error.context(format!("import of {name}")),
        };
        anyhow::anyhow!("import of {name}: {}: {hint}", output::causes(&error))
    })?;
    if args.json {
        let (imported, known) = (summary.imported, summary.known);
        return output::json(&ImportView { imported, known, height: tip.height, tip_hash: tip.hash });
    }
    output::line(format_args!(
        "{} blocks stored, {} were known; tip {} {}",
        grouped(summary.imported),
        grouped(summary.known),
        grouped(tip.height.get()),
        tip.hash
    ))
}

fn prune(args: &ChainPruneArgs) -> Result<()> {
    let bench = open(&args.node)?;
    let pruned = bench.prune(args.keep)?;
    let (first_block, size_bytes) = (bench.store().first_body(), bench.size()?);
    if args.json {
        let (removed_files, removed_bytes) = (pruned.segments, pruned.bytes);
        return output::json(&PruneView { removed_files, removed_bytes, first_block, size_bytes });
    }
    output::line(format_args!(
        "{} files with {} removed; blocks from {} on are kept, the chain takes {}",
        grouped(pruned.segments.into()),
        size(pruned.bytes),
        grouped(first_block.get()),
        size(size_bytes)
    ))
}

fn generate(args: &ChainGenerateArgs) -> Result<()> {
    let bench = create(&args.node)?;
    let mut progress = Progress::new("generating", Some(args.blocks));
    let tip = bench.generate(args.blocks, args.txs, |done| progress.at(done));
    progress.finish();
    let tip = tip?;
    if args.json {
        let (blocks, height) = (args.blocks, tip.height);
        return output::json(&GenerateView { blocks, height, tip_hash: tip.hash });
    }
    output::line(format_args!(
        "{} blocks made; tip {} {}",
        grouped(args.blocks),
        grouped(tip.height.get()),
        tip.hash
    ))
}

fn open(args: &NodeArgs) -> Result<Workbench> {
    let settings = Settings::load_or_devnet(args)?;
    Workbench::open(&settings.home, &settings.config, settings.genesis()?)
}

fn create(args: &NodeArgs) -> Result<Workbench> {
    let settings = Settings::load_or_devnet(args)?;
    Workbench::open_or_create(&settings.home, &settings.config, settings.genesis()?)
}

fn view(bench: &Workbench, transactions: Option<u64>) -> Result<ChainView> {
    let tip = bench.store().tip();
    Ok(ChainView {
        network: bench.genesis().network(),
        genesis_hash: bench.genesis().hash(),
        height: tip.height,
        tip_hash: tip.hash,
        tip_timestamp: tip.timestamp,
        transactions,
        first_block: bench.store().first_body(),
        size_bytes: bench.size()?,
    })
}

fn show(view: &ChainView, json: bool) -> Result<()> {
    if json {
        return output::json(view);
    }
    let mut lines = vec![
        ("network", view.network.to_string()),
        ("genesis", view.genesis_hash.to_string()),
        ("height", grouped(view.height.get())),
        ("tip", view.tip_hash.to_string()),
        ("tip time", moment(view.tip_timestamp)),
        ("size", size(view.size_bytes)),
    ];
    if view.first_block > Height::GENESIS {
        lines.push(("kept", format!("blocks from {} on", grouped(view.first_block.get()))));
    }
    if let Some(transactions) = view.transactions {
        lines.push(("transactions", grouped(transactions)));
    }
    output::text(&pairs(&lines))
}

fn is_standard(path: &Path) -> bool {
    path == Path::new("-")
}
