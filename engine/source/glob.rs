//! The files that match a pattern: which they are, by their names relative to the pattern's fixed part. Never follows
//! a symlink to a folder, and meets a hidden name only where the pattern writes the dot.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};

use super::place::BadPlace;

/// A pattern for files, as `data/**/*.jsonl`.
#[derive(Debug, Clone)]
pub struct Glob {
    written: String,
    /// The part before the first wildcard, absolute: where names start.
    base: PathBuf,
    matcher: GlobMatcher,
    /// Whether names that begin with a dot are looked at.
    hidden: bool,
    /// Whether the pattern goes into folders at all.
    deep: bool,
}

impl Glob {
    /// Reads a pattern; relative ones start in this folder.
    pub fn parse(written: &str, folder: &Path) -> Result<Glob, BadPlace> {
        let parts: Vec<&str> = written.split('/').collect();
        let fixed = parts.iter().take_while(|part| !part.contains(['*', '?', '[', '{'])).count();
        if fixed == parts.len() {
            return Err(BadPlace::new(format!("`{written}` has no wildcard"), format!("write `path = \"{written}\"`")));
        }
        let base: String = parts[..fixed].iter().flat_map(|part| [part, "/"]).collect();
        let pattern = parts[fixed..].join("/");
        let built = GlobBuilder::new(&pattern).literal_separator(true).build();
        let built = built.map_err(|error| BadPlace {
            message: format!("`{written}` is no pattern: {}", error.kind()),
            hint: Some("`*` and `?` stand for letters of one name, `**` for folders, `{a,b}` for either".into()),
        })?;
        Ok(Glob {
            written: written.into(),
            base: folder.join(base),
            matcher: built.compile_matcher(),
            hidden: pattern.split('/').any(|part| part.starts_with('.')),
            deep: pattern.contains('/') || pattern.contains("**"),
        })
    }

    /// The folder that names are relative to.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// The files that match now, by name.
    pub fn files(&self) -> Result<BTreeMap<String, PathBuf>, (PathBuf, std::io::Error)> {
        let mut found = BTreeMap::new();
        let mut folders = vec![(self.base.clone(), String::new())];
        while let Some((folder, above)) = folders.pop() {
            let failed = |error| (folder.clone(), error);
            for entry in fs::read_dir(&folder).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                // A name that is not UTF-8 cannot be in a tree, nor in a pattern.
                let Ok(name) = entry.file_name().into_string() else { continue };
                if name.starts_with('.') && !self.hidden {
                    continue;
                }
                let name = format!("{above}{name}");
                if entry.file_type().map_err(failed)?.is_dir() {
                    if self.deep {
                        folders.push((entry.path(), format!("{name}/")));
                    }
                } else if self.matcher.is_match(&name) && entry.path().is_file() {
                    found.insert(name, entry.path());
                }
            }
        }
        Ok(found)
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

/// Which names of a remote folder are wanted (`include`): as with `hf download --include`, `*` crosses folders.
#[derive(Debug, Clone, Default)]
pub struct Include {
    written: Vec<String>,
    matchers: Vec<GlobMatcher>,
}

impl Include {
    /// Adds a pattern.
    pub fn add(&mut self, pattern: &str) -> Result<(), BadPlace> {
        let built = GlobBuilder::new(pattern).build();
        let built = built.map_err(|error| BadPlace {
            message: format!("`{pattern}` is no pattern: {}", error.kind()),
            hint: Some("as in `include = [\"*.json\", \"model.safetensors\"]`".into()),
        })?;
        self.written.push(pattern.into());
        self.matchers.push(built.compile_matcher());
        Ok(())
    }

    /// Whether a name is wanted; without patterns, every name is.
    pub fn wants(&self, name: &str) -> bool {
        self.matchers.is_empty() || self.matchers.iter().any(|matcher| matcher.is_match(name))
    }

    /// Whether every name is wanted.
    pub fn is_everything(&self) -> bool {
        self.matchers.is_empty()
    }
}

impl fmt::Display for Include {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written.join(" "))
    }
}
