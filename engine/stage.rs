//! What a stage is to the engine: a declaration (names, version, inputs, outputs, typed parameters) and a
//! function from inputs to output files. Never holds state, never knows what a model or a judge is.
//!
//! A kind that runs inside `plumb` implements [`Stage`]. A kind that a worker program runs (a model stage)
//! implements only [`Declare`] here; the worker registers the function with [`Registry::run_with`].

mod registry;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use registry::Registry;

use crate::canonical::Value;
use crate::io::Io;

/// How far the bytes of a result are determined by its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Determinism {
    /// The same bytes on any machine.
    Exact,
    /// Bit-identical on one machine with fixed threads; a draw elsewhere.
    Seeded,
    /// A remote service took part: the transcript is the artifact.
    Sampled,
}

/// Whether an output may be consumed and compared, or is only kept to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Digested, consumable; free of clocks, hosts and costs.
    Result,
    /// Logs, timings, TensorBoard events: stored, never an input, never compared.
    Diagnostic,
}

/// Where a kind's function lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Worker {
    /// In this program (`plumb __step`).
    Own,
    /// In another program of the house, found by its environment variable, then beside this one, then on PATH.
    Program {
        /// File name, as `plumb-torch`.
        name: &'static str,
        /// Variable that overrides the search, as `PLUMB_TORCH`.
        variable: &'static str,
        /// What to type when it is missing, as `plumb setup`.
        remedy: &'static str,
    },
}

/// One named input of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InputSpec {
    /// The name written under `inputs`.
    pub name: &'static str,
    /// One line for `plumb show KIND`.
    pub about: &'static str,
    /// Whether a pipeline must give it.
    pub required: bool,
    /// Whether it must be a gather (`{ all = …, over = […] }`) rather than one artifact.
    pub gathers: bool,
    /// Whether the stage edits it in place: it then gets a copy of its own that it may write to.
    pub mutable: bool,
}

impl InputSpec {
    /// An input that must be given.
    pub const fn required(name: &'static str, about: &'static str) -> Self {
        Self { name, about, required: true, gathers: false, mutable: false }
    }
    /// An input that may be left out.
    pub const fn optional(name: &'static str, about: &'static str) -> Self {
        Self { name, about, required: false, gathers: false, mutable: false }
    }
    /// A table of branches.
    pub const fn gather(name: &'static str, about: &'static str) -> Self {
        Self { name, about, required: true, gathers: true, mutable: false }
    }
    /// The same input as a copy that the stage may edit in place.
    #[must_use]
    pub const fn mutable(mut self) -> Self {
        self.mutable = true;
        self
    }
}

/// One named output of a kind: a file or a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputSpec {
    /// The name that others refer to, as `prep.pairs`.
    pub name: &'static str,
    /// The file or folder name it has on disk, as `pairs.jsonl`.
    pub file: &'static str,
    /// One line for `plumb show KIND`.
    pub about: &'static str,
    /// Result or diagnostic.
    pub class: Class,
}

impl OutputSpec {
    /// An output that others may consume.
    pub const fn result(name: &'static str, file: &'static str, about: &'static str) -> Self {
        Self { name, file, about, class: Class::Result }
    }
    /// An output that is only kept to look at.
    pub const fn diagnostic(name: &'static str, file: &'static str, about: &'static str) -> Self {
        Self { name, file, about, class: Class::Diagnostic }
    }
}

/// A parameter value that the type allows and the stage does not, as `fraction = 1.7`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Dotted path of the field under `with`, as `reward.wrong`.
    pub field: String,
    /// What is wrong and what was expected.
    pub message: String,
}

impl Problem {
    /// A problem with the named field.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// A failed stage: what went wrong, and what the user can do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StageError {
    /// What, where (file and row), what was expected; lowercase, no full stop.
    pub message: String,
    /// The command or setting that helps.
    pub hint: Option<String>,
}

impl StageError {
    /// An error without a hint.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }
    /// The same error with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
    /// Wraps an error of the operating system with the file and the action.
    pub fn file(doing: &str, path: &std::path::Path, error: &dyn std::fmt::Display) -> Self {
        Self::new(format!("{doing} `{}`: {error}", path.display()))
    }
}

