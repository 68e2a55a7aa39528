//! One branch against another, seed by seed on the same items.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Contrast;
use super::summary::mean;
use crate::stats::arms::Arm;
use crate::stats::bootstrap::{Bootstrap, Interval};
use crate::stats::intervals::{OverSeeds, over_seeds};
use crate::stats::items::ItemRow;
use crate::stats::metric::Metric;
use crate::stats::paired::{Overlap, Pairing, bootstrap_interval};

/// A difference with everything that bounds it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The first branch's labels where the two differ.
    pub of: String,
    /// The second branch's.
    pub against: String,
    /// The labels that the two share, where a named contrast is drawn at several of them.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub at: String,
    /// The metric.
    pub metric: String,
    /// Mean of the per-seed differences, first minus second.
    pub difference: Option<f64>,
    /// Difference of each seed that both branches have; `null` where the metric is not defined on it.
    pub per_seed: BTreeMap<String, Option<f64>>,
    /// The headline, with two seeds or more.
    pub over_seeds: Option<OverSeeds>,
    /// The two-level bootstrap; with one seed, over items only.
    pub bootstrap: Option<Interval>,
    /// p of the headline after Holm's correction over the family.
    pub p_holm: Option<f64>,
    /// McNemar's p, with one seed: about these items, not about the branches.
    pub mcnemar: Option<f64>,
    /// For S-Corr: on the items that both branches label right.
    pub common_support: Option<CommonSupport>,
    /// Items over all seeds.
    pub items: Overlap,
    /// Seeds that only one of the branches has.
    pub unpaired_seeds: Vec<String>,
}

/// S-Corr on items that both branches label right.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CommonSupport {
    /// Such items, over all seeds.
    pub items: usize,
    /// S-Corr of the first branch on them, averaged over seeds.
    pub of: Option<f64>,
    /// S-Corr of the second branch on them.
    pub against: Option<f64>,
    /// Mean of the per-seed differences.
    pub difference: Option<f64>,
    /// The t-interval over seeds.
    pub over_seeds: Option<OverSeeds>,
}

type ItemArm = Arm<Vec<ItemRow>>;

impl Difference {
    /// Compares two arms on one metric.
    pub fn of(bootstrap: Bootstrap, metric: &Metric, of: &ItemArm, against: &ItemArm) -> Self {
        let pairings = pairings(metric, of, against);
        let per_seed: BTreeMap<String, Option<f64>> =
            pairings.iter().map(|(seed, pairing)| (seed.clone(), pairing.difference())).collect();
        let known: Vec<f64> = per_seed.values().flatten().copied().collect();
        let seeds: Vec<Pairing> = pairings.into_values().collect();
        let (of_name, against_name) = names(of, against);
        Self {
            of: of_name,
            against: against_name,
            at: String::new(),
            metric: metric.name.clone(),
            difference: mean(known.iter().copied()),
            per_seed,
            over_seeds: over_seeds(&known, bootstrap.level),
            bootstrap: bootstrap_interval(&seeds, bootstrap),
            p_holm: None,
            mcnemar: if let [one] = &seeds[..] { one.mcnemar() } else { None },
            common_support: metric.is_spurious_correctness().then(|| common_support(bootstrap.level, of, against)),
            items: overlap(&seeds),
            unpaired_seeds: unpaired(of, against),
        }
    }

    /// The same, saying at which labels that the two share.
    pub fn placed(self, of: &ItemArm, against: &ItemArm) -> Self {
        Self { at: shared(of, against), ..self }
    }

    /// `reward=label-and-rationale minus label`, and where: `at bench=id`.
    pub fn name(&self) -> String {
        let place = if self.at.is_empty() { String::new() } else { format!(" at {}", self.at) };
        format!("{} minus {}{place}", self.of, self.against)
    }
}

fn pairings(metric: &Metric, of: &ItemArm, against: &ItemArm) -> BTreeMap<String, Pairing> {
    let seeds = if of.seeds.contains_key("") { &against.seeds } else { &of.seeds };
    let pair = |seed: &String| Some((seed.clone(), Pairing::of(metric, of.seed(seed)?, against.seed(seed)?)));
    seeds.keys().filter_map(pair).collect()
}

