//! Who says what about the past: this cache, the records that came into it, and the lists of layers that were read.
//! Asks no layer.

use super::Upstream;
use crate::store::Store;
use crate::{ActionKey, ActionRecord, CacheError, Realisation, RecipeKey, SignedRecord, Witnesses};

pub(super) struct Voices<'a> {
    pub(super) upstream: &'a Upstream,
    pub(super) store: &'a Store,
}

impl Witnesses for Voices<'_> {
    fn records(&self, recipe: &RecipeKey) -> Result<Vec<SignedRecord>, CacheError> {
        let mut records = Vec::new();
        for record in self.store.views(recipe, |action| self.store.remembered(action))? {
            records.extend(self.store.signed_by_others(&record.action)?);
        }
        records.retain(|signed| signed.record().recipe == *recipe);
        for (source, list) in self.upstream.loaded() {
            records.extend(list.of_recipe(recipe).into_iter().filter_map(|entry| self.upstream.read(source, entry)));
        }
        Ok(records)
    }

    fn own(&self, recipe: &RecipeKey, made: &Realisation) -> Result<Option<ActionRecord>, CacheError> {
        let Some(own) = self.store.made_here(made)? else { return Ok(None) };
        let here = self.store.lineage_here(recipe, &made.action)?.filter(|record| record.realisation() == *made);
        Ok(here.or(Some(own).filter(|own| own.recipe == *recipe)))
    }
}

impl Upstream {
    /// What the lists say of an action, at most so many words.
    pub(crate) fn words_on(&self, action: &ActionKey, most: usize) -> Vec<SignedRecord> {
        let entries = self
            .loaded()
            .flat_map(|(source, list)| list.of_action(action).into_iter().map(move |entry| (source, entry)));
        entries.take(most).filter_map(|(source, entry)| self.read(source, entry)).collect()
    }

    /// What an action was made from as this recipe sees it, in the words of somebody trusted.
    pub(crate) fn lineage(&self, recipe: &RecipeKey, action: &ActionKey) -> Option<ActionRecord> {
        self.trusted(recipe, action).next().map(|signed| signed.record().clone())
    }

    /// What the lists say that a recipe has come to, whoever says so.
    pub(crate) fn made(&self, recipe: &RecipeKey) -> impl Iterator<Item = Realisation> {
        let entries = self
            .loaded()
            .flat_map(|(source, list)| list.of_recipe(recipe).into_iter().map(move |entry| (source, entry)));
        entries.filter_map(|(source, entry)| self.read(source, entry)).map(|signed| signed.record().realisation())
    }

    /// The word of somebody trusted on how this result came to be.
    pub(crate) fn word_on(&self, recipe: &RecipeKey, made: &Realisation) -> Option<SignedRecord> {
        self.trusted(recipe, &made.action).find(|signed| signed.record().realisation() == *made)
    }

    fn trusted(&self, recipe: &RecipeKey, action: &ActionKey) -> impl Iterator<Item = SignedRecord> {
        let entries = self.loaded().flat_map(move |(source, list)| {
            list.of_recipe(recipe).into_iter().filter(|entry| entry.is_of(action)).map(move |entry| (source, entry))
        });
        let signed = entries.filter_map(|(source, entry)| self.read(source, entry));
        signed.filter(|signed| self.policy.trusts(&signed.signer()))
    }
}
