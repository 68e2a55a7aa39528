//! Makes a plan: looks down from the goals by recipe key, then up by action key, until nothing that is needed turns
//! out to lack its bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use plumb_cache::{
    ActionKey, ActionRecord, Artifact, Disowned, Loss, Mark, Realisation, RecipeKey, Recollection, Store,
};
use rayon::prelude::*;

use super::inputs::{Trouble, action, as_made_here};
use super::realise::{Agreement, Lineages};
use super::{Facts, Plan, PlanOptions, PlannedStep, State, references};
use crate::clock;
use crate::error::EngineError;
use crate::event::Cause;
use crate::explain::Past;
use crate::graph::{Graph, Reference, StepId};
use crate::key::Document;
use crate::upstream::untrusted;

/// So many records are worth remembering.
const MANY: usize = 100;

pub(super) fn resolve(
    graph: &Graph,
    store: &Store,
    options: &PlanOptions,
    facts: Arc<Facts>,
) -> Result<Plan, EngineError> {
    let mut resolver = Resolver {
        graph,
        store,
        options,
        facts: &facts,
        lineages: Lineages::new(store, &facts, &graph.name)?,
        recollection: None,
        candidates: BTreeMap::new(),
        present: BTreeMap::new(),
        lost: BTreeMap::new(),
        refused: BTreeMap::new(),
        disowned: BTreeMap::new(),
    };
    let mut draft = resolver.pass()?;
    while resolver.find_lost(&draft)? {
        draft = resolver.pass()?;
    }
    resolver.look_at_the_rest(&mut draft)?;
    resolver.lineages.keep();
    resolver.keep_recollection();
    let steps = resolver.tell(&draft)?;
    let disowned = resolver.disowned_waiting(&steps)?;
    Ok(Plan { steps, chosen: draft.chosen, by_action: draft.by_action, disowned, facts })
}

/// What a pass found for a step.
#[derive(Debug, Clone)]
enum Found {
    Hit { record: Arc<ActionRecord> },
    Run { action: Option<ActionKey>, document: Document },
    MayRun { waits_on: Vec<StepId> },
}

#[derive(Debug)]
struct Draft {
    steps: Vec<Option<Found>>,
    needed: Vec<bool>,
    chosen: BTreeMap<RecipeKey, Realisation>,
    by_action: Vec<StepId>,
}

struct Resolver<'a> {
    graph: &'a Graph,
    store: &'a Store,
    options: &'a PlanOptions,
    facts: &'a Facts,
    lineages: Lineages<'a>,
    /// Once many records were asked for at a time.
    recollection: Option<Recollection>,
    /// Records by recipe, of every step that was looked up.
    candidates: BTreeMap<StepId, Vec<Arc<ActionRecord>>>,
    present: BTreeMap<Artifact, bool>,
    /// Steps whose record is there and whose bytes are needed and gone; with the output.
    lost: BTreeMap<StepId, String>,
    /// Steps whose records stand on other realisations; with the ancestor.
    refused: BTreeMap<StepId, StepId>,
    /// Steps whose records stand on a disowned result; with the ancestor and its mark.
    disowned: BTreeMap<StepId, (StepId, Disowned)>,
}

