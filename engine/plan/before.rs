//! `--from STEP`: what stands before the named steps is taken from the cache. Says which of it is not there; changes
//! no plan.

use super::{Plan, State};
use crate::error::EngineError;
use crate::graph::{Graph, StepId};

/// Refuses a plan that runs what stands before the steps of `--from`.
pub fn check(graph: &Graph, plan: &Plan) -> Result<(), EngineError> {
    if graph.from.is_empty() {
        return Ok(());
    }
    let runs = |id: &StepId| matches!(plan.step(*id).state, State::Run { .. } | State::MayRun { .. });
    let missing: Vec<StepId> = before(graph, plan).into_iter().filter(runs).collect();
    let Some(first) = missing.first() else { return Ok(()) };
    let first = &graph.step(*first).address;
    let more = if missing.len() > 1 { format!(" (nor are {} more)", missing.len() - 1) } else { String::new() };
    let message =
        format!("`--from` takes what stands before its steps from the cache, and `{first}` is not there{more}");
    let hint = format!("leave `--from` out, or make it first: `plumb run {} {first}`", graph.file.display());
    Err(EngineError::Pipeline { message, hint: Some(hint) })
}

/// The ancestors of the steps of `--from` that are none of these steps and come from none of them.
fn before(graph: &Graph, plan: &Plan) -> Vec<StepId> {
    let producers = &plan.facts.producers;
    let (mut named, mut above) = (vec![false; producers.len()], vec![false; producers.len()]);
    graph.from.iter().for_each(|id| named[id.0] = true);
    // References point backwards, so one walk in each direction suffices.
    for (index, producers) in producers.iter().enumerate().rev() {
        if named[index] || above[index] {
            producers.iter().for_each(|producer| above[producer.0] = true);
        }
    }
    for (index, producers) in producers.iter().enumerate() {
        named[index] |= producers.iter().any(|producer| named[producer.0]);
    }
    (0..producers.len()).filter(|index| above[*index] && !named[*index]).map(StepId).collect()
}
