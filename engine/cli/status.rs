//! `plumb status`: per stage how much is done, what the last run said of the rest, and the metrics so far.

use std::collections::BTreeSet;

use clap::Args;
use plumb_cache::Store;
use plumb_engine::graph::{Graph, StepId};
use plumb_engine::history::{self, RunHeader, StepStatus};
use plumb_engine::plan::{Plan, PlanOptions, PlannedStep, State};
use plumb_engine::upstream::Reading;
use serde::Serialize;

use crate::args::{Form, Pipeline};
use crate::context::Context;
use crate::exit::Exit;
use crate::paint::Tone;
use crate::results;
use crate::scores::{self, Score};
use crate::table::{Cell, Table};
use crate::trouble::Trouble;
use crate::units;

/// `plumb status`.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// The pipeline.
    #[command(flatten)]
    pub pipeline: Pipeline,
    /// The form of what is printed.
    #[command(flatten)]
    pub form: Form,
}

/// A pipeline's state for machines.
#[derive(Debug, Serialize)]
struct Report {
    pipeline: String,
    stages: Vec<Stage>,
    last_run: Option<RunHeader>,
    metrics: Vec<Score>,
}

/// One stage of it.
#[derive(Debug, Default, Serialize)]
struct Stage {
    stage: String,
    done: usize,
    missing: usize,
    /// Of the missing: those that the last run saw fail.
    failed: usize,
    /// Of the missing: those that the last run had not ended.
    running: usize,
    /// What computing the results took.
    seconds: f64,
    /// Of the done: those that more than one has made, each signer who is trusted counting once.
    reproduced: usize,
    /// Of the done: those whose action also has another result, by whomever.
    differing: usize,
    /// Who has made those that were reproduced.
    reproduced_by: BTreeSet<String>,
}

/// Runs the command.
pub fn run(context: &Context, args: &StatusArgs) -> Result<Exit, Trouble> {
    let graph = context.load_all(&args.pipeline)?;
    let store = context.store_asking(&args.pipeline.file, Reading::default())?;
    store.read_layers();
    let plan = context.plan(&graph, &store, &PlanOptions::default())?;
    let last = history::last_status(&store, &graph.name)?;
    let of_step = |id| last.as_ref()?.1.get(&graph.step(id).address.to_string());
    let mut stages = stages(&graph, &plan, of_step);
    hear_others(&graph, &plan, &store, &mut stages)?;
    let record = |step: &PlannedStep| Some((step.id, plan.record_of(step.id)?.clone()));
    let metrics = results::scores(&graph, &plan.steps.iter().filter_map(record).collect(), &store, &graph.goals);
    let last_run = last.map(|(header, _)| header);
    let report = Report { pipeline: graph.name.clone(), stages, last_run, metrics };
    if args.form.json {
        context.printer.json(&report);
    } else {
        print(context, &report);
    }
    Ok(Exit::Done)
}

fn stages<'a>(graph: &Graph, plan: &Plan, last: impl Fn(StepId) -> Option<&'a StepStatus>) -> Vec<Stage> {
    graph.stages().map(|(name, places)| stage(name, &plan.steps[places], &last)).collect()
}

fn stage<'a>(name: &str, steps: &[PlannedStep], last: impl Fn(StepId) -> Option<&'a StepStatus>) -> Stage {
    let mut stage = Stage { stage: name.into(), ..Stage::default() };
    for step in steps {
        if let State::Hit { record } = &step.state {
            stage.done += 1;
            stage.seconds += record.cost.wall_seconds;
            continue;
        }
        stage.missing += 1;
        match last(step.id) {
            Some(StepStatus::Failed { .. }) => stage.failed += 1,
            Some(StepStatus::Running) => stage.running += 1,
            _ => {}
        }
    }
    stage
}

/// Adds what others say of the results.
fn hear_others(graph: &Graph, plan: &Plan, store: &Store, stages: &mut [Stage]) -> Result<(), Trouble> {
    for (stage, (_, places)) in stages.iter_mut().zip(graph.stages()) {
        let records = plan.steps[places].iter().filter_map(|step| plan.record_of(step.id));
        for said in store.testimonies(&records.map(|record| &**record).collect::<Vec<_>>())? {
            stage.differing += usize::from(!said.others.is_empty());
            if said.reproduced_by.len() > 1 {
                stage.reproduced += 1;
                stage.reproduced_by.extend(said.reproduced_by);
            }
        }
    }
    Ok(())
}

/// What the last column says beside how complete a stage is.
fn heard(stage: &Stage) -> Option<String> {
    let by: Vec<&str> = stage.reproduced_by.iter().map(String::as_str).collect();
    let reproduced = match stage.reproduced {
        0 => None,
        all if all == stage.done => Some(format!("reproduced x{} ({})", by.len(), by.join(", "))),
        some => Some(format!("{some} reproduced ({})", by.join(", "))),
    };
    let differing = (stage.differing > 0).then(|| format!("{} made otherwise too (`plumb why`)", stage.differing));
    let said: Vec<String> = reproduced.into_iter().chain(differing).collect();
    (!said.is_empty()).then(|| said.join(", "))
}

fn print(context: &Context, report: &Report) {
    let mut table = Table::new(["stage", "done", "missing", "took", ""]);
    for stage in &report.stages {
        let (tone, note) = match stage {
            Stage { failed: 1.., .. } => (Tone::Bad, format!("{} failed", stage.failed)),
            Stage { running: 1.., .. } => (Tone::Warn, format!("{} running or killed", stage.running)),
            Stage { missing: 0, .. } => (Tone::Good, "complete".into()),
            _ => (Tone::Plain, String::new()),
        };
        let note = [Some(note).filter(|note| !note.is_empty()), heard(stage)];
        let note = note.into_iter().flatten().collect::<Vec<_>>().join(", ");
        let number = |number: usize| Cell::number(if number == 0 { "-".into() } else { units::count(number as u64) });
        let took = Cell::number(if stage.done == 0 { "-".into() } else { units::seconds(stage.seconds) });
        table.row([
            stage.stage.as_str().into(),
            number(stage.done),
            number(stage.missing),
            took,
            Cell::toned(tone, note),
        ]);
    }
    context.printer.table(&table);
    let last = match &report.last_run {
        Some(run) => format!("last run: {} (ran {}, failed {})", run.started_at, run.ran, run.failed),
        None => "never run on this cache".into(),
    };
    context.printer.data(&format!("\n{last}"));
    for (stage, table) in scores::tables(&report.metrics) {
        context.printer.data(&format!("\n{stage}"));
        context.printer.table(&table);
    }
}