impl Resolver<'_> {
    fn pass(&mut self) -> Result<Draft, EngineError> {
        loop {
            let (needed, picked) = self.look_down()?;
            if self.lineages.hear_marks()? {
                continue;
            }
            let Agreement { chosen, records, refused } = self.lineages.agree(&self.options.chosen, &picked)?;
            if refused.is_empty() {
                let mut draft =
                    Draft { steps: vec![None; self.graph.steps.len()], needed, chosen, by_action: Vec::new() };
                for (id, record) in records {
                    draft.steps[id.0] = Some(Found::Hit { record });
                }
                self.resolve_up(&mut draft)?;
                if self.lineages.hear_marks()? {
                    continue;
                }
                return Ok(draft);
            }
            self.refused.extend(refused);
        }
    }

    /// Round by round from the goals: what has a record by recipe needs nothing upstream.
    #[expect(clippy::type_complexity, reason = "two halves of one answer, taken apart at once")]
    fn look_down(&mut self) -> Result<(Vec<bool>, BTreeMap<StepId, Vec<Arc<ActionRecord>>>), EngineError> {
        let mut needed = vec![false; self.graph.steps.len()];
        let mut picked = BTreeMap::new();
        let mut round: BTreeSet<StepId> = self.graph.goals.iter().copied().collect();
        while !round.is_empty() {
            self.look_up_recipes(&round)?;
            self.ask_layers(&round)?;
            self.leave_out_disowned(&round)?;
            let mut next = BTreeSet::new();
            for id in round {
                needed[id.0] = true;
                let usable = self.usable(id);
                if usable.is_empty() {
                    next.extend(self.facts.producers[id.0].iter().filter(|producer| !needed[producer.0]));
                } else {
                    picked.insert(id, usable);
                }
            }
            round = next;
        }
        Ok((needed, picked))
    }

    fn look_up_recipes(&mut self, ids: &BTreeSet<StepId>) -> Result<(), EngineError> {
        let unknown: Vec<StepId> = ids.iter().copied().filter(|id| !self.candidates.contains_key(id)).collect();
        let recipes: Vec<RecipeKey> = unknown.iter().map(|id| self.facts.recipe(*id)).collect();
        let found = match recipes.len() {
            few if few < MANY => self.store.recipes(&recipes)?,
            _ => {
                let remember = || self.store.recollection(&self.graph.name);
                self.store.recalled(&recipes, self.recollection.get_or_insert_with(remember))?
            }
        };
        for (id, records) in unknown.into_iter().zip(found) {
            // The index only points: a record counts if it was made for this very document.
            let document = self.facts.recipe_document(id);
            let records = records.into_iter().filter(|record| record.recipe_document == document);
            self.candidates.insert(id, records.map(Arc::new).collect());
        }
        Ok(())
    }

    /// What is not here may lie in a layer. Only what is needed is asked for.
    fn ask_layers(&mut self, ids: &BTreeSet<StepId>) -> Result<(), EngineError> {
        let asks = |id: &StepId| !self.options.fresh.contains(id) && self.candidates.get(id).is_some_and(Vec::is_empty);
        let asking: Vec<StepId> = ids.iter().copied().filter(asks).collect();
        let recipes: Vec<RecipeKey> = asking.iter().map(|id| self.facts.recipe(*id)).collect();
        for (id, offered) in asking.into_iter().zip(self.store.offers_of(&recipes)?) {
            let document = self.facts.recipe_document(id);
            let offered = offered.into_iter().filter(|record| record.recipe_document == document);
            self.candidates.insert(id, offered.map(Arc::new).collect());
        }
        Ok(())
    }

    /// For the next plan. A memory that cannot be written costs time, nothing else.
    fn keep_recollection(&self) {
        let kept = self.recollection.as_ref().map(|kept| self.store.keep_recollection(&self.graph.name, kept));
        if let Some(Err(error)) = kept {
            tracing::warn!("{error}");
        }
    }

    /// Records that were made from a disowned result are no candidates.
    fn leave_out_disowned(&mut self, ids: &BTreeSet<StepId>) -> Result<(), EngineError> {
        if !self.lineages.any_disowned() {
            return Ok(());
        }
        for id in ids {
            let Some(candidates) = self.candidates.remove(id) else { continue };
            let mut kept = Vec::new();
            for record in candidates {
                match self.lineages.disowned_ancestor(*id, &record)? {
                    Some(ancestor) => drop(self.disowned.insert(*id, ancestor)),
                    None => kept.push(record),
                }
            }
            self.candidates.insert(*id, kept);
        }
        Ok(())
    }

    fn usable(&self, id: StepId) -> Vec<Arc<ActionRecord>> {
        let out = self.options.fresh.contains(&id) || self.lost.contains_key(&id) || self.refused.contains_key(&id);
        let chosen = self.options.chosen.get(&self.facts.recipe(id));
        let agrees = |record: &&Arc<ActionRecord>| chosen.is_none_or(|chosen| chosen.result == record.result_digest());
        if out { Vec::new() } else { self.candidates[&id].iter().filter(agrees).cloned().collect() }
    }

    /// In the graph's order, what is needed and has no record by recipe: by action key, where the inputs are known.
    fn resolve_up(&mut self, draft: &mut Draft) -> Result<(), EngineError> {
        for index in 0..draft.steps.len() {
            if draft.needed[index] && draft.steps[index].is_none() {
                let found = self.resolve_one(StepId(index), draft)?;
                if let Found::Hit { record } = &found {
                    draft.chosen.insert(self.facts.recipe(StepId(index)), record.realisation());
                    draft.by_action.push(StepId(index));
                }
                draft.steps[index] = Some(found);
            }
        }
        Ok(())
    }

    fn resolve_one(&mut self, id: StepId, draft: &Draft) -> Result<Found, EngineError> {
        let hit = |producer: &StepId| matches!(draft.steps[producer.0], Some(Found::Hit { .. }));
        let waits_on: Vec<StepId> =
            self.facts.producers[id.0].iter().filter(|producer| !hit(producer)).copied().collect();
        if self.options.fresh.contains(&id) && !waits_on.is_empty() {
            return Ok(Found::Run { action: None, document: String::new() });
        }
        if !waits_on.is_empty() {
            return Ok(Found::MayRun { waits_on });
        }
        let record_of = |producer: StepId| match &draft.steps[producer.0] {
            Some(Found::Hit { record }) => Some(record.clone()),
            _ => None,
        };
        let (action, document) = match action(self.graph, self.store, self.facts, id, record_of) {
            Ok(keyed) => keyed,
            Err(Trouble::Lost { producer, output }) => {
                // Found again by `find_lost`, which has the next pass run the producer.
                self.lost.insert(producer, output);
                return Ok(Found::MayRun { waits_on: vec![producer] });
            }
            Err(Trouble::Error(error)) => return Err(error),
        };
        let looks = !self.options.fresh.contains(&id) && !self.lost.contains_key(&id);
        let record = match looks {
            true => {
                self.store.action(&action)?.map_or_else(|| self.store.offer_of(&action), |record| Ok(Some(record)))?
            }
            false => None,
        };
        let chosen = draft.chosen.get(&self.facts.recipe(id));
        let record = record.filter(|record| chosen.is_none_or(|chosen| chosen.result == record.result_digest()));
        let hit = |record| Found::Hit { record: Arc::new(as_made_here(self.graph, self.facts, id, record, record_of)) };
        Ok(record.map_or(Found::Run { action: Some(action), document }, hit))
    }

    /// Notes the hits whose bytes are needed and gone: goals, and what a running step reads. Says whether any is new.
    fn find_lost(&mut self, draft: &Draft) -> Result<bool, EngineError> {
        let before = self.lost.len();
        let mut asked: BTreeMap<StepId, Option<BTreeSet<&str>>> = BTreeMap::new();
        asked.extend(self.graph.goals.iter().map(|goal| (*goal, None)));
        for (index, found) in draft.steps.iter().enumerate() {
            if !matches!(found, Some(Found::Run { .. })) {
                continue;
            }
            for (reference, _) in self.graph.steps[index].inputs.values().flat_map(references) {
                if let Reference::Step { step, output, .. } = reference
                    && let Some(outputs) = asked.entry(*step).or_insert_with(|| Some(BTreeSet::new()))
                {
                    outputs.insert(output);
                }
            }
        }
        let mut wanted: Vec<(StepId, String, Artifact)> = Vec::new();
        for (id, names) in asked {
            let Some(Found::Hit { record }) = &draft.steps[id.0] else { continue };
            if self.store.is_offered(record) {
                continue;
            }
            let asked = record.outputs.iter().filter(|(name, output)| {
                names.as_ref().map_or(!output.diagnostic, |names| names.contains(name.as_str()))
            });
            wanted.extend(asked.map(|(name, output)| (id, name.clone(), output.artifact)));
        }
        self.look_at_bytes(&wanted);
        for (id, output, artifact) in wanted {
            if !self.present[&artifact] && !self.is_in_a_layer(id, draft)? {
                self.lost.entry(id).or_insert(output);
            }
        }
        // A producer that `resolve_one` found lost is new too, if this draft still counts on it.
        let counted = self.lost.keys().any(|id| matches!(draft.steps[id.0], Some(Found::Hit { .. })));
        Ok(self.lost.len() > before || counted)
    }

    /// Whether bytes that are gone here lie in a layer.
    fn is_in_a_layer(&self, id: StepId, draft: &Draft) -> Result<bool, EngineError> {
        let Some(Found::Hit { record }) = &draft.steps[id.0] else { return Ok(false) };
        self.store.offers(&self.facts.recipe(id))?;
        Ok(self.store.is_offered(record))
    }

    fn look_at_bytes(&mut self, wanted: &[(StepId, String, Artifact)]) {
        let unknown: BTreeSet<Artifact> =
            wanted.iter().map(|(_, _, artifact)| *artifact).filter(|one| !self.present.contains_key(one)).collect();
        let store = self.store;
        self.present.par_extend(unknown.into_par_iter().map(|artifact| (artifact, store.present(&artifact))));
    }

    /// What nobody needs, for tables and the time saved.
    fn look_at_the_rest(&mut self, draft: &mut Draft) -> Result<(), EngineError> {
        if self.graph.steps.len() > self.options.look_at_all_up_to {
            return Ok(());
        }
        let rest: BTreeSet<StepId> = (0..draft.steps.len())
            .map(StepId)
            .filter(|id| self.facts.wanted[id.0] && draft.steps[id.0].is_none())
            .collect();
        self.look_up_recipes(&rest)?;
        for id in rest {
            let chosen = draft.chosen.get(&self.facts.recipe(id));
            let agrees = |record: &&Arc<ActionRecord>| chosen.is_none_or(|chosen| *chosen == record.realisation());
            if let Some(record) = self.candidates[&id].iter().find(agrees) {
                draft.steps[id.0] = Some(Found::Hit { record: record.clone() });
            }
        }
        Ok(())
    }

    fn tell(&self, draft: &Draft) -> Result<Vec<PlannedStep>, EngineError> {
        let past = Past::new(self.store, &self.graph.name);
        let told = draft.steps.iter().enumerate().map(|(index, found)| {
            let id = StepId(index);
            let (state, action) = match found {
                None => (State::NotNeeded, None),
                Some(Found::Hit { record }) => (State::Hit { record: record.clone() }, Some(record.action)),
                Some(Found::MayRun { waits_on }) => (State::MayRun { waits_on: waits_on.clone() }, None),
                Some(Found::Run { action, document }) => {
                    (State::Run { why: self.why(&past, id, *action, document)? }, *action)
                }
            };
            Ok(PlannedStep { id, state, needed: draft.needed[index], action })
        });
        told.collect()
    }

    /// Why steps that wait have no result, where a mark is why.
    fn disowned_waiting(&self, steps: &[PlannedStep]) -> Result<BTreeMap<StepId, Cause>, EngineError> {
        let mut causes = BTreeMap::new();
        if !self.lineages.any_disowned() {
            return Ok(causes);
        }
        for step in steps.iter().filter(|step| matches!(step.state, State::MayRun { .. })) {
            let cause = match self.store.mark_on_recipe(&self.facts.recipe(step.id))? {
                Some(mark) => Some(disowned(None, mark)),
                None => self.disowned.get(&step.id).map(|(ancestor, mark)| {
                    disowned(Some(self.graph.step(*ancestor).address.to_string()), mark.clone())
                }),
            };
            causes.extend(cause.map(|cause| (step.id, cause)));
        }
        Ok(causes)
    }

    fn why(
        &self,
        past: &Past<'_>,
        id: StepId,
        action: Option<ActionKey>,
        document: &str,
    ) -> Result<Vec<Cause>, EngineError> {
        if self.options.fresh.contains(&id) {
            return Ok(vec![Cause::Fresh]);
        }
        if let Some(Loss { layer, output, .. }) = self.store.layer_lost(&self.facts.recipe(id)) {
            return Ok(vec![Cause::LayerLost { layer, output }]);
        }
        if let Some(output) = self.lost.get(&id) {
            return Ok(vec![Cause::MissingBlob { output: output.clone() }]);
        }
        if let Some(ancestor) = self.refused.get(&id) {
            let ancestor = self.graph.step(*ancestor).address.to_string();
            return Ok(vec![Cause::Realisation { ancestor }]);
        }
        if let Some(action) = action
            && let Some(mark) = self.store.mark_on(&action)?
        {
            return Ok(vec![disowned(None, mark)]);
        }
        if let Some((ancestor, mark)) = self.disowned.get(&id) {
            let ancestor = self.graph.step(*ancestor).address.to_string();
            return Ok(vec![disowned(Some(ancestor), mark.clone())]);
        }
        if let Some(at) = action.and_then(|action| self.store.collected_at(&action)) {
            return Ok(vec![Cause::Collected { at: clock::at(at) }]);
        }
        let mut causes = past.causes(self.graph, id, document)?;
        causes.splice(0..0, untrusted(self.store, &self.facts.recipe(id)));
        Ok(causes)
    }
}

fn disowned(ancestor: Option<String>, Disowned { mark, .. }: Disowned) -> Cause {
    let Mark { reason, by, at } = mark;
    Cause::Disowned { ancestor, reason, by, at }
}
