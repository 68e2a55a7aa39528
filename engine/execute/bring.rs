//! Results that lie in layers come here: the goals, since they were asked for. What a step reads comes when it starts
//! (see `task`); what nobody reads does not come at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use plumb_cache::{ActionRecord, Origin, Store};

use super::schedule::Report;
use super::telling;
use crate::clock::Stopwatch;
use crate::error::EngineError;
use crate::event::Event;
use crate::graph::{Graph, StepId};
use crate::plan::{self, Plan, PlanOptions};
use crate::source::Tell;

/// Brings the goals that a plan found in layers. What a layer turns out not to have is planned anew.
pub(super) fn goals(
    graph: &Graph,
    store: &Store,
    options: &PlanOptions,
    plan: &mut Plan,
    sink: &mut (impl FnMut(&Event) + Send + ?Sized),
) -> Result<(), EngineError> {
    while !all(graph, store, |goal| plan.record_of(goal), sink)? {
        *plan = plan::plan_with(graph, store, options, plan.facts.clone())?;
    }
    Ok(())
}

/// Brings the goals that a round found only once their inputs had been made; `false` where a layer has one no more.
pub(super) fn late_goals(
    graph: &Graph,
    store: &Store,
    report: &Report,
    sink: &mut (impl FnMut(&Event) + Send + ?Sized),
) -> Result<bool, EngineError> {
    all(graph, store, |goal| report.records.get(&goal), sink)
}

fn all<'r>(
    graph: &Graph,
    store: &Store,
    record_of: impl Fn(StepId) -> Option<&'r Arc<ActionRecord>>,
    sink: &mut (impl FnMut(&Event) + Send + ?Sized),
) -> Result<bool, EngineError> {
    let mut whole = true;
    for goal in &graph.goals {
        let Some(record) = record_of(*goal) else { continue };
        let Some(origin) = store.origin(record) else { continue };
        let step = graph.step(*goal).address.to_string();
        whole &= telling(sink, |tell| one(store, record, step, origin, tell))?;
    }
    Ok(whole)
}

fn one(
    store: &Store,
    record: &ActionRecord,
    source: String,
    origin: Origin,
    tell: Tell<'_>,
) -> Result<bool, EngineError> {
    let Origin { layer: from, bytes: total, .. } = origin;
    let (watch, came) = (Stopwatch::start(), AtomicU64::new(0));
    let so_far = |bytes| {
        let done = came.fetch_add(bytes, Ordering::Relaxed) + bytes;
        tell(&Event::Fetching { source: source.clone(), from: from.clone(), done, total: Some(total) });
    };
    let brought = store.bring(record, &so_far)?;
    if brought {
        let bytes = came.load(Ordering::Relaxed);
        tell(&Event::Fetched { source: source.clone(), from: from.clone(), bytes, took: watch.elapsed() });
    }
    Ok(brought)
}
