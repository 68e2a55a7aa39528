//! `bench.s-corr`: reads the verdict of each judgment, asks the meta-judge where the label is right, and scores
//! L-Acc, S-Corr and F-Score with intervals, slices and bias probes.
//!
//! ```text
//! L-Acc = label right / N     S-Corr = 1 - C / (C + I)     F-Score = C / (N - CallFail - ParseFail)
//! ```
//! (R-Align; C and I are rationales called Correct and Incorrect.) Where we differ from the official script:
//! 1. the verdict is read by `strict-last` unless `parse = "ralign-official"`;
//! 2. judgments in both orders may count as one decision, which holds only where both orders agree;
//! 3. failures, coverage and intervals stand beside every score.

pub mod items;
mod probes;
mod rows;

use plumb_engine::io::Io;
use plumb_engine::stage::{Declare, Determinism, InputSpec, OutputSpec, Problem, Stage, StageError};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use items::BothOrders;
pub use rows::RowVerdict;

use super::meta::MetaJudge;
use super::scores::Tally;
use super::template::Template;
use super::verdict::Parse;
use crate::jsonl;
use crate::rows::Judgment;
use crate::stats::bootstrap::{Bootstrap, Draw};
use crate::stats::items::Metrics;
use items::Item;

/// Parameters of `bench.s-corr`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// How the judgments were asked for: `boxed` or `miniature`.
    #[serde(default)]
    pub template: Template,
    /// How a verdict is read: `strict-last`, or `ralign-official` for comparability.
    #[serde(default)]
    pub parse: Parse,
    /// What compares a rationale with its gold: `{ kind = "rubric" }` or `{ kind = "overlap", threshold = 0.3 }`.
    pub meta: MetaJudge,
    /// Judgments in both orders: `debias` makes them one decision that holds only where both agree (a disagreement
    /// counts as wrong), `each` counts them apart.
    #[serde(default)]
    pub both_orders: BothOrders,
    /// Resamples of the cluster bootstrap.
    #[serde(default = "ten_thousand")]
    pub bootstrap_samples: usize,
    /// Level of the intervals.
    #[serde(default = "ninety_five")]
    pub interval: f64,
    /// A meta-judge that calls more than this share of rationales Correct against the golds of other items is reported as
    /// unsound (`meta_sound = 0`).
    #[serde(default = "one_in_ten")]
    pub blind_limit: f64,
    /// Seed of the bootstrap and of the rationale-blind control.
    #[serde(default)]
    pub seed: u64,
}

fn ten_thousand() -> usize {
    10_000
}

fn one_in_ten() -> f64 {
    0.1
}

fn ninety_five() -> f64 {
    0.95
}

/// The kind `bench.s-corr`.
pub struct SCorr;

impl Declare for SCorr {
    const KIND: &'static str = "bench.s-corr";
    // 2: probes of format; whether the meta-judge is sound; a row that is dealt its own gold's words is no control.
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "label accuracy, spurious correctness and fidelity of a judge's judgments";
    const DETERMINISM: Determinism = Determinism::Exact;
    const INPUTS: &'static [InputSpec] = &[InputSpec::required("judgments", "judgments of benchmark pairs with golds")];
    const OUTPUTS: &'static [OutputSpec] = &[
        OutputSpec::result("items", "items.jsonl", "one row an item, for stats.compare"),
        OutputSpec::result("rows", "rows.jsonl", "one row a judgment: verdicts under the official field names"),
        OutputSpec::result("metrics", "metrics.json", "scores, intervals, slices and bias probes"),
    ];
    type Params = Params;

    fn check(params: &Params) -> Vec<Problem> {
        let meta = params.meta.problem().map(|message| Problem::new("meta.threshold", message));
        let bootstrap = Bootstrap::problems(params.bootstrap_samples, params.interval);
        let limit = (!(0.0..=1.0).contains(&params.blind_limit))
            .then(|| Problem::new("blind_limit", format!("{} is not between 0 and 1", params.blind_limit)));
        meta.into_iter().chain(bootstrap).chain(limit).collect()
    }
}

