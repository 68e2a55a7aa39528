//! What each step of a past run took, read from its events.

use std::collections::BTreeMap;

use serde::Serialize;

use super::TimedEvent;
use crate::event::{Event, Spent};

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepOutcome {
    /// Its result was in the cache.
    Hit,
    /// It was running when the history ends.
    Running,
    /// It ran.
    Ran,
    /// It failed.
    Failed,
    /// It was not run.
    Skipped,
}

/// One step of a past run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepLine {
    /// Address.
    pub step: String,
    /// What became of it.
    pub outcome: StepOutcome,
    /// `noun.verb`, where it was started.
    pub kind: Option<String>,
    /// Where it ran.
    pub executor: Option<String>,
    /// How often it was started.
    pub attempts: u32,
    /// What its attempts took together.
    pub spent: Spent,
    /// Of a hit: what computing it took.
    pub saved_seconds: f64,
}

/// Every step that is told of, in the order in which it was first told of.
pub fn steps(events: &[TimedEvent]) -> Vec<StepLine> {
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    let mut lines: Vec<StepLine> = Vec::new();
    for TimedEvent { event, .. } in events {
        let Some((step, outcome)) = outcome(event) else { continue };
        let place = *places.entry(step).or_insert_with(|| {
            lines.push(StepLine::new(step, outcome));
            lines.len() - 1
        });
        lines[place].take(event, outcome);
    }
    lines
}

fn outcome(event: &Event) -> Option<(&str, StepOutcome)> {
    Some(match event {
        Event::Hit { step, .. } => (step, StepOutcome::Hit),
        Event::Started { step, .. } | Event::Retried { step, .. } => (step, StepOutcome::Running),
        Event::Finished { step, .. } => (step, StepOutcome::Ran),
        Event::Failed { step, .. } => (step, StepOutcome::Failed),
        Event::Skipped { step, .. } => (step, StepOutcome::Skipped),
        _ => return None,
    })
}

impl StepLine {
    fn new(step: &str, outcome: StepOutcome) -> Self {
        let spent = Spent::default();
        Self { step: step.into(), outcome, kind: None, executor: None, attempts: 0, spent, saved_seconds: 0.0 }
    }

    fn take(&mut self, event: &Event, outcome: StepOutcome) {
        // What an earlier turn of the run made is a hit of a later one.
        if outcome == StepOutcome::Hit && self.attempts > 0 {
            return;
        }
        self.outcome = outcome;
        match event {
            Event::Started { kind, executor, .. } => {
                self.attempts += 1;
                self.kind = Some(kind.clone());
                self.executor = Some(executor.clone()).filter(|name| !name.is_empty());
            }
            Event::Hit { saved, .. } => self.saved_seconds = saved.as_secs_f64(),
            Event::Retried { spent, .. } => self.spent = self.spent.and(spent),
            Event::Finished { took, spent, .. } | Event::Failed { took, spent, .. } => {
                // A history from before costs were kept knows the wall time only.
                let wall_only = Spent { wall_seconds: took.as_secs_f64(), ..Spent::default() };
                self.spent = self.spent.and(if *spent == Spent::default() { &wall_only } else { spent });
            }
            _ => {}
        }
    }
}
