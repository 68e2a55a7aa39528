//! Verifying a cache: every blob is hashed again, every record read, every manifest tried. Repairs by taking away: a
//! damaged blob is moved aside, a record that lost a blob is dropped, and the step runs again when it is asked for.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::ErrorKind;
use std::path::PathBuf;

use rayon::prelude::*;

use crate::census::{Census, Kept, digest_of, files_below};
use crate::collect::remove;
use crate::hash::{finish, hash_file};
use crate::pack::Manifest;
use crate::store::{Store, lock};
use crate::{ActionKey, Artifact, CacheError, Digest};

/// Whether what is wrong is put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// Damaged files are moved aside, records without their blobs dropped.
    Yes,
    /// Nothing is changed.
    No,
}

/// A record that lost blobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The action.
    pub action: ActionKey,
    /// The address of the step when it was made.
    pub step: String,
    /// The outputs that are not whole any more.
    pub outputs: Vec<String>,
    /// Whether only diagnostics are among them: the record stays, since nothing reads those.
    pub diagnostics_only: bool,
}

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Blobs that were hashed.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Records that were read.
    pub records: usize,
    /// Blobs whose bytes are not those their names promise.
    pub damaged: Vec<Digest>,
    /// Files among the blobs that no digest names: nobody reads them, so they are no damage.
    pub strays: Vec<PathBuf>,
    /// Records that do not read.
    pub unreadable: usize,
    /// Signatures of others that do not hold any more. Their records are dropped: whose they were is not known.
    pub unsigned: Vec<ActionKey>,
    /// Manifests that do not give the file they stand for.
    pub bad_manifests: Vec<Digest>,
    /// Records that lost blobs.
    pub lost: Vec<Lost>,
}

impl Verified {
    /// Whether there was nothing to repair. A log that was lost cannot be made good and is no result.
    pub fn is_clean(&self) -> bool {
        let lost = self.lost.iter().filter(|lost| !lost.diagnostics_only).count();
        self.damaged.len() + self.unreadable + self.unsigned.len() + self.bad_manifests.len() + lost == 0
    }
}

impl Store {
    /// Verifies the whole cache. `progress` is told the bytes of every blob that was hashed, and before that of all.
    pub fn verify(&self, repair: Repair, progress: &(dyn Fn(Progress) + Sync)) -> Result<Verified, CacheError> {
        if repair == Repair::Yes {
            self.must_write("repairing the cache")?;
        }
        let blobs = self.all_blobs()?;
        progress(Progress::Total(blobs.values().sum()));
        let checked = blobs.par_iter().map(|(digest, size)| {
            let whole = self.is_whole(digest, *size);
            progress(Progress::Hashed(*size));
            Ok((*digest, whole?))
        });
        let checked: Vec<(Digest, Option<bool>)> = checked.collect::<Result<_, CacheError>>()?;
        let damaged: Vec<Digest> =
            checked.iter().filter(|(_, whole)| *whole == Some(false)).map(|(digest, _)| *digest).collect();
        let files = files_below(&self.inner.layout.folder("cas"))?.into_iter().map(|(path, _)| path);
        let mut strays: Vec<PathBuf> = files.filter(|path| digest_of(path).is_none()).collect();
        strays.sort();
        let mut found =
            Verified { blobs: blobs.len(), bytes: blobs.values().sum(), damaged, strays, ..Verified::default() };
        if repair == Repair::Yes {
            found.damaged.iter().for_each(|digest| self.put_aside(digest));
        }
        self.verify_records(repair, &mut found)?;
        Ok(found)
    }

