//! Running: from a plan to published results. A run plans, schedules what is not there, and plans again where a
//! result or a loss has made the first plan stale, until every goal is present on one realisation per recipe.

mod bound;
mod bring;
pub mod child;
pub mod executor;
mod follow;
pub mod going;
mod guardian;
pub mod keeper;
mod kept;
pub mod local;
pub mod machine;
mod memory;
mod needs;
mod orphans;
pub mod place;
mod reap;
mod redact;
pub mod refuse;
pub mod rehearse;
mod said;
mod sandbox;
mod schedule;
pub mod secrets;
mod slots;
mod space;
mod spawn;
pub mod stop;
mod strays;
mod task;
mod teller;
mod verdict;
pub mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use plumb_cache::{ActionRecord, Realisation, RecipeKey, Store};

pub use stop::Stop;

use self::executor::Executor;
use self::kept::Kept;
use self::machine::Limits;
use self::schedule::{Report, Round, Scheduler};
use self::slots::Slots;
pub(crate) use self::teller::Teller;
use crate::clock::Stopwatch;
use crate::courier::{Courier, Parting};
use crate::error::{EngineError, ExitClass};
use crate::event::{Cause, Event};
use crate::graph::{Graph, Reference, SourceId, StepId};
use crate::history::{Outcome, Recorder};
use crate::plan::{self, Facts, Plan, PlanOptions, State, took};
use crate::source::{Sources, Tell};

/// After this many plans something makes results faster than they can be used.
const ROUNDS: usize = 10;

/// How to run.
#[derive(Clone)]
pub struct RunOptions {
    /// How to plan.
    pub plan: PlanOptions,
    /// How much of the machine the run may use.
    pub limits: Limits,
    /// Whether the failure of one branch leaves the independent ones running.
    pub keep_going: bool,
    /// Stops the run.
    pub stop: Stop,
    /// What is known before the run and belongs into its history: told right after the plan.
    pub notes: Vec<Event>,
    /// What was typed, for the history.
    pub command: Vec<String>,
    /// The run that this one is a further turn of.
    pub turn_of: Option<String>,
    /// The program that runs the kinds of the house with `__step`; `None` is this one.
    pub own_program: Option<PathBuf>,
    /// Where steps run.
    pub executor: Arc<dyn Executor>,
    /// Whether steps outlive this process: each then has a keeper instead.
    pub detached: bool,
    /// Is told the run's id once the plan is made.
    pub began: Option<fn(&str)>,
    /// Who sends what the run makes to a layer.
    pub courier: Option<Courier>,
    /// Whether the courier shall finish with the run.
    pub parting: Parting,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            plan: PlanOptions::default(),
            limits: Limits::default(),
            keep_going: false,
            stop: Stop::default(),
            notes: Vec::new(),
            command: Vec::new(),
            turn_of: None,
            own_program: None,
            executor: Arc::new(local::Local::default()),
            detached: false,
            began: None,
            courier: None,
            parting: Parting::default(),
        }
    }
}

/// What came of a run.
#[derive(Debug)]
pub struct Summary {
    /// The run's id in the history; `None` where the cache is read-only.
    pub run: Option<String>,
    /// The result of every step that has one.
    pub records: BTreeMap<StepId, Arc<ActionRecord>>,
    /// Steps that ran.
    pub ran: BTreeSet<StepId>,
    /// Steps that failed.
    pub failed: BTreeSet<StepId>,
    /// Steps that were skipped.
    pub skipped: BTreeSet<StepId>,
    /// Whether the user stopped it, or the pipeline changed meanwhile.
    pub stopped: bool,
    /// Wall time.
    pub took: Duration,
    /// What the hits would have cost.
    pub saved: Duration,
}

impl Summary {
    /// How the program ends.
    pub fn class(&self) -> ExitClass {
        match self.outcome() {
            Outcome::Stopped => ExitClass::Stopped,
            Outcome::Failed => ExitClass::StepFailed,
            Outcome::Done => ExitClass::Done,
        }
    }

    /// The steps that were found rather than run.
    pub fn hits(&self) -> usize {
        self.records.keys().filter(|id| !self.ran.contains(id)).count()
    }

    fn outcome(&self) -> Outcome {
        match (self.stopped, self.failed.is_empty()) {
            (true, _) => Outcome::Stopped,
            (false, false) => Outcome::Failed,
            (false, true) => Outcome::Done,
        }
    }

    fn event(&self) -> Event {
        Event::Done {
            ran: self.ran.len(),
            hits: self.hits(),
            failed: self.failed.len(),
            skipped: self.skipped.len(),
            took: self.took,
            saved: self.saved,
        }
    }

    fn add(&mut self, report: Report) {
        self.ran.extend(report.ran);
        self.failed.extend(report.failed);
        self.skipped.extend(report.skipped);
        self.records.extend(report.records);
    }
}

