//! One realisation per recipe: collects the realisations that the lineages of several hits stand on, and refuses
//! hits that would mix two. A record names those of its direct producers; theirs are in their own records, which
//! are followed along the graph, as the producer's recipe sees them. A witness or an evicted record ends the walk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use plumb_cache::{ActionKey, ActionRecord, CacheError, Realisation, RecipeKey, Store};
use rayon::prelude::*;

use super::Facts;
use crate::graph::StepId;

/// Recipe -> the distinct results that it has in some lineage, with the step it stands for.
type Lineage = BTreeMap<RecipeKey, Vec<(StepId, Realisation)>>;

/// What can be used together.
#[derive(Debug, Default)]
pub(super) struct Agreement {
    /// One realisation for each recipe.
    pub(super) chosen: BTreeMap<RecipeKey, Realisation>,
    /// The record for each step that is a hit.
    pub(super) records: BTreeMap<StepId, Arc<ActionRecord>>,
    /// Steps whose every record stands on another realisation of an ancestor.
    pub(super) refused: BTreeMap<StepId, StepId>,
}

/// Follows lineages; remembers every record it read.
#[derive(Debug)]
pub(super) struct Lineages<'a> {
    store: &'a Store,
    facts: &'a Facts,
    /// By recipe, since one action can be made under several.
    read: BTreeMap<(RecipeKey, ActionKey), Option<Arc<ActionRecord>>>,
}

impl<'a> Lineages<'a> {
    pub(super) fn new(store: &'a Store, facts: &'a Facts) -> Self {
        Self { store, facts, read: BTreeMap::new() }
    }

    /// Picks one record for each step so that all agree with `chosen` and with each other; candidates come in the
    /// order in which they are preferred.
    pub(super) fn agree(
        &mut self,
        chosen: &BTreeMap<RecipeKey, Realisation>,
        candidates: &BTreeMap<StepId, Vec<Arc<ActionRecord>>>,
    ) -> Result<Agreement, CacheError> {
        let first: Vec<(StepId, Arc<ActionRecord>)> =
            candidates.iter().filter_map(|(id, records)| Some((*id, records.first()?.clone()))).collect();
        if let [(id, record)] = &first[..]
            && chosen.is_empty()
        {
            // A record agrees with itself: nothing upstream of a single hit is read.
            let chosen = BTreeMap::from([(self.facts.recipe(*id), record.realisation())]);
            return Ok(Agreement { chosen, records: first.into_iter().collect(), refused: BTreeMap::new() });
        }
        let lineage = self.lineage(&first)?;
        if lineage.iter().all(|(recipe, found)| found.len() == 1 && agrees(chosen, *recipe, found)) {
            let mut all = chosen.clone();
            all.extend(lineage.into_iter().map(|(recipe, found)| (recipe, found[0].1)));
            return Ok(Agreement { chosen: all, records: first.into_iter().collect(), refused: BTreeMap::new() });
        }
        self.agree_one_by_one(chosen, candidates)
    }

    fn agree_one_by_one(
        &mut self,
        chosen: &BTreeMap<RecipeKey, Realisation>,
        candidates: &BTreeMap<StepId, Vec<Arc<ActionRecord>>>,
    ) -> Result<Agreement, CacheError> {
        let mut agreement = Agreement { chosen: chosen.clone(), ..Agreement::default() };
        for (id, records) in candidates {
            let mut conflict = *id;
            for record in records {
                let lineage = self.lineage(&[(*id, record.clone())])?;
                match lineage.iter().find(|(recipe, found)| !agrees(&agreement.chosen, **recipe, found)) {
                    Some((_, found)) => conflict = found[0].0,
                    None => {
                        agreement.chosen.extend(lineage.into_iter().map(|(recipe, found)| (recipe, found[0].1)));
                        agreement.records.insert(*id, record.clone());
                        break;
                    }
                }
            }
            if !agreement.records.contains_key(id) {
                agreement.refused.insert(*id, conflict);
            }
        }
        Ok(agreement)
    }

    /// The ancestor on whose disowned result a record stands, if there is one.
    pub(super) fn disowned_ancestor(
        &mut self,
        id: StepId,
        record: &Arc<ActionRecord>,
    ) -> Result<Option<StepId>, CacheError> {
        for found in self.lineage(&[(id, record.clone())])?.into_values().flatten() {
            if self.store.is_disowned(&found.1)? {
                return Ok(Some(found.0));
            }
        }
        Ok(None)
    }

    /// The realisations that these records stand on, their own included.
    fn lineage(&mut self, roots: &[(StepId, Arc<ActionRecord>)]) -> Result<Lineage, CacheError> {
        let mut lineage = Lineage::new();
        let mut visited: BTreeSet<(StepId, Realisation)> = BTreeSet::new();
        let mut level = roots.to_vec();
        for (id, record) in roots {
            note(&mut lineage, self.facts.recipe(*id), *id, record.realisation());
        }
        while !level.is_empty() {
            let mut next = Vec::new();
            for (id, record) in &level {
                for producer in &self.facts.producers[id.0] {
                    let recipe = self.facts.recipe(*producer);
                    let Some(realisation) = record.ancestry.get(&recipe) else { continue };
                    if visited.insert((*producer, *realisation)) {
                        note(&mut lineage, recipe, *producer, *realisation);
                        next.push((*producer, *realisation));
                    }
                }
            }
            level = self.read_level(next)?;
        }
        Ok(lineage)
    }

    /// The records behind some realisations, as their recipes see them.
    fn read_level(
        &mut self,
        level: Vec<(StepId, Realisation)>,
    ) -> Result<Vec<(StepId, Arc<ActionRecord>)>, CacheError> {
        let (store, facts) = (self.store, self.facts);
        let place = |(id, made): &(StepId, Realisation)| (facts.recipe(*id), made.action);
        let unread: BTreeSet<_> = level.iter().map(place).filter(|place| !self.read.contains_key(place)).collect();
        let look = |place: (RecipeKey, ActionKey)| -> Result<_, CacheError> {
            Ok((place, store.lineage(&place.0, &place.1)?.map(Arc::new)))
        };
        self.read.extend(unread.into_par_iter().map(look).collect::<Result<Vec<_>, CacheError>>()?);
        let found = level.iter().filter_map(|made| {
            let record = self.read[&place(made)].clone()?;
            (record.result_digest() == made.1.result).then_some((made.0, record))
        });
        Ok(found.collect())
    }
}

fn note(lineage: &mut Lineage, recipe: RecipeKey, id: StepId, realisation: Realisation) {
    let found = lineage.entry(recipe).or_default();
    if found.iter().all(|(_, known)| known.result != realisation.result) {
        found.push((id, realisation));
    }
}

fn agrees(chosen: &BTreeMap<RecipeKey, Realisation>, recipe: RecipeKey, found: &[(StepId, Realisation)]) -> bool {
    chosen.get(&recipe).is_none_or(|chosen| found.iter().all(|(_, realisation)| realisation.result == chosen.result))
}
