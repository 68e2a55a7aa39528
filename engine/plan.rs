//! The plan: for each step `hit`, `run (why)` or `may run (waits on …)`, and never a guess. Walks from the goals
//! down by recipe key (a goal that is present needs nothing upstream), then resolves by action key. Runs nothing
//! but probes, writes nothing.
//!
//! One realisation per recipe: where a seeded step has several results, every hit of a plan agrees with one of them.

mod before;
pub mod facts;
pub(crate) mod inputs;
mod realise;
mod resolve;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use plumb_cache::{ActionKey, ActionRecord, Artifact, Realisation, RecipeKey, Store};

use crate::error::EngineError;
use crate::event::{Cause, Event};
use crate::graph::{Graph, Input, Reference, Step, StepId};
use crate::source::Tell;
pub use facts::Facts;
use rayon::prelude::*;

/// How to plan.
#[derive(Debug, Clone)]
pub struct PlanOptions {
    /// Steps to run although their result may be present (`--fresh`).
    pub fresh: BTreeSet<StepId>,
    /// In graphs of at most this many steps, what nothing needs is looked up too: for tables and the time saved.
    pub look_at_all_up_to: usize,
    /// The realisations that the run already uses.
    pub chosen: BTreeMap<RecipeKey, Realisation>,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self { fresh: BTreeSet::new(), look_at_all_up_to: 500, chosen: BTreeMap::new() }
    }
}

/// What is known of a step.
#[derive(Debug, Clone)]
pub enum State {
    /// Its result is in the cache.
    Hit {
        /// The record that was chosen.
        record: Arc<ActionRecord>,
    },
    /// It runs.
    Run {
        /// Why.
        why: Vec<Cause>,
    },
    /// It runs unless what it waits on gives the same bytes as before.
    MayRun {
        /// The producers that run or may run.
        waits_on: Vec<StepId>,
    },
    /// A goal is present, so nobody asks for this one; and it was not looked up, or is not there.
    NotNeeded,
}

/// One step of a plan.
#[derive(Debug, Clone)]
pub struct PlannedStep {
    /// Which.
    pub id: StepId,
    /// What is known of it.
    pub state: State,
    /// Whether a goal or a step that runs asks for it.
    pub needed: bool,
    /// Its action key, where all inputs are known.
    pub action: Option<ActionKey>,
}

/// The plan of a graph. Steps that no goal depends on are not needed, and nothing of them was read.
#[derive(Debug)]
pub struct Plan {
    /// One for each step of the graph, in its order.
    pub steps: Vec<PlannedStep>,
    /// Sources, recipes and what was observed.
    pub facts: Arc<Facts>,
    /// The realisations that the hits of this plan use.
    pub chosen: BTreeMap<RecipeKey, Realisation>,
    /// The hits that no recipe led to, but what their inputs hold: made under another recipe.
    pub by_action: Vec<StepId>,
    /// Of the steps that may run, those that have a result that is disowned, or made from one that is.
    pub disowned: BTreeMap<StepId, Cause>,
}

/// Plans a graph against a store.
pub fn plan(graph: &Graph, store: &Store, options: &PlanOptions) -> Result<Plan, EngineError> {
    plan_telling(graph, store, options, &|_| {})
}

/// The same, telling of the sources that have to be fetched before anything is known of them.
pub fn plan_telling(graph: &Graph, store: &Store, options: &PlanOptions, tell: Tell<'_>) -> Result<Plan, EngineError> {
    plan_first(graph, store, options, facts(graph, store, tell)?)
}

/// What is known of a graph before any record is read: what takes long where sources are large.
pub fn facts(graph: &Graph, store: &Store, tell: Tell<'_>) -> Result<Arc<Facts>, EngineError> {
    check_names(graph)?;
    Ok(Arc::new(Facts::gather(graph, store, tell)?))
}

/// The rest of `plan`.
pub fn plan_first(graph: &Graph, store: &Store, options: &PlanOptions, facts: Arc<Facts>) -> Result<Plan, EngineError> {
    let plan = plan_with(graph, store, options, facts)?;
    before::check(graph, &plan)?;
    Ok(plan)
}