impl Stage for SCorr {
    fn run(params: Params, io: &Io) -> Result<(), StageError> {
        let judgments: Vec<Judgment> = jsonl::read_some(io.input("judgments")?)?;
        let rows: Vec<RowVerdict> = judgments.par_iter().map(|judgment| RowVerdict::of(judgment, &params)).collect();
        let items = items::combine(&judgments, &rows, params.both_orders)?;
        jsonl::write(io.output("rows")?, &rows)?;
        jsonl::write(io.output("items")?, items.iter().map(Item::row))?;
        let metrics = metrics(&params, &judgments, &rows, &items);
        if metrics.get("meta_sound") == Some(&Some(0.0)) {
            let share = metrics.get("aligned_blind").copied().flatten().unwrap_or_default();
            io.log(format!(
                "the meta-judge is unsound here: with golds of other items it still calls {:.0} % Correct (limit {:.0} %)",
                100.0 * share,
                100.0 * params.blind_limit
            ));
        }
        jsonl::write_json(io.output("metrics")?, &metrics)
    }
}

fn metrics(params: &Params, judgments: &[Judgment], rows: &[RowVerdict], items: &[Item]) -> Metrics {
    let mut metrics = Metrics::new();
    let tally = Tally::of(items.iter().map(|item| item.verdict));
    scores(&mut metrics, "", &tally);
    counts(&mut metrics, &tally, rows);
    intervals(&mut metrics, params, items);
    for slice in items.iter().flat_map(|item| &item.slices).collect::<std::collections::BTreeSet<_>>() {
        let inside = items.iter().filter(|item| item.slices.contains(slice));
        let tally = Tally::of(inside.map(|item| item.verdict));
        scores(&mut metrics, &format!("/{slice}"), &tally);
        metrics.insert(format!("n/{slice}"), Some(tally.rows() as f64));
    }
    metrics.append(&mut probes::metrics(params, judgments, rows));
    metrics
}

fn scores(metrics: &mut Metrics, suffix: &str, tally: &Tally) {
    metrics.insert(format!("l_acc{suffix}"), tally.l_acc());
    metrics.insert(format!("s_corr{suffix}"), tally.s_corr());
    metrics.insert(format!("f_score{suffix}"), tally.f_score());
}

fn counts(metrics: &mut Metrics, tally: &Tally, rows: &[RowVerdict]) {
    let count = |number: u64| Some(number as f64);
    metrics.insert("coverage".into(), tally.coverage());
    metrics.insert("n".into(), count(tally.rows()));
    metrics.insert("label_correct".into(), count(tally.label_correct()));
    metrics.insert("call_fail".into(), count(tally.call_fail));
    metrics.insert("parse_fail".into(), count(tally.parse_fail));
    metrics.insert("verdict_missing".into(), count(rows.iter().filter(|row| row.model_pred.is_none()).count() as u64));
}

// Clusters are drawn whole, and every resample forms numerator and denominator anew: S-Corr's denominator is random.
fn intervals(metrics: &mut Metrics, params: &Params, items: &[Item]) {
    let clusters = items::clusters(items);
    let bootstrap = Bootstrap { samples: params.bootstrap_samples, level: params.interval, seed: params.seed };
    let resample = |draw: &mut Draw| {
        let mut tally = Tally::default();
        (0..clusters.len()).for_each(|_| tally.add(&clusters[draw.index(clusters.len())]));
        [tally.l_acc(), tally.s_corr(), tally.f_score()]
    };
    for (name, interval) in ["l_acc", "s_corr", "f_score"].into_iter().zip(bootstrap.intervals(resample)) {
        metrics.insert(format!("{name}_low"), interval.map(|interval| interval.low));
        metrics.insert(format!("{name}_high"), interval.map(|interval| interval.high));
    }
}

#[cfg(test)]
mod tests;
