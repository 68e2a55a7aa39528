//! `plumb open` and `plumb get`: one output of one step, where it lies in the cache or as a copy of one's own.

use std::path::{Path, PathBuf};

use clap::Args;
use plumb_cache::{Artifact, Materialise, Method, Store};
use plumb_engine::graph::{Graph, Step, StepId};
use plumb_engine::plan::PlanOptions;
use serde::Serialize;

use crate::args::{Form, Pipeline};
use crate::context::Context;
use crate::exit::Exit;
use crate::trouble::Trouble;
use crate::units;

/// What `--help` ends with.
pub const OPEN_EXAMPLES: &str = "\
Examples:
  less \"$(plumb open r-align.toml score.items)\"
  plumb open r-align.toml train@seed=1.model      the folder of the trained model

The path lies in the cache and is read-only: `plumb get` makes a copy of your own.";

/// `plumb open`.
#[derive(Debug, Clone, Args)]
pub struct OpenArgs {
    /// The pipeline.
    #[command(flatten)]
    pub pipeline: Pipeline,
    /// The step, with its output where it has several
    #[arg(value_name = "STEP[.OUTPUT]")]
    pub artifact: String,
    /// The form of what is printed.
    #[command(flatten)]
    pub form: Form,
}

/// What `--help` ends with.
pub const GET_EXAMPLES: &str = "\
Examples:
  plumb get r-align.toml verdict.table results/table.md
  plumb get r-align.toml train@seed=1.model my-model
  plumb get r-align.toml train@seed=1.model my-model --link     at once and for no space, to read only

A copy shares its bytes with the cache where the file system can clone files. With --link, where it cannot, the files are
further names of the cache's own, read-only: who changes one all the same damages the cached result, which plumb finds
out when it is next used, and makes again.";

/// `plumb get`.
#[derive(Debug, Clone, Args)]
pub struct GetArgs {
    /// The pipeline.
    #[command(flatten)]
    pub pipeline: Pipeline,
    /// The step, with its output where it has several
    #[arg(value_name = "STEP[.OUTPUT]")]
    pub artifact: String,
    /// Where to put it: a new file or folder, or an existing folder to put it in
    #[arg(value_name = "DEST")]
    pub destination: PathBuf,
    /// Link instead of copying where files cannot be cloned: to read only
    #[arg(long)]
    pub link: bool,
}

/// An output that was found in the cache.
struct Found {
    /// `step.output`.
    name: String,
    /// The file name it has on disk.
    file: String,
    artifact: Artifact,
}

/// `plumb open --json`.
#[derive(Debug, Serialize)]
struct Report {
    output: String,
    path: PathBuf,
    digest: String,
    size: u64,
    files: u64,
}

/// Runs `plumb open`.
pub fn open(context: &Context, args: &OpenArgs) -> Result<Exit, Trouble> {
    let store = context.store()?;
    let found = find(context, &store, &args.pipeline, &args.artifact)?;
    let path = place(&store, &found)?;
    if args.form.json {
        let Artifact { digest, size, files, .. } = found.artifact;
        context.printer.json(&Report { output: found.name, path, digest: digest.to_string(), size, files });
    } else {
        context.printer.data(&path.display().to_string());
    }
    Ok(Exit::Done)
}

/// Runs `plumb get`.
pub fn get(context: &Context, args: &GetArgs) -> Result<Exit, Trouble> {
    let store = context.store()?;
    let found = find(context, &store, &args.pipeline, &args.artifact)?;
    let destination = destination(&args.destination, &found.file);
    if destination.symlink_metadata().is_ok() {
        let told = format!("`{}` is there already", destination.display());
        return Err(Trouble::usage(told, "remove it, or name another place"));
    }
    if let Some(folder) = destination.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|error| Trouble::file("make the folder", folder, &error))?;
    }
    let how = if args.link { Materialise::Shared } else { Materialise::Private };
    let wrote = match store.materialise(&found.artifact, &destination, how)? {
        Method::HardLink => "linked",
        Method::Reflink | Method::Copy => "wrote",
    };
    let size = units::size(found.artifact.size);
    context.printer.note(&format!("{wrote} {} to {} ({size})", found.name, destination.display()));
    Ok(Exit::Done)
}

