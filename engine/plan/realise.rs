//! One realisation per recipe: collects the realisations that the lineages of several hits stand on, and refuses
//! hits that would mix two. A record names those of its direct producers; theirs are in their own records, or in the
//! lineage index, and are followed along the graph, as the producer's recipe sees them. A witness or an evicted record
//! that the index does not know either ends the walk.

use std::collections::BTreeMap;
use std::sync::Arc;

use plumb_cache::{ActionRecord, CacheError, Disowned, Lineage, LineageIndex, Realisation, RecipeKey, Store};
use rayon::prelude::*;

use super::Facts;
use crate::graph::StepId;

/// A walk that read more records than this is worth an index of its own.
const WORTH_KEEPING: usize = 64;

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
    pipeline: &'a str,
    /// Made for the first walk: most plans have one goal, which agrees with itself.
    walk: Option<Walk>,
    /// Every disowned result.
    marked: BTreeMap<Realisation, Disowned>,
    /// `Store::marks_heard` when they were read.
    heard: u64,
    /// Whether a realisation stands on a disowned result, of those that were walked over: none is walked over twice.
    stands: BTreeMap<Spot, Option<(StepId, Disowned)>>,
}

/// A realisation of the recipe of this number.
type Spot = (usize, Realisation);

/// What walks share.
#[derive(Debug)]
struct Walk {
    /// The recipes of the wanted steps, sorted; its place there is a recipe's number.
    recipes: Vec<RecipeKey>,
    /// The number of each wanted step's recipe. Several steps may have one recipe.
    numbers: Vec<usize>,
    /// By number: what is known of its realisations.
    known: Vec<Vec<(Realisation, Known)>>,
    index: LineageIndex,
    /// Records that were read from the cache.
    read: usize,
}

#[derive(Debug)]
enum Known {
    Record(Arc<ActionRecord>),
    Indexed(Vec<(RecipeKey, Realisation)>),
    Unknown,
}

/// By number, the distinct realisations that a recipe has in some lineage, with the step each stands for.
type Found = Vec<Vec<(StepId, Realisation)>>;

impl<'a> Lineages<'a> {
    pub(super) fn new(store: &'a Store, facts: &'a Facts, pipeline: &'a str) -> Result<Self, CacheError> {
        let mut lineages =
            Self { store, facts, pipeline, walk: None, marked: BTreeMap::new(), heard: 0, stands: BTreeMap::new() };
        lineages.read_marks()?;
        Ok(lineages)
    }

    /// Reads the marks again if layers were asked meanwhile and had new ones; says whether they had.
    pub(super) fn hear_marks(&mut self) -> Result<bool, CacheError> {
        let new = self.heard != self.store.marks_heard();
        if new {
            self.read_marks()?;
        }
        Ok(new)
    }

    fn read_marks(&mut self) -> Result<(), CacheError> {
        self.heard = self.store.marks_heard();
        let marked = self.store.all_disowned()?.into_iter();
        self.marked = marked.map(|one| (Realisation { action: one.action, result: one.result }, one)).collect();
        self.stands.clear();
        Ok(())
    }

