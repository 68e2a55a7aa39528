//! The records of a pipeline's hits as they were last read, each under the stamps of the files it was read from, so that
//! a thousand hits cost two looks at a file each and no reading of JSON. Only a memory: what is in it proved itself when
//! it was read, another stamp costs reading the record again, and damaged or deleted it costs reading all of them.
//!
//! ```text
//! plumb-recollection 1\n   how many recipes (8)
//! sorted table of          recipe (32)   first byte (8)   how many (8)
//! bodies                   postcard of `Entry`
//! ```

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;

use bytes::Bytes;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::store::{Store, lock};
use crate::{ActionKey, ActionRecord, CacheError, FileStamp, RecipeKey};

/// What memos of records are called.
const MEMO: &str = "records";
const HEADER: &[u8] = b"plumb-recollection 1\n";
const FRONT: usize = HEADER.len() + 8;
const ROW: usize = 32 + 8 + 8;
/// Fewer records are read as fast as a memo is written.
const WORTH_KEEPING: usize = 200;
/// What others remembered is kept beside what is new up to here: two variants of a pipeline take turns.
const LARGEST: usize = 32 << 20;

/// What a recipe's records were, and the files that said so.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    recipe: FileStamp,
    actions: Vec<(ActionKey, FileStamp)>,
    records: Vec<ActionRecord>,
}

/// The records of one pipeline, as they were remembered, and what was read since.
#[derive(Debug, Default)]
pub struct Recollection {
    table: Bytes,
    bodies: Bytes,
    fresh: Mutex<BTreeMap<RecipeKey, Vec<u8>>>,
}

impl Recollection {
    fn rows(&self) -> &[[u8; ROW]] {
        self.table.as_chunks::<ROW>().0
    }

    fn body(&self, row: &[u8; ROW]) -> Option<&[u8]> {
        self.bodies.get(range(&row[32..])?)
    }

    fn entry(&self, recipe: &RecipeKey) -> Option<Entry> {
        let (rows, wanted) = (self.rows(), recipe.digest());
        let row = &rows[rows.binary_search_by(|row| row[..32].cmp(wanted.as_bytes())).ok()?];
        postcard::from_bytes(self.body(row)?).ok()
    }

    fn decode(bytes: &Bytes) -> Option<Recollection> {
        let (front, body) = bytes.split_at_checked(FRONT)?;
        let rows = number(front.strip_prefix(HEADER)?)?;
        let (table, bodies) = body.split_at_checked(rows.checked_mul(ROW)?)?;
        let (table, bodies) = (bytes.slice_ref(table), bytes.slice_ref(bodies));
        Some(Recollection { table, bodies, fresh: Mutex::default() })
    }

    fn encode(&self) -> Vec<u8> {
        let fresh = lock(&self.fresh);
        let mut all: BTreeMap<&[u8], &[u8]> = BTreeMap::new();
        if self.bodies.len() < LARGEST {
            all.extend(self.rows().iter().filter_map(|row| Some((&row[..32], self.body(row)?))));
        }
        let keys: Vec<_> = fresh.keys().map(RecipeKey::digest).collect();
        all.extend(keys.iter().zip(fresh.values()).map(|(key, body)| (&key.as_bytes()[..], body.as_slice())));
        let (mut table, mut bodies) = (Vec::with_capacity(all.len() * ROW), Vec::new());
        for (key, body) in &all {
            table.extend_from_slice(key);
            table.extend((bodies.len() as u64).to_le_bytes());
            table.extend((body.len() as u64).to_le_bytes());
            bodies.extend_from_slice(body);
        }
        [HEADER, &(all.len() as u64).to_le_bytes(), &table, &bodies].concat()
    }
}

impl Store {
    /// What is remembered of a pipeline's records; nothing where there is no memory that reads.
    pub fn recollection(&self, pipeline: &str) -> Recollection {
        self.memo(MEMO, pipeline).and_then(|bytes| Recollection::decode(&bytes)).unwrap_or_default()
    }

    /// Remembers for the next time what was read now, if it was much.
    pub fn keep_recollection(&self, pipeline: &str, recollection: &Recollection) -> Result<(), CacheError> {
        match lock(&recollection.fresh).len() {
            fresh if fresh < WORTH_KEEPING || !self.writable() => return Ok(()),
            _ => {}
        }
        self.keep_memo(MEMO, pipeline, &recollection.encode())
    }

