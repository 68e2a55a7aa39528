//! The collector: what is in the cache and need not be. First what nobody can ask for any more, then, down to a size,
//! the results that cost the least to make again for the bytes they hold. Roots stay: pins, what runs that go on and
//! the last runs used, actions that are claimed, what lock files name.
//!
//! The gate is closed meanwhile (see `gate`). The record of a result goes first and its blobs after it: a kill in the
//! middle leaves a miss and some blobs for the next collector, never a record that lies. On a disk that is too full even
//! for a folder, the records that go are not remembered.

mod choice;
mod leftovers;
mod roots;

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::SystemTime;

use choice::Choice;
pub use leftovers::{Leftover, LeftoverKind};

use crate::files::{self, Durability, remove_file};
use crate::store::Store;
use crate::{ActionKey, CacheError};

/// What to collect.
#[derive(Debug, Clone, Copy)]
pub struct CollectOptions {
    /// Evict results until the cache is no larger than this.
    pub max_size: Option<u64>,
    /// The results of so many last runs of each pipeline file stay.
    pub keep_runs: usize,
    /// Checkpoints, histories and cut downloads that were not touched since then go.
    pub forgotten: SystemTime,
    /// Whole files that are kept in pieces too go (see `Store::pack`).
    pub drop_whole: bool,
}

/// A result that goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Evicted {
    /// The action that made it; `None` for a download.
    pub action: Option<ActionKey>,
    /// The address of the step when it was made, or what was downloaded.
    pub step: String,
    /// The name of its pipeline.
    pub pipeline: String,
    /// The bytes that went with it.
    pub bytes: u64,
    /// What making it took, in seconds.
    pub seconds: f64,
}

/// What a collection takes away.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Collection {
    /// Results, the first to go first.
    pub evicted: Vec<Evicted>,
    /// What nobody can ask for.
    pub leftovers: Vec<Leftover>,
    /// Bytes of the cache before.
    pub before: u64,
    /// And after.
    pub after: u64,
    /// The bytes that roots hold.
    pub rooted: u64,
}

impl Collection {
    /// The time it would take to make the evicted results again, one after the other, in seconds.
    pub fn seconds(&self) -> f64 {
        self.evicted.iter().map(|evicted| evicted.seconds).sum()
    }
}

impl Store {
    /// What `collect` would take away just now. Changes nothing.
    pub fn plan_collection(&self, options: &CollectOptions) -> Result<Collection, CacheError> {
        Ok(self.choose(options)?.told())
    }

    /// Collects. `waiting` is told if runs have to be waited for that look something up or store something just now.
    pub fn collect(&self, options: &CollectOptions, waiting: &mut dyn FnMut()) -> Result<Collection, CacheError> {
        let _closed = self.close_gate(waiting)?;
        let choice = self.choose(options)?;
        self.carry_out(&choice)?;
        Ok(choice.told())
    }

    fn carry_out(&self, choice: &Choice) -> Result<(), CacheError> {
        for (path, past) in choice.evicted_files() {
            let buried = past.map(|action| self.bury(path, action));
            match buried {
                Some(Err(CacheError::Full { .. })) | None => remove(path)?,
                Some(buried) => buried?,
            }
        }
        for digest in choice.unwanted() {
            remove(&self.inner.layout.blob(digest))?;
        }
        for leftover in choice.leftovers() {
            self.take_away(leftover)?;
        }
        self.prune_indexes(&choice.remaining())
    }

    /// The record goes out of sight of every lookup at once, and stays for `why` and for the ancestry of others. Its
    /// file's modification time says when it went.
    pub(crate) fn bury(&self, record: &Path, action: &ActionKey) -> Result<(), CacheError> {
        let past = self.inner.layout.past(action);
        let moved = files::make_parent(&past).and_then(|()| fs::rename(record, &past));
        let moved = moved.and_then(|()| files::touch(&past));
        moved.map_err(|source| CacheError::writing("moving a record to", &past, source))
    }

    /// When the result of an action was taken out of the cache; `None` where it is there, or never was (see `remember_record`).
    pub fn collected_at(&self, action: &ActionKey) -> Option<SystemTime> {
        let gone = !self.inner.layout.action(action).exists();
        let past = fs::metadata(self.inner.layout.past(action)).ok().filter(|past| gone && !files::is_sealed(past))?;
        past.modified().ok()
    }

    /// Drops the lines of actions that have no record any more. They are only hints: a reader skips them as well.
    fn prune_indexes(&self, remaining: &std::collections::BTreeSet<ActionKey>) -> Result<(), CacheError> {
        for folder in ["recipes", "by_stage"] {
            for (path, _) in crate::census::files_below(&self.inner.layout.folder(folder))? {
                let bytes = fs::read(&path).map_err(|source| CacheError::system("reading", &path, source))?;
                let text = String::from_utf8_lossy(&bytes);
                let lives = |line: &&str| {
                    let action = line.split(' ').next().unwrap_or_default().parse();
                    action.is_ok_and(|action| remaining.contains(&action))
                };
                let kept: String = text.lines().filter(lives).map(|line| format!("{line}\n")).collect();
                if kept.is_empty() {
                    remove(&path)?;
                } else if kept.len() != bytes.len() {
                    self.replace(&path, kept.as_bytes(), Durability::Memory, "shortening")?;
                }
            }
        }
        Ok(())
    }
}

/// Removes a file or a whole folder that may be gone already.
pub(crate) fn remove(path: &Path) -> Result<(), CacheError> {
    if !fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
        return remove_file(path).map(|_| ());
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(CacheError::writing("removing", path, error)),
        _ => Ok(()),
    }
}
