//! `plumb cache diff`: what one of two layers has and the other has not, and what both have and not the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use clap::Args;
use plumb_cache::{Clash, Holding, Holdings, Policy, RecipeKey, Store};
use plumb_engine::config::{Config, Home};
use plumb_engine::diagnostic::Diagnostics;
use plumb_engine::pipeline::matches;
use plumb_engine::sharing::gpu_seconds;
use plumb_engine::{layers, nearest, plan, upstream};
use serde::Serialize;

use super::bar::Bar;
use crate::args::{Form, Pipeline, Variant};
use crate::context::Context;
use crate::exit::Exit;
use crate::paint::Tone;
use crate::table::{Cell, Table};
use crate::trouble::Trouble;
use crate::units;

/// Shown below the help.
pub const NOTES: &str = "\
Examples:
  plumb cache diff mine lab                   what I have and the lab has not, and the other way round
  plumb cache diff mine lab r-align.toml      only results of this pipeline as it is now
  plumb cache diff lab public --stage train --json

`mine` is the cache on this machine. A layer is asked for its catalogue, and for no record or blob: one request for a
list of a thousand segments, and one for each segment that is new here. What a place could save is what making
the other's results took, as far as you trust who signed them and what they were made from; the rest is shown apart.";

/// What stands for the cache on this machine.
const MINE: &str = "mine";

/// `plumb cache diff`.
#[derive(Debug, Clone, Args)]
pub struct DiffArgs {
    /// A layer by its name, or `mine`
    #[arg(value_name = "LAYER")]
    pub one: String,
    /// The layer that it is compared with, or `mine`
    #[arg(value_name = "LAYER")]
    pub other: String,
    /// Only results of this pipeline file as it is now
    pub file: Option<std::path::PathBuf>,
    /// Only these of its steps, as `train@seed=1`
    #[arg(value_name = "STEP")]
    pub steps: Vec<String>,
    /// How the pipeline is instantiated.
    #[command(flatten)]
    pub variant: Variant,
    /// Only results of this stage
    #[arg(long, value_name = "NAME")]
    pub stage: Option<String>,
    /// Only results of pipelines of this name
    #[arg(long, value_name = "NAME")]
    pub pipeline: Option<String>,
    /// At most so many lines a list; sums are of all
    #[arg(short, long, value_name = "N")]
    pub number: Option<usize>,
    /// The form of what is printed.
    #[command(flatten)]
    pub form: Form,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    one: Side,
    other: Side,
    /// Results of one action that differ.
    clashes: Vec<Differing>,
}

/// One of the two places.
#[derive(Debug, Serialize)]
struct Side {
    name: String,
    /// Actions that it has a result of.
    results: usize,
    /// What the other has not.
    alone: Vec<Line>,
    /// What it need not make, if it pulls what the other has alone and is trusted.
    could_save: Hours,
    /// The same of what is not trusted.
    not_trusted: Hours,
    /// What it lists and did not read.
    complaints: BTreeSet<String>,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Hours {
    results: usize,
    gpu_hours: f64,
    cpu_hours: f64,
    bytes: u64,
}

/// A result.
#[derive(Debug, Serialize)]
struct Line {
    key: String,
    pipeline: String,
    step: String,
    stage: String,
    /// The name of the key, or its start; `None` for what was made here.
    signer: Option<String>,
    trusted: bool,
    made_at: String,
    made_by: String,
    result: String,
    bytes: u64,
    gpu_hours: f64,
    cpu_hours: f64,
}

/// Two results of one action.
#[derive(Debug, Serialize)]
struct Differing {
    one: Line,
    other: Line,
    outputs: Vec<String>,
    environment: BTreeMap<String, (Option<String>, Option<String>)>,
}

/// Runs the command.
pub fn run(context: &Context, args: &DiffArgs) -> Result<Exit, Trouble> {
    if args.one == args.other {
        return Err(Trouble::usage(
            format!("`{}` is compared with itself", args.one),
            "name two layers, or `mine` and one",
        ));
    }
    let folder = args.file.as_deref().and_then(Path::parent).filter(|folder| !folder.as_os_str().is_empty());
    let config = Config::read(Home::find().as_ref(), folder.unwrap_or(Path::new(".")))?;
    for name in [&args.one, &args.other] {
        known(&config, name)?;
    }
    let (store, people) = (context.store()?, upstream::people()?);
    let recipes = recipes(context, args, &store)?;
    let bar = Bar::new(context, "reading both lists");
    let holdings = |name: &str| -> Result<Holdings, Trouble> {
        let mut holdings = match config.layers.get(name) {
            Some(url) if name != MINE => {
                layers::open(name, url).map_err(Diagnostics::from)?.holdings(&store, &people)?
            }
            _ => store.holdings()?,
        };
        holdings.retain(|record| {
            let named =
                |wanted: &Option<String>, name: &String| wanted.as_ref().is_none_or(|wanted| matches(wanted, name));
            named(&args.stage, &record.stage)
                && named(&args.pipeline, &record.pipeline)
                && recipes.as_ref().is_none_or(|recipes| recipes.contains(&record.recipe))
        });
        Ok(holdings)
    };
    let (one, other) = (holdings(&args.one)?, holdings(&args.other)?);
    drop(bar);
    let clash = |clash: Clash<'_>| Differing {
        one: line(clash.one, &people),
        other: line(clash.other, &people),
        outputs: clash.outputs,
        environment: clash.environment,
    };
    let report = Report {
        one: side(&args.one, &one, &other, &people),
        other: side(&args.other, &other, &one, &people),
        clashes: one.clashes(&other).into_iter().map(clash).collect(),
    };
    match args.form.json {
        true => context.printer.json(&report),
        false => print(context, &report, args.number.unwrap_or(usize::MAX)),
    }
    Ok(Exit::Done)
}

