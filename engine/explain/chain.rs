//! `plumb why`: a step's causes, and behind each changed input its producer's, up to the leaves. A list in the order
//! of telling, found without recursion: a chain may be ten thousand steps long.

use std::collections::{BTreeMap, BTreeSet};

use plumb_cache::{ActionKey, ActionRecord, Store};
use serde::Serialize;

use super::{Past, differences, sentence};
use crate::error::EngineError;
use crate::event::Cause;
use crate::graph::{Graph, Reference, StepId};
use crate::plan::{Plan, State, references};

/// What a step's plan says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Its result is in the cache.
    Hit,
    /// It runs.
    Run,
    /// It may run.
    MayRun,
    /// Nobody asks for it.
    NotNeeded,
}

/// Where a result came from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Made {
    /// The key of its record.
    pub action: String,
    /// The step it was made as.
    pub step: String,
    /// The pipeline it was made in.
    pub pipeline: String,
    /// `user@host`.
    pub by: String,
    /// RFC 3339.
    pub at: String,
    /// From start to end.
    pub wall_seconds: f64,
    /// Of all its cores.
    pub cpu_seconds: f64,
    /// The most memory it held.
    pub peak_memory_bytes: u64,
}

impl Made {
    /// What a record says of its making.
    pub fn of(record: &ActionRecord) -> Self {
        Self {
            action: record.action.to_string(),
            step: record.step.clone(),
            pipeline: record.pipeline.clone(),
            by: record.made_by.clone(),
            at: record.made_at.clone(),
            wall_seconds: record.cost.wall_seconds,
            cpu_seconds: record.cost.cpu_seconds,
            peak_memory_bytes: record.cost.peak_memory_bytes,
        }
    }
}

/// Why a step runs, or why it last ran.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// Address.
    pub step: String,
    /// What the plan says of it.
    pub verdict: Verdict,
    /// How far up the chain it stands.
    pub depth: usize,
    /// Its present result, where there is one.
    pub made: Option<Made>,
    /// The earlier result that it was compared with.
    pub compared_with: Option<Made>,
    /// Its action key, where all inputs are known.
    pub action: Option<String>,
    /// The steps that it waits on.
    pub waits_on: Vec<String>,
    /// Of a step that runs: why. Of a hit: what changed when its result was made.
    pub causes: Vec<Told>,
}

/// One cause and what stands behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Told {
    /// The cause.
    pub cause: Cause,
    /// Its sentence.
    pub sentence: String,
    /// Of a changed input: the place in the list where its producer is explained.
    pub because: Option<usize>,
}

/// Explains a step of a plan: first itself, then, cause by cause, what stands behind it.
pub fn why(graph: &Graph, plan: &Plan, store: &Store, step: StepId) -> Result<Vec<Explanation>, EngineError> {
    let past = Past::new(store, &graph.name);
    let ids = graph.steps.iter().enumerate().map(|(index, step)| (step.address.to_string(), StepId(index)));
    let mut walk = Walk { graph, plan, store, past, ids: ids.collect(), told: BTreeMap::new(), list: Vec::new() };
    walk.explain(step)?;
    Ok(walk.list)
}

struct Walk<'a> {
    graph: &'a Graph,
    plan: &'a Plan,
    store: &'a Store,
    past: Past<'a>,
    ids: BTreeMap<String, StepId>,
    /// Where each step is explained.
    told: BTreeMap<StepId, usize>,
    list: Vec<Explanation>,
}

/// A step whose causes are being followed.
struct Open {
    at: usize,
    next_cause: usize,
    /// The record that it was compared with: its ancestry says what its producers were then.
    before: Option<ActionRecord>,
}

