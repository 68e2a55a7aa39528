//! The report: what an experiment found as one HTML file that needs nothing else, and its headline table as text.
//! Takes what was measured and where its rows lie; knows neither the cache nor the command line.

pub mod chart;
pub mod drill;
pub mod headline;
pub mod html;
pub mod page;
pub mod probes;
pub mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use plumb_engine::stage::Registry;
use serde::Serialize;

use crate::stats::items::Metrics;

/// Adds the kinds of this folder.
pub fn register(registry: Registry) -> Registry {
    registry.with::<html::Html>()
}

/// Axis -> label.
pub type Labels = BTreeMap<String, String>;

/// Everything that a report is made of.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// What stands at the top.
    pub title: String,
    /// What is said of it in a line: the pipeline file, when it last ran.
    pub facts: Vec<String>,
    /// The pipeline as a picture: SVG of our own making, with every text in it escaped.
    pub graph: Option<String>,
    /// The steps, in the graph's order.
    pub steps: Vec<StepFacts>,
    /// What `bench.s-corr` made, a branch at a time.
    pub scored: Vec<Scored>,
    /// What training made, a branch at a time.
    pub trained: Vec<Trained>,
    /// `correlation.json` of `stats.correlate`, by the step that made it.
    pub correlations: Vec<(String, serde_json::Value)>,
    /// Steps without a result.
    pub missing: Vec<String>,
}

/// One step, as the table under the graph has it. Texts are ready to be read.
#[derive(Debug, Clone, Default, Serialize)]
pub struct StepFacts {
    /// Its address.
    pub step: String,
    /// Its kind.
    pub kind: String,
    /// `hit`, `ran`, `failed`, `skipped`, `missing`.
    pub state: String,
    /// What computing it took, in seconds.
    pub seconds: Option<f64>,
    /// The same for people.
    pub took: String,
    /// Processor time for people.
    pub cpu: String,
    /// Accelerator time for people.
    pub gpu: String,
    /// Most memory held, for people.
    pub memory: String,
    /// Output -> digest.
    pub digests: BTreeMap<String, String>,
}

/// One scored branch.
#[derive(Debug, Clone, Default)]
pub struct Scored {
    /// The stage that scored it.
    pub stage: String,
    /// The step, or whatever names it.
    pub step: String,
    /// Its labels, replicates included.
    pub labels: Labels,
    /// `metrics.json`.
    pub metrics: Metrics,
    /// `items.jsonl`.
    pub items: Option<PathBuf>,
    /// `rows.jsonl`.
    pub rows: Option<PathBuf>,
    /// The judgments that were scored.
    pub judgments: Option<PathBuf>,
    /// Output -> digest.
    pub digests: BTreeMap<String, String>,
}

/// One trained branch.
#[derive(Debug, Clone, Default)]
pub struct Trained {
    /// The stage that trained it.
    pub stage: String,
    /// Its labels, replicates included.
    pub labels: Labels,
    /// `steps.jsonl`.
    pub rows: PathBuf,
}

/// Which axes are benchmarks and which replicates; every other axis makes branches.
#[derive(Debug, Clone)]
pub struct Roles {
    /// The axis whose values are benchmarks, as `bench`.
    pub benchmark: String,
    /// The axis whose values are replicates, as `seed`.
    pub replicate: String,
    /// Axes that take more than one label: the others tell nobody anything.
    varying: BTreeSet<String>,
    /// Whether several stages score: their names then tell benchmarks apart.
    several: bool,
}

impl Roles {
    /// Of this evidence.
    pub fn of(evidence: &Evidence, benchmark: &str, replicate: &str) -> Self {
        let mut seen: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        let labels =
            evidence.scored.iter().map(|one| &one.labels).chain(evidence.trained.iter().map(|one| &one.labels));
        for (axis, label) in labels.flatten() {
            seen.entry(axis).or_default().insert(label);
        }
        let varying = seen.iter().filter(|(_, labels)| labels.len() > 1).map(|(axis, _)| (*axis).to_owned()).collect();
        let stages: BTreeSet<&str> = evidence.scored.iter().map(|one| one.stage.as_str()).collect();
        Self { benchmark: benchmark.into(), replicate: replicate.into(), varying, several: stages.len() > 1 }
    }

    /// The branch that these labels name, replicates and benchmarks aside.
    pub fn branch(&self, labels: &Labels) -> String {
        let named = |axis: &str| self.varying.contains(axis) && axis != self.benchmark && axis != self.replicate;
        named_by(labels, named, "all")
    }

    /// The benchmark that a scored branch is about.
    pub fn benchmark(&self, scored: &Scored) -> String {
        let label = scored.labels.get(&self.benchmark).map(String::as_str);
        match (label, self.several) {
            (Some(label), false) => label.to_owned(),
            (Some(label), true) => format!("{} {label}", scored.stage),
            (None, _) => scored.stage.clone(),
        }
    }

    /// The replicate, `0` where there is none.
    pub fn replicate(&self, labels: &Labels) -> String {
        labels.get(&self.replicate).cloned().unwrap_or_else(|| "0".into())
    }

    /// Whether there are several replicates.
    pub fn replicated(&self) -> bool {
        self.varying.contains(&self.replicate)
    }
}

fn named_by(labels: &Labels, named: impl Fn(&str) -> bool, otherwise: &str) -> String {
    let named: Vec<&str> = labels.iter().filter(|(axis, _)| named(axis)).map(|(_, label)| label.as_str()).collect();
    if named.is_empty() { otherwise.into() } else { named.join(" · ") }
}

/// Each thing once, in the order of first appearance.
pub(crate) fn distinct<T: PartialEq>(all: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut kept = Vec::new();
    for one in all {
        if !kept.contains(&one) {
            kept.push(one);
        }
    }
    kept
}
