//! The catalogue of a layer: every signed record of every push, so that a plan asks for a list and for what is new in it,
//! and never for single records. How it lies there, and how many requests it takes at most, is `segments`' business.
//!
//! Which recipe and action a line is about is only a hint: a record is what its signature says. Lines about one and the
//! same record count as one: it may have been listed before its bytes came, or again with the packs of a repair.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Layer;
use super::segments::Segment;
use crate::store::Store;
use crate::{ActionKey, CacheError, Digest, RecipeKey, SignedRecord};

/// Others' packs are looked into until there are so many: each costs a request, and anybody may add some.
const MOST_PACKS: usize = 32;

/// What a layer holds of one record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    action: ActionKey,
    recipe: RecipeKey,
    /// Whether it was the first of its action.
    pub first: bool,
    /// Whether its bytes were pushed, or only the record, so that what was made from it can be vouched for.
    pub whole: bool,
    /// The packs that its small blobs are in.
    pub packs: Vec<Digest>,
    /// As `SignedRecord::encode` writes it.
    signed: String,
}

impl Entry {
    /// The entry of a record.
    pub(crate) fn new(signed: &SignedRecord, first: bool, whole: bool, packs: Vec<Digest>) -> Entry {
        let (action, recipe) = (signed.record().action, signed.record().recipe);
        // Records are JSON and their headers hex: nothing is lost.
        let signed = String::from_utf8_lossy(&signed.encode()).into_owned();
        Entry { action, recipe, first, whole, packs, signed }
    }

    /// The record, if it is one and is about what the entry says; else what is wrong.
    pub fn read(&self) -> Result<SignedRecord, String> {
        let signed = SignedRecord::decode(self.signed.as_bytes())?;
        let same = (signed.record().action, signed.record().recipe) == (self.action, self.recipe);
        match same {
            true => Ok(signed),
            false => Err(format!("it stands in the place of another, and is of `{}`", signed.record().step)),
        }
    }

    /// The same, where why does not matter.
    pub fn record(&self) -> Option<SignedRecord> {
        self.read().ok()
    }

    fn is_about_the_same(&self, other: &Entry) -> bool {
        self.recipe == other.recipe && self.signed == other.signed
    }

    fn take_in(&mut self, other: Entry) {
        self.first |= other.first;
        self.whole |= other.whole;
        self.packs.extend(other.packs);
        self.packs.sort();
        self.packs.dedup();
    }

    pub(crate) fn is_of(&self, action: &ActionKey) -> bool {
        self.action == *action
    }
}

/// Everything that a layer says it holds.
#[derive(Debug, Default)]
pub struct Catalogue {
    entries: Vec<Entry>,
    by_recipe: BTreeMap<RecipeKey, Vec<usize>>,
    by_action: BTreeMap<ActionKey, Vec<usize>>,
    complaints: Vec<String>,
    /// What was read, and nothing else stands for.
    segments: Vec<Segment>,
}

impl Catalogue {
    fn add(&mut self, entry: Entry) {
        let known = self.by_action.get(&entry.action).into_iter().flatten();
        if let Some(same) = known.copied().find(|at| self.entries[*at].is_about_the_same(&entry)) {
            return self.entries[same].take_in(entry);
        }
        let at = self.entries.len();
        self.by_recipe.entry(entry.recipe).or_default().push(at);
        self.by_action.entry(entry.action).or_default().push(at);
        self.entries.push(entry);
    }

    /// How many records it lists.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it lists none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All entries.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What in the list did not read, and was left out.
    pub fn complaints(&self) -> &[String] {
        &self.complaints
    }

    /// Those of a recipe, those that came first before the others.
    pub fn of_recipe(&self, recipe: &RecipeKey) -> Vec<&Entry> {
        self.chosen(self.by_recipe.get(recipe))
    }

    /// Those of an action.
    pub fn of_action(&self, action: &ActionKey) -> Vec<&Entry> {
        self.chosen(self.by_action.get(action))
    }

    /// An entry that knows further packs: those in which others have sent the bytes of the same action. A damaged pack is
    /// so helped by whoever makes the result again.
    pub(crate) fn with_all_packs(&self, entry: &Entry) -> Entry {
        let mut whole = entry.clone();
        for pack in self.of_action(&entry.action).into_iter().flat_map(|other| &other.packs) {
            if whole.packs.len() < MOST_PACKS && !whole.packs.contains(pack) {
                whole.packs.push(*pack);
            }
        }
        whole
    }

    fn chosen(&self, found: Option<&Vec<usize>>) -> Vec<&Entry> {
        let mut found: Vec<&Entry> = found.into_iter().flatten().map(|at| &self.entries[*at]).collect();
        found.sort_by_key(|entry| !entry.first);
        found
    }
}

impl Layer {
    /// The catalogue as it is now. A segment or a line that does not read is left out, and complained of.
    pub fn catalogue(&self, store: &Store) -> Result<Catalogue, CacheError> {
        let mut catalogue = Catalogue::default();
        for (segment, text) in self.segments(store)? {
            match text {
                Ok(text) => {
                    let text = String::from_utf8_lossy(&text);
                    segment.parts(&text).1.for_each(|line| self.take_line(line, &segment, &mut catalogue));
                    catalogue.segments.push(segment);
                }
                Err(complaint) => catalogue.complaints.push(complaint),
            }
        }
        Ok(catalogue)
    }

    fn take_line(&self, line: &str, segment: &Segment, catalogue: &mut Catalogue) {
        match serde_json::from_str(line) {
            Ok(entry) => catalogue.add(entry),
            Err(why) => {
                let complaint = self.inner.lied(&segment.name(), format!("a line does not read: {why}"));
                catalogue.complaints.push(complaint.to_string());
            }
        }
    }

    /// Adds the entries of one push to what was there.
    pub(super) fn list(&self, store: &Store, entries: &[Entry], catalogue: Catalogue) -> Result<(), CacheError> {
        let lines = entries.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>();
        let lines = lines.map_err(|why| self.inner.trouble("writing to it", why.to_string()))?;
        self.add_segment(store, &lines, catalogue.segments)
    }
}
