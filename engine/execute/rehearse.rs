//! One step once more, aside: in a scratch folder of its own, with no state from before, and nothing published.

use std::collections::BTreeMap;
use std::sync::Arc;

use plumb_cache::{ActionRecord, Store};

use super::RunOptions;
use super::machine::Machine;
use super::needs::Needs;
use super::task::Aside;
use crate::error::EngineError;
use crate::graph::{Graph, StepId};
use crate::maker;
use crate::plan::Plan;
use crate::plan::inputs::{self, Trouble};

/// What came of it.
pub enum Rehearsal {
    /// What it made; the blobs are stored, the record is nobody's.
    Made(Box<ActionRecord>),
    /// It failed.
    Failed {
        /// What went wrong.
        error: String,
        /// What the user can do.
        hint: Option<String>,
    },
}

/// Runs a step whose record is `canonical` again. The plan's goals must be the step and its producers.
pub fn rehearse(
    graph: &Graph,
    plan: &Plan,
    store: &Store,
    id: StepId,
    canonical: &ActionRecord,
    options: &RunOptions,
) -> Result<Rehearsal, EngineError> {
    let step = graph.step(id);
    let records = inputs(graph, plan, store, id, canonical)?;
    let needs = Needs { graph, store, facts: &plan.facts, records: &records };
    let own = options.own_program.clone().map_or_else(std::env::current_exe, Ok);
    let log = store.logs_folder().join(format!("verify-{}.log", canonical.action));
    // The log of an earlier verification; this one appends to nothing.
    let _ = std::fs::remove_file(&log);
    let machine = Machine::find(&options.limits, store.root(), std::iter::once(&step.run));
    let draft = ActionRecord { outputs: BTreeMap::new(), made_by: maker::name(), ..canonical.clone() };
    let gpus = machine.gpus.iter().take(machine.gpus_for(&step.run)).cloned().collect();
    let own = own.map_err(EngineError::io("find", "this program".as_ref()))?;
    let task = needs.task(step, draft, gpus, log.clone(), own);
    match task.aside(store, options.executor.as_ref(), &options.stop) {
        Aside::Made(record) => Ok(Rehearsal::Made(record)),
        Aside::Failed { error, hint } => {
            let hint = hint.or_else(|| log.exists().then(|| format!("its log is {}", log.display())));
            Ok(Rehearsal::Failed { error, hint })
        }
        Aside::Broken(error) => Err(error),
    }
}

/// The producers' records, which must be those that the canonical result was made from.
fn inputs(
    graph: &Graph,
    plan: &Plan,
    store: &Store,
    id: StepId,
    canonical: &ActionRecord,
) -> Result<BTreeMap<StepId, Arc<ActionRecord>>, EngineError> {
    let gone = |producer: StepId| {
        let address = &graph.step(producer).address;
        EngineError::NoResult {
            message: format!(
                "an input of `{}` is not in the cache any more: the result of `{address}`",
                graph.step(id).address
            ),
            hint: Some(format!("make it with `plumb run {} {address}`", graph.file.display())),
        }
    };
    let mut records = BTreeMap::new();
    for producer in &plan.facts.producers[id.0] {
        let record = plan.record_of(*producer).ok_or_else(|| gone(*producer))?;
        records.insert(*producer, record.clone());
    }
    let keyed = inputs::action(graph, store, &plan.facts, id, |producer| records.get(&producer).cloned());
    match keyed {
        Ok((action, _)) if action == canonical.action => Ok(records),
        Ok(_) => Err(EngineError::NoResult {
            message: format!("`{}` was made from other results than this cache now holds", graph.step(id).address),
            hint: Some(format!(
                "`plumb run {} --fresh {}` makes it anew",
                graph.file.display(),
                graph.step(id).address
            )),
        }),
        Err(Trouble::Lost { producer, .. }) => Err(gone(producer)),
        Err(Trouble::Error(error)) => Err(error),
    }
}
