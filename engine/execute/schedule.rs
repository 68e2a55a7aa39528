//! The scheduler: one loop that owns every step's phase, the slots and what the user sees. Steps run on threads of
//! their own and report through one channel.
//!
//! ```text
//! Want ──inputs made──> Ready ──slots and claim──> Running ──> Done | Failed
//!   │                     │  └─ held by another runner: looked up again once let go
//!   │                     └─ in the cache by now (early cutoff) ──> Done
//!   ├─ a producer failed, or the user stopped the run ──> Skipped
//!   └─ an input's bytes are gone ──> Deferred: planned again, its producer first
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use plumb_cache::{ActionRecord, Claim, Claimed, Cost, Digest, RECORD_FORMAT, Realisation, RecipeKey, Store};
use tokio::sync::mpsc;

use super::Teller;
use super::executor::Executor;
use super::needs::Needs;
use super::slots::{Held, Slots};
use super::stop::{Stop, Urgency};
use super::task::{Failure, Outcome, Task};
use crate::error::EngineError;
use crate::event::{Cause, Event};
use crate::explain::Past;
use crate::graph::{Graph, Reference, Step, StepId};
use crate::key::Document;
use crate::maker;
use crate::plan::resolve::{self, Trouble};
use crate::plan::{Facts, Plan, State, references, took};
use crate::protocol::StepEvent;

/// How long until a step whose action another runner holds is looked at again.
const HELD_TICK: Duration = Duration::from_millis(100);

/// What a round of scheduling needs.
pub(super) struct Round<'a> {
    pub(super) graph: &'a Graph,
    pub(super) store: &'a Store,
    pub(super) executor: Arc<dyn Executor>,
    pub(super) stop: Stop,
    pub(super) own_program: PathBuf,
    pub(super) fresh: &'a BTreeSet<StepId>,
    pub(super) keep_going: bool,
    /// Steps that failed in an earlier round: not tried again.
    pub(super) failed_before: &'a BTreeSet<StepId>,
}

/// What came of a round.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// The result of every step that has one.
    pub(super) records: BTreeMap<StepId, Arc<ActionRecord>>,
    pub(super) ran: BTreeSet<StepId>,
    /// Found only once their inputs had been made.
    pub(super) late_hits: BTreeSet<StepId>,
    pub(super) failed: BTreeSet<StepId>,
    pub(super) skipped: BTreeSet<StepId>,
    /// Some step has to be planned again.
    pub(super) deferred: bool,
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nobody asks for it, or nothing of it is known to be needed.
    Out,
    /// Waits for its producers.
    Want,
    /// Every input is made, the action is not in the cache; waits for slots and its claim.
    Ready,
    /// Its process runs.
    Running,
    /// It has a record.
    Done,
    /// An attempt failed and no retry is left.
    Failed,
    /// Not run because of another step, or of the user.
    Skipped,
    /// Has to be planned again.
    Deferred,
}

/// A step that could start.
struct Ready {
    draft: ActionRecord,
    why: Vec<Cause>,
    /// What the nearest earlier result was, looked up before this run adds its own.
    before: Option<Digest>,
    /// 1-based.
    attempt: u32,
    /// Who holds its action, if another runner does.
    holder: Option<String>,
}

/// A step that runs.
struct Running {
    slots: Held,
    ready: Ready,
}

enum Message {
    Said(StepId, StepEvent),
    Ended(StepId, Outcome),
}

pub(super) struct Scheduler<'a, 't, 's> {
    round: Round<'a>,
    facts: Arc<Facts>,
    past: Past<'a>,
    teller: &'t mut Teller<'s>,
    chosen: BTreeMap<RecipeKey, Realisation>,
    phases: Vec<Phase>,
    /// How many producers a step in `Want` still waits for.
    missing: Vec<usize>,
    dependents: BTreeMap<StepId, Vec<StepId>>,
    /// Steps in `Want` that wait for nothing any more.
    complete: BTreeSet<StepId>,
    ready: BTreeMap<StepId, Ready>,
    running: BTreeMap<StepId, Running>,
    slots: Slots,
    /// The failed step after which nothing new starts.
    halted_by: Option<StepId>,
    /// What ends the run as soon as no child is left.
    broken: Option<EngineError>,
    report: Report,
    send: mpsc::UnboundedSender<Message>,
    receive: mpsc::UnboundedReceiver<Message>,
}

