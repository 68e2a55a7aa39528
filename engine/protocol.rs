//! What passes between the runner and a step's process: the request (`step.json`), the events
//! (`events.jsonl`, one JSON object a line, appended) and the exit marker (`exit.json`, renamed into place).
//! Formats only: nothing here runs anything.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::io::{InputPlace, Manner};

/// Raised when the request or the events change in a way that an older worker would misread.
pub const PROTOCOL: u32 = 1;

/// The file name of an output that tells a step's course: a JSON row a training step, with `step` and anything that
/// differs once its course does, best a digest over all before it. Of two runs, `plumb verify` names the first step
/// whose rows differ.
pub const CHAIN: &str = "chain.jsonl";

/// Everything a worker needs to run one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRequest {
    /// [`PROTOCOL`] of the runner.
    pub protocol: u32,
    /// `noun.verb`.
    pub kind: String,
    /// Behaviour version that the key was made with.
    pub version: u32,
    /// Digest of the whole declaration: a stale worker must never publish under another's version.
    pub declaration: String,
    /// The branch address, for messages.
    pub step: String,
    /// Typed parameters with defaults filled.
    pub params: serde_json::Value,
    /// Where the inputs lie.
    pub inputs: BTreeMap<String, InputPlace>,
    /// Where the outputs go.
    pub outputs: BTreeMap<String, PathBuf>,
    /// The state folder of this action.
    pub state: PathBuf,
    /// Device and threads.
    pub manner: Manner,
    /// Names of the secrets that stand in the worker's environment; never their values.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// How it reaches the answers to single requests, and whom it may ask. None in requests of an older runner.
    #[serde(default)]
    pub answers: Option<crate::answers::Handle>,
}

/// One line of `events.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum StepEvent {
    /// How far the step is.
    Progress {
        /// Units done.
        done: u64,
        /// Units in all, where known.
        total: Option<u64>,
        /// What is counted.
        unit: String,
    },
    /// A value that changes while the step runs.
    Metric {
        /// The training step or row it belongs to.
        step: u64,
        /// The field's usual name.
        name: String,
        /// Its value.
        value: f64,
    },
    /// A line for people.
    Log {
        /// The line.
        message: String,
    },
    /// The runner follows a step that a run before it started (never said by a step).
    Attached {
        /// The process that keeps it; `None` if it has ended meanwhile.
        process: Option<u32>,
    },
    /// A checkpoint lies in the state folder.
    Checkpoint {
        /// The training step it holds.
        step: u64,
    },
}

/// `exit.json`: written last by the worker, so a reader that finds it knows the step's own verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExitMarker {
    /// Whether the stage returned Ok.
    pub ok: bool,
    /// What went wrong.
    pub error: Option<String>,
    /// What the user can do.
    pub hint: Option<String>,
    /// What the worker ran on: libtorch, device, CPU features. Recorded, never in a key.
    pub environment: BTreeMap<String, String>,
}
