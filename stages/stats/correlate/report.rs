//! The correlations as a document, as tables to read and as metrics.

use std::collections::{BTreeMap, BTreeSet};

use plumb_engine::stage::StageError;
use serde::Serialize;

use super::Params;
use super::points::{Pair, Series};
use crate::stats::arms::{Adaptive, adaptive_note};
use crate::stats::bootstrap::{Bootstrap, Interval};
use crate::stats::correlation::{pearson, permutation_p, spearman};
use crate::stats::items::Metrics;
use crate::stats::markdown::{Table, number, probability, range, signed};

// Below this, a correlation is a hint.
const FIRM_POINTS: usize = 10;

/// Everything that `stats.correlate` found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Version of this document.
    pub schema: u32,
    /// Axes whose replicates were added until a rule said enough.
    #[serde(skip_serializing_if = "Adaptive::is_empty")]
    pub adaptive: Adaptive,
    /// One for each benchmark, evaluation and score.
    pub correlations: Vec<Correlation>,
    /// Branches without a counterpart.
    pub unmatched: BTreeSet<String>,
}

/// Two coefficients and how many points they rest on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Coefficients {
    /// Points.
    pub n: usize,
    /// Pearson's r.
    pub pearson: Option<f64>,
    /// Spearman's rho.
    pub spearman: Option<f64>,
}

impl Coefficients {
    fn of(points: &[(f64, f64)]) -> Self {
        let (x, y): (Vec<f64>, Vec<f64>) = points.iter().copied().unzip();
        Self { n: points.len(), pearson: pearson(&x, &y), spearman: spearman(&x, &y) }
    }
}

/// A branch averaged over its seeds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Point {
    /// The branch's labels.
    pub branch: String,
    /// The score.
    pub x: f64,
    /// The outcome.
    pub y: f64,
    /// (score, outcome) of each seed.
    pub per_seed: BTreeMap<String, (f64, f64)>,
}

/// One score against one outcome.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Correlation {
    /// Which benchmark.
    pub scores: String,
    /// Which evaluation.
    pub outcomes: String,
    /// The score.
    pub x: String,
    /// The outcome.
    pub y: String,
    /// The headline: branches averaged over seeds.
    pub over_branches: Coefficients,
    /// Of the headline's r, by resampling seeds; `null` with one seed.
    pub interval: Option<Interval>,
    /// Of the headline's r, by resampling points, where there is one seed only: it takes branches for a sample of branches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub points_interval: Option<Interval>,
    /// Of the headline's r, by permuting the branches.
    pub permutation_p: Option<f64>,
    /// Whether there are too few points for more than a hint.
    pub indicative: bool,
    /// Every branch of every seed as a point.
    pub pooled: Coefficients,
    /// Each seed by itself.
    pub per_seed: BTreeMap<String, Coefficients>,
    /// The points.
    pub points: Vec<Point>,
}

impl Correlation {
    fn of(params: &Params, series: &Series, x: &str) -> Self {
        let points: Vec<Point> = series.pairs.iter().filter_map(|pair| point(pair, x, &params.y)).collect();
        let averages: Vec<(f64, f64)> = points.iter().map(|point| (point.x, point.y)).collect();
        let (xs, ys): (Vec<f64>, Vec<f64>) = averages.iter().copied().unzip();
        let bootstrap = Bootstrap { samples: params.bootstrap_samples, level: params.interval, seed: params.seed };
        let seeds: BTreeSet<&String> = points.iter().flat_map(|point| point.per_seed.keys()).collect();
        let of_seed = |seed: &String| -> Vec<(f64, f64)> {
            points.iter().filter_map(|point| point.per_seed.get(seed).copied()).collect()
        };
        let all: Vec<(f64, f64)> = points.iter().flat_map(|point| point.per_seed.values().copied()).collect();
        Self {
            scores: series.scores.clone(),
            outcomes: series.outcomes.clone(),
            x: x.into(),
            y: params.y.clone(),
            over_branches: Coefficients::of(&averages),
            interval: over_seeds(&points, &seeds.iter().map(|seed| seed.as_str()).collect::<Vec<_>>(), bootstrap),
            points_interval: if seeds.len() < 2 { over_points(&averages, bootstrap) } else { None },
            permutation_p: permutation_p(&xs, &ys, bootstrap),
            indicative: points.len() < FIRM_POINTS,
            pooled: Coefficients::of(&all),
            per_seed: seeds.iter().map(|seed| ((*seed).clone(), Coefficients::of(&of_seed(seed)))).collect(),
            points,
        }
    }

    fn name(&self) -> String {
        format!("{} of {} ~ {} of {}", self.x, self.scores, self.y, self.outcomes)
    }
}

fn point(pair: &Pair, x: &str, y: &str) -> Option<Point> {
    let known = |metrics: &Metrics, name: &str| metrics.get(name).copied().flatten();
    let both = |(seed, (scores, outcomes)): (&String, &(Metrics, Metrics))| {
        Some((seed.clone(), (known(scores, x)?, known(outcomes, y)?)))
    };
    let per_seed: BTreeMap<String, (f64, f64)> = pair.seeds.iter().filter_map(both).collect();
    let (x, y) = average(per_seed.values())?;
    Some(Point { branch: pair.name.clone(), x, y, per_seed })
}

fn average<'a>(values: impl Iterator<Item = &'a (f64, f64)>) -> Option<(f64, f64)> {
    let (count, x, y) = values.fold((0.0, 0.0, 0.0), |(count, x, y), value| (count + 1.0, x + value.0, y + value.1));
    (count > 0.0).then(|| (x / count, y / count))
}

