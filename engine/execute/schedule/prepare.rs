//! Ready -> Queued: the key of a step whose inputs are made, and whether its action is in the cache after all.

use plumb_cache::{ActionRecord, Cost, RECORD_FORMAT};

use super::{Phase, Queued, Scheduler};
use crate::error::EngineError;
use crate::event::{Cause, Event};
use crate::graph::StepId;
use crate::key::Document;
use crate::maker;
use crate::plan::inputs::{self, Trouble};
use crate::plan::took;

impl Scheduler<'_, '_, '_> {
    /// Ready -> Queued, or straight to Done if the action is in the cache.
    pub(super) fn prepare(&mut self, id: StepId) -> Result<(), EngineError> {
        let Some(draft) = self.draft(id)? else { return Ok(()) };
        let hold = self.round.store.hold()?;
        if let Some(record) = self.look_up(id, &draft)? {
            return self.hit(id, record);
        }
        drop(hold);
        let why = self.why(id, &draft.action_document)?;
        let before = self.past.nearest_but(self.round.graph.step(id), "")?.map(|record| record.result_digest());
        self.board.put(id, Phase::Queued);
        let not_before = std::time::Duration::ZERO;
        let queued = Queued { draft, why, before, attempt: 1, holder: None, not_before, passed_by: 0, told: false };
        self.queue.put(id, queued);
        Ok(())
    }

    /// The record without what only its run can tell. `None`: the step failed, or has to be planned again.
    fn draft(&mut self, id: StepId) -> Result<Option<ActionRecord>, EngineError> {
        let graph = self.round.graph;
        let records = &self.report.records;
        let record_of = |producer: StepId| records.get(&producer).cloned();
        let (action, document) = match inputs::action(graph, self.round.store, &self.facts, id, record_of) {
            Ok(keyed) => keyed,
            Err(Trouble::Lost { .. }) => {
                self.defer(id);
                return Ok(None);
            }
            Err(Trouble::Error(error @ EngineError::Pipeline { .. })) => {
                self.fail_unstarted(id, error.to_string(), error.hint());
                return Ok(None);
            }
            Err(Trouble::Error(error)) => return Err(error),
        };
        let address = &graph.step(id).address;
        Ok(Some(ActionRecord {
            format: RECORD_FORMAT,
            action,
            recipe: self.facts.recipe(id),
            action_document: document,
            recipe_document: self.facts.recipe_document(id).to_string(),
            outputs: std::collections::BTreeMap::new(),
            ancestry: inputs::ancestry(&self.facts, id, record_of),
            cost: Cost::default(),
            environment: std::collections::BTreeMap::new(),
            step: address.to_string(),
            stage: address.stage.clone(),
            pipeline: graph.name.clone(),
            made_at: String::new(),
            made_by: maker::name(),
        }))
    }

    /// The record of an action whose bytes are all there and that agrees with the run's realisations.
    pub(super) fn look_up(&self, id: StepId, draft: &ActionRecord) -> Result<Option<ActionRecord>, EngineError> {
        if self.round.fresh.contains(&id) {
            return Ok(None);
        }
        let chosen = self.chosen.get(&draft.recipe);
        let store = self.round.store;
        let record = store.action(&draft.action)?.map_or_else(|| store.offer_of(&draft.action), |it| Ok(Some(it)))?;
        let record = record.filter(|record| chosen.is_none_or(|chosen| chosen.result == record.result_digest()));
        Ok(record.filter(|record| {
            let mut results = record.outputs.values().filter(|output| !output.diagnostic);
            store.is_offered(record) || results.all(|output| store.present(&output.artifact))
        }))
    }

    fn why(&self, id: StepId, document: &Document) -> Result<Vec<Cause>, EngineError> {
        if self.round.fresh.contains(&id) {
            return Ok(vec![Cause::Fresh]);
        }
        if let Some(why) = self.teller.planned_why(id) {
            return Ok(why);
        }
        self.past.causes(self.round.graph, id, document)
    }

    /// Found once its inputs were made. Publishing it again under this recipe lets the next plan find it at once.
    pub(super) fn hit(&mut self, id: StepId, record: ActionRecord) -> Result<(), EngineError> {
        let records = &self.report.records;
        let record_of = |producer: StepId| records.get(&producer).cloned();
        let record = inputs::as_made_here(self.round.graph, &self.facts, id, record, record_of);
        match self.round.store.publish(&record) {
            // It lies in a layer, and comes when somebody needs it.
            Err(error) if error.is_miss() && self.round.store.is_offered(&record) => {}
            published => drop(published?),
        }
        let saved = took(&record);
        self.report.late_hits.insert(id);
        self.teller.tell(&Event::Hit { step: record.step.clone(), saved, after_inputs: true });
        self.done(id, record);
        Ok(())
    }
}
