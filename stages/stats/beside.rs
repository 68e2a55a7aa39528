//! Two branches side by side, metric by metric: paired by item where both have rows for it, else by seed on the
//! metrics themselves. Never pools what is not paired.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::arms::Arm;
use super::bootstrap::{Bootstrap, Interval};
use super::compare::{Difference, Summary, mean};
use super::intervals::over_seeds;
use super::items::{ItemRow, Metrics};
use super::metric::Metric;
use super::significance::holm;

/// Level of the intervals.
const LEVEL: f64 = 0.95;
const BOOTSTRAP: Bootstrap = Bootstrap { samples: 10_000, level: LEVEL, seed: 0 };

/// What one branch of a stage measured, seed by seed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Side {
    /// Its metrics.
    pub metrics: BTreeMap<String, Metrics>,
    /// Its item rows, where it has some.
    pub items: BTreeMap<String, Vec<ItemRow>>,
}

/// What a difference is paired by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Paired {
    /// By the seeds that both have, on the items that both have: a t-interval over seeds.
    SeedsAndItems,
    /// By the seeds that both have: a t-interval over seeds.
    Seeds,
    /// By the items of one seed: a bootstrap, which says nothing of other seeds.
    Items,
    /// By nothing: one number against another.
    Nothing,
}

/// One metric of one branch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Value {
    /// Mean over the seeds.
    pub mean: f64,
    /// t over the seeds; of one seed with item rows Wilson's for a plain rate, else a bootstrap of the items.
    pub interval: Option<Interval>,
}

/// One metric of two branches.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The metric.
    pub metric: String,
    /// The branch of interest.
    pub of: Option<Value>,
    /// The one it is compared with.
    pub against: Option<Value>,
    /// The first minus the second.
    pub difference: Option<f64>,
    /// Of the difference.
    pub interval: Option<Interval>,
    /// What it is paired by.
    pub paired: Paired,
    /// Seeds that both have.
    pub seeds: usize,
    /// Items that both have, over all seeds.
    pub items: usize,
    /// Of "no difference": t over seeds; of one seed McNemar's, about these items only.
    pub p: Option<f64>,
    /// The same after Holm's correction over the rows that were compared together.
    pub p_holm: Option<f64>,
}

/// The metrics that two branches share.
pub fn rows(of: &Side, against: &Side) -> Vec<Row> {
    let names = |side: &Side| -> BTreeSet<String> {
        side.metrics.values().flat_map(|metrics| metrics.keys().cloned()).filter(|name| !name.contains('/')).collect()
    };
    names(of).intersection(&names(against)).map(|name| row(name, of, against)).collect()
}

/// One metric of two branches.
pub fn row(name: &str, of: &Side, against: &Side) -> Row {
    let metric = Metric::named(name);
    let has_items = |side: &Side| side.items.values().flatten().any(|row| metric.in_row(row));
    if has_items(of) && has_items(against) { by_items(&metric, of, against) } else { by_seeds(name, of, against) }
}

/// Holm's correction over rows that belong together.
pub fn correct<'r>(rows: impl IntoIterator<Item = &'r mut Row>) {
    let mut tested: Vec<(&mut Row, f64)> = rows.into_iter().filter_map(|row| row.p.map(|p| (row, p))).collect();
    let adjusted = holm(&tested.iter().map(|(_, p)| *p).collect::<Vec<_>>());
    tested.iter_mut().zip(adjusted).for_each(|((row, _), p)| row.p_holm = Some(p));
}

fn by_items(metric: &Metric, of: &Side, against: &Side) -> Row {
    let arm =
        |side: &Side| Arm { labels: BTreeMap::new(), baseline: false, seeds: side.items.clone(), failed: Vec::new() };
    let (of, against) = (arm(of), arm(against));
    let found = Difference::of(BOOTSTRAP, metric, &of, &against);
    let seeds = found.per_seed.values().flatten().count();
    let over = found.over_seeds;
    Row {
        metric: metric.name.clone(),
        of: of_items(metric, &of),
        against: of_items(metric, &against),
        difference: found.difference,
        interval: over.map(|over| over.interval).or(found.bootstrap),
        paired: if over.is_some() { Paired::SeedsAndItems } else { Paired::Items },
        seeds,
        items: found.items.both,
        p: over.map_or(found.mcnemar, |over| over.p),
        p_holm: None,
    }
}

