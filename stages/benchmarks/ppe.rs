//! PPE: people's preferences (ties left out and counted; besides accuracy, whether the models come in people's order),
//! and best of k (the sampled pairs of a right and a wrong answer).

use std::collections::BTreeMap;

use serde_json::Value;

use super::group::{Answer, Group};
use super::row::{Adapter, Read, Row, unexpected};
use super::score::{Outcome, Scored, of_subsets};
use crate::rows::{Pair, Side};
use crate::stats::correlation::spearman;
use crate::stats::items::Metrics;

const PREFERENCE: [&str; 7] = ["question_id", "prompt", "response_1", "response_2", "model_a", "model_b", "winner"];
const BEST_OF_K: [&str; 5] = ["question_id", "prompt", "response_1", "scores", "sampled_conflict_pairs"];
const TAGS: [(&str, &str); 4] =
    [("is_code", "code"), ("hard_prompt", "hard"), ("if_prompt", "instructions"), ("math_prompt", "math")];

/// Reads rows of PPE-Human-Preference-V1.
pub fn preference() -> Adapter {
    Adapter::new("ppe-preference", &[&PREFERENCE], |row| {
        let gt_label = match row.text("winner")? {
            "model_a" => Side::A,
            "model_b" => Side::B,
            tie if tie.starts_with("tie") => return Ok(Read::Tie),
            other => return Err(format!("column `winner` holds `{other}`: expected model_a, model_b or a tie")),
        };
        let conversations = row.dialogue("prompt")?;
        let prompt_id = super::group::prompt_id(&conversations);
        let (response_a, response_b) = (row.text("response_1")?.to_string(), row.text("response_2")?.to_string());
        let source = row.origin(row.optional_name("language")?);
        let (id, gt_judgment, swapped, cue) = (row.name("question_id")?, None, false, None);
        let pair =
            Pair { id, conversations, response_a, response_b, gt_label, gt_judgment, source, prompt_id, swapped, cue };
        let mut group = Group::of_pair(pair);
        group.answers[0].model = row.name("model_a")?;
        group.answers[1].model = row.name("model_b")?;
        group.tags.extend(TAGS.iter().filter(|(column, _)| row.flag(column)).map(|(_, tag)| (*tag).to_string()));
        Ok(group.into())
    })
}

/// Reads rows of the best-of-k sets.
pub fn best_of_k() -> Adapter {
    Adapter::new("ppe-best-of-k", &[&BEST_OF_K], |row| {
        let right = right(row)?;
        let texts = (1..=right.len()).map(|number| row.text(&format!("response_{number}")).map(str::to_string));
        let answer = |(text, right): (String, bool)| Answer { text, right, model: String::new() };
        let texts = texts.collect::<Result<Vec<_>, _>>()?;
        let comparisons = comparisons(row, &right)?;
        let conversations = row.dialogue("prompt")?;
        // Sets are told apart by what they are named after; a question of one stands under several models.
        let domain = match row.optional_name("benchmark")? {
            domain if domain.is_empty() => row.optional_name("domain")?,
            domain => domain,
        };
        let model = row.optional_name("model_name")?;
        let prefix = if model.is_empty() { String::new() } else { format!("{model}:") };
        let group = Group {
            id: format!("{prefix}{}", row.name("question_id")?),
            answers: texts.into_iter().zip(right).map(answer).collect(),
            comparisons,
            gt_judgment: None,
            source: row.origin(domain),
            prompt_id: super::group::prompt_id(&conversations),
            conversations,
            tags: if model.is_empty() { Vec::new() } else { vec![model] },
        };
        Ok(if group.comparisons.is_empty() { Read::Tie } else { group.into() })
    })
}

fn right(row: &Row<'_>) -> Result<Vec<bool>, String> {
    let one = |score: &Value| match score {
        Value::Bool(right) => Some(*right),
        Value::Number(number) => number.as_f64().map(|score| score >= 0.5),
        _ => None,
    };
    let list = row.list("scores")?;
    let right: Option<Vec<bool>> = list.iter().map(one).collect();
    right.ok_or_else(|| "column `scores` holds what is neither true, false nor a number".into())
}