fn known(config: &Config, name: &str) -> Result<(), Trouble> {
    if name == MINE || config.layers.contains_key(name) {
        return Ok(());
    }
    let names = config.layers.keys().map(String::as_str).chain([MINE]);
    Err(Trouble::Usage { message: format!("there is no layer `{name}`"), hint: nearest::hint("layers", name, names) })
}

/// Those of the steps that are asked for, or of all steps of the pipeline.
fn recipes(context: &Context, args: &DiffArgs, store: &Store) -> Result<Option<BTreeSet<RecipeKey>>, Trouble> {
    let Some(file) = &args.file else { return Ok(None) };
    let pipeline = Pipeline { file: file.clone(), variant: args.variant.clone() };
    let graph = context.load_all(&pipeline)?;
    let facts = context.telling(|tell| plan::facts(&graph, store, tell))?;
    let steps = match args.steps.as_slice() {
        [] => graph.goals.iter().copied().collect(),
        steps => context.select(&graph, steps)?,
    };
    Ok(Some(steps.into_iter().map(|step| facts.recipe(step)).collect()))
}

fn side(name: &str, own: &Holdings, other: &Holdings, people: &Policy) -> Side {
    let alone = own.beyond(other).into_iter().map(|holding| line(holding, people)).collect();
    let there: Vec<Line> = other.beyond(own).into_iter().map(|holding| line(holding, people)).collect();
    let sum = |trusted: bool| {
        there.iter().filter(|line| line.trusted == trusted).fold(Hours::default(), |sum, line| Hours {
            results: sum.results + 1,
            gpu_hours: sum.gpu_hours + line.gpu_hours,
            cpu_hours: sum.cpu_hours + line.cpu_hours,
            bytes: sum.bytes.saturating_add(line.bytes),
        })
    };
    let complaints = own.complaints.clone();
    Side { name: name.into(), results: own.len(), alone, could_save: sum(true), not_trusted: sum(false), complaints }
}

fn line(holding: &Holding, people: &Policy) -> Line {
    let record = &holding.record;
    let name = |key| people.name(key).map_or_else(|| format!("{}…", &key.to_string()[..20]), str::to_owned);
    Line {
        key: record.action.to_string(),
        pipeline: record.pipeline.clone(),
        step: record.step.clone(),
        stage: record.stage.clone(),
        signer: holding.signer.as_ref().map(name),
        trusted: holding.trusted,
        made_at: record.made_at.clone(),
        made_by: record.made_by.clone(),
        result: record.result_digest().to_string(),
        bytes: record.outputs.values().fold(0, |sum, output| output.artifact.size.saturating_add(sum)),
        gpu_hours: gpu_seconds(record) / 3600.0,
        cpu_hours: record.cost.cpu_seconds / 3600.0,
    }
}

impl Line {
    fn who(&self) -> String {
        let who = self.signer.clone().unwrap_or_else(|| "you".into());
        if self.trusted { who } else { format!("{who}, not trusted") }
    }
}

fn print(context: &Context, report: &Report, most: usize) {
    let (printer, Report { one, other, clashes }) = (&context.printer, report);
    for Side { name, alone, complaints, .. } in [one, other] {
        complaints.iter().for_each(|complaint| printer.warning(&format!("in `{name}`: {complaint}")));
        printer.data(&format!("only in `{name}`: {}", units::plural(alone.len(), "result")));
        if !alone.is_empty() {
            printer.table(&table(alone, most));
        }
    }
    printer.data(&format!("the same key with different bytes: {}", units::plural(clashes.len(), "result")));
    for Differing { one: here, other: there, outputs, environment } in clashes.iter().take(most) {
        printer.data(&format!("  {}  {}  differs in {}", here.step, &here.key[..12], outputs.join(", ")));
        for (name, line) in [(&one.name, here), (&other.name, there)] {
            printer.data(&format!("    {name}: {}, {}, {}", line.who(), line.made_by, line.made_at));
        }
        for (what, (here, there)) in environment {
            let told = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".into());
            printer.data(&format!("    {what}: {} / {}", told(here), told(there)));
        }
    }
    for (side, from) in [(one, other), (other, one)] {
        let Hours { results, gpu_hours, cpu_hours, bytes } = side.could_save;
        let not = match side.not_trusted {
            Hours { results: 0, .. } => String::new(),
            Hours { results, gpu_hours, cpu_hours, .. } => format!(
                "; {} with {gpu_hours:.2} GPU-h and {cpu_hours:.2} CPU-h there are not trusted",
                units::plural(results, "result")
            ),
        };
        printer.data(&format!(
            "`{}` could save {gpu_hours:.2} GPU-h and {cpu_hours:.2} CPU-h by pulling {} ({}) from `{}`{not}",
            side.name,
            units::plural(results, "result"),
            units::size(bytes),
            from.name
        ));
    }
}

fn table(lines: &[Line], most: usize) -> Table {
    let mut table = Table::new(["  step", "key", "signed by", "made at", "size", "GPU-h", "CPU-h"]);
    for line in lines.iter().take(most) {
        let tone = if line.trusted { Tone::Plain } else { Tone::Warn };
        table.row([
            Cell::from(format!("  {}", line.step)),
            Cell::from(&line.key[..12]),
            Cell::toned(tone, line.who()),
            Cell::from(line.made_at.as_str()),
            Cell::number(units::size(line.bytes)),
            Cell::number(format!("{:.2}", line.gpu_hours)),
            Cell::number(format!("{:.2}", line.cpu_hours)),
        ]);
    }
    table
}
