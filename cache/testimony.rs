//! Testimony: who says what came out of an action, by the records that are here and the lists of layers that were read.
//! Counts as a reproduction what was made here or signed by somebody who is trusted, each signer once; tells of all
//! else, and prefers nothing. Asks no layer.
//!
//! What was made here is one's own word (`you`) and needs no signature. A result that somebody else made first and this
//! cache made again is kept as one's own word too, in `confirmed/ACTION`.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;
use serde::Serialize;

use crate::files::Durability;
use crate::records::read_if_there;
use crate::store::Store;
use crate::{ActionKey, ActionRecord, CacheError, Digest, Policy, PublicKey, Realisation, SignedRecord};

/// More words on one action are not looked at: anybody who may write into a layer can add some.
const MOST_WORDS: usize = 100;

/// What is said of an action beside one result of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Testimony {
    /// Who has made this result and is believed: each once, by name.
    pub reproduced_by: Vec<String>,
    /// Who says the same and is not trusted: counts for nothing.
    pub not_counted: Vec<String>,
    /// Other results of the same action.
    pub others: Vec<Other>,
    /// What people have shared of this result: that it is not to be used, or is again.
    pub marks: Vec<SharedMark>,
}

/// What somebody has shared of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SharedMark {
    /// Who.
    pub by: String,
    /// Whether their marks are obeyed.
    pub trusted: bool,
    /// In their words.
    pub reason: String,
    /// When, as they say.
    pub at: String,
    /// They have taken an earlier mark back.
    pub taken_back: bool,
}

/// Another result of an action: kept, never preferred.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Other {
    /// Who has made it and is believed.
    pub by: Vec<String>,
    /// Who says so and is not trusted.
    pub not_counted: Vec<String>,
    /// The outputs that differ.
    pub outputs: Vec<String>,
    /// What differs in the environments: there, and where this result was made.
    pub environment: BTreeMap<String, (Option<String>, Option<String>)>,
}

/// Somebody's word on an action.
struct Word {
    /// `None` for what was made here.
    signer: Option<PublicKey>,
    record: ActionRecord,
}

impl Store {
    /// Who else has made this result, and what else was made of its action.
    pub fn testimony(&self, record: &ActionRecord) -> Result<Testimony, CacheError> {
        let words = self.words_on(&record.action)?;
        let nobody = Policy::default();
        let people = self.people().unwrap_or(&nobody);
        let mut by_result: BTreeMap<Digest, Vec<&Word>> = BTreeMap::new();
        for word in &words {
            by_result.entry(word.record.result_digest()).or_default().push(word);
        }
        let same = by_result.remove(&record.result_digest()).unwrap_or_default();
        let (reproduced_by, not_counted) = names(&same, people);
        let others = by_result.values().map(|words| other(words, record, people)).collect();
        let (marks, made) = (self.marks()?, record.realisation());
        let shared = marks.said_of(&made).map(|(signer, statement)| SharedMark {
            by: people.called(signer),
            trusted: people.knows_and_trusts(signer),
            reason: statement.reason.clone(),
            at: statement.at.clone(),
            taken_back: statement.taken_back,
        });
        Ok(Testimony { reproduced_by, not_counted, others, marks: shared.collect() })
    }

    /// `testimony` of many, in their order. Where nobody else has a word in this cache, nobody is asked.
    pub fn testimonies(&self, records: &[&ActionRecord]) -> Result<Vec<Testimony>, CacheError> {
        match self.hears_others() {
            true => records.par_iter().with_min_len(16).map(|record| self.testimony(record)).collect(),
            false => Ok(vec![Testimony::default(); records.len()]),
        }
    }

    /// Whether anybody but this cache has a word in it, or another result of some action is kept: else no action has to
    /// be asked about.
    pub fn hears_others(&self) -> bool {
        let is_there = |name| self.inner.layout.folder(name).exists();
        let any = |name| std::fs::read_dir(self.inner.layout.folder(name)).is_ok_and(|mut list| list.next().is_some());
        self.upstream().is_some() || is_there("signed") || is_there("marks") || any("witnesses")
    }

    /// Keeps what was made here as one's own word, if the record of it came from somebody else.
    pub fn confirm(&self, record: &ActionRecord) -> Result<(), CacheError> {
        if !self.came_from_others(&record.realisation())? {
            return Ok(());
        }
        let bytes = record.encode().map_err(|why| CacheError::BadRecord { action: record.action, why })?;
        let place = self.inner.layout.confirmed(&record.action);
        self.replace(&place, &bytes, Durability::Disk, "confirming a result in")?;
        self.look_at_marks_again();
        Ok(())
    }

