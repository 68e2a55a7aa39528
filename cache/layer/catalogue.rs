//! The catalogue of a layer: every signed record of every push, so that a plan asks for a list and for what is new in it,
//! and never for single records. A segment is the records of one push, named by the digest of its text, written once
//! and after everything that it speaks of; it is kept in the cache, since it never changes.
//!
//! ```text
//! plumb-1/segments/DIGEST         a line of JSON for each record
//! v1/layers/DIGEST                the same, once it was read
//! ```
//!
//! Which recipe and action a line is about is only a hint: a record is what its signature says.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use super::{Inner, Layer, names};
use crate::files::{Durability, touch};
use crate::records::read_if_there;
use crate::store::Store;
use crate::{ActionKey, CacheError, Digest, RecipeKey, SignedRecord};

/// A longer segment is refused: a push of a hundred thousand records has some hundred MB.
const LONGEST: u64 = 1 << 30;

/// So many segments are read at once.
const AT_ONCE: usize = 8;

/// The text of a segment, or what is wrong with it.
type Read = Result<Vec<u8>, String>;

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
    pub(super) fn new(signed: &SignedRecord, first: bool, whole: bool, packs: Vec<Digest>) -> Entry {
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
}

impl Catalogue {
    fn add(&mut self, entry: Entry) {
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

    fn chosen(&self, found: Option<&Vec<usize>>) -> Vec<&Entry> {
        let mut found: Vec<&Entry> = found.into_iter().flatten().map(|at| &self.entries[*at]).collect();
        found.sort_by_key(|entry| !entry.first);
        found
    }
}

impl Layer {
    /// The catalogue as it is now: one request for the list (of a thousand segments), and one for each new segment. A
    /// segment that does not read is left out, and complained of.
    pub fn catalogue(&self, store: &Store) -> Result<Catalogue, CacheError> {
        let (inner, held) = (Arc::clone(&self.inner), store.clone());
        let texts = self.wait(async move { inner.segments(&held).await })?;
        let mut catalogue = Catalogue::default();
        for (digest, text) in texts {
            let text = match text {
                Ok(text) => text,
                Err(complaint) => {
                    catalogue.complaints.push(complaint);
                    continue;
                }
            };
            for line in String::from_utf8_lossy(&text).lines() {
                match serde_json::from_str(line) {
                    Ok(entry) => catalogue.add(entry),
                    Err(why) => {
                        let name = names::segment(&digest);
                        let complaint = self.inner.lied(&name, format!("a line does not read: {why}"));
                        catalogue.complaints.push(complaint.to_string());
                    }
                }
            }
        }
        Ok(catalogue)
    }

    /// Adds the entries of one push.
    pub(super) fn write_segment(&self, entries: &[Entry]) -> Result<(), CacheError> {
        let lines = entries.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>();
        let text = lines.map_err(|why| self.inner.failed("writing to it", &why))?.join("\n").into_bytes();
        let inner = Arc::clone(&self.inner);
        self.wait(async move { inner.put(&names::segment(&Digest::of(&text)), text).await })
    }
}

impl Inner {
    /// In the order of their names, so that everybody sees the same.
    async fn segments(&self, store: &Store) -> Result<Vec<(Digest, Read)>, CacheError> {
        let listed = self.objects.list(Some(&names::segments())).try_collect::<Vec<_>>().await;
        let listed = listed.map_err(|error| self.failed("listing it", &error))?;
        let mut digests: Vec<Digest> =
            listed.iter().filter_map(|found| found.location.filename()?.parse().ok()).collect();
        digests.sort();
        let read = stream::iter(digests).map(|digest| async move { Ok((digest, self.segment(store, &digest).await?)) });
        let read: Vec<(Digest, Option<Read>)> = read.buffered(AT_ONCE).try_collect().await?;
        Ok(read.into_iter().filter_map(|(digest, text)| Some((digest, text?))).collect())
    }

    /// From the cache, where it was read before. Another text than that of the name is none.
    async fn segment(&self, store: &Store, digest: &Digest) -> Result<Option<Read>, CacheError> {
        let kept = store.inner.layout.segment(digest);
        let whole = |text: &Vec<u8>| Digest::of(text) == *digest;
        if let Some(text) = read_if_there(&kept)?.filter(whole) {
            // One that cannot be touched is collected early, and asked for again.
            let _ = touch(&kept);
            return Ok(Some(Ok(text)));
        }
        let name = names::segment(digest);
        let text = match self.get(&name, LONGEST).await {
            Err(error @ CacheError::LayerLied { .. }) => return Ok(Some(Err(error.to_string()))),
            text => text?,
        };
        match text {
            Some(text) if whole(&text) => {
                if store.writable() {
                    store.replace(&kept, &text, Durability::Memory, "keeping a catalogue in")?;
                }
                Ok(Some(Ok(text)))
            }
            Some(_) => Ok(Some(Err(self.lied(&name, "they have another digest".into()).to_string()))),
            None => Ok(None),
        }
    }
}
