//! What a running stage sees: its input paths, its output paths, a state folder that survives retries, and a
//! channel for progress. Never the cache, never the pipeline file.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use crate::answers::Handle;
use crate::protocol::StepEvent;
use crate::stage::StageError;

/// One branch of a gathered input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Branch {
    /// Name of the stage it came from (a gather may join several).
    pub stage: String,
    /// Axis name -> label of the value, for every axis that the gather runs over and the stage sees.
    pub labels: BTreeMap<String, String>,
    /// Whether every label is its axis's baseline (replicates aside).
    pub baseline: bool,
    /// The artifact; `None` where the branch failed and the gather says `missing = "mark"`.
    pub path: Option<PathBuf>,
    /// Axes whose branches were added until a rule said enough, with the rule: a table made of them must say so.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub adaptive: BTreeMap<String, String>,
}

/// One input as the runner laid it out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InputPlace {
    /// One file or folder.
    One(PathBuf),
    /// A table of branches, in the order of the axes' declarations.
    Gathered(Vec<Branch>),
}

/// The manner of running, from the pipeline's `run` table. Never changes what a result means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Manner {
    /// `auto`, `cpu` or `cuda:N`.
    pub device: String,
    /// Threads that numeric code may use.
    pub threads: usize,
}

impl Default for Manner {
    fn default() -> Self {
        Self { device: "auto".into(), threads: 1 }
    }
}

/// The files and channels of one running step.
#[derive(Debug)]
pub struct Io {
    inputs: BTreeMap<String, InputPlace>,
    outputs: BTreeMap<String, PathBuf>,
    state: PathBuf,
    manner: Manner,
    secrets: Vec<String>,
    answers: Option<Handle>,
    events: Option<Mutex<File>>,
}

impl Io {
    /// Built by the step process from its request.
    pub fn new(
        inputs: BTreeMap<String, InputPlace>,
        outputs: BTreeMap<String, PathBuf>,
        state: PathBuf,
        manner: Manner,
        events: Option<&Path>,
    ) -> Result<Self, StageError> {
        let open = |path: &Path| {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .map_err(|error| StageError::file("open the event file", path, &error))
        };
        let events = events.map(open).transpose()?.map(Mutex::new);
        Ok(Self { inputs, outputs, state, manner, secrets: Vec::new(), answers: None, events })
    }

    /// The same with these names of secrets.
    #[must_use]
    pub fn with_secrets(mut self, names: Vec<String>) -> Self {
        self.secrets = names;
        self
    }

    /// The same with a way to the answers to single requests.
    #[must_use]
    pub fn with_answers(mut self, answers: Option<Handle>) -> Self {
        self.answers = answers;
        self
    }

    /// The way to the answers to single requests, and whom to ask for others.
    pub fn answers(&self) -> Result<&Handle, StageError> {
        self.answers.as_ref().ok_or_else(|| StageError::new("the step was given no store of answers"))
    }

    /// The path of a required input.
    pub fn input(&self, name: &str) -> Result<&Path, StageError> {
        self.optional_input(name).ok_or_else(|| StageError::new(format!("the step was given no input `{name}`")))
    }

    /// The path of an input that may be absent.
    pub fn optional_input(&self, name: &str) -> Option<&Path> {
        match self.inputs.get(name) {
            Some(InputPlace::One(path)) => Some(path),
            _ => None,
        }
    }

    /// The branches of a gathered input.
    pub fn gathered(&self, name: &str) -> Result<&[Branch], StageError> {
        match self.inputs.get(name) {
            Some(InputPlace::Gathered(branches)) => Ok(branches),
            _ => Err(StageError::new(format!("the step was given no gathered input `{name}`"))),
        }
    }

    /// Every input, for stages whose inputs the pipeline names.
    pub fn inputs(&self) -> &BTreeMap<String, InputPlace> {
        &self.inputs
    }

    /// Where to write an output. The parent folder exists; the path itself does not.
    pub fn output(&self, name: &str) -> Result<&Path, StageError> {
        self.outputs
            .get(name)
            .map(PathBuf::as_path)
            .ok_or_else(|| StageError::new(format!("the step declares no output `{name}`")))
    }

    /// Every output, for stages whose outputs the pipeline names.
    pub fn outputs(&self) -> &BTreeMap<String, PathBuf> {
        &self.outputs
    }

    /// A folder for checkpoints: survives failure and retries of this very action, is never an input.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Device and threads.
    pub fn manner(&self) -> &Manner {
        &self.manner
    }

    /// The value of a secret that the pipeline grants under `run.secrets`. For the wire only: it must not reach an
    /// output, and what reaches the log or an event shows its name instead.
    pub fn secret(&self, name: &str) -> Result<String, StageError> {
        let granted = self.secrets.iter().any(|granted| granted == name);
        let value = granted.then(|| std::env::var(name).ok()).flatten();
        let missing = || StageError::new(format!("the step was not given the secret `{name}`"));
        value.ok_or_else(|| missing().hint(format!("write `run.secrets = [\"{name}\"]`")))
    }

    /// How far the step is, in `unit`s (`rows`, `steps`, `tokens`).
    pub fn progress(&self, done: u64, total: Option<u64>, unit: &str) {
        self.emit(&StepEvent::Progress { done, total, unit: unit.into() });
    }

    /// A value that changes while the step runs, under the field's usual name (`reward`, `loss`).
    pub fn metric(&self, step: u64, name: &str, value: f64) {
        self.emit(&StepEvent::Metric { step, name: name.into(), value });
    }

    /// A line for the step's log that people should see.
    pub fn log(&self, message: impl Into<String>) {
        self.emit(&StepEvent::Log { message: message.into() });
    }

    /// A checkpoint was written to the state folder.
    pub fn checkpoint(&self, step: u64) {
        self.emit(&StepEvent::Checkpoint { step });
    }

    // Events are for the eyes: a full disk must not fail a step whose outputs are fine.
    fn emit(&self, event: &StepEvent) {
        let Some(events) = &self.events else { return };
        let Ok(mut line) = serde_json::to_vec(event) else { return };
        line.push(b'\n');
        if let Ok(mut file) = events.lock() {
            let _ = file.write_all(&line);
        }
    }
}
