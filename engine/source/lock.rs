//! The lock file: what each source held when somebody accepted it. `NAME.lock` beside the pipeline `NAME.toml`; TOML,
//! sorted by source, so that a change of one source is a change of its lines. Holds no credential and no path of this
//! machine that the pipeline file does not hold.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use plumb_cache::{Artifact, ArtifactKind, Digest};
use serde::{Deserialize, Serialize};

use super::Known;
use crate::clock;
use crate::error::EngineError;
use crate::graph::Source;

/// The version of the form that is written.
const VERSION: u32 = 1;

/// A lock file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LockFile {
    /// By the name of the source.
    pub pins: BTreeMap<String, Pin>,
}

/// What one source held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// `file`, `folder`, `glob`, `store`, `http`, `s3` or `hub`.
    pub kind: String,
    /// Where it lies, as the pipeline file says it.
    pub from: String,
    /// `file:HEX` or `tree:HEX`: what stands in keys.
    pub digest: String,
    /// Bytes.
    pub size: u64,
    /// Files.
    pub files: u64,
    /// What the server called it: `commit:…` or `etag:…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// When it was accepted.
    pub pinned_at: String,
}

/// The file as TOML.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    version: u32,
    #[serde(default)]
    source: BTreeMap<String, Pin>,
}

impl LockFile {
    /// Where the lock file of a pipeline is.
    pub fn place(pipeline: &Path) -> PathBuf {
        pipeline.with_extension("lock")
    }

    /// The lock file of a pipeline, if it has one.
    pub fn read(pipeline: &Path) -> Result<Option<LockFile>, EngineError> {
        let place = Self::place(pipeline);
        let text = match fs::read_to_string(&place) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(&place, &error.to_string())),
            Ok(text) => text,
        };
        let form: Form = toml::from_str(&text).map_err(|error| unreadable(&place, error.to_string().trim_end()))?;
        if form.version != VERSION {
            return Err(unreadable(
                &place,
                &format!("its version is {}, and this plumb reads {VERSION}", form.version),
            ));
        }
        let wrong = |(name, pin): (&String, &Pin)| pin.artifact().is_none().then(|| (name.clone(), pin.digest.clone()));
        match form.source.iter().find_map(wrong) {
            Some((name, digest)) => Err(unreadable(&place, &format!("`{digest}` is no digest of source `{name}`"))),
            None => Ok(Some(LockFile { pins: form.source })),
        }
    }

    /// Writes it, whole or not at all.
    pub fn write(&self, pipeline: &Path) -> Result<(), EngineError> {
        let place = Self::place(pipeline);
        let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let text = self.text(pipeline)?;
        let written = tempfile::NamedTempFile::new_in(folder).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
            file.persist(&place).map(|_| ()).map_err(|error| error.error)
        });
        written
            .map_err(|error| EngineError::Lock { message: format!("write `{}`: {error}", place.display()), hint: None })
    }

    fn text(&self, pipeline: &Path) -> Result<String, EngineError> {
        let name = pipeline.file_name().unwrap_or_default().to_string_lossy();
        let mut text =
            format!("# What the sources of {name} held when they were accepted. `plumb lock {name}` writes it.\n");
        let form = Form { version: VERSION, source: self.pins.clone() };
        let body = toml::to_string(&form).map_err(|error| EngineError::Bug(error.to_string()))?;
        let _ = write!(text, "{body}");
        Ok(text)
    }
}

impl Pin {
    /// What a source is just now.
    pub fn of(source: &Source, known: &Known) -> Pin {
        Pin {
            kind: source.place.kind().into(),
            from: source.written.clone(),
            digest: known.artifact.identity(),
            size: known.artifact.size,
            files: known.artifact.files,
            version: known.version.clone(),
            pinned_at: clock::now(),
        }
    }

    /// What it pins; nothing where its digest does not read.
    pub fn artifact(&self) -> Option<Artifact> {
        let (kind, digest) = self.digest.split_once(':')?;
        let kind = match kind {
            "file" => ArtifactKind::File,
            "tree" => ArtifactKind::Tree,
            _ => return None,
        };
        let digest: Digest = digest.parse().ok()?;
        Some(Artifact { digest, kind, size: self.size, files: self.files })
    }

    /// Whether a source is still what was accepted: the same bytes, from the same place.
    pub fn holds(&self, source: &Source, known: &Known) -> bool {
        self.from == source.written && self.digest == known.artifact.identity()
    }
}

fn unreadable(place: &Path, why: &str) -> EngineError {
    EngineError::Lock {
        message: format!("the lock file `{}` cannot be read: {why}", place.display()),
        hint: Some("put back the version that was committed, or remove it and type `plumb lock FILE`".into()),
    }
}
