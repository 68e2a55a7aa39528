//! Secrets of a step: read by name when it starts, handed over in its environment, and taken out of everything it
//! says. Their values are in no key, no record, no `step.json` and no log; the record keeps their names.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::redact::Redactor;
use crate::settings::{Secret, SecretPlace};
use crate::stage::StageError;

/// The values of a step's secrets, by name.
#[derive(Clone, Default)]
pub struct Secrets(BTreeMap<String, String>);

// Whoever prints a launch prints no secret.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

impl Secrets {
    /// Reads them; relative files from the pipeline's folder.
    pub fn read(wanted: &[Secret], folder: &Path) -> Result<Self, StageError> {
        wanted
            .iter()
            .map(|secret| Ok((secret.name.clone(), value(secret, folder)?)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Those that another process of ours was given.
    pub fn given(values: BTreeMap<String, String>) -> Self {
        Self(values)
    }

    /// Names and values.
    pub fn values(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// What takes them out of a text.
    pub fn redactor(&self) -> Redactor {
        Redactor::new(self.0.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }
}

fn value(Secret { name, from }: &Secret, folder: &Path) -> Result<String, StageError> {
    let value = match from {
        SecretPlace::Environment => std::env::var(name).map_err(|_| {
            StageError::new(format!("the secret `{name}` is not set in the environment (or is no text)"))
                .hint(format!("`export {name}=…`, or name a file: {{ name = \"{name}\", file = \"PATH\" }}"))
        })?,
        SecretPlace::File(path) => {
            let path = at_home(path, folder);
            let read = std::fs::read_to_string(&path);
            read.map_err(|error| StageError::file(&format!("read the secret `{name}` from"), &path, &error))?
        }
    };
    let value = value.trim_end_matches(['\n', '\r']);
    if value.is_empty() {
        return Err(StageError::new(format!("the secret `{name}` is empty")));
    }
    Ok(value.to_string())
}

/// `~/…` is the home folder; other relative paths start from the pipeline's.
pub(super) fn at_home(path: &Path, folder: &Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::var_os("HOME")) {
        (Ok(inside), Some(home)) => Path::new(&home).join(inside),
        _ => folder.join(path),
    }
}
