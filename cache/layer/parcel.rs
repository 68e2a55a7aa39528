//! A parcel: results, and what others need to believe them, which is the records of everything they were made from. Sends
//! nothing.

use std::collections::BTreeSet;

use crate::store::Store;
use crate::{ActionRecord, CacheError, Realisation, RecipeKey, SecretKey, SignedRecord};

/// Signed records that travel together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parcel {
    /// Those whose bytes go too.
    pub records: Vec<SignedRecord>,
    /// The mere records of what they were made from, as far as that is remembered.
    pub ancestors: Vec<SignedRecord>,
}

impl Parcel {
    /// These results, each in its signer's words or, if it was made here, signed with this key. What was made from an
    /// ancestor that is `known` to be there needs no second look at it.
    pub fn of(
        store: &Store,
        records: Vec<ActionRecord>,
        key: &SecretKey,
        known: &dyn Fn(&RecipeKey, &Realisation) -> bool,
    ) -> Result<Parcel, CacheError> {
        let mut parcel = Parcel::default();
        let mut seen = BTreeSet::new();
        let mut waiting = Vec::new();
        for record in records {
            if seen.insert((record.recipe, record.realisation())) {
                waiting.extend(record.ancestry.clone());
                parcel.records.push(store.signed_here(record, key)?);
            }
        }
        while let Some((recipe, made)) = waiting.pop() {
            if !seen.insert((recipe, made)) || known(&recipe, &made) {
                continue;
            }
            if let Some(above) = store.word_on(&recipe, &made, key)? {
                waiting.extend(above.record().ancestry.clone());
                parcel.ancestors.push(above);
            }
        }
        Ok(parcel)
    }
}
