//! `plumb cache gc`: takes away what nobody can ask for any more, and results down to a size.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use plumb_cache::{CollectOptions, Collection, LeftoverKind, Packed};
use plumb_engine::clock;
use serde::Serialize;

use super::bar::Bar;
use crate::args::Form;
use crate::context::Context;
use crate::exit::Exit;
use crate::table::{Cell, Table};
use crate::trouble::Trouble;
use crate::units;

/// Shown below the help.
pub const NOTES: &str = "\
Examples:
  plumb cache gc                          what no result stands on, and what dead runs left behind
  plumb cache gc --max-size 200GiB -n     what would go, and how long making it again would take
  plumb cache gc --max-size 200GiB --keep-runs 3
  plumb cache gc --pack                   keep the tensors that checkpoints share once

Results go in the order of what they cost to make again for each byte they hold. These stay whatever it takes:
pinned results, what runs that go on use, the results of the last runs of each pipeline file, and the sources
that the lock files of pipelines name. It is safe beside runs, and may be killed at any moment.";

/// `plumb cache gc`.
#[derive(Debug, Clone, Args)]
pub struct GcArgs {
    /// Evict results until the cache is no larger than this, as `200GiB`
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size)]
    pub max_size: Option<u64>,
    /// Keep the results of so many last runs of each pipeline file
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub keep_runs: usize,
    /// Checkpoints of unfinished steps, histories and logs beyond the last runs, and catalogues of layers that nobody
    /// read go when they are older than this
    #[arg(long, value_name = "AGE", value_parser = units::parse_age, default_value = "14d")]
    pub older: Duration,
    /// Keep safetensors files in pieces where they share tensors; they are put together again when they are read
    #[arg(long, conflicts_with = "dry_run")]
    pub pack: bool,
    /// Only say what would go
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// The form of what is printed.
    #[command(flatten)]
    pub form: Form,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    dry_run: bool,
    before_bytes: u64,
    after_bytes: u64,
    rooted_bytes: u64,
    recompute_seconds: f64,
    packed: Option<PackedReport>,
    evicted: Vec<EvictedLine>,
    leftovers: Vec<LeftoverLine>,
}

#[derive(Debug, Serialize)]
struct PackedReport {
    files: usize,
    bytes: u64,
    stored_bytes: u64,
}

#[derive(Debug, Serialize)]
struct EvictedLine {
    key: Option<String>,
    step: String,
    pipeline: String,
    bytes: u64,
    recompute_seconds: f64,
}

#[derive(Debug, Serialize)]
struct LeftoverLine {
    what: &'static str,
    files: usize,
    bytes: u64,
}

/// Runs the command.
pub fn run(context: &Context, args: &GcArgs) -> Result<Exit, Trouble> {
    let store = context.store()?;
    let forgotten = clock::ago(args.older);
    let options =
        CollectOptions { max_size: args.max_size, keep_runs: args.keep_runs, forgotten, drop_whole: args.pack };
    let packing = args.pack.then(|| Bar::new(context, "packing"));
    let packed = packing.map(|bar| store.pack(&|progress| bar.show(progress))).transpose()?;
    let bar = Bar::new(context, "looking at every result");
    let mut waiting = || context.printer.note("waiting for runs that are storing their results");
    let done = match args.dry_run {
        true => store.plan_collection(&options)?,
        false => store.collect(&options, &mut waiting)?,
    };
    drop(bar);
    if args.form.json {
        context.printer.json(&report(args, &done, packed));
    } else {
        print(context, args, &done, packed);
    }
    Ok(Exit::Done)
}

