//! `plumb plan`: what would run, and why, and what is in the cache. Runs nothing.

mod origins;
mod stages;

use clap::Args;
use plumb_cache::{Origin, Store};
use plumb_engine::budget::Fit;
use plumb_engine::estimate::{Estimate, Forecast, Total};
use plumb_engine::event::{Cause, Event};
use plumb_engine::execute::refuse;
use plumb_engine::explain;
use plumb_engine::graph::{Graph, StepId};
use plumb_engine::plan::{self, Plan, State};
use plumb_engine::upstream::untrusted;
use serde::Serialize;

use self::stages::Stage;
use crate::allowance::{Allowance, AllowanceArgs};
use crate::args::{Form, Pipeline};
use crate::choice::Choice;
use crate::context::Context;
use crate::exit::Exit;
use crate::growth;
use crate::paint::Tone;
use crate::resources::ResourceArgs;
use crate::summary;
use crate::table::{Cell, Table};
use crate::trouble::Trouble;
use crate::units;

/// What `--help` ends with.
pub const EXAMPLES: &str = "\
Examples:
  plumb plan r-align.toml
  plumb plan r-align.toml --set steps=20          what would this change cost?
  plumb plan r-align.toml --fresh train           what would training again cost?
  plumb plan r-align.toml --verbose               every step, hits included
  plumb plan r-align.toml --budget 5gpu-h --trim  what fits, and what is left out

Times are those of earlier results of the same stage on the same slots; where there are none, the time is
unknown. A step is a `hit` (its result is in the cache), it will `run` (with the reason), or it `may run`: that
depends on whether a step it waits on makes other bytes than before.";

/// `plumb plan`.
#[derive(Debug, Clone, Args)]
pub struct PlanArgs {
    /// The pipeline.
    #[command(flatten)]
    pub pipeline: Pipeline,
    /// Which steps.
    #[command(flatten)]
    pub choice: Choice,
    /// What it may cost.
    #[command(flatten)]
    pub allowance: AllowanceArgs,
    /// What a run might use: a stage that asks for more is refused.
    #[command(flatten)]
    pub resources: ResourceArgs,
    /// Tell every step, hits included
    #[arg(short, long)]
    pub verbose: bool,
    /// The form of what is printed.
    #[command(flatten)]
    pub form: Form,
}

/// Steps listed without `--verbose`.
const LISTED: usize = 60;

/// A plan for machines.
#[derive(Debug, Serialize)]
struct Report<'a> {
    pipeline: &'a str,
    hits: usize,
    runs: usize,
    may_run: usize,
    saved_seconds: f64,
    /// Of what runs, or may run.
    estimate: Total,
    stages: Vec<Stage<'a>>,
    budget: Option<&'a Allowance>,
    /// An axis of replicates that grows.
    growing: Option<Event>,
    steps: Vec<Line>,
}

/// One step of it.
#[derive(Debug, Serialize)]
struct Line {
    step: String,
    stage: String,
    state: &'static str,
    why: Vec<Cause>,
    waits_on: Vec<String>,
    /// Of a hit that lies in a layer: which, who signed it, and its bytes.
    from: Option<Origin>,
    /// Of a step that runs, or may run; `null` where nothing is known.
    estimate: Option<Estimate>,
}

/// Runs the command.
pub fn run(context: &Context, args: &PlanArgs) -> Result<Exit, Trouble> {
    let (graph, options) = args.choice.load(context, &args.pipeline)?;
    let store = args.choice.store(context, &args.pipeline)?;
    let plan = context.plan(&graph, &store, &options)?;
    let limits = args.resources.limits()?;
    let machine = refuse::fit(&graph, &plan, &limits, store.root())?;
    let forecast = Forecast::of(&graph, &plan, &store)?;
    let fit = Fit { graph: &graph, plan: &plan, forecast: &forecast, jobs: machine.cpus };
    let command = format!("plumb plan {} --budget …", args.pipeline.file.display());
    let allowance = args.allowance.apply(fit, &command)?;
    if args.form.json {
        context.printer.json(&report(&graph, &plan, &store, &forecast, allowance.as_ref()));
        return Ok(Exit::Done);
    }
    print_steps(context, &graph, &plan, &store, args.verbose);
    context.printer.table(&stages::table(&stages::of(&graph, &plan, &forecast)));
    context.printer.data(&format!("\n{}", stages::sum(&plan, fit)));
    origins::lines(&plan, &store).iter().for_each(|line| context.printer.data(line));
    growth::line(&graph).into_iter().for_each(|line| context.printer.data(&line));
    if let Some(allowance) = &allowance {
        allowance.tell(context);
    }
    Ok(Exit::Done)
}

