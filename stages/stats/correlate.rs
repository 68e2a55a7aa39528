//! `stats.correlate`: does a benchmark score of the judges predict what their actors achieve downstream?
//!
//! A point is a branch, averaged over its seeds. The interval resamples seeds, not points: variants of one seed share
//! a warm start, so points are not independent. With one seed only points can be resampled, and the table says so. The permutation test treats points as exchangeable; it says how
//! easily chance alone would line them up.

mod points;
mod report;

use std::collections::BTreeMap;

use plumb_engine::io::Io;
use plumb_engine::stage::{Declare, Determinism, InputSpec, OutputSpec, Problem, Stage, StageError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::arms;
use super::bootstrap::{self, Bootstrap};
use crate::jsonl;

/// Parameters of `stats.correlate`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Scores of the judges, by their names in the metrics of `bench.s-corr`.
    #[serde(default = "scores")]
    pub x: Vec<String>,
    /// What the actors achieve, by its name in the metrics of `eval.score`.
    pub y: String,
    /// The axis whose branches are replicates of one another.
    #[serde(default = "arms::seed_axis")]
    pub replicate_axis: String,
    /// Stages whose branches are points of one correlation, by a name for the group. Without it, stages that never stand
    /// at one address are taken together (a warm start beside the arms), others apart (several benchmarks).
    #[serde(default)]
    pub groups: BTreeMap<String, Vec<String>>,
    /// Resamples of the seeds, and shuffles of the permutation test above 8 points.
    #[serde(default = "bootstrap::ten_thousand")]
    pub bootstrap_samples: usize,
    /// Level of the interval.
    #[serde(default = "bootstrap::ninety_five")]
    pub interval: f64,
    /// Seed of resamples and shuffles.
    #[serde(default)]
    pub seed: u64,
}

fn scores() -> Vec<String> {
    ["f_score", "l_acc"].map(String::from).to_vec()
}

/// The kind `stats.correlate`.
pub struct Correlate;

impl Declare for Correlate {
    const KIND: &'static str = "stats.correlate";
    // 2: with one seed, an interval by resampling points.
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "correlation of judges' scores with what their actors achieve";
    const DETERMINISM: Determinism = Determinism::Exact;
    const INPUTS: &'static [InputSpec] = &[
        InputSpec::gather("scores", "metrics of bench.s-corr"),
        InputSpec::gather("outcomes", "metrics of eval.score"),
    ];
    const OUTPUTS: &'static [OutputSpec] = &[
        OutputSpec::result("table", "table.md", "tables to read"),
        OutputSpec::result("correlation", "correlation.json", "every number of the tables, and the points"),
        OutputSpec::result("metrics", "metrics.json", "the correlations, with their ends"),
    ];
    type Params = Params;

    fn check(params: &Params) -> Vec<Problem> {
        let mut problems = Bootstrap::problems(params.bootstrap_samples, params.interval);
        if params.x.is_empty() {
            problems.push(Problem::new("x", "no score is named: give at least one, as `f_score`"));
        }
        problems
    }
}

impl Stage for Correlate {
    fn run(params: Params, io: &Io) -> Result<(), StageError> {
        let (scores, outcomes) = (io.gathered("scores")?, io.gathered("outcomes")?);
        let series = points::series(&params, scores, outcomes)?;
        let adaptive = arms::adaptive(scores.iter().chain(outcomes));
        let report = report::Report { adaptive, ..report::Report::of(&params, &series)? };
        jsonl::write_text(io.output("table")?, &report.table(&params))?;
        jsonl::write_json(io.output("correlation")?, &report)?;
        jsonl::write_json(io.output("metrics")?, &report.metrics())
    }
}

#[cfg(test)]
mod tests;
