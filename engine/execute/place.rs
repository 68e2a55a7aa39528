//! Lays out a step's scratch folder: `inputs/NAME`, `outputs/FILE`, and for the user's programs `work/` with copies
//! of the listed files. An input is laid out under its name alone, since nothing else of its origin is in the key.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use plumb_cache::{Artifact, CacheError, Materialise, Store};

use crate::error::EngineError;
use crate::io::{Branch, InputPlace};
use crate::source::Local;
use crate::stage::{InputSpec, Kind};

/// Where an artifact comes from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// From the cache.
    Cache(Artifact),
    /// From outside: a source, with the digest that the key was made with.
    Source {
        /// Name under `[source.NAME]`.
        name: String,
        /// Where it lies.
        local: Local,
        /// What it must be.
        artifact: Artifact,
    },
}

/// One input that is to be laid out.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// One artifact.
    One(Origin),
    /// A table of branches; a missing one has no origin and keeps its labels.
    Gathered(Vec<(Branch, Option<Origin>)>),
}

/// How the inputs are laid out.
#[derive(Clone, Copy)]
pub struct Layout<'a> {
    /// The cache.
    pub store: &'a Store,
    /// The scratch folder.
    pub scratch: &'a Path,
    /// The kind: it says what is mutable, and whether its program is of the house.
    pub kind: &'a dyn Kind,
}

impl Layout<'_> {
    /// Lays out every input.
    pub fn inputs(&self, wanted: &BTreeMap<String, Wanted>) -> Result<BTreeMap<String, InputPlace>, EngineError> {
        wanted.iter().map(|(name, wanted)| Ok((name.clone(), self.input(name, wanted)?))).collect()
    }

    fn input(&self, name: &str, wanted: &Wanted) -> Result<InputPlace, EngineError> {
        let place = self.scratch.join("inputs").join(name);
        let how = self.how(name);
        match wanted {
            Wanted::One(origin) => self.lay(origin, &place, how).map(InputPlace::One),
            Wanted::Gathered(branches) => {
                let branches = branches.iter().enumerate().map(|(index, (branch, origin))| {
                    let place = place.join(format!("{index:04}"));
                    let path = origin.as_ref().map(|origin| self.lay(origin, &place, how)).transpose()?;
                    Ok(Branch { path, ..branch.clone() })
                });
                branches.collect::<Result<_, EngineError>>().map(InputPlace::Gathered)
            }
        }
    }

    /// Root ignores read-only, so a program that the house did not write gets what it may spoil.
    fn how(&self, name: &str) -> Materialise {
        let declaration = self.kind.declaration();
        let mutable = |spec: &&InputSpec| spec.name == name && spec.mutable;
        if declaration.open || declaration.inputs.iter().any(|spec| mutable(&spec)) {
            Materialise::Private
        } else {
            Materialise::Shared
        }
    }

    fn lay(&self, origin: &Origin, place: &Path, how: Materialise) -> Result<PathBuf, EngineError> {
        match origin {
            Origin::Cache(artifact) => {
                self.store.materialise(artifact, place, how)?;
                Ok(place.to_owned())
            }
            Origin::Source { local, .. } => local.lay(place, how),
        }
    }
}

/// What `{in:NAME}` means: the artifact, or for a gather the JSON table of its branches (paths relative to it).
pub fn paths_for_program(
    inputs: &BTreeMap<String, InputPlace>,
    scratch: &Path,
) -> Result<BTreeMap<String, PathBuf>, EngineError> {
    let path = |(name, place): (&String, &InputPlace)| {
        let path = match place {
            InputPlace::One(path) => path.clone(),
            InputPlace::Gathered(branches) => write_table(&scratch.join("inputs").join(name), branches)?,
        };
        Ok((name.clone(), path))
    };
    inputs.iter().map(path).collect()
}

fn write_table(folder: &Path, branches: &[Branch]) -> Result<PathBuf, EngineError> {
    let relative = |branch: &Branch| {
        let name = branch.path.as_ref().and_then(|path| path.file_name()).map(PathBuf::from);
        Branch { path: name, ..branch.clone() }
    };
    let table: Vec<Branch> = branches.iter().map(relative).collect();
    let text = serde_json::to_vec_pretty(&table).map_err(|error| EngineError::Bug(error.to_string()))?;
    let path = folder.join("branches.json");
    fs::create_dir_all(folder).and_then(|()| fs::write(&path, text)).map_err(EngineError::io("write", &path))?;
    Ok(path)
}

/// Copies a file or folder from outside (std copies by reflink where the file system can). Links are followed.
pub fn copy(from: &Path, to: &Path) -> Result<(), EngineError> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(EngineError::io("make the folder", parent))?;
    }
    copy_inside(from, to)
}

fn copy_inside(from: &Path, to: &Path) -> Result<(), EngineError> {
    if !from.is_dir() {
        return fs::copy(from, to).map(|_| ()).map_err(EngineError::io("copy", from));
    }
    fs::create_dir_all(to).map_err(EngineError::io("make the folder", to))?;
    for entry in fs::read_dir(from).map_err(EngineError::io("list", from))? {
        let entry = entry.map_err(EngineError::io("list", from))?;
        copy_inside(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

/// Copies an artifact out of the cache to where people expect it: complete or not at all. Says whether anything
/// had to be written.
pub fn copy_out(store: &Store, artifact: &Artifact, destination: &Path) -> Result<bool, EngineError> {
    if destination.exists()
        && store.digest_source(destination).is_ok_and(|there| there.identity() == artifact.identity())
    {
        return Ok(false);
    }
    let folder = destination.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(EngineError::io("make the folder", folder))?;
    let beside = tempfile::Builder::new().prefix(".plumb-").tempdir_in(folder);
    let beside = beside.map_err(EngineError::io("write in", folder))?;
    let fresh = beside.path().join("fresh");
    store.materialise(artifact, &fresh, Materialise::Private)?;
    if destination.is_dir() {
        // A folder cannot be renamed onto a full one; the old one goes when `beside` does.
        let old = beside.path().join("old");
        fs::rename(destination, &old).map_err(EngineError::io("replace", destination))?;
    }
    fs::rename(&fresh, destination).map_err(EngineError::io("write", destination))?;
    Ok(true)
}

/// Writes a file of the user's, whole or not at all.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), EngineError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(EngineError::io("make the folder", folder))?;
    let beside = tempfile::Builder::new().prefix(".plumb-").tempdir_in(folder);
    let fresh = beside.map_err(EngineError::io("write in", folder))?;
    let fresh = (fresh.path().join("fresh"), fresh);
    fs::write(&fresh.0, bytes).map_err(EngineError::io("write", &fresh.0))?;
    fs::rename(&fresh.0, path).map_err(EngineError::io("write", path))
}

/// The first source or listed file whose bytes are not those that the key was made with.
pub fn changed<'a>(
    store: &Store,
    outside: impl Iterator<Item = (&'a str, Local, &'a Artifact)>,
) -> Result<Option<String>, CacheError> {
    for (name, local, artifact) in outside {
        match local.digest(store) {
            Ok(now) if now.identity() == artifact.identity() => {}
            Ok(_) | Err(CacheError::Changed { .. } | CacheError::Io { .. }) => return Ok(Some(name.to_string())),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