    /// The record of this realisation that was made here, if it was: never one that came from somebody else.
    pub(crate) fn made_here(&self, made: &Realisation) -> Result<Option<ActionRecord>, CacheError> {
        let of_it = |record: &ActionRecord| record.realisation() == *made;
        if let Some(own) = self.confirmed(&made.action)?.filter(of_it) {
            return Ok(Some(own));
        }
        let here = self.remembered(&made.action)?.into_iter().chain(self.witnesses(&made.action)?).find(of_it);
        match here {
            Some(here) if !self.came_from_others(made)? => Ok(Some(here)),
            _ => Ok(None),
        }
    }

    /// What was made here after somebody else had made it.
    pub(crate) fn confirmed(&self, action: &ActionKey) -> Result<Option<ActionRecord>, CacheError> {
        let bytes = read_if_there(&self.inner.layout.confirmed(action))?;
        let record = bytes.and_then(|bytes| ActionRecord::decode(&bytes).ok());
        Ok(record.filter(|record| record.action == *action))
    }

    pub(crate) fn came_from_others(&self, made: &Realisation) -> Result<bool, CacheError> {
        let signed = self.signed_by_others(&made.action)?;
        Ok(signed.iter().any(|signed| signed.record().realisation() == *made))
    }

    fn words_on(&self, action: &ActionKey) -> Result<Vec<Word>, CacheError> {
        let mut words = Vec::new();
        let here = self.remembered(action)?.into_iter().chain(self.witnesses(action)?);
        let results: BTreeSet<Realisation> = here
            .map(|record| record.realisation())
            .chain(self.confirmed(action)?.map(|own| own.realisation()))
            .collect();
        for made in results {
            words.extend(self.made_here(&made)?.map(|record| Word { signer: None, record }));
        }
        let elsewhere = self.upstream().map(|upstream| upstream.words_on(action, MOST_WORDS)).unwrap_or_default();
        let signed = self.signed_by_others(action)?.into_iter().chain(elsewhere);
        let word = |signed: SignedRecord| Word { signer: Some(signed.signer()), record: signed.record().clone() };
        words.extend(signed.map(word));
        Ok(words)
    }
}

/// Those whose word counts, and those whose does not; each signer once, whoever signs under one name and from here too.
fn names(words: &[&Word], people: &Policy) -> (Vec<String>, Vec<String>) {
    let (mut counted, mut not_counted) = (BTreeMap::new(), BTreeMap::new());
    for word in words {
        match word.signer.filter(|signer| !people.is_own(signer)) {
            None => drop(counted.insert(None, "you".to_owned())),
            Some(signer) if people.knows_and_trusts(&signer) => {
                counted.insert(Some(signer), people.called(&signer));
            }
            Some(signer) => drop(not_counted.insert(signer, people.called(&signer))),
        }
    }
    let mut counted: Vec<String> = counted.into_values().collect();
    counted.sort();
    (counted, not_counted.into_values().collect())
}

fn other(words: &[&Word], chosen: &ActionRecord, people: &Policy) -> Other {
    let (by, not_counted) = names(words, people);
    // Whose environment is told: somebody's who is believed, if there is one.
    let believed = |word: &&&Word| word.signer.is_none_or(|key| people.is_own(&key) || people.knows_and_trusts(&key));
    let word = words.iter().find(believed).or(words.first());
    let (outputs, environment) = word.map(|word| differences(&word.record, chosen)).unwrap_or_default();
    Other { by, not_counted, outputs, environment }
}

/// The outputs and the parts of the environment that differ.
pub(crate) type Differences = (Vec<String>, BTreeMap<String, (Option<String>, Option<String>)>);

pub(crate) fn differences(there: &ActionRecord, here: &ActionRecord) -> Differences {
    let identity = |record: &ActionRecord, name: &String| {
        record.outputs.get(name).filter(|output| !output.diagnostic).map(|output| output.artifact.identity())
    };
    let names: BTreeSet<&String> = there.outputs.keys().chain(here.outputs.keys()).collect();
    let outputs = names.into_iter().filter(|name| identity(there, name) != identity(here, name)).cloned().collect();
    let names: BTreeSet<&String> = there.environment.keys().chain(here.environment.keys()).collect();
    let value = |record: &ActionRecord, name: &String| record.environment.get(name).cloned();
    let differing = names.into_iter().filter(|name| there.environment.get(*name) != here.environment.get(*name));
    let environment = differing.map(|name| (name.clone(), (value(there, name), value(here, name)))).collect();
    (outputs, environment)
}
