//! Who waits for whom: the phase of every step, and how many producers it still waits for. Knows the graph's shape
//! only; says nothing to anybody and starts nothing.

use std::collections::BTreeSet;

use crate::graph::StepId;
use crate::plan::{Plan, State};

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nobody asks for it, or nothing of it is known to be needed.
    Out,
    /// Waits for its producers.
    Want,
    /// Every input is made; its action is looked up next.
    Ready,
    /// Its action is not in the cache; waits for slots, its claim, or the end of a pause.
    Queued,
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

/// The phases of a round.
pub(super) struct Board {
    phases: Vec<Phase>,
    /// How many producers a step in `Want` still waits for.
    missing: Vec<usize>,
    dependents: Vec<Vec<StepId>>,
    /// The steps in `Ready`.
    ready: BTreeSet<StepId>,
}

impl Board {
    /// As a plan says: hits are done, what runs or may run is wanted.
    pub(super) fn new(plan: &Plan) -> Self {
        let phase = |step: &crate::plan::PlannedStep| match &step.state {
            State::NotNeeded => Phase::Out,
            State::Hit { .. } => Phase::Done,
            State::Run { .. } | State::MayRun { .. } => Phase::Want,
        };
        let phases: Vec<Phase> = plan.steps.iter().map(phase).collect();
        let count = phases.len();
        let mut board =
            Self { phases, missing: vec![0; count], dependents: vec![Vec::new(); count], ready: BTreeSet::new() };
        for index in 0..count {
            if board.phases[index] == Phase::Want {
                board.wait_for(StepId(index), &plan.facts.producers[index]);
            }
        }
        board
    }

    fn wait_for(&mut self, id: StepId, producers: &[StepId]) {
        for producer in producers {
            if self.phases[producer.0] != Phase::Done {
                self.missing[id.0] += 1;
                self.dependents[producer.0].push(id);
            }
        }
        if self.missing[id.0] == 0 {
            self.put(id, Phase::Ready);
        }
    }

    /// Where a step stands.
    pub(super) fn phase(&self, id: StepId) -> Phase {
        self.phases[id.0]
    }

    /// Moves a step.
    pub(super) fn put(&mut self, id: StepId, phase: Phase) {
        self.phases[id.0] = phase;
        if phase == Phase::Ready {
            self.ready.insert(id);
        } else {
            self.ready.remove(&id);
        }
    }

    /// The first step whose inputs are all made and that was not looked at yet.
    pub(super) fn first_ready(&self) -> Option<StepId> {
        self.ready.first().copied()
    }

    /// The step has a record: who waits for it waits for one less.
    pub(super) fn done(&mut self, id: StepId) {
        self.put(id, Phase::Done);
        for dependent in std::mem::take(&mut self.dependents[id.0]) {
            self.one_less(dependent);
        }
    }

    fn one_less(&mut self, id: StepId) {
        self.missing[id.0] = self.missing[id.0].saturating_sub(1);
        if self.missing[id.0] == 0 && self.phases[id.0] == Phase::Want {
            self.put(id, Phase::Ready);
        }
    }

    /// The step failed. Who depends on it is skipped, and who depends on that, but for who `tolerates` the absence.
    /// Returns the skipped steps.
    pub(super) fn fail(&mut self, id: StepId, tolerates: impl Fn(StepId, StepId) -> bool) -> Vec<StepId> {
        self.put(id, Phase::Failed);
        let (mut gone, mut skipped) = (vec![id], Vec::new());
        while let Some(missing) = gone.pop() {
            for dependent in std::mem::take(&mut self.dependents[missing.0]) {
                if self.phases[dependent.0] != Phase::Want {
                    continue;
                }
                if tolerates(dependent, missing) {
                    self.one_less(dependent);
                } else {
                    self.put(dependent, Phase::Skipped);
                    skipped.push(dependent);
                    gone.push(dependent);
                }
            }
        }
        skipped
    }

    /// The steps that neither ended nor run.
    pub(super) fn waiting(&self) -> Vec<StepId> {
        let waits = |phase: Phase| matches!(phase, Phase::Want | Phase::Ready | Phase::Queued | Phase::Deferred);
        (0..self.phases.len()).filter(|index| waits(self.phases[*index])).map(StepId).collect()
    }
}