    /// `recipes`, from memory where no file has changed since.
    pub fn recalled(
        &self,
        keys: &[RecipeKey],
        recollection: &Recollection,
    ) -> Result<Vec<Vec<ActionRecord>>, CacheError> {
        let marks = self.marks()?;
        let recall = |key| {
            let mut records = self.recalled_or_read(key, recollection)?;
            records.retain(|record| !marks.bear(record));
            Ok(records)
        };
        keys.par_iter().with_min_len(32).map(recall).collect()
    }

    fn recalled_or_read(&self, key: &RecipeKey, recollection: &Recollection) -> Result<Vec<ActionRecord>, CacheError> {
        let remembered = recollection.entry(key).filter(|entry| self.still_so(key, entry));
        if let Some(entry) = remembered {
            return Ok(entry.records);
        }
        let asked = RefCell::new(Vec::new());
        let records = self.views(key, |action| {
            asked.borrow_mut().push(*action);
            self.record(action)
        })?;
        // A record that is not there, or is not one, may come back without a change to the recipe's lines.
        if !records.is_empty() && records.len() == asked.borrow().len() {
            let entry = self.entry_of(key, &asked.into_inner(), &records);
            if let Some(body) = entry.and_then(|entry| postcard::to_stdvec(&entry).ok()) {
                lock(&recollection.fresh).insert(*key, body);
            }
        }
        Ok(records)
    }

    fn still_so(&self, key: &RecipeKey, entry: &Entry) -> bool {
        let layout = &self.inner.layout;
        let so = |path: &Path, stamp: &FileStamp| stamp_of(path).is_some_and(|now| now == *stamp);
        so(&layout.recipe(key), &entry.recipe)
            && entry.actions.iter().all(|(action, stamp)| so(&layout.action(action), stamp))
    }

    /// Stamped after they were read: a file that changed meanwhile would be young.
    fn entry_of(&self, key: &RecipeKey, actions: &[ActionKey], records: &[ActionRecord]) -> Option<Entry> {
        let settled = |path: &Path| stamp_of(path).filter(|stamp| !stamp.is_young());
        let recipe = settled(&self.inner.layout.recipe(key))?;
        let stamped = |action: &ActionKey| Some((*action, settled(&self.inner.layout.action(action))?));
        let actions = actions.iter().map(stamped).collect::<Option<Vec<_>>>()?;
        Some(Entry { recipe, actions, records: records.to_vec() })
    }
}

fn stamp_of(path: &Path) -> Option<FileStamp> {
    std::fs::metadata(path).ok().map(|metadata| FileStamp::of(&metadata))
}

fn range(bytes: &[u8]) -> Option<Range<usize>> {
    let (first, count) = bytes.split_at_checked(8)?;
    let first = number(first)?;
    Some(first..first.checked_add(number(count)?)?)
}

fn number(bytes: &[u8]) -> Option<usize> {
    usize::try_from(u64::from_le_bytes(bytes.try_into().ok()?)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_memory_is_an_empty_one_and_an_absurd_one_allocates_nothing() {
        let recollection = Recollection::default();
        let keys: Vec<RecipeKey> = (0..3).map(|number| RecipeKey::of_document(&number.to_string())).collect();
        lock(&recollection.fresh).extend(keys.iter().map(|key| (*key, b"body".to_vec())));
        let whole = Bytes::from(recollection.encode());
        let again = Recollection::decode(&whole).expect("what was written");
        assert!(again.rows().iter().all(|row| again.body(row) == Some(b"body")));
        assert_eq!(again.encode(), whole);
        assert!(again.entry(&keys[0]).is_none(), "four bytes are no entry");
        for at in 0..FRONT + 3 * ROW {
            assert!(Recollection::decode(&whole.slice(..at)).is_none(), "cut at {at}");
        }
        assert!(Recollection::decode(&[HEADER, &u64::MAX.to_le_bytes()].concat().into()).is_none());
        assert_eq!(range(&[u64::MAX.to_le_bytes(), u64::MAX.to_le_bytes()].concat()), None);
    }
}
