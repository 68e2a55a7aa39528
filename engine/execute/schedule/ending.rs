//! Running -> Done | Failed | Skipped, or back into the queue: what an attempt's outcome means for its step and for
//! those that wait for it.

use std::sync::Arc;
use std::time::Duration;

use plumb_cache::{ActionRecord, Cost, Digest};

use super::{Phase, Queued, Running, Scheduler};
use crate::error::EngineError;
use crate::event::{self, Event, Spent};
use crate::execute::task::{Failure, Outcome};
use crate::graph::{Graph, Reference, StepId};
use crate::plan::references;

/// What is told of a failure: the error, a hint, the log.
type Told = (String, Option<String>, Option<String>);

impl Scheduler<'_, '_, '_> {
    /// An attempt has ended.
    pub(super) fn ended(&mut self, id: StepId, outcome: Outcome) {
        let Some(Running { slots, queued }) = self.running.remove(&id) else { return };
        let gpus = slots.gpus();
        self.slots.give_back(slots);
        match outcome {
            Outcome::Made(record, took) => self.made(id, *record, queued.before, (took, gpus)),
            Outcome::InputGone => self.defer(id),
            Outcome::Broken(error) => self.broken(error),
            Outcome::Failed(failure) if failure.stopped => self.skip(id, self.why_stopped()),
            Outcome::Failed(failure) if self.retries(id, &queued, &failure) => self.again(id, queued, failure, gpus),
            Outcome::Failed(Failure { error, hint, took, cost, .. }) => {
                let log = self.teller.log_of(&queued.draft.step);
                let log = log.exists().then(|| log.display().to_string());
                self.fail(id, (error, hint, log), took, spent(&cost, gpus));
            }
        }
    }

    fn made(&mut self, id: StepId, record: ActionRecord, before: Option<Digest>, (took, gpus): (Duration, usize)) {
        let unchanged = before.is_some_and(|before| before == record.result_digest());
        self.report.ran.insert(id);
        let output_bytes = record.outputs.values().map(|output| output.artifact.size).sum();
        let spent = Spent { output_bytes, ..spent(&record.cost, gpus) };
        self.teller.tell(&Event::Finished { step: record.step.clone(), took, unchanged, spent });
        self.done(id, record);
    }

    pub(super) fn done(&mut self, id: StepId, record: ActionRecord) {
        self.chosen.insert(record.recipe, record.realisation());
        self.report.records.insert(id, Arc::new(record));
        self.board.done(id);
    }

    fn retries(&self, id: StepId, queued: &Queued, failure: &Failure) -> bool {
        let run = &self.round.graph.step(id).run;
        let listed = run.retry_on.is_empty() || run.retry_on.contains(&failure.cause);
        listed && queued.attempt <= run.retries && self.may_start()
    }

    fn again(&mut self, id: StepId, queued: Queued, Failure { error, cause, cost, .. }: Failure, gpus: usize) {
        let (step, attempt) = (queued.draft.step.clone(), queued.attempt);
        let pause = self.round.graph.step(id).run.pause_after(attempt);
        self.teller.tell(&Event::Retried {
            step,
            error,
            attempt,
            cause: Some(cause),
            pause,
            spent: spent(&cost, gpus),
        });
        self.board.put(id, Phase::Queued);
        let not_before = self.watch.elapsed() + pause;
        self.queue.put(id, Queued { attempt: attempt + 1, not_before, ..queued });
    }

    /// The cache cannot be used: the children are ended before the error is told.
    fn broken(&mut self, error: EngineError) {
        self.round.stop.ask();
        self.round.stop.ask();
        self.broken.get_or_insert(error);
    }

    pub(super) fn defer(&mut self, id: StepId) {
        self.board.put(id, Phase::Deferred);
        self.report.deferred = true;
    }

    /// It cannot even start.
    pub(super) fn fail_unstarted(&mut self, id: StepId, error: String, hint: Option<String>) {
        self.fail(id, (error, hint, None), Duration::ZERO, Spent::default());
    }

    fn fail(&mut self, id: StepId, (error, hint, log): Told, took: Duration, spent: Spent) {
        let step = self.address(id);
        self.teller.tell(&Event::Failed { step, error, hint, log, took, spent });
        if !self.round.keep_going {
            self.halted_by = Some(id);
        }
        self.give_up_on(id);
    }

    /// Failed, and with it who cannot do without it.
    pub(super) fn give_up_on(&mut self, id: StepId) {
        self.report.failed.insert(id);
        let graph = self.round.graph;
        // A chain of skipped steps names what really failed.
        let because = self.address(id);
        for skipped in self.board.fail(id, |dependent, missing| tolerates(graph, dependent, missing)) {
            self.skip(skipped, &because);
        }
    }

    pub(super) fn skip(&mut self, id: StepId, because: &str) {
        self.board.put(id, Phase::Skipped);
        self.report.skipped.insert(id);
        let step = self.address(id);
        self.teller.tell(&Event::Skipped { step, because: because.to_string() });
    }

    fn why_stopped(&self) -> &'static str {
        let changed = self.round.stop.is_superseded() && !self.round.stop.is_asked();
        if changed { event::CHANGED } else { event::STOPPED }
    }

    /// What neither ran nor waits to be planned again was stopped by the user or by the first failure.
    pub(super) fn skip_the_rest(&mut self) {
        if self.may_start() {
            return;
        }
        let because = match self.halted_by {
            Some(id) if self.round.stop.may_start() => self.address(id),
            _ => self.why_stopped().to_string(),
        };
        for id in self.board.waiting() {
            self.skip(id, &because);
        }
        self.report.deferred = false;
    }
}

/// Whether a step asks for another only in gathers that mark what is missing.
fn tolerates(graph: &Graph, dependent: StepId, missing: StepId) -> bool {
    let mut asked = graph
        .step(dependent)
        .inputs
        .values()
        .flat_map(references)
        .filter(|(reference, _)| matches!(reference, Reference::Step { step, .. } if *step == missing));
    asked.all(|(_, mark)| mark)
}

fn spent(cost: &Cost, gpus: usize) -> Spent {
    let Cost { wall_seconds, cpu_seconds, peak_memory_bytes } = *cost;
    Spent { wall_seconds, cpu_seconds, gpu_seconds: wall_seconds * gpus as f64, peak_memory_bytes, output_bytes: 0 }
}