/// Runs a graph: makes every goal present. Failed steps are events and counted, not errors. Must be awaited on the
/// runtime's main task: children die with the thread that started them, and those threads are the steps' own.
pub async fn run(
    graph: &Graph,
    store: &Store,
    options: &RunOptions,
    mut sink: impl FnMut(&Event) + Send,
) -> Result<Summary, EngineError> {
    let watch = Stopwatch::start();
    let facts = telling(&mut sink, |tell| plan::facts(graph, store, tell))?;
    options.stop.know(&facts);
    let heeding = tokio::spawn(bring::heed(store.clone(), options.stop.clone()));
    // Held until what the plan found is on the run's list.
    let hold = store.hold()?;
    let mut plan = plan::plan_first(graph, store, &options.plan, facts)?;
    bring::goals(graph, store, &options.plan, &mut plan, &mut sink)?;
    let mut machine = refuse::fit(graph, &plan, &options.limits, store.root())?;
    let named = (graph.name.as_str(), graph.file.as_path());
    let recorder = Recorder::open(store, named, options.command.clone(), options.turn_of.as_deref())?;
    let kept = Kept::start(store, graph, recorder.as_ref().map(Recorder::id))?;
    kept.list(&plan)?;
    index_anew(store, &plan)?;
    drop(hold);
    let courier = options.courier.clone();
    let mut teller = Teller { sink: &mut sink, recorder, why: BTreeMap::new(), skipped: BTreeSet::new(), courier };
    let mut summary = Summary {
        run: teller.recorder.as_ref().map(|recorder| recorder.id().to_string()),
        records: BTreeMap::new(),
        ran: BTreeSet::new(),
        failed: BTreeSet::new(),
        skipped: BTreeSet::new(),
        stopped: false,
        took: Duration::ZERO,
        saved: Duration::ZERO,
    };
    tell_plan(graph, &plan, &mut teller);
    options.notes.iter().for_each(|note| teller.tell(note));
    if let (Some(began), Some(run)) = (options.began, &summary.run) {
        began(run);
    }
    let mut planning = options.plan.clone();
    for round in 1.. {
        summary.records.extend(plan.steps.iter().filter_map(|step| Some((step.id, plan.record_of(step.id)?.clone()))));
        if plan.is_done() {
            break;
        }
        if round > ROUNDS {
            let message = "results keep changing while this run uses them; run again to settle them".to_string();
            teller.tell(&Event::Warning { message });
            break;
        }
        telling(&mut teller.sink, |tell| fetch_sources(graph, store, &plan, tell))?;
        let slots = Slots::new(machine.clone());
        let round = new_round(graph, store, options, &planning.fresh, &summary.failed)?;
        let report = Scheduler::new(round, &plan, slots, &mut teller).run().await?;
        let late = bring::late_goals(graph, store, &report, &mut teller.sink)?;
        let stale = report.deferred || mixes(&plan, &report) || !late;
        planning = next_options(&planning, &plan.facts, &report);
        summary.add(report);
        let halted = !options.keep_going && !summary.failed.is_empty();
        if !stale || halted || !options.stop.may_start() {
            break;
        }
        let hold = store.hold()?;
        plan = plan::plan_with(graph, store, &planning, plan.facts.clone())?;
        bring::goals(graph, store, &planning, &mut plan, &mut teller.sink)?;
        kept.list(&plan)?;
        index_anew(store, &plan)?;
        drop(hold);
        machine = refuse::fit(graph, &plan, &options.limits, store.root())?;
        teller.why = reasons(&plan);
    }
    summary.stopped = !options.stop.may_start();
    if summary.failed.is_empty() && !summary.stopped {
        publish(graph, store, &summary, &mut teller)?;
    }
    summary.saved =
        summary.records.iter().filter(|(id, _)| !summary.ran.contains(id)).map(|(_, record)| took(record)).sum();
    summary.took = watch.elapsed();
    if let Some(courier) = &options.courier {
        courier.part(options.parting, &options.stop, &mut |event| teller.tell(event));
    }
    finish(&summary, &mut teller);
    heeding.abort();
    Ok(summary)
}

