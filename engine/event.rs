//! Everything that happens during a run is one [`Event`]. Printers, the history on disk and the tests see nothing
//! else. Events carry text and numbers only, so that they can be stored and read by a later version.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::protocol::StepEvent;
use crate::settings::RetryCause;

/// Why a step was skipped: the user stopped the run.
pub const STOPPED: &str = "stopped";
/// Why a step was skipped: the pipeline has changed, and is planned anew.
pub const CHANGED: &str = "changed";

/// Why a step runs, or may run. Each variant has its sentence in `explain/sentence.rs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "kebab-case")]
pub enum Cause {
    /// No record of this stage is known.
    NeverRan,
    /// A parameter differs from the nearest earlier record.
    Parameter {
        /// Dotted path under `with`.
        name: String,
        /// The earlier value, as canonical text; `None` where it was absent.
        before: Option<String>,
        /// The value now.
        now: Option<String>,
    },
    /// The same of a parameter that takes its value from an axis.
    Axis {
        /// The axis.
        axis: String,
        /// Dotted path under `with`.
        name: String,
        /// The earlier value, as canonical text; `None` where it was absent.
        before: Option<String>,
        /// The value now.
        now: Option<String>,
    },
    /// An input's content differs.
    Input {
        /// Name of the input.
        name: String,
        /// Address of the producer, or the source's name.
        from: String,
    },
    /// A source's content differs.
    Source {
        /// Name of the source.
        name: String,
        /// What it was, as `file:DIGEST` or `tree:DIGEST`.
        before: Option<String>,
        /// What it is.
        now: Option<String>,
    },
    /// An input was added.
    InputAdded {
        /// Its name.
        name: String,
    },
    /// An input was removed.
    InputRemoved {
        /// Its name.
        name: String,
    },
    /// The stage uses another kind than before.
    Kind {
        /// Before, as `kind@version`.
        before: String,
        /// Now.
        now: String,
    },
    /// The kind's behaviour version differs.
    Version {
        /// Before.
        before: u32,
        /// Now.
        now: u32,
    },
    /// The declared outputs differ.
    Outputs,
    /// `salt` differs.
    Salt,
    /// A probe's output or a listed file's content differs (`command`).
    Observed {
        /// What was observed.
        name: String,
    },
    /// The record is there, a blob of its result is missing or damaged.
    MissingBlob {
        /// The output.
        output: String,
    },
    /// Its result is in a layer, and the layer turned out not to have its bytes.
    LayerLost {
        /// The layer.
        layer: String,
        /// The output that did not come.
        output: String,
    },
    /// Its result is in a layer, signed or made from what was signed by somebody who is not trusted.
    Untrusted {
        /// The layer.
        layer: String,
        /// Who is not trusted; `None` where nobody who is trusted says how an ancestor was made.
        signer: Option<String>,
        /// The ancestor that the stranger signed; `None` where it is the result itself.
        ancestor: Option<String>,
    },
    /// Its result was taken out of the cache, by a collection or a repair.
    Collected {
        /// When, as RFC 3339.
        at: String,
    },
    /// The record is there and disowned, or it was made from a result that is.
    Disowned {
        /// The ancestor whose result is disowned; `None` where it is the step's own.
        ancestor: Option<String>,
        /// Why, in the words of who did it.
        #[serde(default)]
        reason: String,
        /// `user@host`; empty where it is not known.
        #[serde(default)]
        by: String,
        /// RFC 3339; empty where it is not known.
        #[serde(default)]
        at: String,
    },
    /// Under `--strict-code` the kind's source fingerprint is in the key, and the earlier record was made by other
    /// code, or says nothing of its code.
    StrictCode {
        /// The earlier fingerprint; `None` where none was in the key.
        before: Option<String>,
        /// The fingerprint now; `None` where none is asked for.
        now: Option<String>,
    },
    /// Its results come from another realisation of an ancestor than this run uses.
    Realisation {
        /// The ancestor.
        ancestor: String,
    },
    /// The user asked for it.
    Fresh,
}

/// Why an axis of replicates grows no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stopped {
    /// Every interval is narrower than the rule asks.
    Narrow,
    /// There are as many as there may be.
    Most,
}

/// What attempts at a step took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// From start to end.
    pub wall_seconds: f64,
    /// Of all its cores.
    pub cpu_seconds: f64,
    /// Wall time times the GPUs that it was given.
    pub gpu_seconds: f64,
    /// The most memory it held.
    pub peak_memory_bytes: u64,
    /// What it made.
    pub output_bytes: u64,
}

