//! From judged rows to benchmark items: one a row, or one a pair where both orders make one decision.

use std::collections::{BTreeMap, BTreeSet};

use plumb_engine::stage::StageError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RowVerdict;
use super::probes::marks;
use crate::judging::meta::MetaVerdict;
use crate::judging::scores::Tally;
use crate::rows::{Judgment, Order, Pair, Side};
use crate::stats::items::ItemRow;

/// What judgments of one pair in both orders are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default)]
#[serde(rename_all = "kebab-case")]
pub enum BothOrders {
    /// One decision, which holds only where both orders agree; a disagreement is a tie and counts as wrong.
    #[default]
    Debias,
    /// Two items of one cluster.
    Each,
}

/// One benchmark item.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// The pair's id, with `@swapped` where an exchanged row is an item of its own.
    pub id: String,
    /// Items of one prompt share it.
    pub cluster: String,
    /// Domain or subset.
    pub subset: String,
    /// Slices it belongs to: its subset, and what is known of length and cue.
    pub slices: Vec<String>,
    /// The verdict on label and rationale together.
    pub verdict: MetaVerdict,
}

impl Item {
    /// The row that `stats.compare` reads.
    pub fn row(&self) -> ItemRow {
        let label = f64::from(u8::from(self.verdict != MetaVerdict::SkippedLabelMismatch));
        let (spurious, faithful) = match self.verdict {
            MetaVerdict::Correct => (Some(0.0), Some(1.0)),
            MetaVerdict::Incorrect => (Some(1.0), Some(0.0)),
            MetaVerdict::SkippedLabelMismatch => (Some(0.0), Some(0.0)),
            MetaVerdict::CallFail | MetaVerdict::ParseFail => (None, None),
        };
        let values = [("label_correct", Some(label)), ("spurious", spurious), ("faithful", faithful)];
        ItemRow {
            id: self.id.clone(),
            cluster: self.cluster.clone(),
            domain: self.subset.clone(),
            values: values.into_iter().map(|(name, value)| (name.to_string(), value)).collect(),
        }
    }
}

/// The items of the benchmark, in the order of their first rows. Two judgments of one pair in one order are an error.
pub fn combine(judgments: &[Judgment], rows: &[RowVerdict], both: BothOrders) -> Result<Vec<Item>, StageError> {
    let mut items: Vec<Item> = Vec::new();
    let mut seen: BTreeSet<(&str, bool)> = BTreeSet::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for (line, (judgment, row)) in judgments.iter().zip(rows).enumerate() {
        if !seen.insert((&row.id, row.order == Order::Swapped)) {
            let message = format!("judgment {}: `{}` is judged twice in the same order", line + 1, row.id);
            return Err(StageError::new(message).hint("give one judgment for each pair and order"));
        }
        let id = match (both, row.order) {
            (BothOrders::Each, Order::Swapped) => format!("{}@swapped", row.id),
            _ => row.id.clone(),
        };
        match places.get(&id) {
            Some(place) => items[*place].verdict = agreed(items[*place].verdict, row.metarm_verdict),
            None => {
                places.insert(id.clone(), items.len());
                items.push(item(id, &judgment.pair, row));
            }
        }
    }
    Ok(items)
}

/// The tallies of the clusters, by name.
pub fn clusters(items: &[Item]) -> Vec<Tally> {
    let mut clusters: BTreeMap<&str, Tally> = BTreeMap::new();
    for item in items {
        clusters.entry(&item.cluster).or_default().count(item.verdict);
    }
    clusters.into_values().collect()
}

fn item(id: String, pair: &Pair, row: &RowVerdict) -> Item {
    let cluster = if pair.prompt_id.is_empty() { pair.id.clone() } else { pair.prompt_id.clone() };
    Item { id, cluster, subset: row.subset.clone(), slices: slices(pair), verdict: row.metarm_verdict }
}

// The worst of two: a label must be right in both orders, and a rationale in both.
fn agreed(first: MetaVerdict, second: MetaVerdict) -> MetaVerdict {
    use MetaVerdict::{CallFail, Correct, Incorrect, ParseFail, SkippedLabelMismatch};
    [SkippedLabelMismatch, Incorrect, CallFail, ParseFail]
        .into_iter()
        .find(|verdict| first == *verdict || second == *verdict)
        .unwrap_or(Correct)
}

fn slices(pair: &Pair) -> Vec<String> {
    let mut slices = Vec::new();
    if !pair.source.subset.is_empty() {
        slices.push(pair.source.subset.clone());
    }
    let (better, worse) = match pair.gt_label {
        Side::A => (&pair.response_a, &pair.response_b),
        Side::B => (&pair.response_b, &pair.response_a),
    };
    match better.chars().count().cmp(&worse.chars().count()) {
        std::cmp::Ordering::Greater => slices.push("better-longer".into()),
        std::cmp::Ordering::Less => slices.push("better-shorter".into()),
        std::cmp::Ordering::Equal => {}
    }
    match marks(better).cmp(&marks(worse)) {
        std::cmp::Ordering::Greater => slices.push("better-richer".into()),
        std::cmp::Ordering::Less => slices.push("better-plainer".into()),
        std::cmp::Ordering::Equal => {}
    }
    if let Some(cue) = pair.cue {
        slices.push(if cue == pair.gt_label { "cue-right" } else { "cue-wrong" }.into());
    }
    slices
}
