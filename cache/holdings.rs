//! Holdings: the results that a cache or a layer has, so that two can be set side by side. A layer is asked for its
//! catalogue and for nothing else.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use crate::layer::Layer;
use crate::store::Store;
use crate::testimony::{Differences, differences};
use crate::{
    ActionKey, ActionRecord, CacheError, Catalogue, Policy, PublicKey, Realisation, RecipeKey, SignedRecord, Verdict,
    Witnesses,
};

/// A result, and who says so.
#[derive(Debug, Clone, PartialEq)]
pub struct Holding {
    /// What was made.
    pub record: ActionRecord,
    /// Who vouches for it; `None` for what was made here.
    pub signer: Option<PublicKey>,
    /// Whether it would be used: its signer is trusted, and whoever signed what it was made from.
    pub trusted: bool,
}

/// The results of a cache or a layer, each action's in the order in which they would be chosen.
#[derive(Debug, Default)]
pub struct Holdings {
    by_action: BTreeMap<ActionKey, Vec<Holding>>,
    /// What a layer lists and did not read.
    pub complaints: BTreeSet<String>,
}

/// Two different results of one action.
#[derive(Debug)]
pub struct Clash<'h> {
    /// That of the first place.
    pub one: &'h Holding,
    /// That of the second.
    pub other: &'h Holding,
    /// The outputs that differ.
    pub outputs: Vec<String>,
    /// What differs in the environments that they were made in: in the first place, and in the second.
    pub environment: BTreeMap<String, (Option<String>, Option<String>)>,
}

impl Holdings {
    fn add(&mut self, holding: Holding) {
        self.by_action.entry(holding.record.action).or_default().push(holding);
    }

    /// Keeps those that are asked for.
    pub fn retain(&mut self, wanted: impl Fn(&ActionRecord) -> bool) {
        self.by_action.values_mut().for_each(|all| all.retain(|holding| wanted(&holding.record)));
        self.by_action.retain(|_, all| !all.is_empty());
    }

    /// How many actions have a result here.
    pub fn len(&self) -> usize {
        self.by_action.len()
    }

    /// Whether nothing is here.
    pub fn is_empty(&self) -> bool {
        self.by_action.is_empty()
    }

    /// What the other place has no result of, each action once, by pipeline and step.
    pub fn beyond(&self, other: &Holdings) -> Vec<&Holding> {
        let alone = self.by_action.iter().filter(|(action, _)| !other.by_action.contains_key(action));
        let mut alone: Vec<&Holding> = alone.filter_map(|(_, all)| all.first()).collect();
        alone.sort_by(|one, other| place(one).cmp(&place(other)));
        alone
    }

    /// What both have a result of, and not the same.
    pub fn clashes<'h>(&'h self, other: &'h Holdings) -> Vec<Clash<'h>> {
        let both = self.by_action.iter().filter_map(|(action, all)| Some((all.first()?, other.by_action.get(action)?)));
        let differing = both.filter_map(|(one, others)| {
            let other = others.first()?;
            (one.record.result_digest() != other.record.result_digest()).then_some((one, other))
        });
        let mut clashes: Vec<Clash<'h>> = differing
            .map(|(one, other)| {
                let (outputs, environment): Differences = differences(&one.record, &other.record);
                Clash { one, other, outputs, environment }
            })
            .collect();
        clashes.sort_by(|one, other| place(one.one).cmp(&place(other.one)));
        clashes
    }
}

fn place(holding: &Holding) -> (&String, &String, ActionKey) {
    (&holding.record.pipeline, &holding.record.step, holding.record.action)
}

impl Store {
    /// What this cache would use: neither results that differ from the first of their action, nor disowned ones.
    pub fn holdings(&self) -> Result<Holdings, CacheError> {
        let mut holdings = Holdings::default();
        for kept in self.census()?.kept.iter().filter(|kept| !kept.witness) {
            let Some(record) = self.action(&kept.action)? else { continue };
            let signed = self.signed_by_others(&kept.action)?;
            let signed = signed.iter().find(|signed| signed.record().result_digest() == record.result_digest());
            holdings.add(Holding { signer: signed.map(SignedRecord::signer), record, trusted: true });
        }
        Ok(holdings)
    }
}

/// Who says what about the past, as far as this list and this cache know.
struct Voices<'a> {
    store: &'a Store,
    records: BTreeMap<RecipeKey, Vec<SignedRecord>>,
}

impl Witnesses for Voices<'_> {
    fn records(&self, recipe: &RecipeKey) -> Result<Vec<SignedRecord>, CacheError> {
        Ok(self.records.get(recipe).cloned().unwrap_or_default())
    }

    fn own(&self, recipe: &RecipeKey, made: &Realisation) -> Result<Option<ActionRecord>, CacheError> {
        let Some(own) = self.store.made_here(made)? else { return Ok(None) };
        let here = self.store.lineage_here(recipe, &made.action)?.filter(|record| record.realisation() == *made);
        Ok(here.or(Some(own).filter(|own| own.recipe == *recipe)))
    }
}

impl Layer {
    /// What this layer lists with its bytes: trusted results before others, and first ones before later.
    pub fn holdings(&self, store: &Store, people: &Policy) -> Result<Holdings, CacheError> {
        let catalogue = self.catalogue(store)?;
        let mut holdings =
            Holdings { complaints: catalogue.complaints().iter().cloned().collect(), ..Holdings::default() };
        let (mut voices, mut whole) = (Voices { store, records: BTreeMap::new() }, Vec::new());
        for (is_whole, first, signed) in read(&catalogue, &mut holdings.complaints) {
            voices.records.entry(signed.record().recipe).or_default().push(signed.clone());
            whole.extend(is_whole.then_some((!first, signed)));
        }
        whole.sort_by_key(|(later, _)| *later);
        for (_, signed) in whole {
            let trusted = people.judge(&signed, &voices)? == Verdict::Trusted;
            holdings.add(Holding { record: signed.record().clone(), signer: Some(signed.signer()), trusted });
        }
        holdings.by_action.values_mut().for_each(|all| all.sort_by_key(|holding| !holding.trusted));
        Ok(holdings)
    }
}

/// Every signature is checked, on all cores.
fn read(catalogue: &Catalogue, complaints: &mut BTreeSet<String>) -> Vec<(bool, bool, SignedRecord)> {
    let read =
        catalogue.entries().par_iter().map(|entry| entry.read().map(|signed| (entry.whole, entry.first, signed)));
    let read: Vec<_> = read.collect();
    let (good, bad): (Vec<_>, Vec<_>) = read.into_iter().partition(Result::is_ok);
    complaints.extend(bad.into_iter().filter_map(Result::err).map(|why| format!("a record is not used: {why}")));
    good.into_iter().filter_map(Result::ok).collect()
}
