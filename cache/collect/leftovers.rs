//! What nobody can ask for any more: what runs, steps and downloads left behind, damaged files, checkouts of what is
//! gone. Says where each lies and takes it away.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::remove;
use super::roots::Roots;
use crate::census::{Census, digest_of, files_below, weight};
use crate::files::{listed, name_of};
use crate::lock::FileLock;
use crate::records::read_if_there;
use crate::store::Store;
use crate::{ActionKey, Artifact, CacheError, Digest};

/// Kinds of leftovers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeftoverKind {
    /// A blob that no result stands on.
    Orphan,
    /// A whole file that is kept in pieces too.
    Whole,
    /// Checkpoints of a step that has its result, or that nobody went on with for long.
    State,
    /// A damaged file that was moved aside.
    Quarantine,
    /// History and logs of an old run.
    History,
    /// The scratch folder of a dead process.
    Scratch,
    /// A checkout of a folder that is gone.
    View,
    /// A manifest or a note about a blob that is gone.
    Note,
    /// A download that was cut long ago.
    Download,
    /// The note of an upload that was cut long ago.
    Upload,
    /// The record of a result that was collected long ago, or made again.
    Past,
    /// A part of a layer's catalogue that nobody has read for long; it is asked for again when it is needed.
    Catalogue,
    /// What somebody has signed of an action that nothing remembers any more.
    Signature,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// What it is.
    pub kind: LeftoverKind,
    /// Where it lies; blobs are counted together, and lie in `cas`.
    pub path: PathBuf,
    /// How many files it is.
    pub files: usize,
    /// Their bytes; files that are further names of blobs weigh nothing.
    pub bytes: u64,
}

impl Leftover {
    /// These blobs together; none where there are none.
    pub(super) fn of_blobs(kind: LeftoverKind, census: &Census, blobs: &BTreeSet<Digest>) -> Option<Leftover> {
        let (files, bytes) = (blobs.len(), census.bytes(blobs));
        (files > 0).then(|| Leftover { kind, path: PathBuf::from("cas"), files, bytes })
    }

    fn at(kind: LeftoverKind, path: PathBuf) -> Result<Leftover, CacheError> {
        let found = match fs::symlink_metadata(&path) {
            Ok(metadata) if !metadata.is_dir() => vec![(path.clone(), metadata)],
            _ => files_below(&path)?,
        };
        let bytes = found.iter().map(|(_, metadata)| weight(metadata)).sum();
        Ok(Leftover { kind, path, files: found.len(), bytes })
    }
}

impl Store {
    pub(super) fn leftovers(
        &self,
        census: &Census,
        roots: &Roots,
        forgotten: SystemTime,
        wanted: &dyn Fn(&Digest) -> bool,
    ) -> Result<Vec<Leftover>, CacheError> {
        let made: BTreeSet<ActionKey> = census.kept.iter().map(|kept| kept.action).collect();
        let folder = |name| listed(&self.inner.layout.folder(name));
        let mut found = Vec::new();
        for path in folder("state")? {
            let action = name_of(&path).trim_end_matches(".kept").parse::<ActionKey>().ok();
            let lives = action.is_some_and(|action| roots.live.contains(&action) || self.is_kept(&action));
            let done = action.is_some_and(|action| made.contains(&action));
            found.extend((!lives && (done || is_forgotten(&path, forgotten)?)).then_some((LeftoverKind::State, path)));
        }
        found.extend(folder("quarantine")?.into_iter().map(|path| (LeftoverKind::Quarantine, path)));
        for path in folder("runs")? {
            let kept = roots.runs.contains(name_of(&path)) || !is_forgotten(&path, forgotten)?;
            found.extend((!kept).then_some((LeftoverKind::History, path)));
        }
        found.extend(self.dead_scratch()?.into_iter().map(|path| (LeftoverKind::Scratch, path)));
        let gone = |path: &Path| !name_of(path).parse::<Digest>().is_ok_and(|digest| wanted(&digest));
        found.extend(folder("views")?.into_iter().filter(|path| gone(path)).map(|path| (LeftoverKind::View, path)));
        for name in ["packs", "splits"] {
            let files = files_below(&self.inner.layout.folder(name))?.into_iter().map(|(path, _)| path);
            let gone = files.filter(|path| !digest_of(path).is_some_and(|digest| wanted(&digest)));
            found.extend(gone.map(|path| (LeftoverKind::Note, path)));
        }
        let ancestors = ancestors(census);
        for past in &census.past {
            let again = made.contains(&past.action);
            let unasked = !ancestors.contains(&past.action) && is_forgotten(&past.path, forgotten)?;
            found.extend((again || unasked).then(|| (LeftoverKind::Past, past.path.clone())));
        }
        let aging = [
            ("partial", LeftoverKind::Download),
            ("uploads", LeftoverKind::Upload),
            ("layers", LeftoverKind::Catalogue),
        ];
        for (name, kind) in aging {
            for path in folder(name)? {
                found.extend(is_forgotten(&path, forgotten)?.then_some((kind, path)));
            }
        }
        found.extend(self.idle_signatures(census, forgotten)?.into_iter().map(|path| (LeftoverKind::Signature, path)));
        found.into_iter().map(|(kind, path)| Leftover::at(kind, path)).collect()
    }

