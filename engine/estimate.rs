//! What a plan would take: from what earlier results of the same stage took on like resources. A step without such a
//! result is unknown, never guessed; only where its `run.time` sets a limit is that limit the most it can take.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use plumb_cache::{ActionRecord, Store};
use rayon::prelude::*;
use serde::Serialize;

use crate::error::EngineError;
use crate::explain::Past;
use crate::graph::{Graph, Step, StepId};
use crate::maker;
use crate::plan::{Plan, State};

/// So many of the newest results tell what the next one takes.
const NEWEST: usize = 5;

/// What an estimate rests on, the surest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// Earlier results of the very step, on this machine.
    SameStep,
    /// Earlier results of other branches of the stage, on this machine.
    OtherBranches,
    /// Earlier results of the stage on other machines, with the same slots.
    OtherMachines,
    /// No result: the limit that `run.time` sets.
    TimeLimit,
}

/// What one step is expected to take.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The middle one of the earlier results.
    pub wall_seconds: f64,
    /// The shortest of them.
    pub least_seconds: f64,
    /// The longest of them.
    pub most_seconds: f64,
    /// Of all its cores.
    pub cpu_seconds: f64,
    /// Wall time times GPU slots.
    pub gpu_seconds: f64,
    /// How many earlier results it rests on.
    pub results: usize,
    /// What it rests on.
    pub basis: Basis,
}

/// The estimates of what a plan runs, or may run.
#[derive(Debug, Clone, Default)]
pub struct Forecast {
    /// By step; `None` where nothing is known.
    pub steps: BTreeMap<StepId, Option<Estimate>>,
}

/// The sum over some steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Total {
    /// Steps with an estimate.
    pub known: usize,
    /// Steps without.
    pub unknown: usize,
    /// One after another.
    pub wall_seconds: f64,
    /// The same if each took as little as it ever did.
    pub least_seconds: f64,
    /// The same if each took as long as it ever did.
    pub most_seconds: f64,
    /// Of all cores.
    pub cpu_seconds: f64,
    /// Wall time times GPU slots.
    pub gpu_seconds: f64,
    /// The least sure of the estimates.
    pub basis: Option<Basis>,
}

impl Forecast {
    /// Estimates every step that the plan runs, or may run.
    pub fn of(graph: &Graph, plan: &Plan, store: &Store) -> Result<Self, EngineError> {
        let mut stages: BTreeMap<&str, Vec<StepId>> = BTreeMap::new();
        for step in plan.steps.iter().filter(|step| matches!(step.state, State::Run { .. } | State::MayRun { .. })) {
            stages.entry(&graph.step(step.id).address.stage).or_default().push(step.id);
        }
        let stages: Vec<Vec<StepId>> = stages.into_values().collect();
        let estimated = stages.into_par_iter().map(|ids| -> Result<Vec<_>, EngineError> {
            let records = Past::new(store, &graph.name).of_stage(&graph.step(ids[0]).address.stage)?;
            Ok(ids.into_iter().map(|id| (id, estimate(graph.step(id), &records))).collect())
        });
        let estimated: Vec<Vec<(StepId, Option<Estimate>)>> = estimated.collect::<Result<_, _>>()?;
        Ok(Self { steps: estimated.into_iter().flatten().collect() })
    }

    /// The sum over these of its steps.
    pub fn total<'i>(&self, ids: impl IntoIterator<Item = &'i StepId>) -> Total {
        let mut total = Total::default();
        for estimate in ids.into_iter().filter_map(|id| self.steps.get(id)) {
            match estimate {
                Some(estimate) => total.add(estimate),
                None => total.unknown += 1,
            }
        }
        total
    }

    /// How long these steps take when the scheduler may run so many CPU slots at once, if none is unknown: each as soon
    /// as its producers are done and slots are free, in the graph's order.
    pub fn makespan(&self, graph: &Graph, plan: &Plan, ids: &BTreeSet<StepId>, jobs: usize) -> Option<f64> {
        let mut slots: BinaryHeap<std::cmp::Reverse<u64>> = (0..jobs.max(1)).map(|_| std::cmp::Reverse(0)).collect();
        let mut done: BTreeMap<StepId, u64> = BTreeMap::new();
        let mut last = 0;
        // Microseconds, so that times can be ordered.
        for id in ids {
            let takes = (self.steps.get(id)?.as_ref()?.wall_seconds * 1e6) as u64;
            let inputs = plan.facts.producers[id.0].iter().filter_map(|producer| done.get(producer)).max();
            let wants = graph.step(*id).run.cpu.clamp(1, jobs.max(1));
            let mut free = inputs.copied().unwrap_or_default();
            for _ in 0..wants {
                free = free.max(slots.pop().map_or(0, |slot| slot.0));
            }
            let end = free + takes;
            (0..wants).for_each(|_| slots.push(std::cmp::Reverse(end)));
            done.insert(*id, end);
            last = last.max(end);
        }
        Some(last as f64 / 1e6)
    }
}

impl Total {
    fn add(&mut self, estimate: &Estimate) {
        self.known += 1;
        self.wall_seconds += estimate.wall_seconds;
        self.least_seconds += estimate.least_seconds;
        self.most_seconds += estimate.most_seconds;
        self.cpu_seconds += estimate.cpu_seconds;
        self.gpu_seconds += estimate.gpu_seconds;
        self.basis = self.basis.max(Some(estimate.basis));
    }
}

fn estimate(step: &Step, records: &[ActionRecord]) -> Option<Estimate> {
    let resources = step.run.resources();
    let (address, host) = (step.address.to_string(), maker::host());
    let says =
        |record: &ActionRecord, name: &str, value: &str| record.environment.get(name).is_some_and(|is| is == value);
    let like: Vec<&ActionRecord> = records.iter().filter(|record| says(record, "resources", &resources)).collect();
    let here: Vec<&ActionRecord> = like.iter().copied().filter(|record| says(record, "host", &host)).collect();
    let same: Vec<&ActionRecord> = here.iter().copied().filter(|record| record.step == address).collect();
    let found = [(Basis::SameStep, same), (Basis::OtherBranches, here), (Basis::OtherMachines, like)];
    let found = found.into_iter().find(|(_, records)| !records.is_empty());
    match found {
        Some((basis, records)) => Some(middle(step, basis, &records[..records.len().min(NEWEST)])),
        None => limit(step),
    }
}

fn middle(step: &Step, basis: Basis, records: &[&ActionRecord]) -> Estimate {
    let sorted = |of: fn(&ActionRecord) -> f64| {
        let mut values: Vec<f64> = records.iter().map(|record| of(record)).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let wall = sorted(|record| record.cost.wall_seconds);
    let cpu = sorted(|record| record.cost.cpu_seconds);
    let wall_seconds = wall[wall.len() / 2];
    Estimate {
        wall_seconds,
        least_seconds: wall[0],
        most_seconds: wall[wall.len() - 1],
        cpu_seconds: cpu[cpu.len() / 2],
        gpu_seconds: wall_seconds * step.run.gpu.most() as f64,
        results: records.len(),
        basis,
    }
}

fn limit(step: &Step) -> Option<Estimate> {
    let seconds = step.run.time?.as_secs_f64();
    Some(Estimate {
        wall_seconds: seconds,
        least_seconds: 0.0,
        most_seconds: seconds,
        cpu_seconds: seconds * step.run.cpu as f64,
        gpu_seconds: seconds * step.run.gpu.most() as f64,
        results: 0,
        basis: Basis::TimeLimit,
    })
}