// Seeds are drawn with replacement and every branch is averaged over those it has.
fn over_seeds(points: &[Point], seeds: &[&str], bootstrap: Bootstrap) -> Option<Interval> {
    if seeds.len() < 2 {
        return None;
    }
    bootstrap.interval(|draw| {
        let drawn: Vec<&str> = seeds.iter().map(|_| seeds[draw.index(seeds.len())]).collect();
        let redrawn =
            points.iter().filter_map(|point| average(drawn.iter().filter_map(|seed| point.per_seed.get(*seed))));
        let (x, y): (Vec<f64>, Vec<f64>) = redrawn.unzip();
        pearson(&x, &y)
    })
}

// A resample in which a side does not vary (fewer than two different points) has no correlation and is left out.
fn over_points(points: &[(f64, f64)], bootstrap: Bootstrap) -> Option<Interval> {
    if points.len() < 3 {
        return None;
    }
    bootstrap.interval(|draw| {
        let drawn = points.iter().map(|_| points[draw.index(points.len())]);
        let (x, y): (Vec<f64>, Vec<f64>) = drawn.unzip();
        pearson(&x, &y)
    })
}

impl Report {
    /// Correlates every named score of every benchmark.
    pub fn of(params: &Params, series: &[Series]) -> Result<Self, StageError> {
        let each = series.iter().flat_map(|series| params.x.iter().map(|x| Correlation::of(params, series, x)));
        let correlations: Vec<Correlation> = each.collect();
        for x in &params.x {
            if correlations.iter().filter(|row| row.x == *x).all(|row| row.points.is_empty()) {
                return Err(no_points(params, series, x));
            }
        }
        let unmatched = series.iter().flat_map(|series| series.unmatched.iter().cloned()).collect();
        Ok(Self { schema: 1, adaptive: Adaptive::new(), correlations, unmatched })
    }

    /// The correlations by name, with what belongs to them after a slash.
    pub fn metrics(&self) -> Metrics {
        let mut metrics = Metrics::new();
        for row in &self.correlations {
            let name = row.name();
            let ends = row.interval.or(row.points_interval);
            metrics.insert(format!("{name}/low"), ends.map(|ends| ends.low));
            metrics.insert(format!("{name}/high"), ends.map(|ends| ends.high));
            metrics.insert(format!("{name}/n"), Some(row.over_branches.n as f64));
            metrics.insert(format!("{name}/spearman"), row.over_branches.spearman);
            metrics.insert(name, row.over_branches.pearson);
        }
        metrics
    }

    /// The Markdown that people read.
    pub fn table(&self, params: &Params) -> String {
        let mut text = format!(
            "# Correlation\n\nA point is a branch averaged over its seeds. Intervals are at {} % and resample the seeds; p is \
             that of a permutation\nof the points.\n\n{}",
            params.interval * 100.0,
            coefficient_table(&self.correlations)
        );
        if self.correlations.iter().any(|row| row.indicative) {
            text += &format!("\nFewer than {FIRM_POINTS} points: indicative.\n");
        }
        text += &adaptive_note(&self.adaptive);
        text += &format!("\n## Points\n\n{}", point_table(&self.correlations));
        if !self.unmatched.is_empty() {
            let names: Vec<&str> = self.unmatched.iter().map(String::as_str).collect();
            text += &format!("\nWithout a counterpart: {}.\n", names.join("; "));
        }
        text
    }
}

fn no_points(params: &Params, series: &[Series], x: &str) -> StageError {
    let pairs = || series.iter().flat_map(|series| &series.pairs).flat_map(|pair| pair.seeds.values());
    if pairs().next().is_none() {
        return StageError::new("no branch of `scores` stands at the address of a branch of `outcomes`")
            .hint("gather both over the same axes");
    }
    let names = |pick: fn(&(Metrics, Metrics)) -> &Metrics| {
        let names: BTreeSet<&str> = pairs().flat_map(|pair| pick(pair).keys()).map(String::as_str).collect();
        names.into_iter().filter(|name| !name.contains('/')).collect::<Vec<_>>().join(", ")
    };
    StageError::new(format!("no branch knows both score `{x}` and outcome `{}`", params.y)).hint(format!(
        "scores have: {}; outcomes have: {}",
        names(|pair| &pair.0),
        names(|pair| &pair.1)
    ))
}

fn coefficient_table(rows: &[Correlation]) -> String {
    let head = ["correlation", "n", "Pearson", "over seeds", "Spearman", "p", "all seeds apart", "per seed"];
    let mut table = Table::new(head);
    for row in rows {
        let mark = if row.indicative { " (indicative)" } else { "" };
        let per_seed: Vec<String> = row.per_seed.values().map(|seed| signed(seed.pearson)).collect();
        table.row([
            row.name(),
            format!("{}{mark}", row.over_branches.n),
            signed(row.over_branches.pearson),
            match row.points_interval {
                Some(points) => format!("{} (points: one seed)", range(Some(points))),
                None => range(row.interval),
            },
            signed(row.over_branches.spearman),
            probability(row.permutation_p),
            format!("{} (n {})", signed(row.pooled.pearson), row.pooled.n),
            per_seed.join(" "),
        ]);
    }
    table.render()
}

fn point_table(rows: &[Correlation]) -> String {
    let mut table = Table::new(["branch", "score", "outcome", "seeds", "x", "y"]);
    for row in rows {
        for point in &row.points {
            table.row([
                point.branch.clone(),
                format!("{} of {}", row.x, row.scores),
                format!("{} of {}", row.y, row.outcomes),
                point.per_seed.len().to_string(),
                number(Some(point.x)),
                number(Some(point.y)),
            ]);
        }
    }
    table.render()
}