impl Walk<'_> {
    fn explain(&mut self, root: StepId) -> Result<(), EngineError> {
        let mut open = vec![self.tell(root, None, 0)?];
        while let Some(step) = open.last_mut() {
            let (at, cause) = (step.at, step.next_cause);
            step.next_cause += 1;
            let Some(told) = self.list[at].causes.get(cause) else {
                open.pop();
                continue;
            };
            let Cause::Input { from, .. } = &told.cause else { continue };
            let Some(producer) = self.ids.get(from).copied() else { continue };
            if let Some(known) = self.told.get(&producer) {
                self.list[at].causes[cause].because = Some(*known);
                continue;
            }
            let earlier = step.before.as_ref().map(|record| self.earlier_producer(record, producer)).transpose()?;
            self.list[at].causes[cause].because = Some(self.list.len());
            let depth = self.list[at].depth + 1;
            open.push(self.tell(producer, earlier.flatten(), depth)?);
        }
        Ok(())
    }

    /// `before` is the record that the consumer stood on; without one it is the nearest earlier record.
    fn tell(&mut self, id: StepId, before: Option<ActionRecord>, depth: usize) -> Result<Open, EngineError> {
        let planned = self.plan.step(id);
        let now = self.plan.record_of(id);
        let before = match before {
            Some(record) => Some(record),
            None => self.past.nearest_but(self.graph.step(id), now.map_or("", |record| &record.action_document))?,
        };
        let (waits_on, causes) = self.causes(id, before.as_ref());
        let told = causes.into_iter().map(|cause| Told { sentence: sentence(&cause), cause, because: None });
        self.told.insert(id, self.list.len());
        self.list.push(Explanation {
            step: self.address(id),
            verdict: verdict(&planned.state),
            depth,
            made: now.map(|record| Made::of(record)),
            compared_with: before.as_ref().map(Made::of),
            action: planned.action.map(|key| key.to_string()),
            waits_on,
            causes: told.collect(),
        });
        Ok(Open { at: self.list.len() - 1, next_cause: 0, before })
    }

    fn causes(&self, id: StepId, before: Option<&ActionRecord>) -> (Vec<String>, Vec<Cause>) {
        match &self.plan.step(id).state {
            State::NotNeeded => (Vec::new(), Vec::new()),
            State::Run { why } => (Vec::new(), why.clone()),
            State::Hit { record } => {
                let differ = |before: &ActionRecord| {
                    differences(self.graph, id, &before.action_document, &record.action_document)
                };
                (Vec::new(), before.map_or_else(|| vec![Cause::NeverRan], differ))
            }
            State::MayRun { waits_on } => {
                let waits = waits_on.iter().map(|producer| self.waits(id, *producer));
                let waits = self.plan.disowned.get(&id).cloned().into_iter().chain(waits).collect();
                (waits_on.iter().map(|producer| self.address(*producer)).collect(), waits)
            }
        }
    }

    fn address(&self, id: StepId) -> String {
        self.graph.step(id).address.to_string()
    }

    fn waits(&self, id: StepId, producer: StepId) -> Cause {
        let named = self.graph.step(id).inputs.iter().find(|(_, input)| {
            references(input)
                .any(|(reference, _)| matches!(reference, Reference::Step { step, .. } if *step == producer))
        });
        Cause::Input { name: named.map(|(name, _)| name.clone()).unwrap_or_default(), from: self.address(producer) }
    }

    /// The record of this producer that an earlier result of its consumer stood on.
    fn earlier_producer(&self, consumer: &ActionRecord, id: StepId) -> Result<Option<ActionRecord>, EngineError> {
        let actions: BTreeSet<ActionKey> = consumer.ancestry.values().map(|made| made.action).collect();
        let (stage, address) = (&self.graph.step(id).address.stage, self.address(id));
        let mut same_stage = None;
        for action in actions {
            match self.store.remembered(&action)? {
                Some(record) if record.step == address => return Ok(Some(record)),
                Some(record) if record.stage == *stage => same_stage = Some(record),
                _ => {}
            }
        }
        Ok(same_stage)
    }
}

fn verdict(state: &State) -> Verdict {
    match state {
        State::Hit { .. } => Verdict::Hit,
        State::Run { .. } => Verdict::Run,
        State::MayRun { .. } => Verdict::MayRun,
        State::NotNeeded => Verdict::NotNeeded,
    }
}