impl Spent {
    /// With another attempt, or another step.
    pub fn and(self, other: &Spent) -> Self {
        Self {
            wall_seconds: self.wall_seconds + other.wall_seconds,
            cpu_seconds: self.cpu_seconds + other.cpu_seconds,
            gpu_seconds: self.gpu_seconds + other.gpu_seconds,
            peak_memory_bytes: self.peak_memory_bytes.max(other.peak_memory_bytes),
            output_bytes: self.output_bytes + other.output_bytes,
        }
    }
}

/// What is told while a run goes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum Event {
    /// The plan is made.
    Planned {
        /// Steps needed in all.
        steps: usize,
        /// Of them, present in the cache.
        hits: usize,
        /// Of them, certain to run.
        runs: usize,
        /// Of them, waiting on others.
        may_run: usize,
    },
    /// A source comes over the network, or a step's result from a layer.
    Fetching {
        /// Name of the source, or address of the step.
        source: String,
        /// Its address, without credentials, or the layer.
        from: String,
        /// Bytes so far.
        done: u64,
        /// Bytes in all, where that is known.
        total: Option<u64>,
    },
    /// A source has come.
    Fetched {
        /// Name of the source.
        source: String,
        /// Its address, without credentials.
        from: String,
        /// Bytes that had to come.
        bytes: u64,
        /// Wall time.
        took: Duration,
    },
    /// A run that is over waits until what is on its way to a layer is there.
    Sending {
        /// The layer.
        layer: String,
        /// Bytes so far.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// What a run has sent to the layer that settings name.
    Sent {
        /// The layer.
        layer: String,
        /// Results that it has now, with all their bytes.
        results: usize,
        /// Bytes that it had not.
        bytes: u64,
        /// Results that wait in the outbox: they go with the next run, or with `plumb cache push`.
        waiting: usize,
    },
    /// A step's result is in the cache.
    Hit {
        /// Address.
        step: String,
        /// What computing it took, where the record says.
        saved: Duration,
        /// Whether it was found only after its inputs had been made (early cutoff).
        after_inputs: bool,
    },
    /// Another runner holds this step's action.
    Waiting {
        /// Address.
        step: String,
        /// `pid 123 on host`.
        holder: String,
    },
    /// A step's process started.
    Started {
        /// Address.
        step: String,
        /// `noun.verb`.
        kind: String,
        /// Why it runs.
        why: Vec<Cause>,
        /// 1-based attempt.
        attempt: u32,
        /// Where it runs.
        #[serde(default)]
        executor: String,
    },
    /// The step said something.
    Step {
        /// Address.
        step: String,
        /// What it said.
        event: StepEvent,
    },
    /// A step's results are published.
    Finished {
        /// Address.
        step: String,
        /// Wall time.
        took: Duration,
        /// The outputs equal those of the nearest earlier record: what depends on them need not run.
        unchanged: bool,
        /// What it took.
        #[serde(default)]
        spent: Spent,
    },
    /// An attempt failed and another follows.
    Retried {
        /// Address.
        step: String,
        /// What went wrong.
        error: String,
        /// 1-based attempt that failed.
        attempt: u32,
        /// What kind of failure it was.
        #[serde(default)]
        cause: Option<RetryCause>,
        /// How long until the next attempt may start.
        #[serde(default)]
        pause: Duration,
        /// What it took.
        #[serde(default)]
        spent: Spent,
    },
    /// A step failed.
    Failed {
        /// Address.
        step: String,
        /// What went wrong.
        error: String,
        /// What the user can do.
        hint: Option<String>,
        /// Where its log lies.
        log: Option<String>,
        /// Wall time.
        took: Duration,
        /// What the attempt took.
        #[serde(default)]
        spent: Spent,
    },
    /// A step was not run because another failed or the user stopped the run.
    Skipped {
        /// Address.
        step: String,
        /// The failed step, or [`STOPPED`], or [`CHANGED`].
        because: String,
    },
    /// Something that people should know and that is no failure.
    Warning {
        /// The sentence.
        message: String,
    },
    /// How far an axis of replicates has grown, and why it grows no further.
    Grown {
        /// The axis.
        axis: String,
        /// Its replicates now.
        count: usize,
        /// Its replicates at most.
        most: usize,
        /// The rule, as `width(score.f_score) < 0.02`.
        rule: String,
        /// Why it stopped; `None` while it may grow.
        stopped: Option<Stopped>,
        /// The branch whose interval is the widest, once it stopped.
        branch: Option<String>,
        /// How wide that interval is.
        width: Option<f64>,
    },
    /// A result was copied out of the cache.
    Published {
        /// `step.output`.
        output: String,
        /// Destination.
        path: String,
    },
    /// The run is over.
    Done {
        /// Steps that ran.
        ran: usize,
        /// Steps that were hits.
        hits: usize,
        /// Steps that failed.
        failed: usize,
        /// Steps that were skipped.
        skipped: usize,
        /// Wall time of the run.
        took: Duration,
        /// What the hits would have cost.
        saved: Duration,
    },
}
