//! Where the hits of a plan would come from, and how many bytes that is.

use std::collections::BTreeMap;

use plumb_cache::{Origin, Store};
use plumb_engine::graph::StepId;
use plumb_engine::plan::Plan;

use crate::units;

/// The layer that a hit would come from; `None` where it is here.
pub fn of(plan: &Plan, store: &Store, id: StepId) -> Option<Origin> {
    store.origin(plan.record_of(id)?)
}

/// What is told of a hit, with where it would come from.
pub fn told(reason: String, origin: Option<Origin>) -> String {
    match origin {
        Some(Origin { layer, signer, bytes }) => {
            format!("{reason}; in `{layer}` ({}), signed by {signer}", units::size(bytes))
        }
        None => reason,
    }
}

/// One line for each layer that something would come from.
pub fn lines(plan: &Plan, store: &Store) -> Vec<String> {
    let mut layers: BTreeMap<String, (usize, u64)> = BTreeMap::new();
    for Origin { layer, bytes, .. } in plan.steps.iter().filter_map(|step| of(plan, store, step.id)) {
        let (count, sum) = layers.entry(layer).or_default();
        (*count, *sum) = (*count + 1, *sum + bytes);
    }
    let line = |(layer, (count, bytes)): (String, (usize, u64))| {
        format!("of these, {} from `{layer}` ({} at most)", units::plural(count, "step"), units::size(bytes))
    };
    layers.into_iter().map(line).collect()
}