// As `cp` does: into a folder that is there, else under the very name.
fn destination(named: &Path, file: &str) -> PathBuf {
    if named.is_dir() { named.join(file) } else { named.to_owned() }
}

fn place(store: &Store, found: &Found) -> Result<PathBuf, Trouble> {
    if found.artifact.is_tree() {
        return Ok(store.open_tree(&found.artifact)?);
    }
    let gone = || Trouble::failed(format!("the blob of `{}` is damaged or gone", found.name), "run the step again");
    store.path_of(&found.artifact).ok_or_else(gone)
}

fn find(context: &Context, store: &Store, pipeline: &Pipeline, named: &str) -> Result<Found, Trouble> {
    let (step, output) = named_output(named);
    let graph = context.load(pipeline, &[step.to_owned()])?;
    let id = only_goal(&graph, step)?;
    let output = chosen_output(graph.step(id), output)?;
    let plan = context.plan(&graph, store, &PlanOptions::default())?;
    let address = graph.step(id).address.to_string();
    let record = plan.record_of(id).ok_or_else(|| {
        let command = format!("plumb run {} {address}", pipeline.file.display());
        Trouble::failed(format!("`{address}` has no result in the cache"), format!("make it with `{command}`"))
    })?;
    let recorded = record.outputs.get(&output).ok_or_else(|| {
        Trouble::failed(format!("the result of `{address}` has no `{output}`"), "the step did not write it")
    })?;
    Ok(Found { name: format!("{address}.{output}"), file: recorded.file.clone(), artifact: recorded.artifact })
}

/// `train@kl=0.01.model` is the step `train@kl=0.01` and its output `model`: an output's name starts with a letter.
fn named_output(named: &str) -> (&str, Option<&str>) {
    match named.rsplit_once('.') {
        Some((step, output)) if output.starts_with(|first: char| first.is_ascii_lowercase()) => (step, Some(output)),
        _ => (named, None),
    }
}

/// The only step that was selected.
pub fn only_goal(graph: &Graph, named: &str) -> Result<StepId, Trouble> {
    if let [id] = graph.goals.as_slice() {
        return Ok(*id);
    }
    // `train` names the stage at every branch; where one of them is the baseline, that is the one meant.
    let address = |id: &StepId| graph.step(*id).address.to_string();
    if let Some(id) = graph.goals.iter().find(|id| address(id) == named) {
        return Ok(*id);
    }
    let branches: Vec<String> = graph.goals.iter().take(5).map(|id| format!("`{}`", address(id))).collect();
    let more = if graph.goals.len() > 5 { ", …" } else { "" };
    let told = format!("`{named}` is {}", units::plural(graph.goals.len(), "step"));
    Err(Trouble::usage(told, format!("name one of them: {}{more}", branches.join(", "))))
}

fn chosen_output(step: &Step, named: Option<&str>) -> Result<String, Trouble> {
    let names: Vec<&str> = step.outputs.iter().map(|output| output.name.as_str()).collect();
    let all = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let stage = &step.address.stage;
    match (named, names.as_slice()) {
        (Some(name), _) if names.contains(&name) => Ok(name.to_owned()),
        (Some(name), _) => {
            Err(Trouble::usage(format!("`{stage}` has no output `{name}`"), format!("its outputs are {all}")))
        }
        (None, [only]) => Ok((*only).to_owned()),
        (None, _) => Err(Trouble::usage(
            format!("`{stage}` has {}", units::plural(names.len(), "output")),
            format!("name one, as `{}.{}`; its outputs are {all}", step.address, names.first().unwrap_or(&"OUTPUT")),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_dot_before_a_letter_parts_the_output_from_the_step() {
        assert_eq!(named_output("score"), ("score", None));
        assert_eq!(named_output("score.items"), ("score", Some("items")));
        assert_eq!(named_output("train@kl=0.01"), ("train@kl=0.01", None));
        assert_eq!(named_output("train@kl=0.01,seed=2.model"), ("train@kl=0.01,seed=2", Some("model")));
    }
}