impl<'a, 't, 's> Scheduler<'a, 't, 's> {
    pub(super) fn new(round: Round<'a>, plan: &Plan, slots: Slots, teller: &'t mut Teller<'s>) -> Self {
        let (send, receive) = mpsc::unbounded_channel();
        let mut scheduler = Self {
            facts: plan.facts.clone(),
            past: Past::new(round.store, &round.graph.name),
            teller,
            chosen: plan.chosen.clone(),
            phases: vec![Phase::Out; round.graph.steps.len()],
            missing: vec![0; round.graph.steps.len()],
            dependents: BTreeMap::new(),
            complete: BTreeSet::new(),
            ready: BTreeMap::new(),
            running: BTreeMap::new(),
            slots,
            halted_by: None,
            broken: None,
            report: Report::default(),
            send,
            receive,
            round,
        };
        scheduler.take_plan(plan);
        scheduler
    }

    fn take_plan(&mut self, plan: &Plan) {
        for step in &plan.steps {
            self.phases[step.id.0] = match &step.state {
                State::NotNeeded => Phase::Out,
                State::Hit { record } => {
                    self.report.records.insert(step.id, record.clone());
                    Phase::Done
                }
                State::Run { .. } | State::MayRun { .. } => Phase::Want,
            };
        }
        for (index, phase) in self.phases.iter().enumerate() {
            if *phase == Phase::Want {
                for producer in &self.facts.producers[index] {
                    if self.phases[producer.0] != Phase::Done {
                        self.missing[index] += 1;
                        self.dependents.entry(*producer).or_default().push(StepId(index));
                    }
                }
            }
        }
    }

    /// Runs the plan to its end.
    pub(super) async fn run(mut self) -> Result<Report, EngineError> {
        let mut stopping = self.round.stop.listen();
        let failed_before: Vec<StepId> = self.round.failed_before.iter().copied().collect();
        for id in failed_before {
            self.give_up_on(id);
        }
        let complete = |index: &usize| self.phases[*index] == Phase::Want && self.missing[*index] == 0;
        self.complete = (0..self.phases.len()).filter(complete).map(StepId).collect();
        loop {
            self.settle()?;
            self.start_what_can()?;
            if !self.complete.is_empty() {
                continue;
            }
            if self.running.is_empty() && (self.ready.is_empty() || !self.may_start()) {
                break;
            }
            self.teller.flush();
            let held = self.may_start() && self.ready.values().any(|ready| ready.holder.is_some());
            tokio::select! {
                Some(message) = self.receive.recv() => self.take(message),
                _ = stopping.changed() => {}
                () = tokio::time::sleep(HELD_TICK), if held => {}
            }
        }
        if let Some(error) = self.broken {
            return Err(error);
        }
        self.skip_the_rest();
        Ok(self.report)
    }

    fn may_start(&self) -> bool {
        self.halted_by.is_none() && self.round.stop.urgency() == Urgency::GoOn
    }

    fn address(&self, id: StepId) -> String {
        self.round.graph.step(id).address.to_string()
    }

    /// Every step whose inputs are made: hits make others complete, so this goes on until none is left.
    fn settle(&mut self) -> Result<(), EngineError> {
        while let Some(id) = self.complete.pop_first() {
            if self.phases[id.0] == Phase::Want {
                self.make_ready(id)?;
            }
        }
        Ok(())
    }