/// Plans again with facts that were gathered before.
pub fn plan_with(graph: &Graph, store: &Store, options: &PlanOptions, facts: Arc<Facts>) -> Result<Plan, EngineError> {
    resolve::resolve(graph, store, options, facts)
}

fn check_names(graph: &Graph) -> Result<(), EngineError> {
    let wrong = graph.steps.par_iter().filter_map(wrong_name).find_first(|_| true);
    wrong.map_or(Ok(()), Err)
}

fn wrong_name(step: &Step) -> Option<EngineError> {
    let inputs: Vec<&str> = step.inputs.keys().map(String::as_str).collect();
    let outputs: Vec<&str> = step.outputs.iter().map(|output| output.name.as_str()).collect();
    let problem = step.kind.check_names(&step.params, &inputs, &outputs).into_iter().next()?;
    let message = format!("stage `{}`, `with.{}`: {}", step.address.stage, problem.field, problem.message);
    let hint = format!("inputs: {}; outputs: {}", listed(&inputs), listed(&outputs));
    Some(EngineError::Pipeline { message, hint: Some(hint) })
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() {
        "none".into()
    } else {
        names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    }
}

/// The steps in a plan by what is known of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Steps whose result is present.
    pub hits: usize,
    /// Steps that run.
    pub runs: usize,
    /// Steps that may run.
    pub may_run: usize,
}

impl Plan {
    /// The step of an id.
    pub fn step(&self, id: StepId) -> &PlannedStep {
        &self.steps[id.0]
    }

    /// The record of a step that is a hit.
    pub fn record_of(&self, id: StepId) -> Option<&Arc<ActionRecord>> {
        match &self.step(id).state {
            State::Hit { record } => Some(record),
            _ => None,
        }
    }

    /// The artifact of an output of a step that is a hit.
    pub fn artifact_of(&self, id: StepId, output: &str) -> Option<Artifact> {
        Some(self.record_of(id)?.outputs.get(output)?.artifact)
    }

    /// How many steps are what.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for step in &self.steps {
            match step.state {
                State::Hit { .. } => counts.hits += 1,
                State::Run { .. } => counts.runs += 1,
                State::MayRun { .. } => counts.may_run += 1,
                State::NotNeeded => {}
            }
        }
        counts
    }

    /// Whether nothing runs and nothing may run.
    pub fn is_done(&self) -> bool {
        let Counts { runs, may_run, .. } = self.counts();
        runs + may_run == 0
    }

    /// What computing the hits took, as their records say.
    pub fn saved(&self) -> Duration {
        self.steps.iter().filter_map(|step| self.record_of(step.id)).map(|record| took(record)).sum()
    }

    /// The event that tells of this plan.
    pub fn event(&self) -> Event {
        let Counts { hits, runs, may_run } = self.counts();
        Event::Planned { steps: hits + runs + may_run, hits, runs, may_run }
    }
}

/// The wall time that a record tells.
pub fn took(record: &ActionRecord) -> Duration {
    Duration::try_from_secs_f64(record.cost.wall_seconds).unwrap_or_default()
}

/// Every reference of an input, with whether a missing one is only marked.
pub(crate) fn references(input: &Input) -> impl Iterator<Item = (&Reference, bool)> {
    let (one, many, mark) = match input {
        Input::One(reference) => (Some(reference), &[][..], false),
        Input::Gathered { branches, mark_missing, .. } => (None, branches.as_slice(), *mark_missing),
    };
    one.into_iter().chain(many.iter().map(|branch| &branch.reference)).map(move |reference| (reference, mark))
}

/// The producers of a step's inputs, each once, in the graph's order.
pub(crate) fn producers(graph: &Graph, id: StepId) -> Vec<StepId> {
    let references = graph.step(id).inputs.values().flat_map(references);
    let steps = references.filter_map(|(reference, _)| match reference {
        Reference::Step { step, .. } => Some(*step),
        Reference::Source { .. } => None,
    });
    let mut producers: Vec<StepId> = steps.collect();
    producers.sort_unstable();
    producers.dedup();
    producers
}