    /// A signature outlives the record it came with, for as long as that is remembered: without it, the record would pass
    /// for one's own.
    fn idle_signatures(&self, census: &Census, forgotten: SystemTime) -> Result<Vec<PathBuf>, CacheError> {
        let known: BTreeSet<Digest> = census.kept.iter().chain(&census.past).map(|kept| kept.action.digest()).collect();
        let mut idle = Vec::new();
        for (path, _) in files_below(&self.inner.layout.folder("signed"))? {
            let kept = path.parent().and_then(digest_of).is_some_and(|action| known.contains(&action));
            if !kept && is_forgotten(&path, forgotten)? {
                idle.push(path);
            }
        }
        for (path, _) in files_below(&self.inner.layout.folder("confirmed"))? {
            let kept = digest_of(&path).is_some_and(|action| known.contains(&action));
            if !kept && is_forgotten(&path, forgotten)? {
                idle.push(path);
            }
        }
        Ok(idle)
    }

    /// Whether a detached step of this action goes on: its keeper holds a lock beside the state folder.
    fn is_kept(&self, action: &ActionKey) -> bool {
        let lock = self.inner.layout.state(action).with_extension("kept").join("keeper.lock");
        // Only looked at: taking the lock would touch the folder, whose age counts.
        fs::File::open(lock).is_ok_and(|file| matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock)))
    }

    /// Folders in the scratch space whose process is dead.
    fn dead_scratch(&self) -> Result<Vec<PathBuf>, CacheError> {
        let mut dead = Vec::new();
        for path in listed(&self.inner.layout.scratch())? {
            let is_lock = path.extension().is_some_and(|extension| extension == "lock");
            if !is_lock && matches!(FileLock::try_take(&lock_of(&path), ""), Ok(Some(_))) {
                dead.push(path);
            }
        }
        Ok(dead)
    }

    pub(super) fn take_away(&self, leftover: &Leftover) -> Result<(), CacheError> {
        match leftover.kind {
            // These are removed one by one.
            LeftoverKind::Orphan | LeftoverKind::Whole => Ok(()),
            LeftoverKind::Scratch => match FileLock::try_take(&lock_of(&leftover.path), "") {
                Ok(Some(_held)) => remove(&leftover.path),
                _ => Ok(()),
            },
            _ => remove(&leftover.path),
        }
    }

    /// Downloads that are remembered: where the note lies, what it is of, and the bytes.
    pub(super) fn downloads(&self) -> Result<Vec<(PathBuf, String, Artifact)>, CacheError> {
        let mut downloads = Vec::new();
        for (path, _) in files_below(&self.inner.layout.folder("index").join("fetched"))? {
            let note = read_if_there(&path)?.and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
            let Some(note) = note else { continue };
            let about = note["about"].as_str().unwrap_or("a download").to_owned();
            if let Ok(artifact) = serde_json::from_value(note["artifact"].clone()) {
                downloads.push((path, about, artifact));
            }
        }
        Ok(downloads)
    }
}

/// The actions that results which are there were made from, directly or not.
fn ancestors(census: &Census) -> BTreeSet<ActionKey> {
    let known: BTreeMap<ActionKey, &[ActionKey]> =
        census.past.iter().chain(&census.kept).map(|kept| (kept.action, kept.ancestry.as_slice())).collect();
    let mut found = BTreeSet::new();
    let mut waiting: Vec<ActionKey> = census.kept.iter().flat_map(|kept| &kept.ancestry).copied().collect();
    while let Some(action) = waiting.pop() {
        if found.insert(action) {
            waiting.extend(known.get(&action).copied().unwrap_or_default());
        }
    }
    found
}

fn lock_of(scratch: &Path) -> PathBuf {
    let mut name = scratch.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

/// Whether nothing in it was touched since.
fn is_forgotten(path: &Path, since: SystemTime) -> Result<bool, CacheError> {
    let old = |metadata: &Metadata| metadata.modified().is_ok_and(|modified| modified < since);
    let Ok(own) = fs::symlink_metadata(path) else { return Ok(false) };
    let inside = if own.is_dir() { files_below(path)? } else { Vec::new() };
    Ok(old(&own) && inside.iter().all(|(_, metadata)| old(metadata)))
}
