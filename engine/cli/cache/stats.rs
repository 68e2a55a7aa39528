//! `plumb cache stats`: what the bytes of the cache are, what is shared, what hits and others' results have saved, and
//! how files get out.

use std::path::Path;

use clap::Args;
use plumb_cache::{Figures, Method, Share, Store};
use plumb_engine::sharing::{self, Share as Shared};
use plumb_engine::{history, upstream};
use serde::Serialize;

use super::bar::Bar;
use crate::args::Form;
use crate::context::Context;
use crate::exit::Exit;
use crate::table::{Cell, Table};
use crate::trouble::Trouble;
use crate::units;

/// `plumb cache stats`.
#[derive(Debug, Clone, Args)]
pub struct StatsArgs {
    /// The form of what is printed.
    #[command(flatten)]
    pub form: Form,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    cache: String,
    bytes: u64,
    results: usize,
    classes: Vec<Class>,
    unique_bytes: u64,
    shared_bytes: u64,
    unshared_bytes: u64,
    diagnostics_share: f64,
    runs: usize,
    hits: usize,
    saved_seconds: f64,
    /// What runs used or layers brought, by who made it and stage; each result counts once.
    people: Vec<Shared>,
    /// The sum over the results of others.
    sharing: Saved,
    ways: Vec<Way>,
}

/// What others' results took, and nobody has to spend again.
#[derive(Debug, Default, Serialize)]
struct Saved {
    results: usize,
    gpu_hours: f64,
    cpu_hours: f64,
    wall_hours: f64,
}

impl Saved {
    fn by(people: &[Shared]) -> Self {
        people.iter().filter(|share| !share.own).fold(Self::default(), |sum, share| Self {
            results: sum.results + share.results,
            gpu_hours: sum.gpu_hours + share.gpu_seconds / 3600.0,
            cpu_hours: sum.cpu_hours + share.cpu_seconds / 3600.0,
            wall_hours: sum.wall_hours + share.wall_seconds / 3600.0,
        })
    }
}

/// Some of the bytes.
#[derive(Debug, Serialize)]
struct Class {
    what: String,
    files: usize,
    bytes: u64,
}

/// How files get from the cache to a place.
#[derive(Debug, Serialize)]
struct Way {
    to: String,
    file_system: String,
    readers: &'static str,
    writers: &'static str,
}

/// Runs the command.
pub fn run(context: &Context, args: &StatsArgs) -> Result<Exit, Trouble> {
    let store = context.store()?;
    let bar = Bar::new(context, "looking at every result");
    let census = store.census()?;
    let people = sharing::shares(&store, &census, &upstream::people()?)?;
    let report = report(&store, census.kept.len(), &store.figures(&census)?, people)?;
    drop(bar);
    if args.form.json {
        context.printer.json(&report);
    } else {
        print(context, &report);
    }
    Ok(Exit::Done)
}

fn report(store: &Store, results: usize, figures: &Figures, people: Vec<Shared>) -> Result<Report, Trouble> {
    let runs = history::runs(store, None)?;
    let named = [
        ("results", figures.results),
        ("diagnostics", figures.diagnostics),
        ("folder lists", figures.folders),
        ("blobs of no result", figures.others),
    ];
    let beside = figures.beside.iter().map(|(name, share)| (name.as_str(), *share));
    let class = |(what, share): (&str, Share)| Class { what: what.to_owned(), files: share.files, bytes: share.bytes };
    let blobs = figures.results.bytes + figures.diagnostics.bytes + figures.folders.bytes;
    Ok(Report {
        cache: store.root().display().to_string(),
        bytes: figures.bytes(),
        results,
        classes: named.into_iter().chain(beside).filter(|(_, share)| share.files > 0).map(class).collect(),
        unique_bytes: figures.unique,
        shared_bytes: figures.shared,
        unshared_bytes: figures.unshared,
        diagnostics_share: if blobs == 0 { 0.0 } else { figures.diagnostics.bytes as f64 / blobs as f64 },
        runs: runs.len(),
        hits: runs.iter().map(|run| run.hits).sum(),
        saved_seconds: runs.iter().map(|run| run.saved_seconds).sum(),
        sharing: Saved::by(&people),
        people,
        ways: ways(store)?,
    })
}

