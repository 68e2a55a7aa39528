//! How urgent a step is: the time from its start to the end of the run if everything after it starts at once (its
//! critical path). Durations are those of the last runs; a step that never ran is taken for one of its stage, else for
//! an average one, so that without a history the longest chain goes first.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::graph::{Graph, StepId};
use crate::plan::{Facts, Plan, State};

/// What a step is taken for where nothing is known.
const UNKNOWN: Duration = Duration::from_secs(1);

/// The ranks of a plan's steps, in milliseconds; those that do not run have rank 0.
pub(super) fn ranks(graph: &Graph, plan: &Plan, known: &BTreeMap<String, Duration>) -> Vec<u64> {
    let estimate = Estimate::new(known);
    let mut ranks = vec![0_u64; plan.steps.len()];
    // Producers come first in the graph, so from the end every step is complete when it is met.
    for step in plan.steps.iter().rev() {
        if !matches!(step.state, State::Run { .. } | State::MayRun { .. }) {
            continue;
        }
        let own = estimate.of(&graph.step(step.id).address.to_string());
        let rank = &mut ranks[step.id.0];
        *rank = rank.saturating_add(u64::try_from(own.as_millis()).unwrap_or(u64::MAX).max(1));
        let rank = *rank;
        for StepId(producer) in producers(&plan.facts, step.id) {
            ranks[*producer] = ranks[*producer].max(rank);
        }
    }
    ranks
}

fn producers(facts: &Facts, id: StepId) -> &[StepId] {
    &facts.producers[id.0]
}

/// Durations by step, by stage, and on average.
struct Estimate<'a> {
    steps: &'a BTreeMap<String, Duration>,
    stages: BTreeMap<&'a str, Duration>,
    average: Duration,
}

impl<'a> Estimate<'a> {
    fn new(steps: &'a BTreeMap<String, Duration>) -> Self {
        let mut sums: BTreeMap<&str, (Duration, u32)> = BTreeMap::new();
        for (step, took) in steps {
            let (sum, count) = sums.entry(stage(step)).or_default();
            (*sum, *count) = (*sum + *took, *count + 1);
        }
        let total: Duration = steps.values().sum();
        let count = u32::try_from(steps.len()).unwrap_or(u32::MAX);
        let average = total.checked_div(count).unwrap_or(UNKNOWN);
        let stages = sums.into_iter().map(|(stage, (sum, count))| (stage, sum / count)).collect();
        Self { steps, stages, average }
    }

    fn of(&self, step: &str) -> Duration {
        let known = self.steps.get(step).or_else(|| self.stages.get(stage(step)));
        known.copied().unwrap_or(self.average)
    }
}

fn stage(step: &str) -> &str {
    step.split_once('@').map_or(step, |(stage, _)| stage)
}
