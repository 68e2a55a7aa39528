//! One realisation per recipe: gathers, over records and everything they were made from, which result was used for
//! which recipe, and where two were. Decides nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::store::Store;
use crate::{ActionKey, ActionRecord, CacheError, Realisation, RecipeKey};

/// Everything some records were made from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ancestry {
    /// What was used for each recipe, the records themselves included; where two were, the one met first.
    pub chosen: BTreeMap<RecipeKey, Realisation>,
    /// Recipes of which more than one result was used.
    pub conflicts: BTreeSet<RecipeKey>,
    /// Ancestors without a record: what they were made from is not known any more.
    pub missing: BTreeSet<ActionKey>,
}

impl Ancestry {
    fn note(&mut self, recipe: RecipeKey, used: Realisation) {
        if *self.chosen.entry(recipe).or_insert(used) != used {
            self.conflicts.insert(recipe);
        }
    }
}

impl Store {
    /// The ancestry of these records together. Each recipe's record is read once.
    pub fn ancestry(&self, records: &[ActionRecord]) -> Result<Ancestry, CacheError> {
        let mut ancestry = Ancestry::default();
        let mut seen = BTreeSet::new();
        let mut waiting = Vec::new();
        for record in records {
            ancestry.note(record.recipe, record.realisation());
            if seen.insert((record.recipe, record.action)) {
                waiting.extend(record.ancestry.clone());
            }
        }
        while let Some((recipe, used)) = waiting.pop() {
            ancestry.note(recipe, used);
            if !seen.insert((recipe, used.action)) {
                continue;
            }
            match self.lineage(&recipe, &used.action)? {
                Some(record) => waiting.extend(record.ancestry),
                None => {
                    ancestry.missing.insert(used.action);
                }
            }
        }
        Ok(ancestry)
    }
}
