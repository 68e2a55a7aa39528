//! One branch by itself: a metric over its seeds.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::stats::arms::Arm;
use crate::stats::bootstrap::{Bootstrap, Interval};
use crate::stats::intervals::{over_seeds, wilson};
use crate::stats::items::ItemRow;
use crate::stats::metric::Metric;

/// What an interval is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Over {
    /// Seeds: Student's t.
    Seeds,
    /// The items of one seed, for a plain rate: Wilson's.
    Rate,
    /// The items of one seed: a bootstrap of their clusters.
    Items,
}

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
    /// The interval of the mean.
    pub interval: Option<Interval>,
    /// What it is over.
    pub over: Option<Over>,
    /// Items, over all seeds.
    pub items: usize,
    /// Share of items whose value is known.
    pub coverage: Option<f64>,
    /// Seeds whose branch failed.
    pub failed: Vec<String>,
}

impl Summary {
    /// Sums up one arm.
    pub fn of(metric: &Metric, arm: &Arm<Vec<ItemRow>>, bootstrap: Bootstrap) -> Self {
        let per_seed: BTreeMap<String, Option<f64>> =
            arm.seeds.iter().map(|(seed, rows)| (seed.clone(), value(metric, rows))).collect();
        let rows = || arm.seeds.values().flatten();
        let known: Vec<(f64, f64)> = rows().filter_map(|row| metric.parts(row)).collect();
        let items = rows().count();
        let found = interval(metric, arm, &known, &per_seed, bootstrap);
        Self {
            branch: arm.name(),
            baseline: arm.baseline,
            metric: metric.name.clone(),
            mean: mean(per_seed.values().flatten().copied()),
            interval: found.map(|(interval, _)| interval),
            over: found.map(|(_, over)| over),
            per_seed,
            items,
            coverage: (items > 0).then(|| known.len() as f64 / items as f64),
            failed: arm.failed.clone(),
        }
    }
}

fn interval(
    metric: &Metric,
    arm: &Arm<Vec<ItemRow>>,
    known: &[(f64, f64)],
    per_seed: &BTreeMap<String, Option<f64>>,
    bootstrap: Bootstrap,
) -> Option<(Interval, Over)> {
    if per_seed.len() > 1 {
        let values: Vec<f64> = per_seed.values().flatten().copied().collect();
        return over_seeds(&values, bootstrap.level).map(|over| (over.interval, Over::Seeds));
    }
    let rate = known.iter().all(|(value, _)| *value == 0.0 || *value == 1.0) && !metric.is_spurious_correctness();
    if rate {
        let hits = known.iter().map(|(value, _)| value).sum();
        return wilson(hits, known.len() as f64, bootstrap.level).map(|interval| (interval, Over::Rate));
    }
    Some((resampled(metric, arm.seeds.values().next()?, bootstrap)?, Over::Items))
}

// Clusters are drawn with replacement, numerator and denominator together.
fn resampled(metric: &Metric, rows: &[ItemRow], bootstrap: Bootstrap) -> Option<Interval> {
    let mut clusters: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for row in rows {
        let Some(parts) = metric.parts(row) else { continue };
        let sums = clusters.entry(row.cluster()).or_default();
        *sums = (sums.0 + parts.0, sums.1 + parts.1);
    }
    let clusters: Vec<(f64, f64)> = clusters.into_values().collect();
    bootstrap.interval(|draw| {
        let drawn = (0..clusters.len()).map(|_| clusters[draw.index(clusters.len())]);
        let (above, below) = drawn.fold((0.0, 0.0), |sums, one| (sums.0 + one.0, sums.1 + one.1));
        (below > 0.0).then(|| above / below)
    })
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
