//! Projects: the pipeline files that were run on this cache, so that the collector keeps what their lock files name.
//! Knows nothing of what a lock file looks like: every digest in it counts.
//!
//! `projects/NAME` is one JSON document, replaced whole, with the digests as they were at the last run: a project on a
//! disk that is away just now keeps its sources.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files::{self, Durability};
use crate::records::read_if_there;
use crate::store::Store;
use crate::uses::project_name;
use crate::{CacheError, Digest};

const FORMAT: u32 = 1;

/// A pipeline file that was run on this cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    format: u32,
    /// The pipeline file.
    pub file: PathBuf,
    /// Its lock file, which may not be there.
    pub lock: PathBuf,
    /// The digests that the lock file names.
    pub digests: BTreeSet<Digest>,
}

impl Store {
    /// Registers a pipeline file and its lock file.
    pub fn register_project(&self, file: &Path, lock: &Path) -> Result<(), CacheError> {
        self.must_write("registering a project")?;
        let place = self.inner.layout.folder("projects").join(project_name(file));
        let whole = |path: &Path| {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            PathBuf::from(path.to_string_lossy().into_owned())
        };
        let digests = digests_of(lock)?.unwrap_or_default();
        let project = Project { format: FORMAT, file: whole(file), lock: whole(lock), digests };
        let text =
            serde_json::to_vec(&project).map_err(|error| CacheError::writing("registering", &place, error.into()))?;
        match read_if_there(&place)?.is_some_and(|there| there == text) {
            true => Ok(()),
            false => self.replace(&place, &text, Durability::Memory, "registering"),
        }
    }

    /// The registered projects with the digests that their lock files name now, or named when they were last seen. One
    /// whose folder is there without the pipeline file is gone, and is left out.
    pub fn projects(&self) -> Result<Vec<Project>, CacheError> {
        let mut projects = Vec::new();
        for path in files::listed(&self.inner.layout.folder("projects"))? {
            let bytes = read_if_there(&path)?.unwrap_or_default();
            let read = serde_json::from_slice::<Project>(&bytes).ok();
            let Some(mut project) = read.filter(|project| project.format == FORMAT && !is_gone(&project.file)) else {
                continue;
            };
            if let Some(now) = digests_of(&project.lock)? {
                project.digests = now;
            }
            projects.push(project);
        }
        projects.sort_by(|one, other| one.file.cmp(&other.file));
        Ok(projects)
    }
}

fn is_gone(file: &Path) -> bool {
    !file.exists() && file.parent().is_some_and(Path::exists)
}

fn digests_of(lock: &Path) -> Result<Option<BTreeSet<Digest>>, CacheError> {
    let Some(bytes) = read_if_there(lock)? else { return Ok(None) };
    let text = String::from_utf8_lossy(&bytes);
    Ok(Some(text.split(|letter: char| !letter.is_ascii_alphanumeric()).filter_map(|word| word.parse().ok()).collect()))
}
