//! Trust: whose records are used. Decides about a record together with everything it was made from; says why one is not
//! used. Knows names and keys; knows nothing of where records come from.
//!
//! A record is used if its signer is trusted, and so is that of a record for every realisation above it: of this recipe,
//! by this action, with this result. A signer may be wrong or lie about what it made itself, not about what it used.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use crate::store::lock;
use crate::{ActionRecord, CacheError, PublicKey, Realisation, RecipeKey, SignedRecord};

/// Whose records are used.
#[derive(Debug, Default)]
pub struct Policy {
    /// Names of the keys that are trusted.
    trusted: BTreeMap<PublicKey, String>,
    /// Names of those that are only known.
    known: BTreeMap<PublicKey, String>,
    /// One's own key.
    own: Option<PublicKey>,
    /// Keys whose word counts for nothing, not even where anybody's does.
    distrusted: BTreeSet<PublicKey>,
    anybody: bool,
    /// Realisations whose whole ancestry was found to be trusted.
    good: Mutex<BTreeSet<Place>>,
}

/// A result as one recipe sees it: its ancestry depends on the recipe.
type Place = (RecipeKey, Realisation);

/// What is thought of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is used.
    Trusted,
    /// Its signer, or that of an ancestor, is not trusted.
    Stranger {
        /// The step that the stranger's record is of.
        step: String,
        /// The stranger's key.
        signer: PublicKey,
        /// The stranger's name, where it is known.
        name: Option<String>,
    },
    /// Nobody who is trusted says how an ancestor was made.
    Unvouched {
        /// The recipe of the ancestor.
        recipe: RecipeKey,
    },
}

/// Who says what about the past: every record of a realisation, whoever signed it.
pub trait Witnesses {
    /// The records of a recipe.
    fn records(&self, recipe: &RecipeKey) -> Result<Vec<SignedRecord>, CacheError>;

    /// The record of this realisation that was made here: one's own word needs no signature. Never one that came from
    /// somebody else, whose word would count for good once it had been believed.
    fn own(&self, recipe: &RecipeKey, made: &Realisation) -> Result<Option<ActionRecord>, CacheError>;
}

impl Policy {
    /// Trusts these keys. `known` are further ones that have names.
    pub fn new(
        trusted: impl IntoIterator<Item = (PublicKey, String)>,
        known: impl IntoIterator<Item = (PublicKey, String)>,
    ) -> Policy {
        Policy { trusted: trusted.into_iter().collect(), known: known.into_iter().collect(), ..Policy::default() }
    }

    /// Uses whatever proves itself, whoever signed it: `--trust-any`.
    #[must_use]
    pub fn of_anybody(self) -> Policy {
        Policy { anybody: true, ..self }
    }

    /// Believes nothing that these keys have signed, whatever else is said.
    #[must_use]
    pub fn distrusting(mut self, keys: impl IntoIterator<Item = PublicKey>) -> Policy {
        self.distrusted.extend(keys);
        self
    }

    /// The keys whose word counts for nothing.
    pub fn distrusted(&self) -> &BTreeSet<PublicKey> {
        &self.distrusted
    }

    /// Whose own this is: the key's name is `you`, and its word counts.
    #[must_use]
    pub fn owned_by(mut self, key: PublicKey) -> Policy {
        self.trusted.insert(key, "you".into());
        Policy { own: Some(key), ..self }
    }

    /// Whether this is one's own key.
    pub fn is_own(&self, key: &PublicKey) -> bool {
        self.own == Some(*key)
    }

    /// Whether the owner of this key was named as somebody to believe: `of_anybody` names nobody.
    pub fn knows_and_trusts(&self, key: &PublicKey) -> bool {
        self.trusted.contains_key(key) && !self.distrusted.contains(key)
    }

    /// The name of a key, or its first digits where it has none.
    pub fn called(&self, key: &PublicKey) -> String {
        self.name(key).map_or_else(|| format!("{}…", &key.to_string()[..20]), str::to_owned)
    }

    /// The name of a key, where it has one.
    pub fn name(&self, key: &PublicKey) -> Option<&str> {
        self.trusted.get(key).or_else(|| self.known.get(key)).map(String::as_str)
    }

    /// Whether this key's word counts.
    pub fn trusts(&self, key: &PublicKey) -> bool {
        (self.anybody || self.trusted.contains_key(key)) && !self.distrusted.contains(key)
    }

    /// What is thought of a record and of all it was made from. Each realisation is looked at once.
    pub fn judge(&self, signed: &SignedRecord, witnesses: &dyn Witnesses) -> Result<Verdict, CacheError> {
        if self.anybody && self.distrusted.is_empty() {
            return Ok(Verdict::Trusted);
        }
        if !self.trusts(&signed.signer()) {
            return Ok(self.stranger(signed));
        }
        let mut seen: BTreeSet<Place> = BTreeSet::new();
        let mut waiting: Vec<Place> = above(signed.record()).collect();
        while let Some(place) = waiting.pop() {
            if lock(&self.good).contains(&place) || !seen.insert(place) {
                continue;
            }
            match self.vouched(&place, witnesses)? {
                Ok(ancestors) => waiting.extend(ancestors),
                Err(verdict) => return Ok(verdict),
            }
        }
        lock(&self.good).extend(seen);
        Ok(Verdict::Trusted)
    }

    /// What a realisation was made from, by the word of one's own cache or of somebody who is trusted.
    fn vouched(
        &self,
        (recipe, made): &Place,
        witnesses: &dyn Witnesses,
    ) -> Result<Result<Vec<Place>, Verdict>, CacheError> {
        if let Some(own) = witnesses.own(recipe, made)? {
            return Ok(Ok(above(&own).collect()));
        }
        let all = witnesses.records(recipe)?;
        let of_it: Vec<&SignedRecord> = all.iter().filter(|signed| signed.record().realisation() == *made).collect();
        let trusted = of_it.iter().find(|signed| self.trusts(&signed.signer()));
        Ok(match (trusted, of_it.first()) {
            (Some(signed), _) => Ok(above(signed.record()).collect()),
            (None, Some(signed)) => Err(self.stranger(signed)),
            // Anybody is believed, and nobody says anything.
            (None, None) if self.anybody => Ok(Vec::new()),
            (None, None) => Err(Verdict::Unvouched { recipe: *recipe }),
        })
    }

    fn stranger(&self, signed: &SignedRecord) -> Verdict {
        let (step, signer) = (signed.record().step.clone(), signed.signer());
        Verdict::Stranger { step, signer, name: self.name(&signer).map(str::to_owned) }
    }
}

fn above(record: &ActionRecord) -> impl Iterator<Item = Place> {
    record.ancestry.iter().map(|(recipe, made)| (*recipe, *made))
}
