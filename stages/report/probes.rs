//! Bias probes: what the scored branches' metrics say of position, length, cue and the meta-judge, as a table.

use serde::Serialize;

use super::{Evidence, Roles};
use crate::stats::items::Metrics;

/// Metric, its name, and what it should be.
const KNOWN: [(&str, &str, &str); 12] = [
    ("coverage", "Coverage", "right labels whose rationale got a verdict; should be near 1"),
    ("p_choose_a", "Chooses A", "should be the share of golds that are A"),
    ("l_acc/gold-a", "L-Acc, gold A", "should equal its neighbour: else the judge favours a position"),
    ("l_acc/gold-b", "L-Acc, gold B", "should equal its neighbour: else the judge favours a position"),
    ("order_consistency", "Order consistency", "same answer chosen when both are exchanged; should be near 1"),
    ("length_correlation", "Length correlation", "verdict against difference in length; 0 is unbiased"),
    ("format_correlation", "Format correlation", "verdict against difference in formatting; 0 is unbiased"),
    ("cue_followed", "Follows the cue", "verdict is the answer with the planted cue; 0.5 where the cue tells nothing"),
    ("s_corr_blind", "Blind control", "S-Corr with golds of other items; a sound meta-judge gives nearly 1"),
    ("aligned_blind", "Aligned, blind", "rationales called right by golds of other items; should be near 0"),
    ("meta_sound", "Sound", "1 where the meta-judge passes the blind control; where it is 0, do not believe S-Corr"),
    ("verdict_missing", "No verdict", "judgments without a readable verdict"),
];

/// Metrics that are no probes: scores, counts, and the ends of intervals.
const OTHERS: [&str; 9] =
    ["l_acc", "s_corr", "f_score", "n", "n_blind", "label_correct", "call_fail", "parse_fail", "coverage"];

/// The table.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Probes {
    /// What is probed.
    pub heads: Vec<Head>,
    /// One a scored branch.
    pub rows: Vec<Row>,
}

/// What is probed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Head {
    /// The metric.
    pub metric: String,
    /// Its name for people.
    pub name: String,
    /// What it should be.
    pub about: String,
}

/// One scored branch.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Its branch, with its replicate where there are several.
    pub branch: String,
    /// Its benchmark.
    pub benchmark: String,
    /// One a head.
    pub values: Vec<Option<f64>>,
}

impl Probes {
    /// Of this evidence.
    pub fn of(evidence: &Evidence, roles: &Roles) -> Self {
        let has = |name: &str| evidence.scored.iter().any(|one| one.metrics.contains_key(name));
        let known = KNOWN.into_iter().filter(|(metric, ..)| has(metric)).map(|(metric, name, about)| Head {
            metric: metric.into(),
            name: name.into(),
            about: about.into(),
        });
        let mut heads: Vec<Head> = known.collect();
        for name in evidence.scored.iter().flat_map(|one| one.metrics.keys()) {
            if is_probe(name) && heads.iter().all(|head| head.metric != *name) {
                heads.push(Head { metric: name.clone(), name: name.replace('_', " "), about: String::new() });
            }
        }
        let rows = evidence.scored.iter().map(|one| Row {
            branch: run_name(roles, &one.labels),
            benchmark: roles.benchmark(one),
            values: heads.iter().map(|head| value(&one.metrics, &head.metric)).collect(),
        });
        Self { rows: rows.collect(), heads }
    }
}

/// The scored branches whose meta-judge fails the rationale-blind control: their S-Corr means nothing.
pub fn unsound(evidence: &Evidence, roles: &Roles) -> Vec<String> {
    let failing = evidence.scored.iter().filter(|one| value(&one.metrics, "meta_sound") == Some(0.0));
    failing.map(|one| format!("{} on {}", run_name(roles, &one.labels), roles.benchmark(one))).collect()
}

/// A branch with its replicate, where there are several.
pub fn run_name(roles: &Roles, labels: &super::Labels) -> String {
    let branch = roles.branch(labels);
    if roles.replicated() { format!("{branch}, {} {}", roles.replicate, roles.replicate(labels)) } else { branch }
}

fn value(metrics: &Metrics, name: &str) -> Option<f64> {
    metrics.get(name).copied().flatten()
}

fn is_probe(name: &str) -> bool {
    !name.contains('/') && !name.ends_with("_low") && !name.ends_with("_high") && !OTHERS.contains(&name)
}
