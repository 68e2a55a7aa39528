//! `plumb export`: a result with its provenance as a Workflow Run RO-Crate, a folder that others can read without
//! plumb.

use std::path::PathBuf;

use plumb_cache::Materialise;
use plumb_engine::execute::place;
use plumb_engine::plan::{self, PlanOptions};
use plumb_engine::provenance;

use crate::args::Pipeline;
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

The folder holds the step's results, the pipeline file and `ro-crate-metadata.json`: who ran which step of which kind,
when, with which parameters, from which inputs (by digest) and at what cost, under the Provenance Run Crate profile 0.5.
Inputs and intermediate results are named by their digests and not copied.";

/// `plumb export`.
#[derive(Debug, Clone, clap::Args)]
pub struct ExportArgs {
    /// The pipeline.
    #[command(flatten)]
    pub pipeline: Pipeline,
    /// The step, one branch
    pub step: String,
    /// The folder to make
    #[arg(value_name = "DEST")]
    pub destination: PathBuf,
    /// The license that the crate states
    #[arg(long, value_name = "URL", default_value = "none stated")]
    pub license: String,
}

/// Runs the command.
pub fn run(context: &Context, args: &ExportArgs) -> Result<Exit, Trouble> {
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
