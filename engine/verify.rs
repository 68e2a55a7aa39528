//! `plumb verify`: a step runs again, aside, and its results are compared with those in the cache. What is there stays
//! what is used; a run that differs is kept beside it as a witness. The certificate tells both sides whole.

mod compare;
mod numbers;
mod steps;

use std::collections::BTreeMap;
use std::sync::Arc;

use plumb_cache::{ActionRecord, Cost, Store};
use serde::{Deserialize, Serialize};

pub use compare::Likeness;

use crate::clock;
use crate::error::EngineError;
use crate::execute::rehearse::{Rehearsal, rehearse};
use crate::execute::{RunOptions, place};
use crate::graph::{Graph, StepId};
use crate::maker;
use crate::plan::{self, Plan};
use crate::stage::Determinism;

/// Number of the certificate's layout.
pub const CERTIFICATE: u32 = 2;

/// Numbers a and b agree if |a - b| <= absolute + relative * |b|. For `seeded` kinds only.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Tolerance {
    /// `rtol`.
    pub relative: f64,
    /// `atol`.
    pub absolute: f64,
}

impl Default for Tolerance {
    /// A few hundred roundings of an f32.
    fn default() -> Self {
        Self { relative: 1e-4, absolute: 1e-7 }
    }
}

/// One execution of the step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// `user@host`.
    pub made_by: String,
    /// RFC 3339.
    pub made_at: String,
    /// What it took.
    pub cost: Cost,
    /// Libraries, device, host.
    pub environment: BTreeMap<String, String>,
    /// Each result's digest, by output.
    pub results: BTreeMap<String, String>,
}

/// One more run and how it compares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Repetition {
    /// What ran.
    #[serde(flatten)]
    pub side: Side,
    /// By output; diagnostics are not compared.
    pub outputs: BTreeMap<String, Likeness>,
    /// The first training step at which the two parted, where both tell their steps and did part.
    pub first_diverging_step: Option<u64>,
    /// Whether it is kept in the cache as a witness.
    pub witness: bool,
}

/// What a verification found, with all that it rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// [`CERTIFICATE`].
    pub certificate: u32,
    /// Name of the pipeline.
    pub pipeline: String,
    /// The step's address.
    pub step: String,
    /// `kind@version`.
    pub kind: String,
    /// What its kind declares.
    pub determinism: Determinism,
    /// The action key.
    pub action: String,
    /// The canonical document that hashes to it: all that the result may depend on.
    pub key_document: serde_json::Value,
    /// What numbers were compared with, where bits differ.
    pub tolerance: Tolerance,
    /// The result in the cache.
    pub canonical: Side,
    /// What ran now.
    pub repetitions: Vec<Repetition>,
    /// RFC 3339.
    pub checked_at: String,
    /// `user@host`.
    pub checked_by: String,
    /// Version of plumb.
    pub plumb: String,
}

impl Certificate {
    /// The worst that was found.
    pub fn worst(&self) -> Likeness {
        let all = self.repetitions.iter().flat_map(|repetition| repetition.outputs.values());
        all.max_by_key(|likeness| likeness.rank()).cloned().unwrap_or(Likeness::BitEqual)
    }

    /// Whether the kind did not keep to what it is declared as: `exact`, the same bytes on any machine; `seeded`, the
    /// same on one machine, of which more than the tolerance is taken as proof.
    pub fn breaks_a_promise(&self) -> bool {
        let here = |repetition: &Repetition| {
            let host = |side: &Side| side.environment.get("host").cloned();
            host(&repetition.side) == host(&self.canonical)
        };
        match self.determinism {
            Determinism::Exact => self.worst() != Likeness::BitEqual,
            Determinism::Seeded => {
                matches!(self.worst(), Likeness::Diverged { .. }) && self.repetitions.iter().all(here)
            }
            Determinism::Sampled => false,
        }
    }
}

