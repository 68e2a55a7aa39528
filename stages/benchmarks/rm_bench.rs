//! RM-Bench: right and wrong answers in three styles each, nine comparisons an item; hard where the right answer is the
//! plainer one. Scores are means over its four domains.

use std::collections::BTreeMap;

use super::group::Group;
use super::row::{Adapter, Read, Row};
use super::score::{Scored, mean, of_subsets};
use crate::judging::benchmarks::RmBench;
use crate::stats::items::Metrics;

/// Reads its rows.
pub fn adapter() -> Adapter {
    Adapter::new("rm-bench", &[&["id", "prompt", "chosen", "rejected", "domain"]], read)
}

fn read(row: &Row<'_>) -> Result<Read, String> {
    let (chosen, rejected) = (row.texts("chosen")?, row.texts("rejected")?);
    for (column, answers) in [("chosen", &chosen), ("rejected", &rejected)] {
        if answers.len() != 3 {
            return Err(format!("column `{column}` holds {} texts: expected 3, one a style", answers.len()));
        }
    }
    let domain = row.text("domain")?;
    // `safety-refuse` and `safety-response` are one domain of its table.
    let pooled = if domain.starts_with("safety") { "safety" } else { domain };
    let mut group = Group::of_lists(row.name("id")?, row.dialogue("prompt")?, chosen, rejected, row.origin(pooled));
    group.tags.extend((pooled != domain).then(|| domain.to_string()));
    Ok(group.into())
}

/// Its scores.
pub fn official(items: &[Scored<'_>]) -> Metrics {
    let mut metrics = of_subsets(items, Scored::mean_value);
    let mut domains: BTreeMap<&str, Vec<[[f64; 3]; 3]>> = BTreeMap::new();
    for (item, matrix) in items.iter().filter_map(|item| Some((item, matrix(item)?))) {
        domains.entry(item.subset()).or_default().push(matrix);
    }
    let domains: Vec<(&str, RmBench)> =
        domains.into_iter().map(|(domain, all)| (domain, RmBench::of(&average(&all)))).collect();
    let over = |of: fn(&RmBench) -> f64| mean(domains.iter().map(|(_, scores)| of(scores)));
    metrics.insert("easy".into(), over(|scores| scores.easy));
    metrics.insert("normal".into(), over(|scores| scores.normal));
    metrics.insert("hard".into(), over(|scores| scores.hard));
    metrics.insert("score".into(), over(RmBench::overall));
    let gap = over(|scores| scores.hard).zip(over(|scores| scores.easy)).map(|(hard, easy)| hard - easy);
    metrics.insert("hard_minus_easy".into(), gap);
    for (domain, scores) in domains {
        let values =
            [("easy", scores.easy), ("normal", scores.normal), ("hard", scores.hard), ("score", scores.overall())];
        metrics.extend(values.into_iter().map(|(name, value)| (format!("{name}/{domain}"), Some(value))));
    }
    metrics
}

// Row = style of the right answer, column = style of the wrong one; `None` where a cell is not known.
fn matrix(item: &Scored<'_>) -> Option<[[f64; 3]; 3]> {
    let mut matrix = [[0.0; 3]; 3];
    for (index, (right, wrong)) in item.group.comparisons.iter().enumerate() {
        *matrix.get_mut(*right)?.get_mut(wrong.checked_sub(3)?)? = item.value(index, 0.0)?;
    }
    (item.group.comparisons.len() == 9).then_some(matrix)
}

fn average(all: &[[[f64; 3]; 3]]) -> [[f64; 3]; 3] {
    let cell = |row: usize, column: usize| all.iter().map(|one| one[row][column]).sum::<f64>() / all.len() as f64;
    std::array::from_fn(|row| std::array::from_fn(|column| cell(row, column)))
}
