//! Results that lie in layers come here: the goals, since they were asked for. What a step reads comes when it starts
//! (see `task`); what nobody reads does not come at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use plumb_cache::{ActionRecord, CacheError, Origin, Store};

use super::schedule::Report;
use super::stop::Stop;
use super::telling;
use crate::clock::Stopwatch;
use crate::error::EngineError;
use crate::event::Event;
use crate::graph::{Graph, StepId};
use crate::plan::{self, Plan, PlanOptions};
use crate::source::Tell;

/// How often it is told how far it is, at least.
const TICK: Duration = Duration::from_secs(1);

/// Brings the goals that a plan found in layers. What a layer turns out not to have is planned anew.
pub(super) fn goals(
    graph: &Graph,
    store: &Store,
    options: &PlanOptions,
    plan: &mut Plan,
    sink: &mut (impl FnMut(&Event) + Send + ?Sized),
) -> Result<(), EngineError> {
    while !stopped(all(graph, store, |goal| plan.record_of(goal), sink))? {
        *plan = plan::plan_with(graph, store, options, plan.facts.clone())?;
    }
    Ok(())
}

/// A run that is stopped waits for nothing, and starts nothing that would miss it.
fn stopped(whole: Result<bool, EngineError>) -> Result<bool, EngineError> {
    match whole {
        Err(EngineError::Cache(CacheError::Stopped)) => Ok(true),
        whole => whole,
    }
}

/// From when the run is stopped, no layer is waited for.
pub(super) async fn heed(store: Store, stop: Stop) {
    let mut asked = stop.listen();
    while !stop.is_asked() {
        if asked.changed().await.is_err() {
            return;
        }
    }
    store.ask_no_more();
}

/// Brings what a step reads, if it lies in a layer; `false` where that has it no more.
pub(super) fn input(store: &Store, record: &ActionRecord, tell: Tell<'_>) -> Result<bool, EngineError> {
    match store.origin(record) {
        Some(origin) => one(store, record, record.step.clone(), origin, tell),
        // Another step may have brought it, or found that it is lost.
        None => Ok(store.bring(record, &|_| {})?),
    }
}

/// Brings the goals that a round found only once their inputs had been made; `false` where a layer has one no more.
pub(super) fn late_goals(
    graph: &Graph,
    store: &Store,
    report: &Report,
    sink: &mut (impl FnMut(&Event) + Send + ?Sized),
) -> Result<bool, EngineError> {
    stopped(all(graph, store, |goal| report.records.get(&goal), sink))
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
    let so_far = || {
        // A blob that came twice, since the line was cut, counts once.
        let done = came.load(Ordering::Relaxed).min(total);
        tell(&Event::Fetching { source: source.clone(), from: from.clone(), done, total: Some(total) });
    };
    let progress = |bytes| {
        came.fetch_add(bytes, Ordering::Relaxed);
        so_far();
    };
    so_far();
    let (over, waiting) = mpsc::channel::<()>();
    let brought = std::thread::scope(|scope| {
        // A layer that is silent for long is told as well.
        scope.spawn(|| {
            let waiting = waiting;
            while waiting.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                so_far();
            }
        });
        let brought = store.bring(record, &progress);
        drop(over);
        brought
    })?;
    if brought {
        let bytes = came.load(Ordering::Relaxed);
        tell(&Event::Fetched { source: source.clone(), from: from.clone(), bytes, took: watch.elapsed() });
    }
    Ok(brought)
}
