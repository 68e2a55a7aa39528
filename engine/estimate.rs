//! What a plan would take: from what earlier results of the same stage took on like resources. A step without such a
//! result is unknown, never guessed; only where its `run.time` sets a limit is that limit the most it can take.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::ops::Range;

use plumb_cache::{ActionRecord, Store};
use rayon::prelude::*;
use serde::Serialize;

use crate::error::EngineError;
use crate::graph::{Graph, Step, StepId};
use crate::maker;
use crate::plan::{Plan, PlannedStep, State};

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
        let runs = |step: &&PlannedStep| matches!(step.state, State::Run { .. } | State::MayRun { .. });
        let stages: Vec<(&str, Range<usize>)> = graph.stages().collect();
        let estimated = stages.into_par_iter().map(|(stage, places)| -> Result<Vec<_>, EngineError> {
            let mut running = plan.steps[places].iter().filter(runs).map(|step| step.id).peekable();
            let Some(first) = running.peek() else { return Ok(Vec::new()) };
            // Slots are the stage's: every step of it has the same.
            let resources = graph.step(*first).run.resources();
            let records = store.records_of_stage(&graph.name, stage)?;
            let earlier = Earlier::of(&records, &resources);
            Ok(running.map(|id| (id, earlier.estimate(graph.step(id)))).collect())
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

/// The newest results of a stage that were made with the same slots.
#[derive(Default)]
struct Earlier<'r> {
    /// On this machine, by the step's address.
    same: BTreeMap<&'r str, Vec<&'r ActionRecord>>,
    here: Vec<&'r ActionRecord>,
    anywhere: Vec<&'r ActionRecord>,
}

impl<'r> Earlier<'r> {
    /// Of records that come newest first.
    fn of(records: &'r [ActionRecord], resources: &str) -> Self {
        let host = maker::host();
        let says =
            |record: &ActionRecord, name: &str, value: &str| record.environment.get(name).is_some_and(|is| is == value);
        let keep = |all: &mut Vec<&'r ActionRecord>, record| all.extend((all.len() < NEWEST).then_some(record));
        let mut earlier = Self::default();
        for record in records.iter().filter(|record| says(record, "resources", resources)) {
            keep(&mut earlier.anywhere, record);
            if says(record, "host", &host) {
                keep(&mut earlier.here, record);
                keep(earlier.same.entry(&record.step).or_default(), record);
            }
        }
        earlier
    }

    fn estimate(&self, step: &Step) -> Option<Estimate> {
        let same = self.same.get(step.address.to_string().as_str()).map_or(&[][..], Vec::as_slice);
        let found =
            [(Basis::SameStep, same), (Basis::OtherBranches, &self.here), (Basis::OtherMachines, &self.anywhere)];
        match found.into_iter().find(|(_, records)| !records.is_empty()) {
            Some((basis, records)) => Some(middle(step, basis, records)),
            None => limit(step),
        }
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