/// Steps run in the cache's own scratch folder; people are in the current one.
fn ways(store: &Store) -> Result<Vec<Way>, Trouble> {
    if !store.writable() {
        return Ok(Vec::new());
    }
    let scratch = store.scratch_folder()?;
    let mut ways = vec![way(store, "steps", scratch.path())?];
    for (to, folder) in [("here", std::env::current_dir().ok()), ("temporary", Some(std::env::temp_dir()))] {
        // A place that cannot be written is no place for results.
        ways.extend(folder.and_then(|folder| way(store, to, &folder).ok()));
    }
    Ok(ways)
}

fn way(store: &Store, to: &str, folder: &Path) -> Result<Way, Trouble> {
    let (readers, writers) = store.methods_into(folder)?;
    let file_system = rustix::fs::statfs(folder).map_or_else(|_| "?".into(), |told| name_of(told.f_type));
    Ok(Way { to: to.to_owned(), file_system, readers: method(readers), writers: method(writers) })
}

fn method(method: Method) -> &'static str {
    match method {
        Method::Reflink => "reflink",
        Method::HardLink => "hard link",
        Method::Copy => "copy",
    }
}

/// The file systems that experiments meet, by the numbers of statfs(2).
fn name_of(number: impl Into<i64>) -> String {
    let number = number.into();
    let name = match number & 0xffff_ffff {
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x0102_1994 => "tmpfs",
        0x6969 => "nfs",
        0x794c_7630 => "overlay",
        0x2fc1_2fc1 => "zfs",
        0x0bd0_0bd0 => "lustre",
        0x4750_4653 => "gpfs",
        0x6573_5546 => "fuse",
        0x0102_1997 => "9p",
        0xca45_1a4e => "bcachefs",
        _ => return format!("{number:#x}"),
    };
    name.to_owned()
}

fn print(context: &Context, report: &Report) {
    let printer = &context.printer;
    let size = |bytes: u64| Cell::number(units::size(bytes));
    let mut classes = Table::new(["what", "files", "size"]);
    for class in &report.classes {
        classes.row([
            Cell::from(class.what.as_str()),
            Cell::number(units::count(class.files as u64)),
            size(class.bytes),
        ]);
    }
    printer.data(&format!("{} in `{}`", units::size(report.bytes), report.cache));
    printer.table(&classes);
    let share = format!("{:.0} % of it diagnostics", report.diagnostics_share * 100.0);
    printer.data(&format!(
        "\n{} stand on {}: {} of one alone, {} of several; without sharing {}; {share}",
        units::plural(report.results, "result"),
        units::size(report.unique_bytes + report.shared_bytes),
        units::size(report.unique_bytes),
        units::size(report.shared_bytes),
        units::size(report.unshared_bytes),
    ));
    printer.data(&format!(
        "hits saved {} in {} ({})",
        units::seconds(report.saved_seconds),
        units::plural(report.runs, "run"),
        units::plural(report.hits, "hit"),
    ));
    print_people(context, report);
    if !report.ways.is_empty() {
        let mut ways = Table::new(["files go to", "file system", "for readers", "for programs that may write"]);
        for way in &report.ways {
            ways.row([way.to.as_str(), &way.file_system, way.readers, way.writers]);
        }
        printer.data("");
        printer.table(&ways);
    }
}

fn print_people(context: &Context, report: &Report) {
    if report.people.iter().all(|share| share.own) {
        return;
    }
    let hours = |seconds: f64| Cell::number(format!("{:.2}", seconds / 3600.0));
    let mut table = Table::new(["made by", "stage", "results", "hits", "GPU-h", "CPU-h", "wall h", "size"]);
    for share in &report.people {
        table.row([
            Cell::from(share.who.as_str()),
            Cell::from(share.stage.as_str()),
            Cell::number(units::count(share.results as u64)),
            Cell::number(units::count(share.hits as u64)),
            hours(share.gpu_seconds),
            hours(share.cpu_seconds),
            hours(share.wall_seconds),
            Cell::number(units::size(share.bytes)),
        ]);
    }
    context.printer.data("");
    context.printer.table(&table);
    let Saved { results, gpu_hours, cpu_hours, .. } = report.sharing;
    let results = units::plural(results, "result");
    context.printer.data(&format!("sharing saved {gpu_hours:.2} GPU-h and {cpu_hours:.2} CPU-h ({results} of others)"));
}
