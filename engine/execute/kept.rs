//! What a run uses is listed in the cache, so that a collector takes nothing of it while the run goes on, and the
//! results of the last runs stay. Says nothing of how long.

use std::sync::Arc;

use plumb_cache::{Store, Uses};

use crate::error::EngineError;
use crate::graph::Graph;
use crate::plan::Plan;

/// The list of one run; a cache that cannot be written has none.
pub(super) struct Kept {
    uses: Option<Arc<Uses>>,
}

impl Kept {
    /// Starts the list of a run, and registers its pipeline file with the lock file beside it.
    pub(super) fn start(store: &Store, graph: &Graph, run: Option<&str>) -> Result<Kept, EngineError> {
        let Some(run) = run else { return Ok(Kept { uses: None }) };
        store.register_project(&graph.file, &graph.file.with_extension("lock"))?;
        Ok(Kept { uses: Some(store.uses(run, &graph.file)?) })
    }

    /// Lists what a plan found; whoever made it holds the gate since before.
    pub(super) fn list(&self, plan: &Plan) -> Result<(), EngineError> {
        let Some(uses) = &self.uses else { return Ok(()) };
        uses.add_sources(plan.facts.sources.values().map(|artifact| artifact.digest))?;
        uses.add(plan.steps.iter().filter_map(|step| plan.record_of(step.id)).map(|record| record.action))?;
        Ok(())
    }
}
