//! Running a stage in a temporary folder, for tests only.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use plumb_engine::io::{InputPlace, Io, Manner};
use plumb_engine::stage::{Stage, StageError};
use serde::de::DeserializeOwned;

/// A stage's folder: inputs given as paths, outputs to read back.
pub struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    /// Writes an input file and returns its path.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).expect("an input file");
        path
    }

    /// Types the parameters, refuses what `check` refuses, runs.
    pub fn run<S: Stage>(&self, params: serde_json::Value, inputs: &[(&str, &Path)]) -> Result<(), StageError> {
        let params: S::Params = serde_json::from_value(params).expect("parameters that type");
        assert_eq!(S::check(&params), []);
        let inputs = inputs.iter().map(|(name, path)| ((*name).to_string(), InputPlace::One(path.to_path_buf())));
        let outputs = S::OUTPUTS.iter().map(|output| (output.name.to_string(), self.folder.path().join(output.file)));
        let outputs: BTreeMap<_, _> = outputs.collect();
        S::run(params, &Io::new(inputs.collect(), outputs, self.folder.path().into(), Manner::default(), None)?)
    }

    pub fn text(&self, file: &str) -> String {
        fs::read_to_string(self.folder.path().join(file)).expect("an output")
    }

    pub fn rows<T: DeserializeOwned>(&self, file: &str) -> Vec<T> {
        crate::jsonl::read(&self.folder.path().join(file)).expect("rows")
    }

    pub fn json(&self, file: &str) -> serde_json::Value {
        serde_json::from_str(&self.text(file)).expect("JSON")
    }
}

/// A file of real data, or `None` with a word about it.
pub fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data")).join(path);
    if !path.exists() {
        eprintln!("skipped: {} is not there", path.display());
        return None;
    }
    Some(path)
}
