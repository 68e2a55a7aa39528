//! Per-item rows that benchmarks and evaluations write and that `stats.compare` reads.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One benchmark row's outcome under one model. Values are numbers so that one reader serves every metric;
/// `null` is "not known" (a failed judge), never 0.
///
/// `bench.s-corr` writes `label_correct`, `spurious` and `faithful` (right for the right reason); `spurious` and
/// `faithful` are `null` where the meta-judge failed. S-Corr is Σ spurious / Σ label_correct over items whose
/// `spurious` is known; L-Acc the mean of `label_correct`; F-Score the mean of `faithful`.
/// `eval.score` writes `exact_match` (or the checker's own names), `length` in tokens, and one row a task
/// (the mean over its samples).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ItemRow {
    /// The benchmark row or task.
    pub id: String,
    /// Items of one prompt share it.
    pub cluster: String,
    /// Slice, as `stem`.
    #[serde(default)]
    pub domain: String,
    /// Metric -> value.
    pub values: BTreeMap<String, Option<f64>>,
}

impl ItemRow {
    /// The cluster, or the item itself where it names none.
    pub fn cluster(&self) -> &str {
        if self.cluster.is_empty() { &self.id } else { &self.cluster }
    }
}

/// `metrics.json`: metric -> value; slices as `l_acc/stem`. A reader shows the names without a slash.
pub type Metrics = BTreeMap<String, Option<f64>>;
