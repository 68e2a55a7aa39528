//! The lineage index: what each result of a pipeline was made from, in one file, so that thousands of hits are held
//! against each other without opening thousands of records. Only a memory: every line of it was once read from a
//! record that proved itself, and such a line never becomes false. Damaged or deleted, it costs reading the records.
//!
//! ```text
//! plumb-lineage 1\n   how many results (8)
//! sorted table of     recipe (32)   action (32)   result (32)   first ancestor (4)   how many (4)
//! ancestors           recipe (32)   action (32)   result (32)
//! ```

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::store::Store;
use crate::{ActionKey, CacheError, Digest, Realisation, RecipeKey};

/// What memos of lineages are called.
const MEMO: &str = "lineage";
const HEADER: &[u8] = b"plumb-lineage 1\n";
const FRONT: usize = HEADER.len() + 8;
const ROW: usize = 3 * 32 + 8;
const ANCESTOR: usize = 3 * 32;

/// What was made from what: for each recipe and its realisation, those of its producers.
pub type Lineage = BTreeMap<(RecipeKey, Realisation), BTreeMap<RecipeKey, Realisation>>;

/// The index of one pipeline, as it was read.
#[derive(Debug, Default)]
pub struct LineageIndex {
    table: Bytes,
    ancestors: Bytes,
}

impl LineageIndex {
    /// What a realisation of a recipe was made from; `None` where the index does not know it.
    pub fn made_from(
        &self,
        recipe: &RecipeKey,
        made: &Realisation,
    ) -> Option<impl Iterator<Item = (RecipeKey, Realisation)>> {
        let wanted = named(recipe, made);
        let rows = self.table.as_chunks::<ROW>().0;
        let row = &rows[rows.binary_search_by(|row| row[..ANCESTOR].cmp(&wanted)).ok()?];
        let (first, count) = (number(&row[ANCESTOR..ANCESTOR + 4])?, number(&row[ANCESTOR + 4..])?);
        let ancestors = self.ancestors.as_chunks::<ANCESTOR>().0.get(first..first.checked_add(count)?)?;
        Some(ancestors.iter().map(|bytes| {
            let part = |at: usize| Digest::from_bytes(std::array::from_fn(|index| bytes[at + index]));
            let made = Realisation { action: ActionKey::of_digest(part(32)), result: part(64) };
            (RecipeKey::of_digest(part(0)), made)
        }))
    }

    fn decode(bytes: &Bytes) -> Option<LineageIndex> {
        let (front, body) = bytes.split_at_checked(FRONT)?;
        let count = front.strip_prefix(HEADER)?;
        let rows = usize::try_from(u64::from_le_bytes(count.try_into().ok()?)).ok()?;
        let (table, ancestors) = body.split_at_checked(rows.checked_mul(ROW)?)?;
        Some(LineageIndex { table: bytes.slice_ref(table), ancestors: bytes.slice_ref(ancestors) })
    }
}

impl Store {
    /// The lineage index of a pipeline; an empty one where there is none that reads.
    pub fn lineage_index(&self, pipeline: &str) -> LineageIndex {
        self.memo(MEMO, pipeline).and_then(|bytes| LineageIndex::decode(&bytes)).unwrap_or_default()
    }

    /// Replaces the lineage index of a pipeline.
    pub fn keep_lineage(&self, pipeline: &str, lineage: &Lineage) -> Result<(), CacheError> {
        self.keep_memo(MEMO, pipeline, &encode(lineage))
    }
}

fn encode(lineage: &Lineage) -> Vec<u8> {
    let (mut table, mut ancestors, mut first) = (Vec::with_capacity(lineage.len() * ROW), Vec::new(), 0_u32);
    for ((recipe, made), from) in lineage {
        let Ok(count) = u32::try_from(from.len()) else { continue };
        table.extend(named(recipe, made));
        table.extend(first.to_le_bytes());
        table.extend(count.to_le_bytes());
        ancestors.extend(from.iter().flat_map(|(recipe, made)| named(recipe, made)));
        first = first.saturating_add(count);
    }
    let count = ((table.len() / ROW) as u64).to_le_bytes();
    table.append(&mut ancestors);
    [HEADER, &count, &table].concat()
}

fn named(recipe: &RecipeKey, made: &Realisation) -> [u8; ANCESTOR] {
    let mut bytes = [0; ANCESTOR];
    let parts = [recipe.digest(), made.action.digest(), made.result];
    for (place, digest) in bytes.chunks_exact_mut(32).zip(parts) {
        place.copy_from_slice(digest.as_bytes());
    }
    bytes
}

fn number(bytes: &[u8]) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StoreOptions;

    fn recipe(number: u8) -> RecipeKey {
        RecipeKey::of_document(&number.to_string())
    }

    fn made(number: u8) -> Realisation {
        Realisation { action: ActionKey::of_document(&number.to_string()), result: Digest::of(&[number]) }
    }

    /// Each is made from the two before it.
    fn some() -> Lineage {
        let from = |number: u8| (number.saturating_sub(2)..number).map(|one| (recipe(one), made(one))).collect();
        (0..20).map(|number| ((recipe(number), made(number)), from(number))).collect()
    }

    #[test]
    fn what_was_kept_is_found_again_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
        store.keep_lineage("demo", &some()).unwrap();
        let index = store.lineage_index("demo");
        for ((recipe, made), from) in some() {
            assert_eq!(index.made_from(&recipe, &made).unwrap().collect::<BTreeMap<_, _>>(), from);
        }
        assert!(index.made_from(&recipe(3), &made(4)).is_none(), "another result of the recipe");
        assert!(store.lineage_index("other").made_from(&recipe(3), &made(3)).is_none());
    }

    #[test]
    fn a_cut_index_is_an_empty_one() {
        let whole = Bytes::from(encode(&some()));
        assert!(LineageIndex::decode(&whole).is_some());
        let rows = FRONT + some().len() * ROW;
        for at in 0..rows {
            assert!(LineageIndex::decode(&whole.slice(..at)).is_none(), "cut at {at}");
        }
        let cut = LineageIndex::decode(&whole.slice(..rows)).unwrap();
        assert!(cut.made_from(&recipe(3), &made(3)).is_none(), "its ancestors are cut off");
    }
}