/// The plain-Rust declaration of a stage kind.
pub trait Declare: Send + Sync + 'static {
    /// `noun.verb`, as `data.pairs`.
    const KIND: &'static str;
    /// Behaviour version: raised when the same parameters and inputs would now give other bytes.
    const VERSION: u32;
    /// One line for `plumb show`.
    const ABOUT: &'static str;
    /// Determinism class.
    const DETERMINISM: Determinism;
    /// Named inputs.
    const INPUTS: &'static [InputSpec];
    /// Named outputs.
    const OUTPUTS: &'static [OutputSpec];
    /// Where the function lives.
    const WORKER: Worker = Worker::Own;
    /// Parameters added after version 1 with the JSON of the value that leaves old results valid:
    /// a parameter equal to its neutral value is left out of the key.
    const NEUTRAL: &'static [(&'static str, &'static str)] = &[];
    /// Typed parameters: one struct, unknown fields refused, a doc comment a field.
    type Params: Serialize + DeserializeOwned + JsonSchema;

    /// Checks what types cannot: ranges, exclusive choices. Every problem at once.
    fn check(_params: &Self::Params) -> Vec<Problem> {
        Vec::new()
    }
}

/// A kind whose function is part of this program.
pub trait Stage: Declare {
    /// Reads only `io`'s inputs, writes only its outputs.
    fn run(params: Self::Params, io: &Io) -> Result<(), StageError>;
}

/// A parameter that did not type, with the place in the pipeline file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamError {
    /// What is wrong.
    pub message: String,
    /// Byte range in the pipeline file, where known.
    pub span: Option<Range<usize>>,
    /// Dotted field path, where known (for problems that `check` found).
    pub field: Option<String>,
}

/// A declaration with its type erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declaration {
    /// `noun.verb`.
    pub kind: &'static str,
    /// Behaviour version.
    pub version: u32,
    /// One line.
    pub about: &'static str,
    /// Determinism class.
    pub determinism: Determinism,
    /// Named inputs; ignored where `open` is true.
    pub inputs: &'static [InputSpec],
    /// Named outputs; ignored where `open` is true.
    pub outputs: &'static [OutputSpec],
    /// Where the function lives.
    pub worker: Worker,
    /// Neutral parameter values.
    pub neutral: &'static [(&'static str, &'static str)],
    /// Whether the pipeline file names the inputs and outputs (`command`).
    pub open: bool,
}

/// What a kind looks at beside its parameters and inputs; the digests of all of it enter the key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observes {
    /// Files or folders, relative to the pipeline's folder.
    pub files: Vec<String>,
    /// Programs whose output counts, each run once a plan in the pipeline's folder.
    pub probes: Vec<Vec<String>>,
    /// The environment of the probes, beside `PATH` and `HOME`.
    pub env: BTreeMap<String, String>,
}

/// Where a step's files lie, for a kind that is the user's own program.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    /// Input name -> path.
    pub inputs: &'a BTreeMap<String, PathBuf>,
    /// Output name -> path.
    pub outputs: &'a BTreeMap<String, PathBuf>,
    /// The state folder of this action.
    pub state: &'a Path,
}

/// The user's own program, as it is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Program and arguments, every placeholder resolved.
    pub argv: Vec<String>,
    /// Its environment beside `PATH` and `HOME`: nothing else is passed on.
    pub env: BTreeMap<String, String>,
}

/// A stage kind with its parameter type erased.
pub trait Kind: Send + Sync {
    /// The declaration.
    fn declaration(&self) -> &Declaration;
    /// Types the `with` table (references already replaced, spans kept), fills defaults, checks ranges.
    fn type_params(&self, with: toml::Spanned<toml::de::DeTable<'_>>) -> Result<Value, Vec<ParamError>>;
    /// JSON Schema of the parameters.
    fn schema(&self) -> schemars::Schema;
    /// Runs the stage; `None` where this program only declares it.
    fn runner(&self) -> Option<&Runner>;
    /// What enters the key beside parameters and inputs.
    fn observes(&self, _params: &Value) -> Observes {
        Observes::default()
    }
    /// The user's program that does the work; `None` for a kind with a worker of the house.
    fn program(&self, _params: &Value, _places: Places<'_>) -> Option<Result<Program, StageError>> {
        None
    }
    /// Checks parameters against the names that the pipeline gave to inputs and outputs.
    fn check_names(&self, _params: &Value, _inputs: &[&str], _outputs: &[&str]) -> Vec<Problem> {
        Vec::new()
    }
}

/// The erased function of a stage: typed parameters as JSON, and its files.
pub type Runner = dyn Fn(serde_json::Value, &Io) -> Result<(), StageError> + Send + Sync;
