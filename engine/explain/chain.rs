//! `plumb why`: a step's causes, and behind each changed input its producer's, up to the leaves.

use std::collections::BTreeSet;

use plumb_cache::{ActionKey, ActionRecord, Store};
use serde::Serialize;

use super::{Past, differences, sentence};
use crate::error::EngineError;
use crate::event::Cause;
use crate::graph::{Graph, StepId};
use crate::plan::{Plan, State};

/// What a step's plan says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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

/// Why a step runs, or why it last ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Address.
    pub step: String,
    /// What the plan says of it.
    pub verdict: Verdict,
    /// When its present result was made, where there is one.
    pub made_at: Option<String>,
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
    /// Of a changed input: why its producer gave other content.
    pub because: Option<Box<Explanation>>,
}

/// Explains a step of a plan.
pub fn why(graph: &Graph, plan: &Plan, store: &Store, step: StepId) -> Result<Explanation, EngineError> {
    let past = Past::new(store, &graph.name);
    let mut walk = Walk { graph, plan, store, past, told: BTreeSet::new() };
    walk.explain(step, None)
}

struct Walk<'a> {
    graph: &'a Graph,
    plan: &'a Plan,
    store: &'a Store,
    past: Past<'a>,
    told: BTreeSet<StepId>,
}

impl Walk<'_> {
    /// `before` is the record that the consumer stood on; without one it is the nearest earlier record.
    fn explain(&mut self, id: StepId, before: Option<ActionRecord>) -> Result<Explanation, EngineError> {
        let planned = self.plan.step(id);
        let mut told = Explanation {
            step: self.graph.step(id).address.to_string(),
            verdict: verdict(&planned.state),
            made_at: self.plan.record_of(id).map(|record| record.made_at.clone()),
            action: planned.action.map(|key| key.to_string()),
            waits_on: Vec::new(),
            causes: Vec::new(),
        };
        if !self.told.insert(id) {
            return Ok(told);
        }
        match &planned.state {
            State::NotNeeded => {}
            State::Run { why } => {
                let before = self.before(id, before, "")?;
                told.causes = self.follow(why.clone(), before.as_ref())?;
            }
            State::Hit { record } => {
                let before = self.before(id, before, &record.action_document)?;
                let causes = match &before {
                    Some(before) => differences(self.graph, id, &before.action_document, &record.action_document),
                    None => vec![Cause::NeverRan],
                };
                told.causes = self.follow(causes, before.as_ref())?;
            }
            State::MayRun { waits_on } => {
                let before = self.before(id, before, "")?;
                for producer in waits_on {
                    told.waits_on.push(self.graph.step(*producer).address.to_string());
                }
                let waits: Vec<Cause> = told.waits_on.iter().map(|from| self.waits(id, from)).collect();
                told.causes = self.follow(waits, before.as_ref())?;
            }
        }
        Ok(told)
    }

    fn before(&self, id: StepId, before: Option<ActionRecord>, but: &str) -> Result<Option<ActionRecord>, EngineError> {
        match before {
            Some(record) => Ok(Some(record)),
            None => self.past.nearest_but(self.graph.step(id), but),
        }
    }

    fn waits(&self, id: StepId, from: &str) -> Cause {
        let named = self.graph.step(id).inputs.iter().find(|(_, input)| {
            crate::plan::references(input).any(|(reference, _)| match reference {
                crate::graph::Reference::Step { step, .. } => self.graph.step(*step).address.to_string() == from,
                crate::graph::Reference::Source { .. } => false,
            })
        });
        Cause::Input { name: named.map(|(name, _)| name.clone()).unwrap_or_default(), from: from.to_string() }
    }

    fn follow(&mut self, causes: Vec<Cause>, before: Option<&ActionRecord>) -> Result<Vec<Told>, EngineError> {
        let told = causes.into_iter().map(|cause| {
            let because = match &cause {
                Cause::Input { from, .. } => self.producer(from, before)?,
                _ => None,
            };
            Ok(Told { sentence: sentence(&cause), cause, because })
        });
        told.collect()
    }

    fn producer(&mut self, from: &str, before: Option<&ActionRecord>) -> Result<Option<Box<Explanation>>, EngineError> {
        let address = |id: &StepId| self.graph.step(*id).address.to_string() == from;
        let Some(id) = (0..self.graph.steps.len()).map(StepId).find(address) else { return Ok(None) };
        let earlier = before.map(|record| self.earlier_producer(record, id)).transpose()?.flatten();
        self.explain(id, earlier).map(|told| Some(Box::new(told)))
    }

    /// The record of this producer that an earlier result of its consumer stood on.
    fn earlier_producer(&self, consumer: &ActionRecord, id: StepId) -> Result<Option<ActionRecord>, EngineError> {
        let actions: BTreeSet<ActionKey> = consumer.ancestry.values().map(|made| made.action).collect();
        let address = &self.graph.step(id).address;
        let mut same_stage = None;
        for action in actions {
            match self.store.action(&action)? {
                Some(record) if record.step == address.to_string() => return Ok(Some(record)),
                Some(record) if record.stage == address.stage => same_stage = Some(record),
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

impl Explanation {
    /// Lines for people, indented by how far up the chain they stand.
    pub fn text(&self) -> String {
        let mut lines = Vec::new();
        self.write(0, &mut lines);
        lines.join("\n")
    }

    fn write(&self, depth: usize, lines: &mut Vec<String>) {
        let made = self.made_at.as_deref().unwrap_or("some time ago");
        let head = match (&self.verdict, self.causes.is_empty()) {
            (Verdict::Hit, _) if depth == 0 => format!("is a hit: its result was made at {made}"),
            (Verdict::Hit, true) => format!("has the result made at {made}"),
            (Verdict::Hit, false) => format!("ran at {made}"),
            (Verdict::Run, _) => "runs".into(),
            (Verdict::MayRun, _) => "may run".into(),
            (Verdict::NotNeeded, _) => "is not needed: what depends on it is in the cache".into(),
        };
        lines.push(format!("{}`{}` {head}", "  ".repeat(depth), self.step));
        for told in &self.causes {
            let line = match (&self.verdict, &told.cause) {
                (Verdict::MayRun, Cause::Input { name, from }) => format!("waits on `{from}` (input `{name}`)"),
                _ => told.sentence.clone(),
            };
            lines.push(format!("{}{line}", "  ".repeat(depth + 1)));
            if let Some(because) = &told.because {
                because.write(depth + 2, lines);
            }
        }
    }
}
