//! Pulling: what a record stands on comes into the cache, folder by folder, then the record. A blob that the layer lost
//! means that the record is not had; a blob that is wrong is refused, and nothing of it is kept.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use super::catalogue::Entry;
use super::packs::SMALL;
use super::{Layer, limits, names};
use crate::blobs::{Temp, settle};
use crate::files::{self, Durability};
use crate::lock::FileLock;
use crate::store::Store;
use crate::{Artifact, CacheError, Digest, Publication, SignedRecord};

/// Where a blob lies that is on its way: what came before the line was cut is there still, from whichever layer.
struct Partial {
    path: PathBuf,
    /// `None` where another process, or another step, is after the same blob: then this one gets all of it for itself.
    _lock: Option<FileLock>,
    _temp: Option<Temp>,
}

/// The text of a folder of a million files has about 100 MB.
pub(crate) const LONGEST_FOLDER: u64 = 1 << 30;

impl Layer {
    /// Brings a record of the catalogue with everything it stands on; `None` where the layer has lost a part of it.
    /// Whether its signer is to be believed was asked before. `progress` is told the bytes of blobs as they come.
    pub fn pull(
        &self,
        store: &Store,
        entry: &Entry,
        signed: &SignedRecord,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Option<Publication>, CacheError> {
        let record = signed.record();
        // A collector may come while the bytes do, since nobody stands on them yet: then once more.
        for last in [false, true] {
            for output in record.outputs.values() {
                if !self.pull_artifact(store, &entry.packs, &output.artifact, progress)? {
                    return Ok(None);
                }
            }
            // Whose word it is must be known before it is a result, and of no result that did not come; a collector
            // between the two would take the word and leave the result.
            let _hold = store.hold()?;
            let place = store.inner.layout.signed(&record.action, &record.recipe, &signed.signer());
            store.replace(&place, &signed.encode(), Durability::Disk, "keeping a signed record in")?;
            store.look_at_marks_again();
            match store.publish(record) {
                Err(CacheError::Missing { .. }) if !last => {}
                published => return published.map(Some),
            }
        }
        Ok(None)
    }

    /// Brings the bytes of an artifact, as far as they are not there; `false` where the layer has lost some.
    pub fn pull_artifact(
        &self,
        store: &Store,
        packs: &[Digest],
        artifact: &Artifact,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<bool, CacheError> {
        let mut seen = BTreeSet::new();
        let mut waiting = vec![*artifact];
        while let Some(artifact) = waiting.pop() {
            // Whole, since the same bytes may be declared to be of another length elsewhere.
            if !seen.insert(artifact) {
                continue;
            }
            let size = if artifact.is_tree() { None } else { Some(artifact.size) };
            if !self.pull_blob(store, packs, &artifact.digest, size, progress)? {
                return Ok(false);
            }
            if artifact.is_tree() {
                let tree = store.tree(&artifact.digest)?;
                if tree.artifact() != artifact {
                    let why = "the folder has other sizes than its record says".to_owned();
                    return Err(self.inner.lied(&names::blob(&artifact.digest), why));
                }
                waiting.extend(tree.artifacts().map(|(_, artifact)| *artifact));
            } else if let Some(length) =
                store.stored_length(&artifact.digest)?.filter(|length| *length != artifact.size)
            {
                let why = format!("{length} bytes are declared to be {}", artifact.size);
                return Err(self.inner.lied(&names::blob(&artifact.digest), why));
            }
        }
        match limits::unreasonable(store, artifact)? {
            Some(why) => Err(self.inner.lied(&names::blob(&artifact.digest), why)),
            None => Ok(true),
        }
    }

    /// Of a folder's text the length is not known before.
    fn pull_blob(
        &self,
        store: &Store,
        packs: &[Digest],
        digest: &Digest,
        size: Option<u64>,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<bool, CacheError> {
        if store.holds(digest, size.unwrap_or(0))? {
            return Ok(true);
        }
        if size.is_none_or(|size| size <= SMALL)
            && let Some(bytes) = self.fetch_from(packs, digest)?
        {
            progress(bytes.len() as u64);
            return store.put(&bytes).map(|_| true);
        }
        let size = match size {
            Some(size) => size,
            None => match self.length_of(digest)? {
                Some(length) if length <= LONGEST_FOLDER => length,
                Some(length) => {
                    let why = format!("the text of a folder has {length} bytes");
                    return Err(self.inner.lied(&names::blob(digest), why));
                }
                None => return Ok(false),
            },
        };
        let partial = Partial::of(store, digest)?;
        if !self.fetch_rest(digest, size, &partial.path, progress)? {
            return Ok(false);
        }
        let settled = File::open(&partial.path).and_then(|file| settle(&file, store.durability()));
        settled.map_err(|source| CacheError::writing("storing", &partial.path, source))?;
        store.place(&partial.path, digest, size)?;
        partial.done()?;
        Ok(true)
    }

    /// From the first of these packs that has it whole: one that was damaged may have been sent again in another.
    fn fetch_from(&self, packs: &[Digest], digest: &Digest) -> Result<Option<Vec<u8>>, CacheError> {
        let mut lied = None;
        for pack in packs {
            match self.fetch_packed(pack, digest) {
                Ok(None) => {}
                Ok(bytes) => return Ok(bytes),
                Err(error @ CacheError::LayerLied { .. }) => lied = Some(error),
                Err(error) => return Err(error),
            }
        }
        lied.map_or(Ok(None), Err)
    }

    fn length_of(&self, digest: &Digest) -> Result<Option<u64>, CacheError> {
        let (inner, name) = (Arc::clone(&self.inner), names::blob(digest));
        self.wait(async move { inner.length(&name).await })
    }
}

impl Partial {
    fn of(store: &Store, digest: &Digest) -> Result<Partial, CacheError> {
        let path = store.partial(&format!("blob {digest}"))?;
        let failed = |source| CacheError::writing("receiving into", &path, source);
        let lock = FileLock::try_take(&path.with_extension("lock"), "").map_err(failed)?;
        let (path, temp) = match &lock {
            Some(_) => (path, None),
            None => Temp::new(store).map(|temp| (temp.path.clone(), Some(temp)))?,
        };
        let made = File::options().write(true).create(true).truncate(false).open(&path);
        made.map_err(|source| CacheError::writing("receiving into", &path, source))?;
        Ok(Partial { path, _lock: lock, _temp: temp })
    }

    /// The blob has its place.
    fn done(&self) -> Result<(), CacheError> {
        files::remove_file(&self.path).map(drop)
    }
}