    /// Want -> Ready, or straight to Done if the action is in the cache.
    fn make_ready(&mut self, id: StepId) -> Result<(), EngineError> {
        let graph = self.round.graph;
        let records = &self.report.records;
        let record_of = |producer: StepId| records.get(&producer).cloned();
        let (action, document) = match resolve::action(graph, self.round.store, &self.facts, id, record_of) {
            Ok(keyed) => keyed,
            Err(Trouble::Lost { .. }) => {
                self.defer(id);
                return Ok(());
            }
            Err(Trouble::Error(error @ EngineError::Pipeline { .. })) => {
                self.fail(id, error.to_string(), error.hint(), None, Duration::ZERO);
                return Ok(());
            }
            Err(Trouble::Error(error)) => return Err(error),
        };
        let address = &graph.step(id).address;
        let draft = ActionRecord {
            format: RECORD_FORMAT,
            action,
            recipe: self.facts.recipe(id),
            action_document: document,
            recipe_document: self.facts.recipe_document(id).to_string(),
            outputs: BTreeMap::new(),
            ancestry: resolve::ancestry(&self.facts, id, record_of),
            cost: Cost::default(),
            environment: BTreeMap::new(),
            step: address.to_string(),
            stage: address.stage.clone(),
            pipeline: graph.name.clone(),
            made_at: String::new(),
            made_by: maker::name(),
        };
        let hold = self.round.store.hold()?;
        if let Some(record) = self.look_up(id, &draft)? {
            return self.hit(id, record);
        }
        drop(hold);
        let why = self.why(id, &draft.action_document)?;
        self.phases[id.0] = Phase::Ready;
        let before = self.past.nearest_but(graph.step(id), "")?.map(|record| record.result_digest());
        self.ready.insert(id, Ready { draft, why, before, attempt: 1, holder: None });
        Ok(())
    }

    /// The record of an action whose bytes are all there and that agrees with the run's realisations.
    fn look_up(&self, id: StepId, draft: &ActionRecord) -> Result<Option<ActionRecord>, EngineError> {
        if self.round.fresh.contains(&id) {
            return Ok(None);
        }
        let chosen = self.chosen.get(&draft.recipe);
        let record = self.round.store.action(&draft.action)?;
        let record = record.filter(|record| chosen.is_none_or(|chosen| chosen.result == record.result_digest()));
        Ok(record.filter(|record| {
            let mut results = record.outputs.values().filter(|output| !output.diagnostic);
            results.all(|output| self.round.store.present(&output.artifact))
        }))
    }

    fn why(&self, id: StepId, document: &Document) -> Result<Vec<Cause>, EngineError> {
        if self.round.fresh.contains(&id) {
            return Ok(vec![Cause::Fresh]);
        }
        if let Some(why) = self.teller.planned_why(id) {
            return Ok(why);
        }
        self.past.causes(self.round.graph, id, document)
    }

    /// Found once its inputs were made. Publishing it again under this recipe lets the next plan find it at once.
    fn hit(&mut self, id: StepId, record: ActionRecord) -> Result<(), EngineError> {
        let records = &self.report.records;
        let record_of = |producer: StepId| records.get(&producer).cloned();
        let record = resolve::as_made_here(self.round.graph, &self.facts, id, record, record_of);
        self.round.store.publish(&record)?;
        let saved = took(&record);
        self.report.late_hits.insert(id);
        self.teller.tell(&Event::Hit { step: record.step.clone(), saved, after_inputs: true });
        self.done(id, record);
        Ok(())
    }

    fn done(&mut self, id: StepId, record: ActionRecord) {
        self.phases[id.0] = Phase::Done;
        self.chosen.insert(record.recipe, record.realisation());
        self.report.records.insert(id, Arc::new(record));
        for dependent in self.dependents.get(&id).cloned().unwrap_or_default() {
            self.one_less(dependent);
        }
    }

    fn one_less(&mut self, id: StepId) {
        self.missing[id.0] = self.missing[id.0].saturating_sub(1);
        if self.missing[id.0] == 0 && self.phases[id.0] == Phase::Want {
            self.complete.insert(id);
        }
    }

