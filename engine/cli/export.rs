//! `plumb export`: a result with its provenance as a Workflow Run RO-Crate, a folder that others can read without
//! plumb; `plumb export table`: the headline table for a paper.

pub mod table;

use std::path::PathBuf;

use plumb_cache::Materialise;
use plumb_engine::execute::place;
use plumb_engine::plan::{self, PlanOptions};
use plumb_engine::provenance;

use crate::args::{Pipeline, Variant};
use crate::artifact;
use crate::context::Context;
use crate::exit::Exit;
use crate::trouble::Trouble;
use crate::units;

/// Shown after the help.
pub const EXAMPLES: &str = "\
Examples:
  plumb export r-align.toml verdict verdict-crate
  plumb export r-align.toml train@seed=1 crate --license https://spdx.org/licenses/MIT
  plumb export table r-align.toml                 the headline table; `plumb export table --help` tells more

The folder holds the step's results, the pipeline file and `ro-crate-metadata.json`: who ran which step of which kind,
when, with which parameters, from which inputs (by digest) and at what cost, under the Provenance Run Crate profile 0.5.
Inputs and intermediate results are named by their digests and not copied.";

/// `plumb export`.
#[derive(Debug, Clone, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, disable_help_subcommand = true)]
pub struct ExportArgs {
    /// Something other than a crate.
    #[command(subcommand)]
    pub what: Option<What>,
    /// The pipeline file
    #[arg(required = true)]
    pub file: Option<PathBuf>,
    /// How it is instantiated.
    #[command(flatten)]
    pub variant: Variant,
    /// The step, one branch
    #[arg(required = true)]
    pub step: Option<String>,
    /// The folder to make
    #[arg(value_name = "DEST", required = true)]
    pub destination: Option<PathBuf>,
    /// The license that the crate states
    #[arg(long, value_name = "URL", default_value = "none stated")]
    pub license: String,
}

/// What else can be exported.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum What {
    /// Print the headline table (branches x benchmarks: L-Acc, S-Corr, F-Score) as LaTeX, Markdown or CSV
    #[command(after_help = table::EXAMPLES)]
    Table(table::TableArgs),
}

/// A crate to be made.
struct CrateArgs {
    pipeline: Pipeline,
    step: String,
    destination: PathBuf,
    license: String,
}

/// Runs the command.
pub fn run(context: &Context, args: &ExportArgs) -> Result<Exit, Trouble> {
    match (&args.what, &args.file, &args.step, &args.destination) {
        (Some(What::Table(args)), ..) => table::run(context, args),
        (None, Some(file), Some(step), Some(destination)) => {
            let pipeline = Pipeline { file: file.clone(), variant: args.variant.clone() };
            let (step, destination, license) = (step.clone(), destination.clone(), args.license.clone());
            write_crate(context, &CrateArgs { pipeline, step, destination, license })
        }
        _ => Err(Trouble::usage(
            "`plumb export` takes a pipeline, a step and a folder",
            "`plumb export --help` shows it",
        )),
    }
}

fn write_crate(context: &Context, args: &CrateArgs) -> Result<Exit, Trouble> {
    let graph = context.load(&args.pipeline, std::slice::from_ref(&args.step))?;
    let id = artifact::only_goal(&graph, &args.step)?;
    let destination = &args.destination;
    if destination.symlink_metadata().is_ok() {
        let told = format!("`{}` is there already", destination.display());
        return Err(Trouble::usage(told, "remove it, or name another place"));
    }
    let store = context.store()?;
    let plan = plan::plan(&graph, &store, &PlanOptions { look_at_all_up_to: usize::MAX, ..PlanOptions::default() })?;
    let address = graph.step(id).address.to_string();
    let found = provenance::of(&graph, &plan, id, &args.license).ok_or_else(|| {
        let command = format!("plumb run {} {address}", args.pipeline.file.display());
        Trouble::failed(format!("`{address}` has no result in the cache"), format!("make it with `{command}`"))
    })?;
    for (path, artifact) in &found.files {
        let path = destination.join(path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| Trouble::file("make the folder", folder, &error))?;
        }
        store.materialise(artifact, &path, Materialise::Private)?;
    }
    let text = std::fs::read(&graph.file).map_err(|error| Trouble::file("read", &graph.file, &error))?;
    place::write_whole(&destination.join(&found.pipeline), &text)?;
    // Last: a folder without it is no crate.
    let metadata = serde_json::to_vec_pretty(&found.metadata).unwrap_or_default();
    place::write_whole(&destination.join("ro-crate-metadata.json"), &metadata)?;
    for step in &found.unknown {
        context.printer.note(&format!("nothing is recorded any more of `{step}`, so the crate does not describe it"));
    }
    let count = units::plural(found.files.len(), "result");
    context.printer.note(&format!("wrote {count} of {address} to {}", destination.display()));
    Ok(Exit::Done)
}