    /// Whether any result is disowned: if none is, no ancestry has to be looked at.
    pub(super) fn any_disowned(&self) -> bool {
        !self.marked.is_empty()
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
        let recipes = &self.walk().recipes;
        if lineage.iter().enumerate().all(|(number, found)| agrees(chosen, recipes[number], found)) {
            let mut all = chosen.clone();
            all.extend(realisations(recipes, &lineage));
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
                let recipes = &self.walk().recipes;
                let differs = |(number, found): &(usize, &Vec<_>)| !agrees(&agreement.chosen, recipes[*number], found);
                match lineage.iter().enumerate().find(differs) {
                    Some((_, found)) => conflict = found[0].0,
                    None => {
                        agreement.chosen.extend(realisations(recipes, &lineage));
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

    /// The ancestor on whose disowned result a record stands, with the mark, if there is one. The nearest, unless a
    /// walk before this one met another.
    pub(super) fn disowned_ancestor(
        &mut self,
        id: StepId,
        record: &Arc<ActionRecord>,
    ) -> Result<Option<(StepId, Disowned)>, CacheError> {
        let (store, facts, made) = (self.store, self.facts, record.realisation());
        let walk = self.walk.get_or_insert_with(|| Walk::new(facts, store.lineage_index(self.pipeline)));
        walk.learn(walk.numbers[id.0], made, Known::Record(record.clone()));
        // Each with the one below it that led there.
        let mut seen: BTreeMap<Spot, Option<Spot>> = BTreeMap::from([((walk.numbers[id.0], made), None)]);
        let mut level = vec![(id, made)];
        while !level.is_empty() {
            let mut above = Vec::new();
            for (id, made) in level {
                let spot = (walk.numbers[id.0], made);
                let stands = self.stands.get(&spot).cloned();
                let mark = self.marked.get(&made).map(|mark| (id, mark.clone()));
                if let Some(mark) = mark.or_else(|| stands.clone().flatten()) {
                    let path = std::iter::successors(Some(spot), |spot| seen.get(spot).copied().flatten());
                    self.stands.extend(path.map(|spot| (spot, Some(mark.clone()))));
                    return Ok(Some(mark));
                }
                if stands.is_none() {
                    above.push((id, made));
                }
            }
            walk.read_level(store, &above)?;
            level = Vec::new();
            for (id, made) in above {
                let spot = (walk.numbers[id.0], made);
                for producer in &facts.producers[id.0] {
                    let number = walk.numbers[producer.0];
                    let Some(made) = walk.used(spot.0, &spot.1, &walk.recipes[number]) else { continue };
                    seen.entry((number, made)).or_insert_with(|| {
                        level.push((*producer, made));
                        Some(spot)
                    });
                }
            }
        }
        self.stands.extend(seen.into_keys().map(|spot| (spot, None)));
        Ok(None)
    }

    fn walk(&mut self) -> &mut Walk {
        self.walk.get_or_insert_with(|| Walk::new(self.facts, self.store.lineage_index(self.pipeline)))
    }

    /// The realisations that these records stand on, their own included.
    fn lineage(&mut self, roots: &[(StepId, Arc<ActionRecord>)]) -> Result<Found, CacheError> {
        let (store, facts) = (self.store, self.facts);
        let walk = self.walk();
        let mut found: Found = vec![Vec::new(); walk.recipes.len()];
        let mut level = Vec::new();
        for (id, record) in roots {
            let made = record.realisation();
            walk.learn(walk.numbers[id.0], made, Known::Record(record.clone()));
            if note(&mut found[walk.numbers[id.0]], *id, made) {
                level.push((*id, made));
            }
        }
        while !level.is_empty() {
            walk.read_level(store, &level)?;
            let mut next = Vec::new();
            for (id, made) in level {
                for producer in &facts.producers[id.0] {
                    let number = walk.numbers[producer.0];
                    let Some(made) = walk.used(walk.numbers[id.0], &made, &walk.recipes[number]) else { continue };
                    if note(&mut found[number], *producer, made) {
                        next.push((*producer, made));
                    }
                }
            }
            level = next;
        }
        Ok(found)
    }

    /// Keeps what was read for the next plan. An index that cannot be written costs time, nothing else.
    pub(super) fn keep(&self) {
        let Some(walk) = self.walk.as_ref().filter(|walk| walk.read > WORTH_KEEPING && self.store.writable()) else {
            return;
        };
        if let Err(error) = self.store.keep_lineage(self.pipeline, &walk.lineage()) {
            tracing::warn!("{error}");
        }
    }
}

impl Walk {
    fn new(facts: &Facts, index: LineageIndex) -> Walk {
        let wanted = |id: &usize| facts.wanted[*id];
        let mut recipes: Vec<RecipeKey> =
            (0..facts.wanted.len()).filter(wanted).map(|id| facts.recipe(StepId(id))).collect();
        recipes.par_sort_unstable();
        recipes.dedup();
        let number = |id: usize| match facts.wanted[id] {
            true => recipes.binary_search(&facts.recipe(StepId(id))).unwrap_or_default(),
            false => usize::MAX,
        };
        let numbers = (0..facts.wanted.len()).into_par_iter().map(number).collect();
        let known = recipes.iter().map(|_| Vec::new()).collect();
        Walk { recipes, numbers, known, index, read: 0 }
    }

    fn learn(&mut self, number: usize, made: Realisation, known: Known) {
        if self.known[number].iter().all(|(other, _)| *other != made) {
            self.known[number].push((made, known));
        }
    }

    /// The realisation of a producer's recipe that a realisation was made from.
    fn used(&self, number: usize, made: &Realisation, producer: &RecipeKey) -> Option<Realisation> {
        match &self.known[number].iter().find(|(known, _)| known == made)?.1 {
            Known::Record(record) => record.ancestry.get(producer).copied(),
            Known::Indexed(from) => from.iter().find(|(recipe, _)| recipe == producer).map(|(_, made)| *made),
            Known::Unknown => None,
        }
    }

    /// Looks up what some realisations were made from, as their recipes see it.
    fn read_level(&mut self, store: &Store, level: &[(StepId, Realisation)]) -> Result<(), CacheError> {
        let number = |id: StepId| self.numbers[id.0];
        let unknown = |(id, made): &&(StepId, Realisation)| !self.known[number(*id)].iter().any(|(one, _)| one == made);
        let unknown: Vec<(usize, Realisation)> =
            level.iter().filter(unknown).map(|(id, made)| (number(*id), *made)).collect();
        let look = |(number, made): (usize, Realisation)| -> Result<_, CacheError> {
            let recipe = &self.recipes[number];
            if let Some(from) = self.index.made_from(recipe, &made) {
                return Ok((number, made, Known::Indexed(from.collect())));
            }
            let record = store.lineage(recipe, &made.action)?.filter(|record| record.realisation() == made);
            Ok((number, made, record.map_or(Known::Unknown, |record| Known::Record(Arc::new(record)))))
        };
        let looked: Vec<_> = unknown.into_par_iter().with_min_len(16).map(look).collect::<Result<_, CacheError>>()?;
        for (number, made, known) in looked {
            self.read += usize::from(matches!(known, Known::Record(_)));
            self.learn(number, made, known);
        }
        Ok(())
    }

    fn lineage(&self) -> Lineage {
        let known =
            self.recipes.iter().zip(&self.known).flat_map(|(recipe, known)| known.iter().map(move |one| (recipe, one)));
        let from = known.filter_map(|(recipe, (made, known))| {
            let from = match known {
                Known::Record(record) => record.ancestry.clone(),
                Known::Indexed(from) => from.iter().copied().collect(),
                Known::Unknown => return None,
            };
            Some(((*recipe, *made), from))
        });
        from.collect()
    }
}

/// Notes a realisation; says whether it is new.
fn note(found: &mut Vec<(StepId, Realisation)>, id: StepId, made: Realisation) -> bool {
    let new = found.iter().all(|(_, known)| *known != made);
    if new {
        found.push((id, made));
    }
    new
}

/// The realisations of a lineage in which each recipe has one result.
fn realisations(recipes: &[RecipeKey], found: &Found) -> impl Iterator<Item = (RecipeKey, Realisation)> {
    recipes.iter().zip(found).filter_map(|(recipe, found)| Some((*recipe, found.first()?.1)))
}

/// Whether a recipe has one result, and that which was chosen.
fn agrees(chosen: &BTreeMap<RecipeKey, Realisation>, recipe: RecipeKey, found: &[(StepId, Realisation)]) -> bool {
    let Some((_, first)) = found.first() else { return true };
    let result = chosen.get(&recipe).unwrap_or(first).result;
    found.iter().all(|(_, made)| made.result == result)
}