fn report<'a>(
    graph: &'a Graph,
    plan: &Plan,
    store: &Store,
    forecast: &Forecast,
    budget: Option<&'a Allowance>,
) -> Report<'a> {
    let counts = plan.counts();
    let line = |id: StepId| {
        let (state, why, waits_on) = told(graph, plan, store, id)?;
        let address = &graph.step(id).address;
        let estimate = forecast.steps.get(&id).copied().flatten();
        let from = origins::of(plan, store, id);
        Some(Line { step: address.to_string(), stage: address.stage.clone(), state, why, waits_on, from, estimate })
    };
    Report {
        pipeline: &graph.name,
        hits: counts.hits,
        runs: counts.runs,
        may_run: counts.may_run,
        saved_seconds: plan.saved().as_secs_f64(),
        estimate: forecast.total(forecast.steps.keys()),
        stages: stages::of(graph, plan, forecast),
        budget,
        growing: growth::event(graph),
        steps: plan.steps.iter().filter_map(|step| line(step.id)).collect(),
    }
}

fn told(graph: &Graph, plan: &Plan, store: &Store, id: StepId) -> Option<(&'static str, Vec<Cause>, Vec<String>)> {
    match &plan.step(id).state {
        State::Hit { .. } => Some(("hit", Vec::new(), Vec::new())),
        State::Run { why } => Some(("run", why.clone(), Vec::new())),
        State::MayRun { waits_on } => {
            let disowned = plan.disowned.get(&id).cloned();
            let why = disowned.into_iter().chain(untrusted(store, &plan.facts.recipe(id))).collect();
            Some(("may-run", why, addresses(graph, waits_on)))
        }
        State::NotNeeded => None,
    }
}

fn addresses(graph: &Graph, ids: &[StepId]) -> Vec<String> {
    ids.iter().map(|id| graph.step(*id).address.to_string()).collect()
}

fn print_steps(context: &Context, graph: &Graph, plan: &Plan, store: &Store, verbose: bool) {
    let mut table = Table::default();
    let mut left = 0;
    for step in &plan.steps {
        let Some((state, reason)) = sentence(graph, plan, store, step.id) else { continue };
        let origin = origins::of(plan, store, step.id);
        if state == "hit" && origin.is_none() && !verbose {
            continue;
        }
        if table.len() >= LISTED && !verbose {
            left += 1;
            continue;
        }
        let reason = origins::told(reason, origin);
        let tone = match state {
            "hit" => Tone::Good,
            "run" => Tone::Strong,
            _ => Tone::Warn,
        };
        table.row([Cell::toned(tone, state), graph.step(step.id).address.to_string().into(), reason.into()]);
    }
    if table.is_empty() {
        return;
    }
    context.printer.table(&table);
    if left > 0 {
        context.printer.data(&format!("and {} more (`--verbose` tells all)", units::count(left)));
    }
    context.printer.data("");
}

fn sentence(graph: &Graph, plan: &Plan, store: &Store, id: StepId) -> Option<(&'static str, String)> {
    match &plan.step(id).state {
        State::Hit { record } => Some(("hit", format!("saves {}", units::duration(plan::took(record))))),
        State::Run { why } => Some(("run", summary::reason(why))),
        State::MayRun { waits_on } => {
            let there = plan.disowned.get(&id).cloned().or_else(|| untrusted(store, &plan.facts.recipe(id)));
            let there = there.map(|why| format!("; {}", explain::sentence(&why)));
            let waits_on = few(&addresses(graph, waits_on));
            Some(("may run", format!("waits on {waits_on}{}", there.unwrap_or_default())))
        }
        State::NotNeeded => None,
    }
}

fn few(names: &[String]) -> String {
    let shown = names.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > 3 { format!("{shown} and {} more", names.len() - 3) } else { shown }
}
