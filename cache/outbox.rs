//! The outbox: results that wait to be sent to a layer, until it has them. Sends nothing itself.
//!
//! ```text
//! v1/outbox/LAYER/ACTION.RECIPE     `plumb-waiting 1`, or `plumb-waiting 1 repair`
//! ```
//!
//! A result is put there before its record is published, so that no death in between forgets it; one that has no record
//! (yet) does not wait. It goes once the layer has it, so what a killed run has left is sent by the next one. What waits
//! is not collected. A power cut may lose the note, never the result: `plumb cache push` sends it all the same.

use std::fs;
use std::path::PathBuf;

use crate::files::{Durability, listed, name_of, remove_file};
use crate::store::Store;
use crate::{ActionKey, ActionRecord, CacheError, RecipeKey, Repair};

const HEADER: &str = "plumb-waiting 1";

/// A result that waits.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    /// Its record, as its recipe sees it.
    pub record: ActionRecord,
    /// Whether what the layer has of it is known to be damaged or cut.
    pub repair: Repair,
}

impl Store {
    /// Has a result wait that is about to be published.
    pub fn post(&self, layer: &str, recipe: &RecipeKey, action: &ActionKey, repair: Repair) -> Result<(), CacheError> {
        self.must_write("keeping what is to be sent")?;
        let note = match repair {
            Repair::Yes => format!("{HEADER} repair\n"),
            Repair::No => format!("{HEADER}\n"),
        };
        self.replace(
            &self.note(layer, recipe, action),
            note.as_bytes(),
            Durability::Memory,
            "keeping what is to be sent in",
        )
    }

    /// What waits for a layer, the oldest first.
    pub fn waiting(&self, layer: &str) -> Result<Vec<Waiting>, CacheError> {
        let mut found = Vec::new();
        for path in listed(&self.outbox(layer))? {
            let Some((action, recipe)) = keys(name_of(&path)) else { continue };
            let Ok(note) = fs::read_to_string(&path) else { continue };
            let repair = if note.trim_end().ends_with("repair") { Repair::Yes } else { Repair::No };
            let Some(own) = self.record(&action)? else { continue };
            // The index of recipes comes after the record: a run may have been killed in between.
            let record = if own.recipe == recipe { Some(own) } else { self.lineage_here(&recipe, &action)? };
            found.extend(record.map(|record| Waiting { record, repair }));
        }
        found.sort_by(|one, other| one.record.made_at.cmp(&other.record.made_at));
        Ok(found)
    }

    /// Whether anything may wait for a layer: reads nothing of it.
    pub fn waits_for(&self, layer: &str) -> bool {
        fs::read_dir(self.outbox(layer)).is_ok_and(|mut notes| notes.next().is_some())
    }

    /// Has it wait no longer: the layer has it, or it cannot be sent any more.
    pub fn sent(&self, layer: &str, recipe: &RecipeKey, action: &ActionKey) -> Result<(), CacheError> {
        remove_file(&self.note(layer, recipe, action)).map(|_| ())
    }

    /// The actions of everything that waits for any layer.
    pub(crate) fn all_waiting(&self) -> Result<Vec<ActionKey>, CacheError> {
        let mut actions = Vec::new();
        for layer in listed(&self.inner.layout.folder("outbox"))? {
            actions.extend(listed(&layer)?.iter().filter_map(|path| Some(keys(name_of(path))?.0)));
        }
        Ok(actions)
    }

    fn outbox(&self, layer: &str) -> PathBuf {
        self.inner.layout.folder("outbox").join(layer)
    }

    fn note(&self, layer: &str, recipe: &RecipeKey, action: &ActionKey) -> PathBuf {
        self.outbox(layer).join(format!("{action}.{recipe}"))
    }
}

fn keys(name: &str) -> Option<(ActionKey, RecipeKey)> {
    let (action, recipe) = name.split_once('.')?;
    Some((action.parse().ok()?, recipe.parse().ok()?))
}
