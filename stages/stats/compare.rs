//! `stats.compare`: branches against the baseline on the same items, over seeds.
//!
//! The headline is a t-interval over the per-seed paired differences: seeds are the upper level. Items alone make
//! intervals that are too narrow (simulated coverage of nominal 95 %: 87 %), so with one seed the interval is labelled
//! "items only" and nothing is called a difference between branches.

mod contrast;
mod report;
mod summary;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use plumb_engine::io::Io;
use plumb_engine::stage::{Declare, Determinism, InputSpec, OutputSpec, Problem, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use contrast::Difference;
pub use summary::{Summary, mean};

use super::arms::{self, Group};
use super::bootstrap::{self, Bootstrap};
use super::items::ItemRow;
use super::metric::Metric;
use crate::jsonl;

/// Two values of one axis to be set against each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Contrast {
    /// The axis, as `reward`.
    pub axis: String,
    /// The value of interest: differences are this one minus the other.
    pub of: String,
    /// The value it is compared with.
    pub against: String,
}

/// Parameters of `stats.compare`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Metrics: `l_acc`, `s_corr`, `f_score`, or any value of the item rows, as `exact_match`.
    #[serde(default = "scores")]
    pub metrics: Vec<String>,
    /// The axis whose branches are replicates of one another.
    #[serde(default = "arms::seed_axis")]
    pub replicate_axis: String,
    /// Compare these two values of one axis, all other labels equal; without it every branch is compared with the baseline.
    #[serde(default)]
    pub contrast: Option<Contrast>,
    /// Stages whose branches are compared with one another, by a name for the group; any other stage stands by itself.
    #[serde(default)]
    pub groups: BTreeMap<String, Vec<String>>,
    /// Give the same tables for each domain of the items as well (a family of their own).
    #[serde(default)]
    pub by_domain: bool,
    /// Resamples of the bootstrap.
    #[serde(default = "bootstrap::ten_thousand")]
    pub bootstrap_samples: usize,
    /// Level of the intervals.
    #[serde(default = "bootstrap::ninety_five")]
    pub interval: f64,
    /// Seed of the bootstrap.
    #[serde(default)]
    pub seed: u64,
}

fn scores() -> Vec<String> {
    ["l_acc", "s_corr", "f_score"].map(String::from).to_vec()
}

impl Params {
    fn bootstrap(&self) -> Bootstrap {
        Bootstrap { samples: self.bootstrap_samples, level: self.interval, seed: self.seed }
    }
}

/// The kind `stats.compare`.
pub struct Compare;

impl Declare for Compare {
    const KIND: &'static str = "stats.compare";
    // 2: a difference under a named contrast says at which other labels it is drawn.
    // 3: every branch has an interval, on every slice; special functions to nine digits.
    // 4: S-Corr of both branches on their common support, not only its difference.
    const VERSION: u32 = 4;
    const ABOUT: &'static str = "differences between branches over seeds, with intervals";
    const DETERMINISM: Determinism = Determinism::Exact;
    const INPUTS: &'static [InputSpec] = &[InputSpec::gather("items", "item rows of bench.s-corr or eval.score")];
    const OUTPUTS: &'static [OutputSpec] = &[
        OutputSpec::result("table", "table.md", "tables to read"),
        OutputSpec::result("comparison", "comparison.json", "every number of the tables, and per seed"),
        OutputSpec::result("metrics", "metrics.json", "the differences, with their ends"),
    ];
    type Params = Params;

    fn check(params: &Params) -> Vec<Problem> {
        let mut problems = Bootstrap::problems(params.bootstrap_samples, params.interval);
        if params.metrics.is_empty() {
            problems.push(Problem::new("metrics", "no metric is named: give at least one, as `s_corr`"));
        }
        if params.contrast.as_ref().is_some_and(|contrast| contrast.of == contrast.against) {
            problems.push(Problem::new("contrast", "`of` and `against` are the same value"));
        }
        problems
    }
}

impl Stage for Compare {
    fn run(params: Params, io: &Io) -> Result<(), StageError> {
        let branches = io.gathered("items")?;
        let groups = arms::groups(branches, &params.replicate_axis, &params.groups, load)?;
        let metrics: Vec<Metric> = params.metrics.iter().map(|name| Metric::named(name)).collect();
        known_metrics(&metrics, &groups)?;
        let comparison = report::Comparison::of(&params, &metrics, &groups)?;
        let comparison = report::Comparison { adaptive: arms::adaptive(branches), ..comparison };
        jsonl::write_text(io.output("table")?, &comparison.table())?;
        jsonl::write_json(io.output("comparison")?, &comparison)?;
        jsonl::write_json(io.output("metrics")?, &comparison.metrics())
    }
}

// Pairing is by id: an item that stands twice would be counted twice on one side.
fn load(path: &Path) -> Result<Vec<ItemRow>, StageError> {
    let rows: Vec<ItemRow> = jsonl::read_some(path)?;
    let mut seen = BTreeSet::new();
    match rows.iter().find(|row| !seen.insert(&row.id)) {
        Some(row) => Err(StageError::new(format!("{}: item `{}` stands twice", path.display(), row.id))),
        None => Ok(rows),
    }
}

fn known_metrics(metrics: &[Metric], groups: &[Group<Vec<ItemRow>>]) -> Result<(), StageError> {
    let rows = || groups.iter().flat_map(|group| &group.arms).flat_map(|arm| arm.seeds.values()).flatten();
    for metric in metrics {
        if rows().next().is_some() && !rows().any(|row| metric.in_row(row)) {
            let known: BTreeSet<&str> = rows().flat_map(|row| row.values.keys()).map(String::as_str).collect();
            let known: Vec<&str> = known.into_iter().collect();
            return Err(StageError::new(format!("no item has what metric `{}` needs", metric.name))
                .hint(format!("the items have: {}", known.join(", "))));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
