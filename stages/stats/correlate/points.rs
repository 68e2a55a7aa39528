//! Branches of scores and of outcomes matched into points, by the labels of the axes that both see.

use std::collections::{BTreeMap, BTreeSet};

use plumb_engine::io::Branch;
use plumb_engine::stage::StageError;

use super::Params;
use crate::jsonl;
use crate::stats::arms::{Arm, Group, Labels, groups};
use crate::stats::items::Metrics;

/// One branch with the scores of its judge and the outcomes of its actor.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// Labels on the axes that both sides see.
    pub name: String,
    /// Seed -> (scores, outcomes), for seeds that both have.
    pub seeds: BTreeMap<String, (Metrics, Metrics)>,
}

/// The branches of one benchmark against those of one evaluation.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Which benchmark.
    pub scores: String,
    /// Which evaluation.
    pub outcomes: String,
    /// What could be matched.
    pub pairs: Vec<Pair>,
    /// Branches of either side that have no counterpart.
    pub unmatched: Vec<String>,
}

// Arms that differ only on common axes.
struct Side {
    name: String,
    arms: Vec<Arm<Metrics>>,
}

/// Every benchmark against every evaluation.
pub fn series(params: &Params, scores: &[Branch], outcomes: &[Branch]) -> Result<Vec<Series>, StageError> {
    known_stages(params, scores, outcomes)?;
    let read =
        |branches: &[Branch]| groups(branches, &params.replicate_axis, &grouping(params, branches), jsonl::read_json);
    let (scores, outcomes) = (read(scores)?, read(outcomes)?);
    let common: BTreeSet<String> = axes(&scores).intersection(&axes(&outcomes)).cloned().collect();
    let (scores, outcomes) = (sides(scores, &common), sides(outcomes, &common));
    Ok(scores.iter().flat_map(|score| outcomes.iter().map(|outcome| matched(score, outcome))).collect())
}

fn known_stages(params: &Params, scores: &[Branch], outcomes: &[Branch]) -> Result<(), StageError> {
    let unknown = |stage: &&String| scores.iter().chain(outcomes).all(|branch| branch.stage != **stage);
    params.groups.values().flatten().find(unknown).map_or(Ok(()), |stage| {
        Err(StageError::new(format!("`groups` names stage `{stage}`, which no gather holds"))
            .hint("add it to the gather's `all`, or leave it out of `groups`"))
    })
}

fn grouping(params: &Params, branches: &[Branch]) -> BTreeMap<String, Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    for branch in branches {
        if !names.contains(&branch.stage) {
            names.push(branch.stage.clone());
        }
    }
    let addresses: BTreeSet<&Labels> = branches.iter().map(|branch| &branch.labels).collect();
    if params.groups.is_empty() && addresses.len() == branches.len() {
        return BTreeMap::from([(names.join(" + "), names)]);
    }
    let here = |stages: &[String]| stages.iter().filter(|stage| names.contains(stage)).cloned().collect();
    params.groups.iter().map(|(name, stages)| (name.clone(), here(stages))).collect()
}

fn axes(groups: &[Group<Metrics>]) -> BTreeSet<String> {
    groups.iter().flat_map(|group| &group.arms).flat_map(|arm| arm.labels.keys().cloned()).collect()
}

// An axis that only one side sees (a benchmark axis, an actor's own knob) makes a series of each of its values.
fn sides(groups: Vec<Group<Metrics>>, common: &BTreeSet<String>) -> Vec<Side> {
    let mut sides: Vec<Side> = Vec::new();
    for group in groups {
        for mut arm in group.arms {
            let (shared, own): (Labels, Labels) = arm.labels.into_iter().partition(|(axis, _)| common.contains(axis));
            arm.labels = shared;
            let own: Vec<String> = own.iter().map(|(axis, label)| format!("{axis}={label}")).collect();
            let name = if own.is_empty() { group.name.clone() } else { format!("{}@{}", group.name, own.join(",")) };
            match sides.iter_mut().find(|side| side.name == name) {
                Some(side) => side.arms.push(arm),
                None => sides.push(Side { name, arms: vec![arm] }),
            }
        }
    }
    sides
}

fn matched(scores: &Side, outcomes: &Side) -> Series {
    let find = |arm: &Arm<Metrics>, side: &Side| side.arms.iter().position(|other| other.labels == arm.labels);
    let pairs = scores.arms.iter().filter_map(|arm| Some(pair(arm, &outcomes.arms[find(arm, outcomes)?])));
    let lone = |side: &Side, other: &Side| -> Vec<String> {
        let lone = side.arms.iter().filter(|arm| find(arm, other).is_none());
        lone.map(|arm| format!("{} of {}", arm.name(), side.name)).collect()
    };
    Series {
        scores: scores.name.clone(),
        outcomes: outcomes.name.clone(),
        pairs: pairs.collect(),
        unmatched: [lone(scores, outcomes), lone(outcomes, scores)].concat(),
    }
}

fn pair(scores: &Arm<Metrics>, outcomes: &Arm<Metrics>) -> Pair {
    let seeds = if scores.seeds.contains_key("") { outcomes.seeds.keys() } else { scores.seeds.keys() };
    let both = |seed: &String| Some((seed.clone(), (scores.seed(seed)?.clone(), outcomes.seed(seed)?.clone())));
    Pair { name: scores.name(), seeds: seeds.filter_map(both).collect() }
}