    /// Ready -> Running for what slots and claims allow, in the graph's order.
    fn start_what_can(&mut self) -> Result<(), EngineError> {
        let ids: Vec<StepId> = self.ready.keys().copied().collect();
        for id in ids {
            if !self.may_start() || self.slots.none_left() {
                break;
            }
            let run = &self.round.graph.step(id).run;
            if let Some(why) = self.slots.never(run) {
                self.ready.remove(&id);
                let hint = Some("lower `run.gpu`, or run it where there are more".to_string());
                self.fail(id, why, hint, None, Duration::ZERO);
                continue;
            }
            let Some(slots) = self.slots.take(run) else { continue };
            match self.claim(id)? {
                Some(claim) => self.start(id, slots, claim)?,
                None => self.slots.give_back(slots),
            }
        }
        Ok(())
    }

    /// Claims a step's action. `None`: another runner holds it, or has just made it.
    fn claim(&mut self, id: StepId) -> Result<Option<Claim>, EngineError> {
        let Some(mut ready) = self.ready.remove(&id) else { return Ok(None) };
        match self.round.store.claim(&ready.draft.action, &ready.draft.step)? {
            Claimed::Mine(claim) => {
                let _hold = self.round.store.hold()?;
                match self.look_up(id, &ready.draft)? {
                    Some(record) => {
                        drop(claim);
                        self.hit(id, record)?;
                        Ok(None)
                    }
                    None => {
                        self.ready.insert(id, ready);
                        Ok(Some(claim))
                    }
                }
            }
            Claimed::Held { by } => {
                if ready.holder.is_none() {
                    self.teller.tell(&Event::Waiting { step: ready.draft.step.clone(), holder: by.clone() });
                }
                ready.holder = Some(by);
                self.ready.insert(id, ready);
                Ok(None)
            }
        }
    }

    fn start(&mut self, id: StepId, slots: Held, claim: Claim) -> Result<(), EngineError> {
        let Some(ready) = self.ready.remove(&id) else { return Ok(()) };
        let task = self.task(id, &ready, slots.gpus.clone(), claim);
        let kind = task.kind.declaration().kind.to_string();
        let (why, attempt) = (ready.why.clone(), ready.attempt);
        self.teller.tell(&Event::Started { step: ready.draft.step.clone(), kind, why, attempt });
        self.phases[id.0] = Phase::Running;
        self.running.insert(id, Running { slots, ready });
        let (store, executor, stop) = (self.round.store.clone(), self.round.executor.clone(), self.round.stop.clone());
        let (said, ended) = (self.send.clone(), self.send.clone());
        // The receiver outlives every step: the loop ends only when none runs.
        let body = move || {
            let mut told = |event| drop(said.send(Message::Said(id, event)));
            let outcome = task.perform(&store, executor.as_ref(), &stop, &mut told);
            drop(ended.send(Message::Ended(id, outcome)));
        };
        let thread = std::thread::Builder::new().name("step".into()).spawn(body);
        thread.map(|_| ()).map_err(|source| EngineError::Io {
            doing: "start a thread for",
            path: "step".into(),
            source,
        })
    }

    fn task(&self, id: StepId, ready: &Ready, gpus: Vec<u32>, claim: Claim) -> Task {
        let step = self.round.graph.step(id);
        let needs = Needs {
            graph: self.round.graph,
            store: self.round.store,
            facts: &self.facts,
            records: &self.report.records,
        };
        Task {
            kind: step.kind.clone(),
            params: step.params.clone(),
            outputs: step.outputs.clone(),
            run: step.run.clone(),
            inputs: needs.inputs(step),
            files: needs.listed_files(step),
            draft: ready.draft.clone(),
            fresh: self.round.fresh.contains(&id),
            gpus,
            log: self.teller.log_of(&ready.draft.step),
            own_program: self.round.own_program.clone(),
            claim: Some(claim),
        }
    }

