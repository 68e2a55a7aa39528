//! Bundles: one file with results, the signed records of everything they were made from, and the results' bytes, for
//! whoever has neither the layer nor the cache: a reader of a paper, a machine without a network. There is one file for
//! each content.
//!
//! ```text
//! plumb-bundle                  the results that it was made for: RECIPE ACTION RESULT, a line each
//! plumb-1/format                from here on what a layer has (see `layer`): unpacked by `tar`, a bundle is one
//! plumb-1/segments/DIGEST       every record as it was signed, and whether its bytes are here
//! plumb-1/cas/ab/cdef…          these bytes
//! ```
//!
//! There is no `Bundle` whose bytes were not checked: each blob has its digest, each record its keys and its signature,
//! each folder can be made, and nothing is in it that no record speaks of. Whom to believe is `trust`'s question.

mod archive;
mod export;
mod import;
mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub use self::export::{Exported, Inputs};
pub use self::import::{Imported, Importing};
use crate::layer::{Entry, names};
use crate::{CacheError, Digest, Realisation, RecipeKey, SignedRecord};

/// The name of the member that says what a bundle was made for, and how it begins.
const RESULTS: &str = "plumb-bundle";
const HEADER: &str = "plumb-bundle 1\n";

/// A longer list of records is refused, as in a layer.
const LONGEST_SEGMENT: u64 = 1 << 30;

/// A result as one recipe sees it.
type Place = (RecipeKey, Realisation);

/// A bundle whose every byte was checked.
#[derive(Debug)]
pub struct Bundle {
    path: PathBuf,
    /// What it was made for; a whole record of each is there.
    results: BTreeSet<Place>,
    /// Sorted by action, recipe and signer.
    records: Vec<Bundled>,
    blobs: BTreeMap<Digest, Span>,
}

/// A record in a bundle.
#[derive(Debug, Clone, PartialEq)]
pub struct Bundled {
    /// What was made, and who vouches for it.
    pub signed: SignedRecord,
    /// Whether its bytes are there.
    pub whole: bool,
}

/// Where a blob lies in the file.
#[derive(Debug, Clone, Copy)]
struct Span {
    offset: u64,
    size: u64,
}

impl Bundle {
    /// Reads a bundle, every byte of it; what is wrong with it is a `BadBundle`.
    pub fn read(path: &Path) -> Result<Bundle, CacheError> {
        read::read(path)
    }

    /// Its records.
    pub fn records(&self) -> &[Bundled] {
        &self.records
    }

    /// Those of the results that it was made for.
    pub fn results(&self) -> impl Iterator<Item = &SignedRecord> {
        let is_one = |bundled: &&Bundled| self.results.contains(&place_of(&bundled.signed));
        self.records.iter().filter(is_one).map(|bundled| &bundled.signed)
    }

    /// The blobs that are there, and their bytes.
    pub fn blobs(&self) -> (usize, u64) {
        (self.blobs.len(), self.blobs.values().map(|span| span.size).sum())
    }

    /// Recipes that something was made from and that nobody says anything of: without any, the lineage is complete.
    pub fn missing(&self) -> Vec<RecipeKey> {
        let there: BTreeSet<Place> = self.records.iter().map(|bundled| place_of(&bundled.signed)).collect();
        let above = self.records.iter().flat_map(|bundled| above(&bundled.signed));
        let missing: BTreeSet<RecipeKey> =
            above.filter(|place| !there.contains(place)).map(|(recipe, _)| recipe).collect();
        missing.into_iter().collect()
    }

    fn bad(&self, why: String) -> CacheError {
        CacheError::BadBundle { path: self.path.clone(), why }
    }
}

/// The list of records, one a line, as in a layer.
fn segment_text(entries: &[Entry]) -> Result<Vec<u8>, serde_json::Error> {
    let lines = entries.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
    Ok(lines.join("\n").into_bytes())
}

fn segment_name(text: &[u8]) -> String {
    names::segments().join(Digest::of(text).to_string()).to_string()
}

fn place_of(signed: &SignedRecord) -> Place {
    (signed.record().recipe, signed.record().realisation())
}

fn above(signed: &SignedRecord) -> impl Iterator<Item = Place> {
    signed.record().ancestry.iter().map(|(recipe, made)| (*recipe, *made))
}
