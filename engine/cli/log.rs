//! `plumb log`: past runs of a cache, what each step of one took, and what a step wrote when it last ran.

use std::path::{Path, PathBuf};

use clap::Args;
use plumb_engine::event::Spent;
use plumb_engine::history::{self, Outcome, RunHeader, StepLine, StepOutcome};
use serde::Serialize;

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
  plumb log 20261123T0914         what each step of that run took: time, memory, bytes; its id may be cut short
  plumb log r-align.toml train    what `train` wrote when it last ran
  plumb log 20261123T0914 train   what `train` wrote in that run

CPU time is that of all cores, GPU time is wall time times the GPUs that a step was given, both over all attempts.";

/// `plumb log`.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// Runs of this pipeline only, or one run by the first characters of its id
    #[arg(value_name = "FILE | RUN")]
    pub file: Option<PathBuf>,
    /// Print the log of this step
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
    if let Some(run) = run_named(context, args)? {
        return match &args.step {
            Some(step) => print_step_of(context, &run, step),
            None => print_run(context, &run, args.form),
        };
    }
    let variant = Variant { profile: args.profile.clone(), ..Variant::default() };
    let pipeline = args.file.clone().map(|file| Pipeline { file, variant });
    match (&pipeline, &args.step) {
        (Some(pipeline), Some(step)) => print_step(context, pipeline, step),
        _ => print_runs(context, args, pipeline.as_ref()),
    }
}

/// The run that is asked for, where it is no pipeline file: an id begins with its time.
fn run_named(context: &Context, args: &LogArgs) -> Result<Option<RunHeader>, Trouble> {
    let Some(named) = args.file.as_ref().filter(|file| !file.exists()) else { return Ok(None) };
    let named = named.to_string_lossy();
    if !named.starts_with(|first: char| first.is_ascii_digit()) || named.ends_with(".toml") {
        return Ok(None);
    }
    let found = history::find(&context.store()?, &named)?;
    let wrong = || Trouble::usage(format!("no one run has an id that begins with `{named}`"), "`plumb log` lists them");
    found.map(Some).ok_or_else(wrong)
}

/// A run and its steps, for machines.
#[derive(Debug, Serialize)]
struct Report<'r> {
    run: &'r RunHeader,
    steps: &'r [StepLine],
    /// Of all its steps.
    total: Spent,
}

fn print_run(context: &Context, run: &RunHeader, form: Form) -> Result<Exit, Trouble> {
    let steps = history::steps(&history::events(&context.store()?, &run.id)?);
    let total = steps.iter().fold(Spent::default(), |sum, step| sum.and(&step.spent));
    if form.json {
        context.printer.json(&Report { run, steps: &steps, total });
        return Ok(Exit::Done);
    }
    context.printer.table(&table(std::slice::from_ref(run)));
    let told: Vec<&StepLine> = steps.iter().filter(|step| step.outcome != StepOutcome::Hit).collect();
    if !told.is_empty() {
        context.printer.data("");
        context.printer.table(&costs(&told, &total));
    }
    let hits: Vec<&StepLine> = steps.iter().filter(|step| step.outcome == StepOutcome::Hit).collect();
    if !hits.is_empty() {
        let saved = hits.iter().map(|step| step.saved_seconds).sum();
        context.printer.data(&format!("\n{} saved {}", units::plural(hits.len(), "hit"), units::seconds(saved)));
    }
    Ok(Exit::Done)
}

/// A line a step and one for all; a column that is empty in every line is left out.
fn costs(steps: &[&StepLine], total: &Spent) -> Table {
    let (gpu, again) = (total.gpu_seconds > 0.0, steps.iter().any(|step| step.attempts > 1));
    let some = |is: bool, heading: &'static str| if is { vec![heading] } else { Vec::new() };
    let headings = [
        vec!["step", "", "kind", "took", "CPU"],
        some(gpu, "GPU"),
        vec!["memory", "output"],
        some(again, "attempts"),
        vec!["on"],
    ];
    let mut table = Table::new(headings.concat());
    let figures = |spent: &Spent| {
        let time = |seconds: f64| Cell::number(units::seconds(seconds));
        let size = |bytes: u64| Cell::number(units::size(bytes));
        let mut cells = vec![time(spent.wall_seconds), time(spent.cpu_seconds)];
        cells.extend(gpu.then(|| time(spent.gpu_seconds)));
        cells.extend([size(spent.peak_memory_bytes), size(spent.output_bytes)]);
        cells
    };
    for step in steps {
        let (tone, outcome) = outcome(step.outcome);
        let mut row = vec![step.step.as_str().into(), Cell::toned(tone, outcome), shown(step.kind.as_deref())];
        row.extend(figures(&step.spent));
        row.extend(again.then(|| Cell::number(step.attempts.to_string())));
        row.push(shown(step.executor.as_deref()));
        table.row(row);
    }
    let mut sum = vec!["in all".into(), "".into(), "".into()];
    sum.extend(figures(total));
    table.row(sum);
    table
}

fn shown(name: Option<&str>) -> Cell {
    name.unwrap_or("-").into()
}

fn outcome(outcome: StepOutcome) -> (Tone, &'static str) {
    match outcome {
        StepOutcome::Hit => (Tone::Faint, "hit"),
        StepOutcome::Ran => (Tone::Good, "ran"),
        StepOutcome::Failed => (Tone::Bad, "failed"),
        StepOutcome::Skipped => (Tone::Faint, "skipped"),
        StepOutcome::Running => (Tone::Warn, "running or killed"),
    }
}

fn print_step_of(context: &Context, run: &RunHeader, step: &str) -> Result<Exit, Trouble> {
    let none = || {
        Trouble::failed(
            format!("`{step}` has no log in the run {}", run.id),
            format!("`plumb log {}` lists its steps", run.id),
        )
    };
    print_log(context, &history::log_in(&context.store()?, &run.id, step).ok_or_else(none)?)
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
    let mut table = Table::new(["run", "started", "pipeline", "ended", "took", "ran", "hits", "failed", "command"]);
    for run in runs {
        let (tone, ended) = match run.outcome {
            Some(Outcome::Done) => (Tone::Good, "done"),
            Some(Outcome::Failed) => (Tone::Bad, "failed"),
            Some(Outcome::Stopped) => (Tone::Warn, "stopped"),
            None => (Tone::Warn, "running or killed"),
        };
        let count = |number: usize| Cell::number(units::count(number as u64));
        table.row([
            Cell::from(run.id.as_str()),
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
    print_log(context, &log)
}

fn print_log(context: &Context, log: &Path) -> Result<Exit, Trouble> {
    let text = std::fs::read(log).map_err(|error| Trouble::file("read", log, &error))?;
    context.printer.note(&log.display().to_string());
    context.printer.bytes(&text);
    Ok(Exit::Done)
}
