//! The instantiated pipeline: one [`Step`] a stage and visible combination of axis values, in topological
//! order. Pure data; what it costs to build it is in `pipeline/`, what is done with it in `plan.rs`.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::canonical::Value;
use crate::diagnostic::Diagnostic;
use crate::growth::Growing;
use crate::settings::RunSettings;
use crate::source::{Include, Place};
use crate::stage::{Class, Kind, Registry};

/// Index of a step in [`Graph::steps`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StepId(pub usize);

/// Index of a source in [`Graph::sources`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SourceId(pub usize);

/// `stage@axis=label,…`: the axes the stage sees, in the order of their declaration. Displayed without the
/// axes that are at their baseline.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Address {
    /// Name of the stage.
    pub stage: String,
    /// Every axis the stage sees.
    pub branch: Vec<AxisLabel>,
}

/// One axis's value in an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AxisLabel {
    /// The axis.
    pub axis: String,
    /// Label of the value: the scalar as written, or the branch's name.
    pub label: String,
    /// Whether it is the axis's first value.
    pub baseline: bool,
}

impl Address {
    /// With every axis that the stage sees, the baselines too.
    pub fn full(&self) -> String {
        let labels: Vec<String> =
            self.branch.iter().map(|AxisLabel { axis, label, .. }| format!("{axis}={label}")).collect();
        if labels.is_empty() { self.stage.clone() } else { format!("{}@{}", self.stage, labels.join(",")) }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.stage)?;
        let mut separator = '@';
        for AxisLabel { axis, label, .. } in self.branch.iter().filter(|value| !value.baseline) {
            write!(f, "{separator}{axis}={label}")?;
            separator = ',';
        }
        Ok(())
    }
}

/// A source: what comes from outside.
#[derive(Debug, Clone)]
pub struct Source {
    /// Name under `[source.NAME]`.
    pub name: String,
    /// Where it lies (relative paths resolve from the pipeline's folder).
    pub place: Place,
    /// The place as the pipeline file writes it, without credentials.
    pub written: String,
    /// Of a remote folder: which files of it.
    pub include: Include,
    /// Of a web address: what its SHA-256 must be.
    pub sha256: Option<String>,
    /// Of a web address: the variable that holds a token for it. Only the name.
    pub secret: Option<String>,
    /// Where the place stands in the pipeline file.
    pub span: Range<usize>,
}

/// What an input refers to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reference {
    /// An output of another step.
    Step {
        /// The producer.
        step: StepId,
        /// Name of its output.
        output: String,
        /// A path inside a folder output.
        subpath: Option<String>,
    },
    /// A source.
    Source {
        /// The source.
        source: SourceId,
        /// A path inside a folder source.
        subpath: Option<String>,
    },
}

impl Reference {
    /// The step that it refers to, unless it is a source.
    pub fn step(&self) -> Option<StepId> {
        match self {
            Reference::Step { step, .. } => Some(*step),
            Reference::Source { .. } => None,
        }
    }
}

/// One branch of a gather.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatheredBranch {
    /// Stage it comes from.
    pub stage: String,
    /// Axis -> label, for the axes that the gather runs over and the stage sees.
    pub labels: BTreeMap<String, String>,
    /// Whether every label is its axis's baseline (replicates aside).
    pub baseline: bool,
    /// What it refers to.
    pub reference: Reference,
}

/// One input of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// One artifact.
    One(Reference),
    /// An ordered table of branches.
    Gathered {
        /// The branches, in the order of the axes' declarations.
        branches: Vec<GatheredBranch>,
        /// Whether a failed branch is marked (`missing = "mark"`) rather than failing the gather.
        mark_missing: bool,
        /// Of the gathered axes those that grow until a rule says enough, with the rule: part of what the table means.
        adaptive: BTreeMap<String, String>,
    },
}

/// One output of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// The name that others refer to.
    pub name: String,
    /// File or folder name on disk. Recorded, not in a key.
    pub file: String,
    /// Result or diagnostic.
    pub class: Class,
}

/// One instantiated stage.
pub struct Step {
    /// Its address.
    pub address: Address,
    /// The kind.
    pub kind: Arc<dyn Kind>,
    /// Typed parameters with defaults; neutral values are still here (the key writer leaves them out).
    pub params: Value,
    /// Path of a parameter under `with` -> the axis that gives it its value. For explanations; shared by a stage.
    pub axes: Arc<BTreeMap<String, String>>,
    /// The kind's source fingerprint, in the key where `--strict-code` asks for it.
    pub code: Option<String>,
    /// Named inputs.
    pub inputs: BTreeMap<String, Input>,
    /// Declared outputs, by name.
    pub outputs: Vec<Output>,
    /// `salt`, to disown a poisoned set.
    pub salt: Option<String>,
    /// The manner of running: never in a key.
    pub run: RunSettings,
    /// The stage's header in the pipeline file.
    pub span: Range<usize>,
}

/// What a plan leaves out: the combinations that have one of the labels of every named axis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skip {
    /// The plan's name, where it has one.
    pub plan: Option<String>,
    /// Axis and labels.
    pub terms: Vec<(String, Vec<String>)>,
}

/// What is copied out of the cache after a run: `[pipeline] publish`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Publication {
    /// Absolute destination.
    pub destination: PathBuf,
    /// The step.
    pub step: StepId,
    /// Its output.
    pub output: String,
}

/// A pipeline, instantiated.
pub struct Graph {
    /// `[pipeline] name`, or the file's stem.
    pub name: String,
    /// The pipeline file.
    pub file: PathBuf,
    /// Steps in topological order: every reference points to an earlier index. Those of one stage stand side by side.
    pub steps: Vec<Step>,
    /// Sources that some step uses.
    pub sources: Vec<Source>,
    /// What `plumb run` builds: the selected steps, else `goal`, else every step nobody consumes.
    pub goals: Vec<StepId>,
    /// What `--from` names: what stands before these steps must be in the cache.
    pub from: Vec<StepId>,
    /// Results to copy out.
    pub publish: Vec<Publication>,
    /// What the plans leave out.
    pub skips: Vec<Skip>,
    /// The axes whose values are replicates of one another.
    pub replicates: Vec<String>,
    /// The axis of replicates that grows, where one does.
    pub growing: Option<Growing>,
    /// What is probably a slip and stops nothing.
    pub warnings: Vec<Diagnostic>,
}

impl Graph {
    /// The step of an id.
    pub fn step(&self, id: StepId) -> &Step {
        &self.steps[id.0]
    }
    /// The stages in the order of the steps, each with the places of its steps.
    pub fn stages(&self) -> impl Iterator<Item = (&str, Range<usize>)> {
        let mut next = 0;
        self.steps.chunk_by(|one, other| one.address.stage == other.address.stage).map(move |steps| {
            let places = next..next + steps.len();
            next = places.end;
            (steps[0].address.stage.as_str(), places)
        })
    }
    /// Puts the fingerprint of each kind's code into the keys (`--strict-code`).
    pub fn count_code(&mut self, registry: &Registry) {
        for step in &mut self.steps {
            step.code = registry.code(step.kind.declaration());
        }
    }
    /// The source of an id.
    pub fn source(&self, id: SourceId) -> &Source {
        &self.sources[id.0]
    }
}
