//! A budget for a plan: `5gpu-h`, `8cpu-h`, `2h`. Says whether what would run fits, and which of it does in the plan's
//! order. A step that may run is counted as if it ran; one of unknown cost never fits.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use serde::Serialize;

use crate::estimate::{Estimate, Forecast};
use crate::graph::{Graph, Input, StepId};
use crate::plan::{Plan, references};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resource {
    /// Time from start to end, with as many steps at once as there are slots.
    Wall,
    /// Time of all cores.
    Cpu,
    /// Wall time times GPU slots.
    Gpu,
}

/// So much of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Budget {
    /// Of what.
    pub resource: Resource,
    /// How much.
    pub seconds: f64,
}

impl FromStr for Budget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("`{text}` is no budget: write `5gpu-h`, `8cpu-h`, `2h`, `30m` or `90s`");
        let unit = text.find(|letter: char| letter.is_ascii_alphabetic()).ok_or_else(expected)?;
        let amount: f64 = text[..unit].trim().parse().map_err(|_| expected())?;
        let (resource, unit) = match text[unit..].split_once('-') {
            Some(("gpu", unit)) => (Resource::Gpu, unit),
            Some(("cpu", unit)) => (Resource::Cpu, unit),
            Some(_) => return Err(expected()),
            None => (Resource::Wall, &text[unit..]),
        };
        let seconds = match unit {
            "h" => 3600.0,
            "m" | "min" => 60.0,
            "s" => 1.0,
            _ => return Err(expected()),
        };
        if amount.is_finite() && amount >= 0.0 {
            Ok(Self { resource, seconds: amount * seconds })
        } else {
            Err(expected())
        }
    }
}

/// What some steps need of a budget.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Need {
    /// The known part.
    pub seconds: f64,
    /// The steps of which it is not known.
    #[serde(skip)]
    pub unknown: Vec<StepId>,
}

/// What fits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trim {
    /// Steps that run within the budget, or may.
    pub kept: BTreeSet<StepId>,
    /// Steps that do not, in the graph's order.
    pub left: Vec<StepId>,
}

/// A plan to be fitted.
#[derive(Clone, Copy)]
pub struct Fit<'a> {
    /// The graph.
    pub graph: &'a Graph,
    /// Its plan.
    pub plan: &'a Plan,
    /// What the plan takes.
    pub forecast: &'a Forecast,
    /// CPU slots.
    pub jobs: usize,
}

impl<'a> Fit<'a> {
    /// What these steps need.
    pub fn need(&self, budget: &Budget, ids: &BTreeSet<StepId>) -> Need {
        let costs = |id: &StepId| self.cost(budget, *id);
        let unknown: Vec<StepId> = ids.iter().copied().filter(|id| costs(id).is_none()).collect();
        let sum = || ids.iter().filter_map(costs).sum();
        let seconds = match budget.resource {
            Resource::Wall if unknown.is_empty() => self.forecast.makespan(self.graph, self.plan, ids, self.jobs),
            _ => None,
        };
        Need { seconds: seconds.unwrap_or_else(sum), unknown }
    }

    fn cost(&self, budget: &Budget, id: StepId) -> Option<f64> {
        if budget.resource == Resource::Gpu && self.graph.step(id).run.gpu.most() == 0 {
            return Some(0.0);
        }
        let of = |estimate: &Estimate| match budget.resource {
            Resource::Wall => estimate.wall_seconds,
            Resource::Cpu => estimate.cpu_seconds,
            Resource::Gpu => estimate.gpu_seconds,
        };
        self.forecast.steps.get(&id)?.as_ref().map(of)
    }

    /// Every step that runs, or may.
    pub fn all(&self) -> BTreeSet<StepId> {
        self.forecast.steps.keys().copied().collect()
    }

    /// What fits, in the plan's order: branch by branch, each with all that it needs, until one does not fit; then the
    /// tables over branches whose every row is there.
    pub fn trim(&self, budget: &Budget) -> Trim {
        let (branches, tables) = self.ends();
        let mut kept = BTreeSet::new();
        for end in branches {
            let with = self.with(&kept, end);
            if !self.fits(budget, &with) {
                break;
            }
            kept = with;
        }
        for table in tables {
            let with = self.with(&kept, table);
            if self.fits(budget, &with) {
                kept = with;
            }
        }
        let left = self.all().into_iter().filter(|id| !kept.contains(id)).collect();
        Trim { kept, left }
    }

    fn fits(&self, budget: &Budget, ids: &BTreeSet<StepId>) -> bool {
        let need = self.need(budget, ids);
        need.unknown.is_empty() && need.seconds <= budget.seconds
    }

    /// The steps of some set, of one more, and of everything that it waits on.
    fn with(&self, kept: &BTreeSet<StepId>, end: StepId) -> BTreeSet<StepId> {
        let mut all = kept.clone();
        let mut waiting = vec![end];
        while let Some(id) = waiting.pop() {
            if self.forecast.steps.contains_key(&id) && all.insert(id) {
                waiting.extend(&self.plan.facts.producers[id.0]);
            }
        }
        all
    }

    /// The steps at which branches end (goals, and what a table gathers), the first branch of every stage before the
    /// second of any; and the tables, which need several branches.
    fn ends(&self) -> (Vec<StepId>, Vec<StepId>) {
        let steps = &self.graph.steps;
        let runs = |id: &StepId| self.forecast.steps.contains_key(id);
        let mut over_branches = vec![false; steps.len()];
        let mut ends: BTreeSet<StepId> = self.graph.goals.iter().copied().filter(runs).collect();
        for (index, step) in steps.iter().enumerate().filter(|(index, _)| runs(&StepId(*index))) {
            for input in step.inputs.values() {
                let gathers = matches!(input, Input::Gathered { .. });
                let producers = references(input).filter_map(|(reference, _)| reference.step());
                let producers: Vec<StepId> = producers.filter(runs).collect();
                over_branches[index] |= gathers || producers.iter().any(|producer| over_branches[producer.0]);
                if gathers {
                    ends.extend(producers);
                }
            }
        }
        let (tables, branches): (Vec<StepId>, Vec<StepId>) = ends.into_iter().partition(|id| over_branches[id.0]);
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        let mut ranked: Vec<(usize, StepId)> = Vec::new();
        for id in branches {
            let rank = seen.entry(&steps[id.0].address.stage).or_default();
            ranked.push((*rank, id));
            *rank += 1;
        }
        ranked.sort();
        (ranked.into_iter().map(|(_, id)| id).collect(), tables)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_an_amount_of_wall_cpu_or_gpu_time() {
        let read = |text: &str| text.parse::<Budget>();
        assert_eq!(read("5gpu-h"), Ok(Budget { resource: Resource::Gpu, seconds: 18_000.0 }));
        assert_eq!(read("1.5cpu-h"), Ok(Budget { resource: Resource::Cpu, seconds: 5400.0 }));
        assert_eq!(read("30m"), Ok(Budget { resource: Resource::Wall, seconds: 1800.0 }));
        assert_eq!(read("90 s"), Ok(Budget { resource: Resource::Wall, seconds: 90.0 }));
        for wrong in ["", "5", "h", "5tpu-h", "-1h", "nanh", "5gpu-", "5 days"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
