//! Bringing a bundle into a cache: its results, if they are trusted with everything they were made from, and the records
//! of what that was. The bytes are hashed once more on their way: the file may be another by now.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use super::{Bundle, Bundled, Span, place_of};
use crate::blobs::{Temp, settle};
use crate::files::{self, Durability};
use crate::hash::finish;
use crate::store::Store;
use crate::{
    ActionRecord, CacheError, Digest, Policy, Publication, Realisation, RecipeKey, SignedRecord, Verdict, Witnesses,
};

/// What became of a bundle.
#[derive(Debug, Clone, PartialEq)]
pub enum Imported {
    /// Its results, and what became of each.
    Done(Vec<(SignedRecord, Importing)>),
    /// Nothing was brought: this result, or an ancestor of it, is not trusted.
    Refused(Box<SignedRecord>, Verdict),
}

/// What became of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Importing {
    /// It is the result of its action from now on.
    New,
    /// It was here.
    Here,
    /// Another result of its action is used; this one is kept beside it.
    Witness,
    /// It was disowned here, and stays out.
    Disowned,
}

/// Who says what about the past: the bundle, this cache, and what came into it.
struct Voices<'a> {
    bundle: &'a Bundle,
    store: &'a Store,
}

impl Witnesses for Voices<'_> {
    fn records(&self, recipe: &RecipeKey) -> Result<Vec<SignedRecord>, CacheError> {
        let bundled = self.bundle.records.iter().map(|bundled| &bundled.signed);
        let mut records: Vec<_> = bundled.filter(|signed| signed.record().recipe == *recipe).cloned().collect();
        for record in self.store.views(recipe, |action| self.store.remembered(action))? {
            records.extend(self.store.signed_by_others(&record.action)?);
        }
        records.retain(|signed| signed.record().recipe == *recipe);
        Ok(records)
    }

    fn own(&self, recipe: &RecipeKey, made: &Realisation) -> Result<Option<ActionRecord>, CacheError> {
        let Some(own) = self.store.made_here(made)? else { return Ok(None) };
        let here = self.store.lineage_here(recipe, &made.action)?.filter(|record| record.realisation() == *made);
        Ok(here.or(Some(own).filter(|own| own.recipe == *recipe)))
    }
}

impl Store {
    /// Brings a bundle, all of it or nothing. `progress` is told the bytes of blobs as they come.
    pub fn import_bundle(
        &self,
        bundle: &Bundle,
        policy: &Policy,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Imported, CacheError> {
        self.must_write("importing a bundle")?;
        // No collector comes between the bytes and what stands on them.
        let _hold = self.hold()?;
        let voices = Voices { bundle, store: self };
        for Bundled { signed, .. } in bundle.records.iter().filter(|bundled| bundled.whole) {
            match policy.judge(signed, &voices)? {
                Verdict::Trusted => {}
                verdict => return Ok(Imported::Refused(Box::new(signed.clone()), verdict)),
            }
        }
        // Records of what was before come first: whatever is here can then be explained, wherever this is cut.
        for Bundled { signed, .. } in bundle.records.iter().filter(|bundled| !bundled.whole) {
            if self.lineage_here(&signed.record().recipe, &signed.record().action)?.is_none() {
                self.keep_signed(signed)?;
                self.remember_record(signed.record())?;
            }
        }
        let mut file =
            File::open(&bundle.path).map_err(|source| CacheError::system("reading", &bundle.path, source))?;
        for (digest, span) in &bundle.blobs {
            if !self.holds(digest, span.size)? {
                self.import_blob(bundle, &mut file, digest, *span)?;
            }
            progress(span.size);
        }
        let mut done = Vec::new();
        for Bundled { signed, .. } in bundle.records.iter().filter(|bundled| bundled.whole) {
            let became = self.import_record(signed)?;
            if bundle.results.contains(&place_of(signed)) {
                done.push((signed.clone(), became));
            }
        }
        Ok(Imported::Done(done))
    }

    fn import_record(&self, signed: &SignedRecord) -> Result<Importing, CacheError> {
        let record = signed.record();
        // To publish it would take the mark back.
        if self.bears_a_mark(record)? {
            return Ok(Importing::Disowned);
        }
        // As in `layer::pull`: whose word it is must be known before it is a result. One's own needs nobody's.
        if self.made_here(&record.realisation())?.is_none() {
            self.keep_signed(signed)?;
        }
        Ok(match self.publish(record)? {
            Publication::New => Importing::New,
            Publication::Same => Importing::Here,
            Publication::Witness => Importing::Witness,
        })
    }

    fn keep_signed(&self, signed: &SignedRecord) -> Result<(), CacheError> {
        let record = signed.record();
        let place = self.inner.layout.signed(&record.action, &record.recipe, &signed.signer());
        self.replace(&place, &signed.encode(), Durability::Disk, "keeping a signed record in")
    }

    fn import_blob(&self, bundle: &Bundle, from: &mut File, digest: &Digest, span: Span) -> Result<(), CacheError> {
        let reading = |source| CacheError::system("reading", &bundle.path, source);
        let temp = Temp::new(self)?;
        let writing = |source| CacheError::writing("storing", &temp.path, source);
        let mut to = files::create(&temp.path).map_err(writing)?;
        from.seek(SeekFrom::Start(span.offset)).map_err(reading)?;
        let mut hasher = blake3::Hasher::new();
        let mut chunk = vec![0; 1 << 20];
        let mut left = from.take(span.size);
        loop {
            let length = left.read(&mut chunk).map_err(reading)?;
            if length == 0 {
                break;
            }
            hasher.update_rayon(&chunk[..length]);
            to.write_all(&chunk[..length]).map_err(writing)?;
        }
        if finish(&hasher) != *digest {
            return Err(bundle.bad("it changed while it was being read".into()));
        }
        settle(&to, self.durability()).map_err(writing)?;
        self.place(&temp.path, digest, span.size)
    }
}