fn overlap(seeds: &[Pairing]) -> Overlap {
    seeds.iter().fold(Overlap::default(), |sum, Pairing { overlap, .. }| Overlap {
        both: sum.both + overlap.both,
        masked: sum.masked + overlap.masked,
        only_of: sum.only_of + overlap.only_of,
        only_against: sum.only_against + overlap.only_against,
    })
}

fn common_support(level: f64, of: &ItemArm, against: &ItemArm) -> CommonSupport {
    let right = |rows: &Vec<ItemRow>| -> Vec<ItemRow> {
        rows.iter().filter(|row| row.values.get("label_correct") == Some(&Some(1.0))).cloned().collect()
    };
    let pairings = pairings(&Metric::named("spurious"), &of.map(right), &against.map(right));
    let known: Vec<f64> = pairings.values().filter_map(Pairing::difference).collect();
    let sides: Vec<(Option<f64>, Option<f64>)> = pairings.values().map(Pairing::sides).collect();
    CommonSupport {
        of: mean(sides.iter().filter_map(|(of, _)| *of)),
        against: mean(sides.iter().filter_map(|(_, against)| *against)),
        items: pairings.values().map(|pairing| pairing.overlap.both).sum(),
        difference: mean(known.iter().copied()),
        over_seeds: over_seeds(&known, level),
    }
}

fn unpaired(of: &ItemArm, against: &ItemArm) -> Vec<String> {
    let lone = |arm: &ItemArm, other: &ItemArm| -> Vec<String> {
        if arm.seeds.contains_key("") {
            return Vec::new();
        }
        arm.seeds.keys().filter(|seed| other.seed(seed).is_none()).cloned().collect()
    };
    let mut seeds = [lone(of, against), lone(against, of)].concat();
    seeds.sort();
    seeds
}

// Only the labels that differ; one axis that both see is named once, as in `reward=label minus none`.
fn names(of: &ItemArm, against: &ItemArm) -> (String, String) {
    let (first, second) = (differing(of, against), differing(against, of));
    match (&first[..], &second[..]) {
        ([(axis, label)], [(same, other)]) if axis == same => (format!("{axis}={label}"), other.to_string()),
        _ => (told(&first), told(&second)),
    }
}

fn shared(of: &ItemArm, against: &ItemArm) -> String {
    let labels: Vec<String> = of
        .labels
        .iter()
        .filter(|(axis, label)| against.labels.get(*axis) == Some(*label))
        .map(|(axis, label)| format!("{axis}={label}"))
        .collect();
    labels.join(", ")
}

fn differing<'a>(arm: &'a ItemArm, other: &ItemArm) -> Vec<(&'a String, &'a String)> {
    arm.labels.iter().filter(|(axis, label)| other.labels.get(*axis) != Some(*label)).collect()
}

fn told(labels: &[(&String, &String)]) -> String {
    let told: Vec<String> = labels.iter().map(|(axis, label)| format!("{axis}={label}")).collect();
    if told.is_empty() { "(no axis)".into() } else { told.join(", ") }
}

/// Which arms are compared: (of, against).
pub fn pairs<'a>(arms: &'a [ItemArm], contrast: Option<&Contrast>) -> Vec<(&'a ItemArm, &'a ItemArm)> {
    match contrast {
        Some(contrast) => arms.iter().filter_map(|arm| named_pair(arms, arm, contrast)).collect(),
        None => match baseline(arms) {
            Some(baseline) => arms.iter().filter(|arm| arm.labels != baseline.labels).map(|a| (a, baseline)).collect(),
            None => Vec::new(),
        },
    }
}

fn named_pair<'a>(arms: &'a [ItemArm], of: &'a ItemArm, contrast: &Contrast) -> Option<(&'a ItemArm, &'a ItemArm)> {
    let mut wanted = of.labels.clone();
    let label = wanted.insert(contrast.axis.clone(), contrast.against.clone());
    let against = arms.iter().find(|arm| arm.labels == wanted)?;
    (label.as_deref() == Some(contrast.of.as_str())).then_some((of, against))
}

// A stage that sees fewer axes is at the baseline of all it sees: the arm with the most axes is the baseline proper.
fn baseline(arms: &[ItemArm]) -> Option<&ItemArm> {
    let most = arms.iter().filter(|arm| arm.baseline).map(|arm| arm.labels.len()).max()?;
    arms.iter().find(|arm| arm.baseline && arm.labels.len() == most)
}