/// Runs a step again so many times and compares; `None` where it was stopped, whatever ran until then.
pub fn verify(
    graph: &Graph,
    plan: &Plan,
    store: &Store,
    id: StepId,
    times: usize,
    tolerance: Tolerance,
    options: &RunOptions,
) -> Result<Option<Certificate>, EngineError> {
    let canonical = present(graph, plan, store, id)?;
    let declaration = graph.step(id).kind.declaration();
    let mut repetitions = Vec::new();
    for _ in 0..times {
        let made = rehearse(graph, plan, store, id, &canonical, options)?;
        if options.stop.is_asked() {
            return Ok(None);
        }
        match made {
            Rehearsal::Made(again) => {
                repetitions.push(repetition(store, &canonical, &again, declaration.determinism, tolerance)?);
            }
            Rehearsal::Failed { error, hint } => {
                let address = &graph.step(id).address;
                return Err(EngineError::NoResult {
                    message: format!("`{address}` failed when run again: {error}"),
                    hint,
                });
            }
        }
    }
    Ok(Some(Certificate {
        certificate: CERTIFICATE,
        pipeline: graph.name.clone(),
        step: graph.step(id).address.to_string(),
        kind: format!("{}@{}", declaration.kind, declaration.version),
        determinism: declaration.determinism,
        action: canonical.action.to_string(),
        key_document: serde_json::from_str(&canonical.action_document).unwrap_or_default(),
        tolerance,
        canonical: side(&canonical),
        repetitions,
        checked_at: clock::now(),
        checked_by: maker::name(),
        plumb: env!("CARGO_PKG_VERSION").into(),
    }))
}

/// The record in the cache, all its results with it: comparing with less would be no comparison.
fn present(graph: &Graph, plan: &Plan, store: &Store, id: StepId) -> Result<Arc<ActionRecord>, EngineError> {
    let address = &graph.step(id).address;
    let command = || Some(format!("make it with `plumb run {} {address}`", graph.file.display()));
    let nothing = |message: String| EngineError::NoResult { message, hint: command() };
    let found = plan.record_of(id).cloned();
    let record = found.ok_or_else(|| nothing(format!("`{address}` has no result in the cache to compare with")))?;
    let mut results = record.outputs.values().filter(|output| !output.diagnostic);
    if results.all(|output| store.present(&output.artifact)) {
        return Ok(record);
    }
    Err(nothing(format!("a result of `{address}` is missing from the cache, so there is nothing to compare with")))
}

fn side(record: &ActionRecord) -> Side {
    let results = record.outputs.iter().filter(|(_, output)| !output.diagnostic);
    Side {
        made_by: record.made_by.clone(),
        made_at: record.made_at.clone(),
        cost: record.cost,
        environment: record.environment.clone(),
        results: results.map(|(name, output)| (name.clone(), output.artifact.identity())).collect(),
    }
}

fn repetition(
    store: &Store,
    canonical: &ActionRecord,
    again: &ActionRecord,
    determinism: Determinism,
    tolerance: Tolerance,
) -> Result<Repetition, EngineError> {
    let scratch = store.scratch_folder()?;
    let tolerance = (determinism == Determinism::Seeded).then_some(tolerance);
    let mut outputs = BTreeMap::new();
    for (name, output) in canonical.outputs.iter().filter(|(_, output)| !output.diagnostic) {
        let likeness = match again.outputs.get(name) {
            Some(other) => compare::artifacts(store, scratch.path(), &output.artifact, &other.artifact, tolerance)?,
            None => Likeness::Diverged { at: "it was not written".into() },
        };
        outputs.insert(name.clone(), likeness);
    }
    let differs = canonical.result_digest() != again.result_digest();
    match differs {
        true => drop(store.publish(again)?),
        false => store.confirm(again)?,
    }
    let parted = if differs { steps::first_diverging(store, canonical, again) } else { None };
    Ok(Repetition { side: side(again), outputs, first_diverging_step: parted, witness: differs })
}

/// The steps whose records a verification needs: the step, and what its inputs come from.
pub fn goals(graph: &Graph, id: StepId) -> Vec<StepId> {
    std::iter::once(id).chain(plan::producers(graph, id)).collect()
}

/// Writes a certificate where it is expected, whole or not at all.
pub fn write(certificate: &Certificate, path: &std::path::Path) -> Result<(), EngineError> {
    let text = serde_json::to_vec_pretty(certificate).map_err(|error| EngineError::Bug(error.to_string()))?;
    place::write_whole(path, &text)
}
