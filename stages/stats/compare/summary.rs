//! One branch by itself: a metric over its seeds.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::stats::arms::Arm;
use crate::stats::bootstrap::Interval;
use crate::stats::intervals::wilson;
use crate::stats::items::ItemRow;
use crate::stats::metric::Metric;

/// A metric of one branch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The branch's labels.
    pub branch: String,
    /// Whether it is the baseline.
    pub baseline: bool,
    /// The metric.
    pub metric: String,
    /// Mean over the seeds for which it is defined.
    pub mean: Option<f64>,
    /// Value of each seed.
    pub per_seed: BTreeMap<String, Option<f64>>,
    /// Wilson's interval, for a plain rate of a single seed.
    pub wilson: Option<Interval>,
    /// Items, over all seeds.
    pub items: usize,
    /// Share of items whose value is known.
    pub coverage: Option<f64>,
    /// Seeds whose branch failed.
    pub failed: Vec<String>,
}

impl Summary {
    /// Sums up one arm.
    pub fn of(metric: &Metric, arm: &Arm<Vec<ItemRow>>, level: f64) -> Self {
        let per_seed: BTreeMap<String, Option<f64>> =
            arm.seeds.iter().map(|(seed, rows)| (seed.clone(), value(metric, rows))).collect();
        let rows = || arm.seeds.values().flatten();
        let known: Vec<(f64, f64)> = rows().filter_map(|row| metric.parts(row)).collect();
        let items = rows().count();
        let rate = known.iter().all(|(value, _)| *value == 0.0 || *value == 1.0) && !metric.is_spurious_correctness();
        let hits: f64 = known.iter().map(|(value, _)| value).sum();
        Self {
            branch: arm.name(),
            baseline: arm.baseline,
            metric: metric.name.clone(),
            mean: mean(per_seed.values().flatten().copied()),
            wilson: if rate && per_seed.len() == 1 { wilson(hits, known.len() as f64, level) } else { None },
            per_seed,
            items,
            coverage: (items > 0).then(|| known.len() as f64 / items as f64),
            failed: arm.failed.clone(),
        }
    }
}

/// The metric on one seed's items; `None` where it is not defined.
pub fn value(metric: &Metric, rows: &[ItemRow]) -> Option<f64> {
    let (numerator, denominator) = rows
        .iter()
        .filter_map(|row| metric.parts(row))
        .fold((0.0, 0.0), |(above, below), (numerator, denominator)| (above + numerator, below + denominator));
    (denominator > 0.0).then(|| numerator / denominator)
}

/// The mean; `None` of nothing.
pub fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_usize), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / count as f64)
}
