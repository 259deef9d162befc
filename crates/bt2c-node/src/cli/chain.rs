//! `chain info`, `verify`, `export`, `import`, `generate`.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter},
    path::Path,
};

use anyhow::{Context, Result};
use bt2c_proto::{BlockHash, Height, Network};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{
    args::{ChainCommand, ChainFileArgs, ChainGenerateArgs, ChainQueryArgs, NodeArgs},
    logging::progress_bar,
    outfile::OutFile,
    output::{self, grouped, moment, pairs, size},
    settings::Settings,
};
use crate::chain::Workbench;

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
    size_bytes: u64,
}

/// What `chain export --json` prints.
#[derive(Serialize)]
struct ExportView<'a> {
    file: &'a Path,
    blocks: u64,
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
    match command {
        ChainCommand::Info(args) => info(&args),
        ChainCommand::Verify(args) => verify(&args),
        ChainCommand::Export(args) => export(&args),
        ChainCommand::Import(args) => import(&args),
        ChainCommand::Generate(args) => generate(&args),
    }
}

fn info(args: &ChainQueryArgs) -> Result<()> {
    let bench = open(&args.node)?;
    show(&view(&bench, None)?, args.json)
}

fn verify(args: &ChainQueryArgs) -> Result<()> {
    let bench = open(&args.node)?;
    let bar = bar("checking", Some(bench.store().tip().height.get()));
    let verified = bench.verify(|done| bar.set_position(done));
    bar.finish_and_clear();
    let verified = verified.context("the chain is damaged")?;
    show(&view(&bench, Some(verified.transactions))?, args.json)?;
    if args.json {
        Ok(())
    } else {
        output::line(format_args!("every block is valid up to {}", verified.tip.hash))
    }
}

fn export(args: &ChainFileArgs) -> Result<()> {
    let bench = open(&args.node)?;
    let bar = bar("exporting", Some(bench.store().tip().height.get() + 1));
    let name = args.file.display();
    if is_standard(&args.file) {
        let mut out = BufWriter::new(io::stdout().lock());
        return bench.export(&mut out, |done| bar.set_position(done)).map(drop);
    }
    let unwritable = || format!("cannot write {name}");
    let mut file = OutFile::create(&args.file).with_context(unwritable)?;
    let blocks = bench.export(&mut file, |done| bar.set_position(done));
    bar.finish_and_clear();
    let blocks = blocks.with_context(|| format!("export to {name}"))?;
    file.finish(true).with_context(unwritable)?;
    if args.json {
        return output::json(&ExportView { file: &args.file, blocks });
    }
    output::line(format_args!("{name}: {} blocks", grouped(blocks)))
}

fn import(args: &ChainFileArgs) -> Result<()> {
    let name = args.file.display();
    let mut input: Box<dyn io::BufRead> = if is_standard(&args.file) {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(&args.file).with_context(|| format!("cannot read {name}"))?))
    };
    let bench = create(&args.node)?;
    let bar = bar("importing", None);
    let summary = bench.import(&mut input, |done| bar.set_position(done));
    bar.finish_and_clear();
    let summary = summary.with_context(|| format!("import of {name}"))?;
    let tip = bench.store().tip();
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

fn generate(args: &ChainGenerateArgs) -> Result<()> {
    let bench = create(&args.node)?;
    let bar = bar("generating", Some(args.blocks));
    let tip = bench.generate(args.blocks, args.txs, |done| bar.set_position(done));
    bar.finish_and_clear();
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
    if let Some(transactions) = view.transactions {
        lines.push(("transactions", grouped(transactions)));
    }
    output::text(&pairs(&lines))
}

fn is_standard(path: &Path) -> bool {
    path == Path::new("-")
}

/// A bar for this many blocks, or a count if it is not known how many there are.
fn bar(what: &'static str, blocks: Option<u64>) -> ProgressBar {
    let template = match blocks {
        Some(_) => "{msg} {bar:30} {human_pos} of {human_len} blocks, {per_sec}, {eta} left",
        None => "{msg} {human_pos} blocks, {per_sec}",
    };
    let style = ProgressStyle::with_template(template).expect("the templates are constants");
    let bar = progress_bar().with_style(style).with_message(what);
    if let Some(blocks) = blocks {
        bar.set_length(blocks);
    }
    bar
}
