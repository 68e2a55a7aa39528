//! The headline: branches against benchmarks, L-Acc, S-Corr and F-Score with their intervals, the best of each column
//! marked, and what does not differ from it significantly.
//!
//! The best is tested against every other branch as `plumb compare` tests two branches (paired by seeds and items),
//! Holm-adjusted within the column. The best was chosen on these very data, so the mark leans towards it: "not
//! significantly different" is the safer reading of a column than its winner.

use std::collections::BTreeMap;

use plumb_engine::stage::StageError;
use rayon::prelude::*;
use serde::Serialize;

use super::{Evidence, Roles, distinct};
use crate::jsonl;
use crate::stats::beside::{self, Row, Side};
use crate::stats::items::ItemRow;

/// Metric, its name for people, and whether more is better.
pub const SCORES: [(&str, &str, bool); 3] =
    [("l_acc", "L-Acc", true), ("s_corr", "S-Corr", false), ("f_score", "F-Score", true)];
/// Below this a difference is called significant.
const ALPHA: f64 = 0.05;

/// The table.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Headline {
    /// Columns.
    pub benchmarks: Vec<String>,
    /// Rows.
    pub branches: Vec<Line>,
    /// Whether intervals are over replicates (or of the items of one).
    pub replicated: bool,
    /// What the numbers were computed from: `step.output` -> digest.
    pub digests: BTreeMap<String, String>,
}

/// One branch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// Its name.
    pub branch: String,
    /// One a benchmark, each with one a score.
    pub cells: Vec<Vec<Cell>>,
}

/// One score of one branch on one benchmark.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Cell {
    /// Mean over the replicates; absent where it is not known.
    pub value: Option<f64>,
    /// Ends of its interval.
    pub low: Option<f64>,
    /// Ends of its interval.
    pub high: Option<f64>,
    /// Whether it is the best of its column.
    pub best: bool,
    /// Whether it does not differ significantly from the best.
    pub close: bool,
    /// Holm-adjusted p against the best.
    pub p: Option<f64>,
    /// Share of the right labels whose rationale verdict is known (the mean over replicates).
    pub coverage: Option<f64>,
}

impl Headline {
    /// Of this evidence. Reads the item rows.
    pub fn of(evidence: &Evidence, roles: &Roles) -> Result<Self, StageError> {
        let benchmarks = distinct(evidence.scored.iter().map(|one| roles.benchmark(one)));
        let branches = distinct(evidence.scored.iter().map(|one| roles.branch(&one.labels)));
        let columns: Vec<Vec<Vec<Cell>>> = benchmarks
            .iter()
            .map(|benchmark| column(evidence, roles, benchmark, &branches))
            .collect::<Result<_, _>>()?;
        let line = |(place, branch): (usize, &String)| Line {
            branch: branch.clone(),
            cells: columns.iter().map(|column| column[place].clone()).collect(),
        };
        let branches = branches.iter().enumerate().map(line).collect();
        let digests = evidence.scored.iter().flat_map(digests).collect();
        Ok(Self { benchmarks, branches, replicated: roles.replicated(), digests })
    }
}

fn digests(scored: &super::Scored) -> impl Iterator<Item = (String, String)> + '_ {
    let named = ["metrics", "items"].into_iter().filter_map(|name| Some((name, scored.digests.get(name)?)));
    named.map(|(name, digest)| (format!("{}.{name}", scored.step), digest.clone()))
}

/// Branch -> score -> cell.
fn column(
    evidence: &Evidence,
    roles: &Roles,
    benchmark: &str,
    branches: &[String],
) -> Result<Vec<Vec<Cell>>, StageError> {
    let sides: Vec<Side> =
        branches.iter().map(|branch| side(evidence, roles, benchmark, branch)).collect::<Result<_, _>>()?;
    let scores: Vec<Vec<Cell>> = SCORES.par_iter().map(|(metric, _, more)| score(metric, *more, &sides)).collect();
    Ok((0..sides.len()).map(|place| scores.iter().map(|cells| cells[place].clone()).collect()).collect())
}

fn side(evidence: &Evidence, roles: &Roles, benchmark: &str, branch: &str) -> Result<Side, StageError> {
    let mut side = Side::default();
    let here = |one: &&super::Scored| roles.benchmark(one) == benchmark && roles.branch(&one.labels) == branch;
    for scored in evidence.scored.iter().filter(here) {
        let replicate = roles.replicate(&scored.labels);
        if let Some(path) = &scored.items {
            let items: Vec<ItemRow> = jsonl::read(path)?;
            side.items.insert(replicate.clone(), items);
        }
        side.metrics.insert(replicate, scored.metrics.clone());
    }
    Ok(side)
}

fn score(metric: &str, more_is_better: bool, sides: &[Side]) -> Vec<Cell> {
    let means: Vec<Option<f64>> = sides.iter().map(|side| mean(metric, side)).collect();
    let known = means.iter().enumerate().filter_map(|(place, mean)| Some((place, (*mean)?)));
    let order = |a: f64, b: f64| if more_is_better { a.total_cmp(&b) } else { b.total_cmp(&a) };
    // The first of equals: `max_by` would take the last.
    let best = known.rev().max_by(|a, b| order(a.1, b.1)).map(|(place, _)| place);
    let Some(best) = best else { return sides.iter().map(|side| cell(metric, side, None)).collect() };
    let mut rows: Vec<Row> = sides.par_iter().map(|side| beside::row(metric, side, &sides[best])).collect();
    let others = rows.iter_mut().enumerate().filter(|(place, _)| *place != best).map(|(_, row)| row);
    beside::correct(others);
    let marked = |(place, side): (usize, &Side)| {
        let mut cell = cell(metric, side, Some(&rows[place]));
        (cell.best, cell.close) = (place == best, place != best && close(&rows[place], means[place], means[best]));
        if place == best {
            cell.p = None;
        }
        cell
    };
    sides.iter().enumerate().map(marked).collect()
}

fn mean(metric: &str, side: &Side) -> Option<f64> {
    let values: Vec<f64> =
        side.metrics.values().map(|metrics| metrics.get(metric).copied().flatten()).collect::<Option<_>>()?;
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn cell(metric: &str, side: &Side, row: Option<&Row>) -> Cell {
    let of = row.and_then(|row| row.of);
    let interval = of.and_then(|value| value.interval);
    let one = if side.metrics.len() == 1 { side.metrics.values().next() } else { None };
    let end = |name: &str| one.and_then(|metrics| metrics.get(&format!("{metric}_{name}")).copied().flatten());
    // The scorer's own interval knows the clusters; over replicates the t-interval is the one to believe.
    let (low, high) =
        (end("low").or(interval.map(|interval| interval.low)), end("high").or(interval.map(|interval| interval.high)));
    let p = row.and_then(|row| row.p_holm.or(row.p));
    Cell { value: mean(metric, side), low, high, p, coverage: mean("coverage", side), ..Cell::default() }
}

// Without a test an interval of the difference decides; without either nothing is claimed, unless the numbers are equal.
fn close(row: &Row, value: Option<f64>, best: Option<f64>) -> bool {
    match (row.p_holm, row.interval) {
        _ if value.is_none() => false,
        _ if value == best => true,
        (Some(p), _) => p >= ALPHA,
        (None, Some(interval)) => interval.low <= 0.0 && interval.high >= 0.0,
        (None, None) => false,
    }
}
