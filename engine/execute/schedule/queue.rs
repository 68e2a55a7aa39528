//! The steps that could start: in the order of their ranks (the longest way to the end first), with what each of them
//! waits for. Hands out; starts nothing.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use plumb_cache::{ActionRecord, Digest};

use crate::event::Cause;
use crate::graph::StepId;

/// How long until a step whose action another runner holds is looked at again.
const HELD_TICK: Duration = Duration::from_millis(100);
/// A step that finds no room is passed by this many others before nothing of a lower rank starts.
const PATIENCE: u32 = 8;

/// A step that could start.
pub(super) struct Queued {
    /// The record without outputs, cost and environment.
    pub(super) draft: ActionRecord,
    pub(super) why: Vec<Cause>,
    /// What the nearest earlier result was, looked up before this run adds its own.
    pub(super) before: Option<Digest>,
    /// 1-based.
    pub(super) attempt: u32,
    /// Who holds its action, if another runner does.
    pub(super) holder: Option<String>,
    /// Since the start of the round: it pauses until then.
    pub(super) not_before: Duration,
    /// How many of lower rank started while it found no room.
    pub(super) passed_by: u32,
    /// Whether it was told that it waits for a detached step.
    pub(super) told: bool,
}

/// A place in the order: the highest rank first, then the graph's order.
pub(super) type Place = (Reverse<u64>, StepId);

/// The queue.
pub(super) struct Queue {
    ranks: Vec<u64>,
    order: BTreeSet<Place>,
    steps: BTreeMap<StepId, Queued>,
    /// Those that wait for another runner or pause: no message tells when that is over.
    timed: BTreeSet<StepId>,
}

impl Queue {
    /// An empty queue; `ranks` has one entry a step of the graph, or none where every rank is the same.
    pub(super) fn new(ranks: Vec<u64>) -> Self {
        Self { ranks, order: BTreeSet::new(), steps: BTreeMap::new(), timed: BTreeSet::new() }
    }

    fn place(&self, id: StepId) -> Place {
        (Reverse(self.ranks.get(id.0).copied().unwrap_or(0)), id)
    }

    pub(super) fn put(&mut self, id: StepId, step: Queued) {
        self.order.insert(self.place(id));
        if step.holder.is_some() || step.not_before > Duration::ZERO {
            self.timed.insert(id);
        }
        self.steps.insert(id, step);
    }

    pub(super) fn take(&mut self, id: StepId) -> Option<Queued> {
        self.order.remove(&self.place(id));
        self.timed.remove(&id);
        self.steps.remove(&id)
    }

    pub(super) fn get(&mut self, id: StepId) -> Option<&mut Queued> {
        self.steps.get_mut(&id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The next step after a place that does not pause.
    pub(super) fn next(&self, after: Option<Place>, now: Duration) -> Option<Place> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = self.order.range((from, Bound::Unbounded)).copied();
        rest.find(|(_, id)| self.steps.get(id).is_some_and(|step| step.not_before <= now))
    }

    /// A step of a lower rank started before these.
    pub(super) fn pass_by(&mut self, blocked: &[StepId]) {
        for id in blocked {
            self.steps.entry(*id).and_modify(|step| step.passed_by += 1);
        }
    }

    /// Whether nothing may start before this step.
    pub(super) fn is_out_of_patience(&self, id: StepId) -> bool {
        self.steps.get(&id).is_some_and(|step| step.passed_by >= PATIENCE)
    }

    /// How long until something may have changed that no message tells.
    pub(super) fn wake(&self, now: Duration) -> Option<Duration> {
        let timed = || self.timed.iter().filter_map(|id| self.steps.get(id));
        let held = timed().any(|step| step.holder.is_some()).then_some(HELD_TICK);
        let pauses = timed().map(|step| step.not_before).filter(|until| *until > now);
        pauses.min().map(|until| until.saturating_sub(now)).into_iter().chain(held).min()
    }
}
