//! `plumb plan`: what would run, and why, and what is in the cache. Runs nothing.

use std::collections::BTreeMap;

use plumb_engine::event::Cause;
use plumb_engine::graph::{Graph, StepId};
use plumb_engine::plan::{self, Plan, State};
use serde::Serialize;

use crate::args::PlanArgs;
use crate::context::Context;
use crate::exit::Exit;
use crate::paint::Tone;
use crate::summary;
use crate::table::{Cell, Table};
use crate::trouble::Trouble;
use crate::units;

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
}

/// Runs the command.
pub fn run(context: &Context, args: &PlanArgs) -> Result<Exit, Trouble> {
    let (graph, options) = args.choice.load(context, &args.pipeline)?;
    let plan = plan::plan(&graph, &context.store()?, &options)?;
    if args.form.json {
        context.printer.json(&report(&graph, &plan));
    } else {
        print_steps(context, &graph, &plan, args.verbose);
        print_stages(context, &graph, &plan);
    }
    Ok(Exit::Done)
}

fn report<'a>(graph: &'a Graph, plan: &Plan) -> Report<'a> {
    let counts = plan.counts();
    let line = |id: StepId| {
        let (state, why, waits_on) = told(graph, plan, id)?;
        let address = &graph.step(id).address;
        Some(Line { step: address.to_string(), stage: address.stage.clone(), state, why, waits_on })
    };
    Report {
        pipeline: &graph.name,
        hits: counts.hits,
        runs: counts.runs,
        may_run: counts.may_run,
        saved_seconds: plan.saved().as_secs_f64(),
        steps: plan.steps.iter().filter_map(|step| line(step.id)).collect(),
    }
}

fn told(graph: &Graph, plan: &Plan, id: StepId) -> Option<(&'static str, Vec<Cause>, Vec<String>)> {
    match &plan.step(id).state {
        State::Hit { .. } => Some(("hit", Vec::new(), Vec::new())),
        State::Run { why } => Some(("run", why.clone(), Vec::new())),
        State::MayRun { waits_on } => Some(("may-run", Vec::new(), addresses(graph, waits_on))),
        State::NotNeeded => None,
    }
}

fn addresses(graph: &Graph, ids: &[StepId]) -> Vec<String> {
    ids.iter().map(|id| graph.step(*id).address.to_string()).collect()
}

fn print_steps(context: &Context, graph: &Graph, plan: &Plan, verbose: bool) {
    let mut table = Table::default();
    let mut left = 0;
    for step in &plan.steps {
        let Some((state, reason)) = sentence(graph, plan, step.id) else { continue };
        if state == "hit" && !verbose {
            continue;
        }
        if table.len() >= LISTED && !verbose {
            left += 1;
            continue;
        }
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

fn sentence(graph: &Graph, plan: &Plan, id: StepId) -> Option<(&'static str, String)> {
    match &plan.step(id).state {
        State::Hit { record } => Some(("hit", format!("saves {}", units::duration(plan::took(record))))),
        State::Run { why } => Some(("run", summary::reason(why))),
        State::MayRun { waits_on } => Some(("may run", format!("waits on {}", few(&addresses(graph, waits_on))))),
        State::NotNeeded => None,
    }
}

fn few(names: &[String]) -> String {
    let shown = names.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > 3 { format!("{shown} and {} more", names.len() - 3) } else { shown }
}

fn print_stages(context: &Context, graph: &Graph, plan: &Plan) {
    let mut stages: BTreeMap<&str, [u64; 3]> = BTreeMap::new();
    let mut order = Vec::new();
    for step in &plan.steps {
        let column = match step.state {
            State::Hit { .. } => 0,
            State::Run { .. } => 1,
            State::MayRun { .. } => 2,
            State::NotNeeded => continue,
        };
        let stage = graph.step(step.id).address.stage.as_str();
        stages.entry(stage).or_insert_with(|| {
            order.push(stage);
            [0; 3]
        })[column] += 1;
    }
    let mut table = Table::new(["stage", "hit", "run", "may run"]);
    for stage in order {
        let numbers =
            stages[stage].map(|number| Cell::number(if number == 0 { "-".into() } else { units::count(number) }));
        table.row(std::iter::once(Cell::from(stage)).chain(numbers));
    }
    context.printer.table(&table);
    let counts = plan.counts();
    let may = if counts.may_run > 0 { format!(", {} may run", counts.may_run) } else { String::new() };
    let saved = if counts.hits > 0 { format!(" (saves {})", units::duration(plan.saved())) } else { String::new() };
    context.printer.data(&format!(
        "\n{} in the cache{saved}, {} to run{may}",
        units::plural(counts.hits, "step"),
        counts.runs
    ));
}
