//! What judges said of one item, and the sums that every benchmark's own scores are made of. An item that is not wholly
//! judged is not known, never wrong.

use std::collections::{BTreeMap, BTreeSet};

use super::group::Group;
use crate::rows::Side;
use crate::stats::items::Metrics;

/// What one verdict on a comparison says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The right answer is preferred.
    Right,
    /// The wrong one is.
    Wrong,
    /// The verdict could not be read, or is a tie.
    None,
}

impl Outcome {
    /// A verdict against the label.
    pub fn of(verdict: Option<Side>, label: Side) -> Self {
        match verdict {
            None => Self::None,
            Some(side) if side == label => Self::Right,
            Some(_) => Self::Wrong,
        }
    }

    /// +1, -1 or 0.
    pub fn sign(self) -> i32 {
        match self {
            Self::Right => 1,
            Self::Wrong => -1,
            Self::None => 0,
        }
    }
}

/// An item with all that is known of it.
#[derive(Debug, Clone)]
pub struct Scored<'a> {
    /// The item.
    pub group: &'a Group,
    /// For each comparison its verdicts, the one in the original order first.
    pub outcomes: Vec<Vec<Outcome>>,
    /// The answer chosen among all: `Some(None)` where the text names none.
    pub chosen: Option<Option<usize>>,
    /// The rating of every answer, where all were rated; one that cannot be read is -1.
    pub ratings: Option<Vec<f64>>,
}

impl Scored<'_> {
    /// Its subset.
    pub fn subset(&self) -> &str {
        &self.group.source.subset
    }

    /// The mean over the orders of one comparison; a verdict that cannot be read counts `unread`.
    pub fn value(&self, comparison: usize, unread: f64) -> Option<f64> {
        let value = |outcome: &Outcome| match outcome {
            Outcome::Right => 1.0,
            Outcome::Wrong => 0.0,
            Outcome::None => unread,
        };
        mean(self.outcomes.get(comparison)?.iter().map(value))
    }

    /// The mean over all comparisons, which must all be known.
    pub fn mean_value_or(&self, unread: f64) -> Option<f64> {
        let values: Option<Vec<f64>> = (0..self.outcomes.len()).map(|place| self.value(place, unread)).collect();
        mean(values?.into_iter())
    }

    /// The same where a verdict that cannot be read is no hit.
    pub fn mean_value(&self) -> Option<f64> {
        self.mean_value_or(0.0)
    }

    /// 1 where the right answer wins every comparison in every order.
    pub fn all_right(&self) -> Option<f64> {
        let known = self.outcomes.iter().all(|outcomes| !outcomes.is_empty()) && !self.outcomes.is_empty();
        known.then(|| f64::from(u8::from(self.outcomes.iter().flatten().all(|outcome| *outcome == Outcome::Right))))
    }

    /// The verdicts of a comparison that was judged in both orders.
    pub fn both_orders(&self, comparison: usize) -> Option<&[Outcome]> {
        self.outcomes.get(comparison).map(Vec::as_slice).filter(|outcomes| outcomes.len() == 2)
    }

    /// Whether both orders of the first comparison name the same answer; no verdict is no agreement.
    pub fn orders_agree(&self) -> Option<bool> {
        self.both_orders(0).map(|two| two[0] == two[1] && two[0] != Outcome::None)
    }
}

/// `accuracy`, `accuracy/SUBSET`, the mean of the subsets, and how many items are known and not.
pub fn of_subsets<'a>(items: &[Scored<'a>], value: impl Fn(&Scored<'a>) -> Option<f64>) -> Metrics {
    let mut metrics = Metrics::new();
    let mut subsets: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut tags: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let all: Vec<Option<f64>> = items.iter().map(&value).collect();
    for (item, value) in items.iter().zip(&all).filter_map(|(item, value)| Some((item, (*value)?))) {
        subsets.entry(&item.group.source.subset).or_default().push(value);
        let own: BTreeSet<&str> = item.group.tags.iter().map(String::as_str).collect();
        own.into_iter().for_each(|tag| tags.entry(tag).or_default().push(value));
    }
    let known = all.iter().flatten().count();
    metrics.insert("accuracy".into(), mean(all.iter().flatten().copied()));
    metrics.insert("macro".into(), mean(subsets.values().filter_map(|values| mean(values.iter().copied()))));
    metrics.insert("n".into(), Some(known as f64));
    metrics.insert("missing".into(), Some((all.len() - known) as f64));
    metrics.insert("coverage".into(), (!all.is_empty()).then(|| known as f64 / all.len() as f64));
    for (slice, values) in subsets.into_iter().chain(tags).filter(|(slice, _)| !slice.is_empty()) {
        metrics.insert(format!("n/{slice}"), Some(values.len() as f64));
        metrics.insert(format!("accuracy/{slice}"), mean(values.into_iter()));
    }
    metrics
}

/// The mean; `None` of nothing.
pub fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_usize), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / count as f64)
}
