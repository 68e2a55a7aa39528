//! `plumb log`: past runs of a cache, and what a step wrote when it last ran.

use std::path::PathBuf;

use clap::Args;
use plumb_engine::history::{self, Outcome, RunHeader};

use crate::args::{Form, Pipeline, Variant};
use crate::artifact;
use crate::context::Context;
use crate::exit::Exit;
use crate::paint::Tone;
use crate::table::{Cell, Table};
use crate::trouble::Trouble;
use crate::units;

/// What `--help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  plumb log                       the runs on this cache, latest first
  plumb log r-align.toml          the runs of this pipeline
  plumb log r-align.toml train    what `train` wrote when it last ran";

/// `plumb log`.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// Runs of this pipeline only
    pub file: Option<PathBuf>,
    /// Print the last log of this step
    #[arg(requires = "file")]
    pub step: Option<String>,
    /// The profile under which the step ran
    #[arg(long, value_name = "NAME", requires = "file")]
    pub profile: Option<String>,
    /// How many runs to list
    #[arg(short, long, default_value_t = 20, value_name = "N")]
    pub number: usize,
    /// The form of what is printed.
    #[command(flatten)]
    pub form: Form,
}

/// Runs the command.
pub fn run(context: &Context, args: &LogArgs) -> Result<Exit, Trouble> {
    let variant = Variant { profile: args.profile.clone(), ..Variant::default() };
    let pipeline = args.file.clone().map(|file| Pipeline { file, variant });
    match (&pipeline, &args.step) {
        (Some(pipeline), Some(step)) => print_step(context, pipeline, step),
        _ => print_runs(context, args, pipeline.as_ref()),
    }
}

fn print_runs(context: &Context, args: &LogArgs, pipeline: Option<&Pipeline>) -> Result<Exit, Trouble> {
    let name = pipeline.map(|pipeline| context.load(pipeline, &[])).transpose()?.map(|graph| graph.name);
    let mut runs = history::runs(&context.store()?, name.as_deref())?;
    runs.truncate(args.number);
    if args.form.json {
        context.printer.json(&runs);
    } else if runs.is_empty() {
        context.printer.note("no runs yet");
    } else {
        context.printer.table(&table(&runs));
    }
    Ok(Exit::Done)
}

fn table(runs: &[RunHeader]) -> Table {
    let mut table = Table::new(["started", "pipeline", "ended", "took", "ran", "hits", "failed", "command"]);
    for run in runs {
        let (tone, ended) = match run.outcome {
            Some(Outcome::Done) => (Tone::Good, "done"),
            Some(Outcome::Failed) => (Tone::Bad, "failed"),
            Some(Outcome::Stopped) => (Tone::Warn, "stopped"),
            None => (Tone::Warn, "running or killed"),
        };
        let count = |number: usize| Cell::number(units::count(number as u64));
        table.row([
            Cell::from(run.started_at.split('.').next().unwrap_or_default().replace('T', " ")),
            run.pipeline.as_str().into(),
            Cell::toned(tone, ended),
            Cell::number(units::seconds(run.seconds)),
            count(run.ran),
            count(run.hits),
            count(run.failed),
            run.command.join(" ").into(),
        ]);
    }
    table
}

fn print_step(context: &Context, pipeline: &Pipeline, step: &str) -> Result<Exit, Trouble> {
    let graph = context.load(pipeline, &[step.to_owned()])?;
    let address = graph.step(artifact::only_goal(&graph, step)?).address.to_string();
    let log = history::last_log(&context.store()?, &graph.name, &address)?.ok_or_else(|| {
        let command = format!("plumb run {} {address}", pipeline.file.display());
        Trouble::failed(
            format!("`{address}` has no log: it never ran on this cache"),
            format!("run it with `{command}`"),
        )
    })?;
    let text = std::fs::read(&log).map_err(|error| Trouble::file("read", &log, &error))?;
    context.printer.note(&log.display().to_string());
    context.printer.bytes(&text);
    Ok(Exit::Done)
}
