//! A count of all that is in the cache: every record, every blob, and which blobs which record stands on. Reads every
//! record once and keeps of it what lists, figures and the collector ask for. Changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::pack::Manifest;
use crate::records::read_if_there;
use crate::store::Store;
use crate::{ActionKey, ActionRecord, Artifact, CacheError, Cost, Digest};

/// A result that is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// The action that made it.
    pub action: ActionKey,
    /// `ActionRecord::result_digest`.
    pub result: Digest,
    /// A later result of its action that differs from the first.
    pub witness: bool,
    /// The address of the step when it was made.
    pub step: String,
    /// The name of its stage.
    pub stage: String,
    /// The name of its pipeline.
    pub pipeline: String,
    /// RFC 3339.
    pub made_at: String,
    /// Who made it.
    pub made_by: String,
    /// What it took.
    pub cost: Cost,
    /// The actions that made its inputs.
    pub ancestry: Vec<ActionKey>,
    /// Its outputs, and whether each is a diagnostic.
    pub outputs: Vec<(String, Artifact, bool)>,
    /// Where its record lies.
    pub(crate) path: PathBuf,
}

impl Kept {
    fn of(record: ActionRecord, witness: bool, path: PathBuf) -> Kept {
        let result = record.result_digest();
        let outputs = record.outputs.into_iter().map(|(name, output)| (name, output.artifact, output.diagnostic));
        Kept {
            action: record.action,
            result,
            witness,
            ancestry: record.ancestry.values().map(|made| made.action).collect(),
            outputs: outputs.collect(),
            step: record.step,
            stage: record.stage,
            pipeline: record.pipeline,
            made_at: record.made_at,
            made_by: record.made_by,
            cost: record.cost,
            path,
        }
    }

    /// Bytes of all its outputs, each counted as if nobody shared it.
    pub fn size(&self) -> u64 {
        self.outputs.iter().fold(0u64, |sum, (_, artifact, _)| sum.saturating_add(artifact.size))
    }
}

/// All that is in a cache.
#[derive(Debug, Default)]
pub struct Census {
    /// Every result, in no order that means anything.
    pub kept: Vec<Kept>,
    /// Results whose bytes were collected.
    pub past: Vec<Kept>,
    /// Record files that do not read.
    pub unreadable: Vec<PathBuf>,
    /// Every blob with the bytes of its file.
    pub(crate) blobs: BTreeMap<Digest, u64>,
    /// Every whole file that is kept in pieces.
    pub(crate) packs: BTreeMap<Digest, Manifest>,
}

impl Store {
    /// Counts the cache. What comes or goes meanwhile may be in it or not.
    pub fn census(&self) -> Result<Census, CacheError> {
        let mut census = Census { blobs: self.all_blobs()?, packs: self.all_packs()?, ..Census::default() };
        for (folder, witness) in [("actions", false), ("witnesses", true), ("past", false)] {
            let paths = files_below(&self.inner.layout.folder(folder))?;
            let read = paths.into_par_iter().map(|(path, _)| -> Result<_, CacheError> {
                let Some(bytes) = read_if_there(&path)? else { return Ok(None) };
                // The folder of a witness is named by its action, every other record's file.
                let named = if witness { path.parent().and_then(digest_of) } else { digest_of(&path) };
                let record = ActionRecord::decode(&bytes).ok();
                let record = record.filter(|record| named == Some(record.action.digest()));
                Ok(Some(record.map(|record| Kept::of(record, witness, path.clone())).ok_or(path)))
            });
            for found in read.collect::<Result<Vec<_>, CacheError>>()?.into_iter().flatten() {
                match found {
                    Ok(kept) if folder == "past" => census.past.push(kept),
                    Ok(kept) => census.kept.push(kept),
                    Err(path) => census.unreadable.push(path),
                }
            }
        }
        Ok(census)
    }

    pub(crate) fn all_blobs(&self) -> Result<BTreeMap<Digest, u64>, CacheError> {
        let found = files_below(&self.inner.layout.folder("cas"))?;
        Ok(found.iter().filter_map(|(path, metadata)| Some((digest_of(path)?, metadata.len()))).collect())
    }

    pub(crate) fn all_packs(&self) -> Result<BTreeMap<Digest, Manifest>, CacheError> {
        let found = files_below(&self.inner.layout.folder("packs"))?;
        let read = found.par_iter().map(|(path, _)| {
            let Some(digest) = digest_of(path) else { return Ok(None) };
            Ok(self.manifest(&digest)?.map(|manifest| (digest, manifest)))
        });
        Ok(read.collect::<Result<Vec<_>, CacheError>>()?.into_iter().flatten().collect())
    }

    /// Adds the blobs that an artifact stands on, as far as its trees read: folders, files, and the pieces of those
    /// that are kept in pieces. A folder that was gone into before is not gone into again.
    pub(crate) fn reach(&self, census: &Census, artifact: &Artifact, into: &mut Reach) {
        let mut waiting = vec![*artifact];
        while let Some(artifact) = waiting.pop() {
            if into.blobs.insert(artifact.digest)
                && let Some(manifest) = census.packs.get(&artifact.digest)
            {
                into.blobs.extend(manifest.pieces.iter().map(|piece| piece.digest));
            }
            // A tree that cannot be read has lost its blobs already.
            if artifact.is_tree()
                && into.folders.insert(artifact.digest)
                && let Ok(tree) = self.tree(&artifact.digest)
            {
                waiting.extend(tree.artifacts().map(|(_, artifact)| *artifact));
            }
        }
    }
}

/// The blobs that some artifacts stand on.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    pub(crate) blobs: BTreeSet<Digest>,
    /// Those that were read as folders: a file may have the same text.
    pub(crate) folders: BTreeSet<Digest>,
}

impl Census {
    /// Whether the bytes of this digest are there, whole or in pieces.
    pub(crate) fn holds(&self, digest: &Digest) -> bool {
        self.blobs.contains_key(digest) || self.packs.contains_key(digest)
    }

    /// The bytes on disk of these blobs.
    pub(crate) fn bytes<'a>(&self, blobs: impl IntoIterator<Item = &'a Digest>) -> u64 {
        blobs.into_iter().filter_map(|digest| self.blobs.get(digest)).sum()
    }
}

/// Every file below a folder, with what `stat` says; none where there is no folder.
pub(crate) fn files_below(folder: &Path) -> Result<Vec<(PathBuf, Metadata)>, CacheError> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let failed = |source| CacheError::system("listing", &folder, source);
        let listed = match fs::read_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            listed => listed.map_err(failed)?,
        };
        for entry in listed {
            let entry = entry.map_err(failed)?;
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(metadata) => found.push((entry.path(), metadata)),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(source) => return Err(CacheError::system("looking at", &entry.path(), source)),
            }
        }
    }
    Ok(found)
}

/// What removing a file frees: nothing where it has other names.
pub(crate) fn weight(metadata: &Metadata) -> u64 {
    if metadata.nlink() > 1 { 0 } else { metadata.len() }
}

/// The digest that a file's fanned-out name `ab/cdef…` stands for.
pub(crate) fn digest_of(path: &Path) -> Option<Digest> {
    let (fan, rest) = (path.parent()?.file_name()?.to_str()?, path.file_name()?.to_str()?);
    format!("{fan}{rest}").parse().ok()
}