fn report(args: &GcArgs, done: &Collection, packed: Option<Packed>) -> Report {
    let evicted = done.evicted.iter().map(|evicted| EvictedLine {
        key: evicted.action.map(|action| action.to_string()),
        step: evicted.step.clone(),
        pipeline: evicted.pipeline.clone(),
        bytes: evicted.bytes,
        recompute_seconds: evicted.seconds,
    });
    let packed = packed.map(|Packed { files, bytes, stored }| PackedReport { files, bytes, stored_bytes: stored });
    Report {
        dry_run: args.dry_run,
        before_bytes: done.before,
        after_bytes: done.after,
        rooted_bytes: done.rooted,
        recompute_seconds: done.seconds(),
        packed,
        evicted: evicted.collect(),
        leftovers: leftovers(done),
    }
}

/// By kind.
fn leftovers(done: &Collection) -> Vec<LeftoverLine> {
    let mut kinds: BTreeMap<LeftoverKind, (usize, u64)> = BTreeMap::new();
    for leftover in &done.leftovers {
        let (files, bytes) = kinds.entry(leftover.kind).or_default();
        *files += leftover.files;
        *bytes += leftover.bytes;
    }
    kinds.into_iter().map(|(kind, (files, bytes))| LeftoverLine { what: name(kind), files, bytes }).collect()
}

fn name(kind: LeftoverKind) -> &'static str {
    match kind {
        LeftoverKind::Orphan => "blobs of no result",
        LeftoverKind::Whole => "whole files kept in pieces too",
        LeftoverKind::State => "checkpoints",
        LeftoverKind::Quarantine => "damaged files",
        LeftoverKind::History => "old histories and logs",
        LeftoverKind::Scratch => "scratch of dead processes",
        LeftoverKind::View => "checkouts",
        LeftoverKind::Note => "notes about blobs that are gone",
        LeftoverKind::Download => "cut downloads",
        LeftoverKind::Upload => "cut uploads",
        LeftoverKind::Past => "records of what went long ago",
        LeftoverKind::Catalogue => "catalogues of layers",
        LeftoverKind::Signature => "signatures of what is forgotten",
    }
}

fn print(context: &Context, args: &GcArgs, done: &Collection, packed: Option<Packed>) {
    let printer = &context.printer;
    let mut table = Table::new(["what", "files", "size", "to make again"]);
    for line in leftovers(done) {
        let (files, size) = (units::count(line.files as u64), units::size(line.bytes));
        table.row([Cell::from(line.what), Cell::number(files), Cell::number(size), Cell::number("")]);
    }
    for evicted in &done.evicted {
        let (size, cost) = (units::size(evicted.bytes), units::seconds(evicted.seconds));
        let key = evicted.action.map_or_else(String::new, |action| format!(" ({})", action.short()));
        let step = format!("{}{key}", evicted.step);
        table.row([Cell::from(step), Cell::number(""), Cell::number(size), Cell::number(cost)]);
    }
    if !table.is_empty() {
        printer.table(&table);
    }
    if let Some(Packed { files, bytes, stored }) = packed.filter(|packed| packed.files > 0) {
        let (bytes, stored) = (units::size(bytes), units::size(stored));
        printer.note(&format!("packed {} ({bytes}) into {stored}", units::plural(files, "file")));
    }
    let (would, be) = if args.dry_run { ("would free", "be") } else { ("freed", "is") };
    printer.note(&format!(
        "{would} {}; the cache {}{be} {}{}",
        units::size(done.before.saturating_sub(done.after)),
        if args.dry_run { "would " } else { "" },
        units::size(done.after),
        match done.evicted.is_empty() {
            true => String::new(),
            false => format!(
                "; making the {} again takes {} ({:.2} hours)",
                units::plural(done.evicted.len(), "result"),
                units::seconds(done.seconds()),
                done.seconds() / 3600.0
            ),
        }
    ));
    if let Some(limit) = args.max_size.filter(|limit| done.after > *limit) {
        printer.warning(&format!(
            "that is more than {}: {} are pinned, locked, or used by the last runs",
            units::size(limit),
            units::size(done.rooted)
        ));
        printer.hint("`plumb cache unpin`, or `--keep-runs 0`");
    }
}
