//! Two artifacts, file by file: bit-equal, within tolerance, or diverged, and where. JSON, JSONL and safetensors are
//! compared as numbers; anything else only as bytes.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use plumb_cache::{Artifact, Materialise, Store};
use serde::{Deserialize, Serialize};

use super::Tolerance;
use super::numbers::{self, Worst};
use crate::error::EngineError;

/// How like two results are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Likeness {
    /// The same bytes.
    BitEqual,
    /// Other bytes; every number within tolerance.
    WithinTolerance {
        /// The largest |a - b| / |b|.
        worst_relative: f64,
        /// Where it is.
        at: String,
    },
    /// More than that.
    Diverged {
        /// The first place.
        at: String,
    },
}

impl Likeness {
    /// The worse, the higher.
    pub fn rank(&self) -> u8 {
        match self {
            Self::BitEqual => 0,
            Self::WithinTolerance { .. } => 1,
            Self::Diverged { .. } => 2,
        }
    }
}

/// Compares two artifacts; without a tolerance every other bit is a divergence.
pub(super) fn artifacts(
    store: &Store,
    scratch: &Path,
    before: &Artifact,
    again: &Artifact,
    tolerance: Option<Tolerance>,
) -> Result<Likeness, EngineError> {
    if before.identity() == again.identity() {
        return Ok(Likeness::BitEqual);
    }
    let places = [(before, "before"), (again, "again")].map(|(artifact, name)| {
        let folder = scratch.join(format!("{name}-{}", artifact.digest));
        if !folder.exists() {
            store.materialise(artifact, &folder, Materialise::Shared)?;
        }
        Ok::<PathBuf, EngineError>(folder)
    });
    let [before, again] = places;
    folders(&before?, &again?, tolerance)
}

fn folders(before: &Path, again: &Path, tolerance: Option<Tolerance>) -> Result<Likeness, EngineError> {
    let (ours, theirs) = (files(before)?, files(again)?);
    if let Some(only) = ours.symmetric_difference(&theirs).next() {
        return Ok(Likeness::Diverged { at: format!("`{}` is in one of them only", only.display()) });
    }
    let mut worst = Worst::default();
    for name in ours {
        let place = |folder: &Path| if name.as_os_str().is_empty() { folder.to_owned() } else { folder.join(&name) };
        let (left, right) = (mapped(&place(before))?, mapped(&place(again))?);
        let (left, right) = (&left[..], &right[..]);
        if left == right {
            continue;
        }
        let told = if name.as_os_str().is_empty() { String::new() } else { format!("`{}`, ", name.display()) };
        let found = match tolerance {
            Some(tolerance) => numbers::compare(left, right, tolerance, &mut worst),
            None => Err(first_byte(left, right)),
        };
        if let Err(at) = found {
            return Ok(Likeness::Diverged { at: format!("{told}{at}") });
        }
    }
    Ok(worst.likeness())
}

/// A file's bytes, not read into memory: two models may be larger than that.
fn mapped(path: &Path) -> Result<Mmap, EngineError> {
    let file = File::open(path).map_err(EngineError::io("read", path))?;
    // SAFETY: blobs are read-only and never rewritten in place, and what is materialised here is this process's own.
    unsafe { Mmap::map(&file) }.map_err(EngineError::io("map", path))
}

/// Relative paths of the files of a folder; of a file, the empty path.
fn files(root: &Path) -> Result<BTreeSet<PathBuf>, EngineError> {
    let mut found = BTreeSet::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(inner) = waiting.pop() {
        let path = root.join(&inner);
        if !path.is_dir() {
            found.insert(inner);
            continue;
        }
        for entry in std::fs::read_dir(&path).map_err(EngineError::io("list", &path))? {
            waiting.push(inner.join(entry.map_err(EngineError::io("list", &path))?.file_name()));
        }
    }
    Ok(found)
}

fn first_byte(left: &[u8], right: &[u8]) -> String {
    match left.iter().zip(right).position(|(left, right)| left != right) {
        Some(at) => format!("byte {at}"),
        None => format!("the length: {} bytes, were {}", right.len(), left.len()),
    }
}
