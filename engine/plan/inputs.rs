//! What a step's inputs are now: the artifacts that its references mean, the action key that they make, and the
//! realisations that its record stands on. Reads records and trees, chooses none.

use std::collections::BTreeMap;
use std::sync::Arc;

use plumb_cache::{ActionKey, ActionRecord, Artifact, CacheError, Realisation, RecipeKey, Store};

use super::Facts;
use crate::error::EngineError;
use crate::graph::{Graph, Reference, StepId};
use crate::key::{self, Document};

/// A record found by action key, as this recipe sees it: with its document, its step and the producers' realisations.
pub(crate) fn as_made_here(
    graph: &Graph,
    facts: &Facts,
    id: StepId,
    record: ActionRecord,
    record_of: impl Fn(StepId) -> Option<Arc<ActionRecord>>,
) -> ActionRecord {
    let address = &graph.step(id).address;
    ActionRecord {
        recipe: facts.recipe(id),
        recipe_document: facts.recipe_document(id).to_string(),
        ancestry: ancestry(facts, id, record_of),
        step: address.to_string(),
        stage: address.stage.clone(),
        pipeline: graph.name.clone(),
        ..record
    }
}

/// The realisations of a step's producers.
pub(crate) fn ancestry(
    facts: &Facts,
    id: StepId,
    record_of: impl Fn(StepId) -> Option<Arc<ActionRecord>>,
) -> BTreeMap<RecipeKey, Realisation> {
    let producers = facts.producers[id.0].iter();
    producers.filter_map(|producer| Some((facts.recipe(*producer), record_of(*producer)?.realisation()))).collect()
}

/// Why an action key cannot be made.
pub(crate) enum Trouble {
    /// A folder that an input points into is gone from the cache.
    Lost {
        /// The step that made it.
        producer: StepId,
        /// Its output.
        output: String,
    },
    /// Anything else.
    Error(EngineError),
}

/// The artifact that a reference means; `None` where its step has no result.
pub(crate) fn artifact(
    graph: &Graph,
    store: &Store,
    facts: &Facts,
    reference: &Reference,
    record_of: impl Fn(StepId) -> Option<Arc<ActionRecord>>,
) -> Result<Option<Artifact>, Trouble> {
    let (step, output, subpath) = match reference {
        Reference::Source { source, subpath } => return Ok(Some(facts.source(*source, subpath))),
        Reference::Step { step, output, subpath } => (*step, output, subpath),
    };
    let Some(record) = record_of(step) else { return Ok(None) };
    let address = &graph.step(step).address;
    let Some(made) = record.outputs.get(output) else {
        let message = format!("the record of `{address}` has no output `{output}`");
        return Err(Trouble::Error(EngineError::Bug(message)));
    };
    let Some(subpath) = subpath else { return Ok(Some(made.artifact)) };
    let look = || store.subpath(&made.artifact, subpath);
    let found = match look() {
        // What a folder holds is known once it is here.
        Err(error) if error.is_miss() && store.is_offered(&record) => match store.bring(&record, &|_| {}) {
            Ok(true) => look(),
            Ok(false) => Err(error),
            Err(error) => return Err(Trouble::Error(error.into())),
        },
        found => found,
    };
    found.map(Some).map_err(|error| match error {
        error if error.is_miss() => Trouble::Lost { producer: step, output: output.clone() },
        CacheError::NoSuchPath { .. } | CacheError::WrongKind { .. } => Trouble::Error(EngineError::Pipeline {
            message: format!("`{address}.{output}` holds no `{subpath}`"),
            hint: Some(format!("`plumb open {} {address}.{output}` says where it lies", graph.file.display())),
        }),
        error => Trouble::Error(error.into()),
    })
}

/// The action key of a step whose producers all have a result (or are marked as missing).
pub(crate) fn action(
    graph: &Graph,
    store: &Store,
    facts: &Facts,
    id: StepId,
    record_of: impl Fn(StepId) -> Option<Arc<ActionRecord>>,
) -> Result<(ActionKey, Document), Trouble> {
    let mut trouble = None;
    let keyed = key::action_document(graph.step(id), facts.frame(id), |reference| {
        artifact(graph, store, facts, reference, &record_of).unwrap_or_else(|error| {
            trouble.get_or_insert(error);
            None
        })
    });
    trouble.map_or(Ok(keyed), Err)
}
