//! A source whose bytes lie on this machine outside the cache: one file or folder, or the files of a pattern. Digests
//! it, and puts it before a step. Never stores it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use plumb_cache::{Artifact, CacheError, Materialise, Store, Tree};

use super::folder;
use crate::clock;
use crate::error::EngineError;
use crate::execute::place::copy;

/// Bytes outside the cache.
#[derive(Debug, Clone)]
pub enum Local {
    /// A file or folder.
    At(PathBuf),
    /// Files, by their names in the folder that they are for a step.
    Files(BTreeMap<String, PathBuf>),
}

impl Local {
    /// What it is now. A file that has not changed since it was last hashed is not read.
    pub fn digest(&self, store: &Store) -> Result<Artifact, CacheError> {
        match self {
            Local::At(path) => store.digest_source(path),
            Local::Files(files) => {
                let digests = files.iter().map(|(name, path)| Ok((name.clone(), store.digest_source(path)?)));
                let trees = folder::trees(&digests.collect::<Result<_, CacheError>>()?)?;
                Ok(trees.last().map_or_else(|| Tree::default().artifact(), Tree::artifact))
            }
        }
    }

    /// What is at a path inside it; nothing where there is nothing.
    pub fn inside(&self, subpath: &str) -> Option<Local> {
        match self {
            Local::At(path) => Some(Local::At(path.join(subpath))),
            Local::Files(files) => {
                let subpath = subpath.trim_end_matches('/');
                if let Some(path) = files.get(subpath) {
                    return Some(Local::At(path.clone()));
                }
                let below = |(name, path): (&String, &PathBuf)| {
                    let name = name.strip_prefix(subpath)?.strip_prefix('/')?;
                    Some((name.to_owned(), path.clone()))
                };
                let files: BTreeMap<String, PathBuf> = files.iter().filter_map(below).collect();
                (!files.is_empty()).then_some(Local::Files(files))
            }
        }
    }

    /// Makes it readable for a step, at this place or where it lies.
    pub fn lay(&self, place: &Path, how: Materialise) -> Result<PathBuf, EngineError> {
        match (self, how) {
            (Local::At(path), Materialise::Shared) => return Ok(path.clone()),
            (Local::At(path), Materialise::Private) => copy(path, place)?,
            (Local::Files(files), _) => {
                for (name, path) in files {
                    lay_file(path, &place.join(name), how)?;
                }
            }
        }
        Ok(place.to_owned())
    }

    /// When its youngest file was last written, for people.
    pub fn changed_at(&self) -> Option<String> {
        let youngest = match self {
            Local::At(path) => youngest(path),
            Local::Files(files) => files.values().filter_map(|path| youngest(path)).max(),
        };
        youngest.map(clock::at)
    }
}

fn lay_file(path: &Path, place: &Path, how: Materialise) -> Result<(), EngineError> {
    if how == Materialise::Private {
        return copy(path, place);
    }
    let folder = place.parent().unwrap_or(place);
    fs::create_dir_all(folder).map_err(EngineError::io("make the folder", folder))?;
    symlink(path, place).map_err(EngineError::io("link", place))
}

/// Of a folder the youngest file in it; what cannot be looked at counts for nothing here.
fn youngest(path: &Path) -> Option<SystemTime> {
    let mut youngest = None;
    let mut below = vec![path.to_owned()];
    while let Some(path) = below.pop() {
        let Ok(metadata) = fs::metadata(&path) else { continue };
        let is_link = path.is_symlink() && youngest.is_some();
        if metadata.is_dir() && !is_link {
            below.extend(fs::read_dir(&path).ok()?.flatten().map(|entry| entry.path()));
        }
        if metadata.is_file() || youngest.is_none() {
            youngest = youngest.max(metadata.modified().ok());
        }
    }
    youngest
}