// Places count from 0; a pair names a right and a wrong answer in either order. One that was drawn twice is asked once.
fn comparisons(row: &Row<'_>, right: &[bool]) -> Result<Vec<(usize, usize)>, String> {
    let mut found = Vec::new();
    for pair in row.list("sampled_conflict_pairs")? {
        let places: Option<Vec<usize>> = pair
            .as_array()
            .and_then(|pair| pair.iter().map(|place| place.as_u64().map(|place| place as usize)).collect());
        let comparison = match places.as_deref() {
            Some(&[first, second]) => match (right.get(first), right.get(second)) {
                (Some(true), Some(false)) => (first, second),
                (Some(false), Some(true)) => (second, first),
                _ => {
                    return Err(format!("the conflict pair {pair} names no right and wrong answer of {}", right.len()));
                }
            },
            _ => return Err(unexpected("sampled_conflict_pairs", "pairs of places", pair)),
        };
        if !found.contains(&comparison) {
            found.push(comparison);
        }
    }
    Ok(found)
}

/// Scores of people's preferences.
pub fn official_preference(items: &[Scored<'_>]) -> Metrics {
    let mut metrics = of_subsets(items, Scored::mean_value);
    let (people, judge) = win_rates(items);
    metrics.insert("models".into(), Some(people.len() as f64));
    metrics.insert("spearman".into(), spearman(&people, &judge));
    metrics.insert("kendall".into(), kendall(&people, &judge));
    metrics
}

/// Scores of best of k: the mean over domains of the accuracy on conflict pairs.
pub fn official_best_of_k(items: &[Scored<'_>]) -> Metrics {
    of_subsets(items, Scored::mean_value)
}

// Every model's share of wins by people and by the judge, over the games that the judge decided.
fn win_rates(items: &[Scored<'_>]) -> (Vec<f64>, Vec<f64>) {
    let mut models: BTreeMap<&str, [f64; 3]> = BTreeMap::new();
    for item in items {
        let [first, second] = &item.group.answers[..] else { continue };
        for outcome in item.outcomes.iter().flatten() {
            let judge_first = match outcome {
                Outcome::Right => first.right,
                Outcome::Wrong => second.right,
                Outcome::None => continue,
            };
            for (answer, won) in [(first, judge_first), (second, !judge_first)] {
                let [games, people, judge] = models.entry(&answer.model).or_default();
                *games += 1.0;
                *people += f64::from(u8::from(answer.right));
                *judge += f64::from(u8::from(won));
            }
        }
    }
    models.into_values().map(|[games, people, judge]| (people / games, judge / games)).unzip()
}

/// Kendall's tau-b; `None` where one side does not vary.
fn kendall(x: &[f64], y: &[f64]) -> Option<f64> {
    let order = |a: f64, b: f64| a.total_cmp(&b) as i32;
    let mut sums = [0_i64; 3];
    for first in 0..x.len() {
        for second in first + 1..x.len() {
            let (in_x, in_y) = (order(x[first], x[second]), order(y[first], y[second]));
            sums[0] += i64::from(in_x * in_y);
            sums[1] += i64::from(in_x != 0);
            sums[2] += i64::from(in_y != 0);
        }
    }
    let scale = (sums[1] as f64 * sums[2] as f64).sqrt();
    (scale > 0.0).then(|| sums[0] as f64 / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kendall_counts_pairs_in_the_same_order() {
        // 1 2 3 4 against 1 3 2 4: five pairs agree, one does not.
        assert_eq!(kendall(&[1.0, 2.0, 3.0, 4.0], &[1.0, 3.0, 2.0, 4.0]), Some(4.0 / 6.0));
        assert_eq!(kendall(&[1.0, 1.0], &[1.0, 2.0]), None);
    }
}
