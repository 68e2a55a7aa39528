//! `plumb cache pull`: results come from layers, before somebody needs them.

use clap::Args;
use plumb_cache::{ActionRecord, Origin, Progress, Store};
use plumb_engine::explain;
use plumb_engine::graph::{Graph, StepId};
use plumb_engine::plan::{Plan, PlanOptions, State};
use plumb_engine::upstream::Reading;
use serde::Serialize;

use super::bar::Bar;
use crate::args::{Form, Pipeline};
use crate::context::Context;
use crate::exit::Exit;
use crate::trouble::Trouble;
use crate::units;

/// Shown below the help.
pub const NOTES: &str = "\
Examples:
  plumb cache pull r-align.toml                     the goals, before a train ride
  plumb cache pull r-align.toml 'train@seed=*' --layer lab

`plumb run` reads layers by itself and brings what it needs; this brings what you will need. Only results are brought
that somebody you trust has signed, with everything they were made from (`plumb key trust`).";

/// `plumb cache pull`.
#[derive(Debug, Clone, Args)]
pub struct PullArgs {
    /// The pipeline.
    #[command(flatten)]
    pub pipeline: Pipeline,
    /// Steps, as `train@seed=1` [default: the pipeline's goal]
    #[arg(value_name = "STEP")]
    pub steps: Vec<String>,
    /// Only from this layer [default: all that the settings name]
    #[arg(long, value_name = "NAME")]
    pub layer: Option<String>,
    /// The form of what is printed.
    #[command(flatten)]
    pub form: Form,
}

/// What is printed.
#[derive(Debug, Default, Serialize)]
struct Report {
    pulled: Vec<Pulled>,
    /// Steps whose results were here.
    here: Vec<String>,
    missing: Vec<Missing>,
}

#[derive(Debug, Serialize)]
struct Pulled {
    step: String,
    from: Origin,
}

#[derive(Debug, Serialize)]
struct Missing {
    step: String,
    why: String,
}

/// Runs the command.
pub fn run(context: &Context, args: &PullArgs) -> Result<Exit, Trouble> {
    let graph = context.load(&args.pipeline, &args.steps)?;
    let reading = Reading { layer: args.layer.as_deref(), anybody: false };
    let store = context.store_asking(&args.pipeline.file, reading)?;
    let plan = context.plan(&graph, &store, &PlanOptions::default())?;
    let bar = Bar::new(context, "pulling");
    let mut report = Report::default();
    for goal in &graph.goals {
        let step = graph.step(*goal).address.to_string();
        match plan.record_of(*goal) {
            Some(record) => bring(&store, record, step, &bar, &mut report)?,
            None => report.missing.push(Missing { step, why: why_not(&graph, &plan, *goal) }),
        }
    }
    drop(bar);
    tell(context, args.form, &report);
    Ok(if report.missing.is_empty() { Exit::Done } else { Exit::Failed })
}

fn bring(store: &Store, record: &ActionRecord, step: String, bar: &Bar, report: &mut Report) -> Result<(), Trouble> {
    let Some(from) = store.origin(record) else {
        report.here.push(step);
        return Ok(());
    };
    match store.bring(record, &|bytes| bar.show(Progress::Hashed(bytes)))? {
        true => report.pulled.push(Pulled { step, from }),
        false => {
            let why = format!("`{}` turned out not to have all of it", from.layer);
            report.missing.push(Missing { step, why });
        }
    }
    Ok(())
}

fn why_not(graph: &Graph, plan: &Plan, id: StepId) -> String {
    match &plan.step(id).state {
        State::Run { why } => why.first().map(explain::sentence),
        State::MayRun { waits_on } => {
            waits_on.first().map(|on| format!("no layer has it, and it waits on `{}`", graph.step(*on).address))
        }
        _ => None,
    }
    .unwrap_or_else(|| "no layer has it".into())
}

fn tell(context: &Context, form: Form, report: &Report) {
    if form.json {
        return context.printer.json(report);
    }
    for Pulled { step, from: Origin { layer, signer, bytes } } in &report.pulled {
        context.printer.note(&format!("pulled `{step}` from `{layer}` ({}), signed by {signer}", units::size(*bytes)));
    }
    if !report.here.is_empty() {
        context.printer.note(&format!("{} here already", units::plural(report.here.len(), "result")));
    }
    for Missing { step, why } in &report.missing {
        context.printer.note(&format!("not pulled: `{step}`: {why}"));
    }
}
