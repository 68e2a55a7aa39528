//! `plumb report`: what a pipeline found, as one HTML file that needs nothing else. Reads results that are there; runs
//! nothing.

mod evidence;

pub use evidence::trouble;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use plumb_engine::execute::place;
use plumb_engine::graph::Graph;
use plumb_stages::report::Evidence;
use plumb_stages::report::page::{Page, Settings};
use serde::Serialize;

use crate::args::{Form, Pipeline};
use crate::context::Context;
use crate::exit::Exit;
use crate::trouble::Trouble;
use crate::units;

/// What `--help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  plumb report r-align.toml                       r-align.html, of everything that is in the cache
  plumb report r-align.toml verdict --open        of what `verdict` is made of, shown at once
  plumb report r-align.toml -o page.html --max-size 20MB
  plumb report r-align.toml --benchmark task      the axis `task` makes the columns of the headline table

One file without a network: the headline table (L-Acc, S-Corr and F-Score of branches on benchmarks, with intervals),
scores against downstream results, bias probes, every judgment with its prompt, answers, gold, rationale and verdict,
training curves, and the graph with times and costs. What has no result yet is left out and named. The stage
`report.html` makes the same page, without graph and costs, as a result of the pipeline (`plumb show report.html`).";

/// `plumb report`.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// The pipeline.
    #[command(flatten)]
    pub pipeline: Pipeline,
    /// Report only what these steps are made of, and themselves
    #[arg(value_name = "STEP")]
    pub steps: Vec<String>,
    /// Where to write it; what is there is replaced [default: NAME.html in this folder]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Show it in the browser
    #[arg(long)]
    pub open: bool,
    /// What the branches of the tables are.
    #[command(flatten)]
    pub axes: AxisArgs,
    /// Shorten the longest texts of the drill-down until the page is no larger
    #[arg(long, value_name = "SIZE", default_value = "3MB", value_parser = units::parse_size)]
    pub max_size: u64,
    /// The form of what is printed.
    #[command(flatten)]
    pub form: Form,
}

/// Which axes are benchmarks and which replicates.
#[derive(Debug, Clone, Args)]
pub struct AxisArgs {
    /// The axis whose values are benchmarks; without it, each stage that scores is one
    #[arg(long, value_name = "AXIS", default_value = "bench")]
    pub benchmark: String,
    /// The axis whose values are replicates
    #[arg(long, value_name = "AXIS", default_value = "seed")]
    pub replicates: String,
}

/// What was written, for machines.
#[derive(Debug, Serialize)]
struct Written {
    page: PathBuf,
    bytes: usize,
    branches: usize,
    benchmarks: usize,
    judgments: usize,
    /// Letters of each text that were kept, where not all were.
    shortened: Option<usize>,
    /// Steps without a result.
    missing: Vec<String>,
}

/// Runs the command.
pub fn run(context: &Context, args: &ReportArgs) -> Result<Exit, Trouble> {
    let (graph, evidence) = gathered(context, &args.pipeline, &args.steps)?;
    let settings = Settings {
        benchmark_axis: args.axes.benchmark.clone(),
        replicate_axis: args.axes.replicates.clone(),
        max_size: usize::try_from(args.max_size).unwrap_or(usize::MAX),
    };
    let page = Page::of(&evidence, &settings).map_err(trouble)?;
    let path = args.output.clone().unwrap_or_else(|| PathBuf::from(format!("{}.html", graph.name)));
    place::write_whole(&path, page.html.as_bytes())?;
    let written = Written {
        bytes: page.html.len(),
        branches: page.headline.branches.len(),
        benchmarks: page.headline.benchmarks.len(),
        judgments: page.judgments,
        shortened: page.shortened,
        missing: evidence.missing,
        page: path,
    };
    tell(context, args, &written);
    if args.open {
        open(context, &written.page);
    }
    Ok(Exit::Done)
}

/// What the cache holds of a pipeline, or of what these steps are made of.
pub fn gathered(context: &Context, pipeline: &Pipeline, steps: &[String]) -> Result<(Graph, Evidence), Trouble> {
    let graph = if steps.is_empty() { context.load_all(pipeline)? } else { context.load(pipeline, steps)? };
    let store = context.store()?;
    let evidence = evidence::of(&graph, &store)?;
    if evidence.scored.is_empty() && evidence.trained.is_empty() && evidence.missing.len() == evidence.steps.len() {
        let told = "there is nothing to report yet: no step has a result";
        return Err(Trouble::failed(told, format!("`plumb run {}` makes some", pipeline.file.display())));
    }
    Ok((graph, evidence))
}

fn tell(context: &Context, args: &ReportArgs, written: &Written) {
    if args.form.json {
        return context.printer.json(written);
    }
    let size = units::size(written.bytes as u64);
    context.printer.data(&written.page.display().to_string());
    let judgments = units::plural(written.judgments, "judgment");
    context.printer.note(&format!("{size}, {} of {judgments}", units::plural(written.branches, "branch row")));
    if let Some(letters) = written.shortened {
        let told = format!("texts of the drill-down are shortened to {letters} letters so that the page stays small");
        context.printer.note(&told);
        context.printer.hint("`--max-size 100MB` keeps more of them");
    }
    if !written.missing.is_empty() {
        let steps = units::plural(written.missing.len(), "step");
        context.printer.note(&format!("{steps} without a result left out; the page names them"));
    }
}

// A machine without a browser has the page all the same.
fn open(context: &Context, page: &Path) {
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let shown =
        Command::new(opener).arg(page).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !shown.is_ok_and(|status| status.success()) {
        context.printer.warning(&format!("`{opener}` could not show the page: open {} yourself", page.display()));
    }
}