    fn take(&mut self, message: Message) {
        let (id, outcome) = match message {
            Message::Said(id, event) => {
                let step = self.address(id);
                self.teller.tell(&Event::Step { step, event });
                return;
            }
            Message::Ended(id, outcome) => (id, outcome),
        };
        let Some(Running { slots, ready }) = self.running.remove(&id) else { return };
        self.slots.give_back(slots);
        match outcome {
            Outcome::Made(record, took) => self.made(id, *record, ready.before, took),
            Outcome::InputGone => self.defer(id),
            Outcome::Broken(error) => self.broken(error),
            Outcome::Failed(failure) if failure.stopped => self.skip(id, "stopped"),
            Outcome::Failed(failure) if self.retries(id, &ready, &failure) => {
                let (step, attempt) = (ready.draft.step.clone(), ready.attempt);
                self.teller.tell(&Event::Retried { step, error: failure.error, attempt });
                self.phases[id.0] = Phase::Ready;
                self.ready.insert(id, Ready { attempt: attempt + 1, ..ready });
            }
            Outcome::Failed(Failure { error, hint, took, .. }) => {
                let log = self.teller.log_of(&ready.draft.step);
                let log = log.exists().then(|| log.display().to_string());
                self.fail(id, error, hint, log, took);
            }
        }
    }

    fn made(&mut self, id: StepId, record: ActionRecord, before: Option<Digest>, took: Duration) {
        let unchanged = before.is_some_and(|before| before == record.result_digest());
        self.report.ran.insert(id);
        self.teller.tell(&Event::Finished { step: record.step.clone(), took, unchanged });
        self.done(id, record);
    }

    fn retries(&self, id: StepId, ready: &Ready, failure: &Failure) -> bool {
        let run = &self.round.graph.step(id).run;
        let listed = run.retry_on.is_empty() || run.retry_on.contains(&failure.cause);
        listed && ready.attempt <= run.retries && self.round.stop.urgency() == Urgency::GoOn
    }

    /// The cache cannot be used: the children are ended before the error is told.
    fn broken(&mut self, error: EngineError) {
        self.round.stop.ask();
        self.round.stop.ask();
        self.broken.get_or_insert(error);
    }

    fn defer(&mut self, id: StepId) {
        self.phases[id.0] = Phase::Deferred;
        self.report.deferred = true;
    }

    fn fail(&mut self, id: StepId, error: String, hint: Option<String>, log: Option<String>, took: Duration) {
        let step = self.address(id);
        self.teller.tell(&Event::Failed { step, error, hint, log, took });
        if !self.round.keep_going {
            self.halted_by = Some(id);
        }
        self.give_up_on(id);
    }

    /// Failed; what depends on it is skipped, and what depends on that, but for who only marks what is missing.
    fn give_up_on(&mut self, id: StepId) {
        self.phases[id.0] = Phase::Failed;
        self.report.failed.insert(id);
        let because = self.address(id);
        let mut gone = vec![id];
        while let Some(missing) = gone.pop() {
            for dependent in self.dependents.get(&missing).cloned().unwrap_or_default() {
                if self.phases[dependent.0] != Phase::Want {
                    continue;
                }
                if tolerates(self.round.graph.step(dependent), missing) {
                    self.one_less(dependent);
                } else {
                    self.skip(dependent, &because);
                    gone.push(dependent);
                }
            }
        }
    }

    fn skip(&mut self, id: StepId, because: &str) {
        self.phases[id.0] = Phase::Skipped;
        self.report.skipped.insert(id);
        let step = self.address(id);
        self.teller.tell(&Event::Skipped { step, because: because.to_string() });
    }

    /// What neither ran nor waits to be planned again was stopped by the user or by the first failure.
    fn skip_the_rest(&mut self) {
        let stopped = self.round.stop.is_asked();
        if self.may_start() {
            return;
        }
        let because = match self.halted_by {
            Some(id) if !stopped => self.address(id),
            _ => "stopped".to_string(),
        };
        for index in 0..self.phases.len() {
            if matches!(self.phases[index], Phase::Want | Phase::Ready | Phase::Deferred) {
                self.skip(StepId(index), &because);
            }
        }
        self.report.deferred = false;
    }
}

/// Whether a step asks for another only in gathers that mark what is missing.
fn tolerates(step: &Step, missing: StepId) -> bool {
    let mut asked = step
        .inputs
        .values()
        .flat_map(references)
        .filter(|(reference, _)| matches!(reference, Reference::Step { step, .. } if *step == missing));
    asked.all(|(_, mark)| mark)
}