    /// `None` for a blob that went away meanwhile.
    fn is_whole(&self, digest: &Digest, size: u64) -> Result<Option<bool>, CacheError> {
        let path = self.inner.layout.blob(digest);
        match hash_file(&path, size) {
            Ok(found) => Ok(Some(found == *digest)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            // What cannot be read is as good as damaged: a bad sector.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => Ok(Some(false)),
            Err(source) => Err(CacheError::system("hashing", &path, source)),
        }
    }

    fn put_aside(&self, digest: &Digest) {
        lock(&self.inner.hashed).remove(digest);
        lock(&self.inner.trees).remove(digest);
        self.move_aside(&self.inner.layout.blob(digest), &digest.to_string());
    }

    fn verify_records(&self, repair: Repair, found: &mut Verified) -> Result<(), CacheError> {
        // A record that is being published has its blobs.
        let _hold = if repair == Repair::Yes { Some(self.hold()?) } else { None };
        let census = self.census()?;
        found.records = census.kept.len();
        found.unreadable = census.unreadable.len();
        let damaged: BTreeSet<Digest> = found.damaged.iter().copied().collect();
        let good = |digest: &Digest| census.blobs.contains_key(digest) && !damaged.contains(digest);
        let bad = self.bad_manifests(&census, &good)?;
        let there = |digest: &Digest| good(digest) || (census.packs.contains_key(digest) && !bad.contains(digest));
        let lost = census.kept.par_iter().filter_map(|kept| Some((kept, self.lost(kept, &there)?)));
        let lost: Vec<(&Kept, Lost)> = lost.collect();
        let unsigned = self.broken_signatures()?;
        if repair == Repair::Yes {
            for path in &census.unreadable {
                self.move_aside(path, "record");
            }
            for (action, path) in &unsigned {
                self.forget(action)?;
                self.move_aside(path, "signature");
            }
            for digest in &bad {
                self.move_aside(&self.inner.layout.pack(digest), &format!("pack-{digest}"));
            }
            for (kept, _) in lost.iter().filter(|(_, lost)| !lost.diagnostics_only) {
                match kept.witness || unsigned.iter().any(|(action, _)| *action == kept.action) {
                    true => remove(&kept.path)?,
                    false => self.bury(&kept.path, &kept.action)?,
                }
            }
        }
        found.unsigned = unsigned.into_iter().map(|(action, _)| action).collect();
        found.bad_manifests = bad.into_iter().collect();
        found.lost = lost.into_iter().map(|(_, lost)| lost).collect();
        found.lost.sort_by(|one, other| (&one.step, one.action).cmp(&(&other.step, other.action)));
        Ok(())
    }

    /// Every record of an action goes, and is not even remembered.
    fn forget(&self, action: &ActionKey) -> Result<(), CacheError> {
        let layout = &self.inner.layout;
        [layout.action(action), layout.past(action), layout.witnesses(action)].iter().try_for_each(|path| remove(path))
    }

    /// The manifests that do not give their file: a piece is gone, or the pieces together are another file.
    fn bad_manifests(
        &self,
        census: &Census,
        good: &(dyn Fn(&Digest) -> bool + Sync),
    ) -> Result<BTreeSet<Digest>, CacheError> {
        let checked = census.packs.par_iter().map(|(digest, manifest)| {
            let whole = manifest.pieces.iter().all(|piece| good(&piece.digest)) && self.gives(digest, manifest)?;
            Ok((!whole).then_some(*digest))
        });
        Ok(checked.collect::<Result<Vec<_>, CacheError>>()?.into_iter().flatten().collect())
    }

    fn gives(&self, digest: &Digest, manifest: &Manifest) -> Result<bool, CacheError> {
        let mut hasher = blake3::Hasher::new();
        for piece in &manifest.pieces {
            let path = self.inner.layout.blob(&piece.digest);
            let read = File::open(&path).and_then(|file| hasher.update_reader(file).map(|_| ()));
            match read {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
                read => read.map_err(|source| CacheError::system("hashing", &path, source))?,
            }
        }
        Ok(finish(&hasher) == *digest)
    }

    fn lost(&self, kept: &Kept, there: &dyn Fn(&Digest) -> bool) -> Option<Lost> {
        let lost = kept.outputs.iter().filter(|(_, artifact, _)| !self.is_there(artifact, there));
        let lost: Vec<&(String, Artifact, bool)> = lost.collect();
        let outputs: Vec<String> = lost.iter().map(|(name, ..)| name.clone()).collect();
        let diagnostics_only = lost.iter().all(|(_, _, diagnostic)| *diagnostic);
        let step = kept.step.clone();
        (!outputs.is_empty()).then_some(Lost { action: kept.action, step, outputs, diagnostics_only })
    }

    fn is_there(&self, artifact: &Artifact, there: &dyn Fn(&Digest) -> bool) -> bool {
        let mut seen = BTreeSet::new();
        let mut waiting = vec![*artifact];
        while let Some(artifact) = waiting.pop() {
            if !there(&artifact.digest) {
                return false;
            }
            if artifact.is_tree() && seen.insert(artifact.digest) {
                match self.tree(&artifact.digest) {
                    Ok(tree) => waiting.extend(tree.artifacts().map(|(_, artifact)| *artifact)),
                    Err(_) => return false,
                }
            }
        }
        true
    }
}

/// How far a verification is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// So many bytes there are to hash.
    Total(u64),
    /// So many more were hashed.
    Hashed(u64),
}
