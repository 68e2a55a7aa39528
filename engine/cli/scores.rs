//! The metrics of a pipeline's results as tables for people: one table a stage, its branches against its metrics.
//! Slices (`l_acc/stem`) stay in the files.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::table::{Cell, Table};
use crate::units;

/// The metrics of one step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Score {
    /// Its stage.
    pub stage: String,
    /// Its address.
    pub step: String,
    /// Metric -> value; `None` is not known.
    pub metrics: BTreeMap<String, Option<f64>>,
}

impl Score {
    /// Reads `metrics.json`; `None` where the file is not of that shape.
    pub fn read(stage: &str, step: &str, bytes: &[u8]) -> Option<Self> {
        let metrics = serde_json::from_slice(bytes).ok()?;
        Some(Self { stage: stage.to_owned(), step: step.to_owned(), metrics })
    }

    fn branch(&self) -> &str {
        self.step.split_once('@').map_or("baseline", |(_, branch)| branch)
    }
}

/// One table a stage, in the order of first appearance, with the stage's name.
pub fn tables(scores: &[Score]) -> Vec<(String, Table)> {
    let mut stages: Vec<&str> = Vec::new();
    for score in scores {
        if !stages.contains(&score.stage.as_str()) {
            stages.push(&score.stage);
        }
    }
    let of = |stage: &str| scores.iter().filter(|score| score.stage == stage).collect::<Vec<_>>();
    stages.into_iter().map(|stage| (stage.to_owned(), table(&of(stage)))).collect()
}

// A screen is taller than wide: what there is more of goes down.
fn table(scores: &[&Score]) -> Table {
    let names: BTreeSet<&str> = scores
        .iter()
        .flat_map(|score| score.metrics.keys())
        .map(String::as_str)
        .filter(|name| !name.contains('/'))
        .collect();
    let value = |score: &Score, name: &str| match score.metrics.get(name) {
        Some(Some(value)) => Cell::number(units::metric(*value)),
        Some(None) => Cell::number("unknown"),
        None => Cell::number(""),
    };
    if names.len() > scores.len() {
        let mut table = Table::new(std::iter::once("metric").chain(scores.iter().map(|score| score.branch())));
        for name in names {
            table.row(std::iter::once(Cell::from(name)).chain(scores.iter().map(|score| value(score, name))));
        }
        return table;
    }
    let mut table = Table::new(std::iter::once("branch").chain(names.iter().copied()));
    for score in scores {
        table.row(std::iter::once(Cell::from(score.branch())).chain(names.iter().map(|name| value(score, name))));
    }
    table
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::paint::Paint;

    fn check(scores: &[(&str, &str)], expect: Expect) {
        let read = |(step, json): &(&str, &str)| {
            let stage = step.split('@').next().unwrap();
            Score::read(stage, step, json.as_bytes()).unwrap()
        };
        let scores: Vec<Score> = scores.iter().map(read).collect();
        let told: Vec<String> = tables(&scores)
            .into_iter()
            .map(|(stage, table)| format!("{stage}\n{}", table.lines("  ", Paint::OFF).join("\n")))
            .collect();
        expect.assert_eq(&told.join("\n"));
    }

    #[test]
    fn many_metrics_of_few_branches_stand_in_rows_and_slices_stay_away() {
        check(
            &[
                ("score", r#"{"l_acc": 0.75, "l_acc/stem": 1, "s_corr": null, "n": 200}"#),
                ("score@seed=1", r#"{"l_acc": 0.8}"#),
            ],
            expect![[r#"
                score
                  metric  baseline  seed=1
                  l_acc     0.7500  0.8000
                  n            200
                  s_corr   unknown"#]],
        );
    }

    #[test]
    fn many_branches_of_few_metrics_stand_in_rows() {
        let one = r#"{"l_acc": 0.75}"#;
        check(
            &[("score", one), ("score@seed=1", one), ("train", one)],
            expect![[r#"
            score
              branch     l_acc
              baseline  0.7500
              seed=1    0.7500
            train
              branch     l_acc
              baseline  0.7500"#]],
        );
    }
}