/// Lends a listener to work on several threads.
fn telling<T>(sink: &mut (impl FnMut(&Event) + Send + ?Sized), work: impl FnOnce(Tell<'_>) -> T) -> T {
    let sink = Mutex::new(sink);
    work(&|event| (sink.lock().unwrap_or_else(PoisonError::into_inner))(event))
}

/// What a lock file pins is known without its bytes; before a step may need them, they are fetched.
fn fetch_sources(graph: &Graph, store: &Store, plan: &Plan, tell: Tell<'_>) -> Result<(), EngineError> {
    let runs = |step: &&plan::PlannedStep| matches!(step.state, State::Run { .. } | State::MayRun { .. });
    let inputs = plan.steps.iter().filter(runs).flat_map(|step| graph.step(step.id).inputs.values());
    let missing = inputs.flat_map(plan::references).filter_map(|(reference, _)| match reference {
        Reference::Source { source, subpath } if graph.source(*source).place.is_remote() => {
            (!store.present(&plan.facts.source(*source, subpath))).then_some(*source)
        }
        _ => None,
    });
    let missing: BTreeSet<SourceId> = missing.collect();
    missing.into_iter().try_for_each(|id| Sources { graph, store, tell }.fetch(id))
}

/// Hits that only their inputs' bytes led to are published under this recipe too: the next plan finds them at once, and
/// needs nothing of what came before them.
fn index_anew(store: &Store, plan: &Plan) -> Result<(), EngineError> {
    if !store.writable() {
        return Ok(());
    }
    for record in plan.by_action.iter().filter_map(|id| plan.record_of(*id)) {
        match store.publish(record) {
            // Its bytes are gone, and nobody needed them.
            Err(error) if error.is_miss() => {}
            published => drop(published?),
        }
    }
    Ok(())
}

fn tell_plan(graph: &Graph, plan: &Plan, teller: &mut Teller<'_>) {
    teller.why = reasons(plan);
    teller.tell(&plan.event());
    for step in &plan.steps {
        if let Some(record) = plan.record_of(step.id) {
            let (step, saved) = (graph.step(step.id).address.to_string(), took(record));
            teller.tell(&Event::Hit { step, saved, after_inputs: false });
        }
    }
}

fn reasons(plan: &Plan) -> BTreeMap<StepId, Vec<Cause>> {
    let reason = |step: &plan::PlannedStep| match &step.state {
        State::Run { why } => Some((step.id, why.clone())),
        _ => None,
    };
    plan.steps.iter().filter_map(reason).collect()
}

fn new_round<'a>(
    graph: &'a Graph,
    store: &'a Store,
    options: &RunOptions,
    fresh: &'a BTreeSet<StepId>,
    failed_before: &'a BTreeSet<StepId>,
) -> Result<Round<'a>, EngineError> {
    let own = options.own_program.clone().map_or_else(std::env::current_exe, Ok);
    Ok(Round {
        graph,
        store,
        executor: options.executor.clone(),
        stop: options.stop.clone(),
        own_program: own.map_err(EngineError::io("find", "this program".as_ref()))?,
        fresh,
        keep_going: options.keep_going,
        detached: options.detached,
        courier: options.courier.clone(),
        failed_before,
    })
}

/// Whether a hit may stand on another realisation of a step than the one that has just been made.
fn mixes(plan: &Plan, report: &Report) -> bool {
    let mut above_a_hit = BTreeSet::new();
    for step in plan.steps.iter().rev() {
        let hit = matches!(step.state, State::Hit { .. }) && step.needed;
        if hit || above_a_hit.contains(&step.id) {
            above_a_hit.extend(plan.facts.producers[step.id.0].iter().copied());
        }
    }
    report.ran.iter().any(|id| above_a_hit.contains(id))
}

/// The next plan keeps to what this run has made, and makes nothing afresh twice.
fn next_options(options: &PlanOptions, facts: &Facts, report: &Report) -> PlanOptions {
    let made = report.ran.iter().chain(&report.late_hits);
    let realisation = |id: &StepId| Some((facts.recipe(*id), report.records.get(id)?.realisation()));
    let mut chosen: BTreeMap<RecipeKey, Realisation> = options.chosen.clone();
    chosen.extend(made.filter_map(realisation));
    let fresh = options.fresh.iter().copied().filter(|id| !report.ran.contains(id)).collect();
    PlanOptions { chosen, fresh, ..options.clone() }
}

fn publish(graph: &Graph, store: &Store, summary: &Summary, teller: &mut Teller<'_>) -> Result<(), EngineError> {
    for wanted in &graph.publish {
        let made = summary.records.get(&wanted.step).and_then(|record| record.outputs.get(&wanted.output));
        if let Some(made) = made
            && place::copy_out(store, &made.artifact, &wanted.destination)?
        {
            let output = format!("{}.{}", graph.step(wanted.step).address, wanted.output);
            teller.tell(&Event::Published { output, path: wanted.destination.display().to_string() });
        }
    }
    Ok(())
}

fn finish(summary: &Summary, teller: &mut Teller<'_>) {
    let done = summary.event();
    teller.tell(&done);
    if let Some(Err(error)) = teller.recorder.as_mut().map(|recorder| recorder.finish(summary.outcome(), &done)) {
        (teller.sink)(&Event::Warning { message: error.to_string() });
    }
}