fn of_items(metric: &Metric, arm: &Arm<Vec<ItemRow>>) -> Option<Value> {
    let summary = Summary::of(metric, arm, BOOTSTRAP);
    summary.mean.map(|mean| Value { mean, interval: summary.interval })
}

fn by_seeds(name: &str, of: &Side, against: &Side) -> Row {
    let values = |side: &Side| -> BTreeMap<String, f64> {
        let known = |(seed, metrics): (&String, &Metrics)| Some((seed.clone(), metrics.get(name).copied().flatten()?));
        side.metrics.iter().filter_map(known).collect()
    };
    let (of, against) = (values(of), values(against));
    let pairs = of.iter().filter_map(|(seed, value)| Some(value - against.get(seed).or(against.get(""))?));
    let differences: Vec<f64> = pairs.collect();
    let over = over_seeds(&differences, LEVEL);
    Row {
        metric: name.into(),
        of: of_seeds(&of),
        against: of_seeds(&against),
        difference: mean(differences.iter().copied()),
        interval: over.map(|over| over.interval),
        paired: if over.is_some() { Paired::Seeds } else { Paired::Nothing },
        seeds: differences.len(),
        items: 0,
        p: over.and_then(|over| over.p),
        p_holm: None,
    }
}

fn of_seeds(values: &BTreeMap<String, f64>) -> Option<Value> {
    let values: Vec<f64> = values.values().copied().collect();
    Some(Value { mean: mean(values.iter().copied())?, interval: over_seeds(&values, LEVEL).map(|over| over.interval) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(seeds: &[(&str, f64)]) -> Side {
        let metrics = seeds.iter().map(|(seed, value)| (seed.to_string(), Metrics::from([("f".into(), Some(*value))])));
        Side { metrics: metrics.collect(), items: BTreeMap::new() }
    }

    fn items(rights: &[(&str, &[u8])]) -> Side {
        let row = |(id, right): (usize, &u8)| ItemRow {
            id: id.to_string(),
            cluster: String::new(),
            domain: String::new(),
            values: [("label_correct".to_string(), Some(f64::from(*right)))].into(),
        };
        let rows = rights.iter().map(|(seed, rights)| (seed.to_string(), rights.iter().enumerate().map(row).collect()));
        let metrics = rights.iter().map(|(seed, _)| (seed.to_string(), Metrics::from([("l_acc".into(), Some(0.0))])));
        Side { metrics: metrics.collect(), items: rows.collect() }
    }

    #[test]
    fn metrics_are_paired_by_the_seeds_that_both_have() {
        let found = &rows(
            &side(&[("0", 3.0), ("1", 5.0), ("2", 7.0), ("9", 99.0)]),
            &side(&[("0", 2.0), ("1", 3.0), ("2", 4.0)]),
        )[0];
        assert_eq!((found.difference, found.seeds, found.paired), (Some(2.0), 3, Paired::Seeds));
        // Differences 1, 2, 3: the closed form of intervals.rs.
        assert!((found.p.unwrap() - 0.074_180).abs() < 1e-5);
        assert!((found.interval.unwrap().low - (2.0 - 4.302_653 / 3.0_f64.sqrt())).abs() < 1e-5);
    }

    #[test]
    fn items_of_one_seed_are_paired_by_their_ids() {
        let found = row("l_acc", &items(&[("", &[1, 1, 1, 1, 0])]), &items(&[("", &[1, 0, 0, 1, 0])]));
        assert_eq!((found.difference, found.items, found.paired), (Some(0.4), 5, Paired::Items));
        assert!((found.p.unwrap() - 0.5).abs() < 1e-9, "two discordant items, both one way");
    }

    #[test]
    fn one_number_against_another_has_no_interval() {
        let found = row("f", &side(&[("", 3.0)]), &side(&[("", 2.0)]));
        assert_eq!((found.difference, found.interval, found.paired), (Some(1.0), None, Paired::Nothing));
    }

    #[test]
    fn holm_covers_the_rows_that_were_tested() {
        let mut rows: Vec<Row> = (0..3).map(|_| row("f", &side(&[("", 1.0)]), &side(&[("", 1.0)]))).collect();
        (rows[0].p, rows[2].p) = (Some(0.01), Some(0.04));
        correct(&mut rows);
        assert_eq!(rows.iter().map(|row| row.p_holm).collect::<Vec<_>>(), [Some(0.02), None, Some(0.04)]);
    }
}
