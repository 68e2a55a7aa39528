//! A plan stage by stage: how much is there, how much runs, what that takes and what the cache saves.

use std::ops::Range;

use plumb_engine::budget::Fit;
use plumb_engine::estimate::{Basis, Forecast, Total};
use plumb_engine::graph::{Graph, StepId};
use plumb_engine::plan::{self, Plan, PlannedStep, State};
use serde::Serialize;

use crate::table::{Cell, Table};
use crate::units;

/// One stage of a plan.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Stage<'a> {
    stage: &'a str,
    hits: usize,
    runs: usize,
    may_run: usize,
    /// What computing the hits took.
    saved_seconds: f64,
    /// Of what runs, or may run.
    estimate: Total,
    #[serde(skip)]
    running: Vec<StepId>,
}

/// The stages of a plan, in its order.
pub fn of<'a>(graph: &'a Graph, plan: &Plan, forecast: &Forecast) -> Vec<Stage<'a>> {
    let known = |steps: &&[PlannedStep]| steps.iter().any(|step| !matches!(step.state, State::NotNeeded));
    let of_stage = |(stage, places): (&'a str, Range<usize>)| {
        let steps = Some(&plan.steps[places]).filter(known)?;
        let mut stage = Stage { stage, ..Stage::default() };
        steps.iter().for_each(|step| stage.add(step));
        stage.estimate = forecast.total(&stage.running);
        Some(stage)
    };
    graph.stages().filter_map(of_stage).collect()
}

impl Stage<'_> {
    fn add(&mut self, step: &PlannedStep) {
        match &step.state {
            State::Hit { record } => {
                self.hits += 1;
                self.saved_seconds += plan::took(record).as_secs_f64();
            }
            State::Run { .. } => self.runs += 1,
            State::MayRun { .. } => self.may_run += 1,
            State::NotNeeded => {}
        }
        if matches!(step.state, State::Run { .. } | State::MayRun { .. }) {
            self.running.push(step.id);
        }
    }
}

/// The table for people. GPU time has a column only where some stage takes any.
pub fn table(stages: &[Stage<'_>]) -> Table {
    let gpu = stages.iter().any(|stage| stage.estimate.gpu_seconds > 0.0);
    let gpu_heading: &[&str] = if gpu { &["GPU time"] } else { &[] };
    let headings = [&["stage", "hit", "run", "may run", "saves", "time"], gpu_heading, &["known from"]].concat();
    let mut table = Table::new(headings);
    for stage in stages {
        let number = |number: usize| Cell::number(if number == 0 { "-".into() } else { units::count(number as u64) });
        let saves = if stage.hits == 0 { "-".into() } else { units::seconds(stage.saved_seconds) };
        let mut row = vec![stage.stage.into(), number(stage.hits), number(stage.runs), number(stage.may_run)];
        row.extend([Cell::number(saves), Cell::number(time(&stage.estimate, stage.estimate.wall_seconds))]);
        if gpu {
            row.push(Cell::number(time(&stage.estimate, stage.estimate.gpu_seconds)));
        }
        row.push(certainty(&stage.estimate).into());
        table.row(row);
    }
    table
}

fn time(total: &Total, seconds: f64) -> String {
    match (total.known, total.unknown) {
        (0, 0) => "-".into(),
        (0, _) => "unknown".into(),
        (_, 0) => units::seconds(seconds),
        _ => format!("{} + ?", units::seconds(seconds)),
    }
}

fn certainty(total: &Total) -> String {
    let unknown = match (total.known, total.unknown) {
        (_, 0) => None,
        (0, _) => Some("no history".to_owned()),
        (_, unknown) => Some(format!("{unknown} without history")),
    };
    let basis = total.basis.map(|basis| match basis {
        Basis::SameStep => "the same steps",
        Basis::OtherBranches => "other branches too",
        Basis::OtherMachines => "other machines too",
        Basis::TimeLimit => "`run.time`: at most",
    });
    [basis.map(str::to_owned), unknown].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The last line.
pub fn sum(plan: &Plan, fit: Fit<'_>) -> String {
    let counts = plan.counts();
    let may = if counts.may_run > 0 { format!(", {} may run", counts.may_run) } else { String::new() };
    let saved = if counts.hits > 0 { format!(" (saves {})", units::duration(plan.saved())) } else { String::new() };
    let hits = units::plural(counts.hits, "step");
    let line = format!("{hits} in the cache{saved}, {} to run{may}", counts.runs);
    if plan.is_done() { line } else { format!("{line}; {}", whole(fit)) }
}

fn whole(fit: Fit<'_>) -> String {
    let all = fit.all();
    let total = fit.forecast.total(&all);
    if total.known == 0 {
        return "how long that takes is unknown".into();
    }
    let mut told = vec![format!("about {} of steps", units::seconds(total.wall_seconds))];
    if total.most_seconds > total.least_seconds {
        told[0] += &format!(" ({} to {})", units::seconds(total.least_seconds), units::seconds(total.most_seconds));
    }
    if let Some(span) = fit.forecast.makespan(fit.graph, fit.plan, &all, fit.jobs) {
        told.push(format!("{} with {} at once", units::seconds(span), fit.jobs));
    }
    if total.gpu_seconds > 0.0 {
        told.push(format!("{} of GPU time", units::seconds(total.gpu_seconds)));
    }
    if total.unknown > 0 {
        told.push(format!("nothing known of {}", units::plural(total.unknown, "step")));
    }
    told.join(", ")
}
