//! A branch as people name it for a comparison, `reward=label,kl=0.01` or `baseline`, and the steps that it means in each
//! stage: every axis that is not named is at its baseline, and replicates tell the steps of one branch apart.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use plumb_engine::graph::{AxisLabel, Graph, Step, StepId};
use plumb_engine::nearest;

use crate::trouble::Trouble;

/// Axis -> label, where it is not the baseline; a named replicate too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Branch {
    labels: BTreeMap<String, String>,
}

impl Branch {
    /// `reward=label,kl=0.01`, or `baseline`.
    pub fn name(&self) -> String {
        let labels: Vec<String> = self.labels.iter().map(|(axis, label)| format!("{axis}={label}")).collect();
        if labels.is_empty() { "baseline".into() } else { labels.join(",") }
    }
}

/// The stages of a graph with their steps.
pub struct Stages<'g> {
    graph: &'g Graph,
    /// In the order of the graph.
    names: Vec<&'g str>,
    /// The places of their steps.
    places: BTreeMap<&'g str, Range<usize>>,
}

impl<'g> Stages<'g> {
    /// Of this graph.
    pub fn of(graph: &'g Graph) -> Self {
        Self { graph, names: graph.stages().map(|(stage, _)| stage).collect(), places: graph.stages().collect() }
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &'g str> {
        self.names.iter().copied()
    }

    /// Reads a branch; a wrong axis or label names the nearest, and so does a combination that no plan makes.
    pub fn branch(&self, text: &str) -> Result<Branch, Trouble> {
        let terms = text.split_once('@').map_or(text, |(_, terms)| terms);
        let mut labels = BTreeMap::new();
        for term in terms.split(',').filter(|term| !term.is_empty() && *term != "baseline") {
            let (axis, label) = self.term(text, term)?;
            if self.is_replicate(axis) || !self.seen(axis).any(|seen| seen.label == label && seen.baseline) {
                labels.insert(axis.to_string(), label.to_string());
            }
        }
        let branch = Branch { labels };
        let made = |stage: &str| {
            let seen = self.of_stage(stage).next().map_or(&[][..], |id| &self.step(id).address.branch);
            let sees = |axis: &String| seen.iter().any(|seen| seen.axis == *axis);
            branch.labels.keys().all(sees) && !self.steps(stage, &branch).is_empty()
        };
        if branch.labels.is_empty() || self.names().any(made) {
            return Ok(branch);
        }
        let known: BTreeSet<String> =
            self.names().flat_map(|stage| self.branches(stage)).map(|one| one.name()).collect();
        let hint = nearest::hint("branches", &branch.name(), known.iter().map(String::as_str));
        Err(Trouble::Usage { message: format!("no plan makes the branch `{}`", branch.name()), hint })
    }

    fn term<'t>(&self, text: &str, term: &'t str) -> Result<(&'t str, &'t str), Trouble> {
        let (axis, label) = term.split_once('=').ok_or_else(|| {
            let hint = "write `AXIS=LABEL,AXIS=LABEL`, or `baseline`";
            Trouble::usage(format!("`{term}` in `{text}` is no `AXIS=LABEL`"), hint)
        })?;
        let wrong = |message: String, hint| Err(Trouble::Usage { message, hint });
        if self.seen(axis).next().is_none() {
            let known: BTreeSet<&str> = self.all().map(|seen| seen.axis.as_str()).collect();
            return wrong(format!("`{text}`: no stage sees an axis `{axis}`"), nearest::hint("axes", axis, known));
        }
        if !self.seen(axis).any(|seen| seen.label == label) {
            let known: BTreeSet<&str> = self.seen(axis).map(|seen| seen.label.as_str()).collect();
            return wrong(format!("`{text}`: axis `{axis}` has no `{label}`"), nearest::hint("values", label, known));
        }
        Ok((axis, label))
    }

    fn all(&self) -> impl Iterator<Item = &'g AxisLabel> {
        self.graph.steps.iter().flat_map(|step| &step.address.branch)
    }

    fn seen<'a>(&self, axis: &'a str) -> impl Iterator<Item = &'g AxisLabel> + use<'a, 'g> {
        self.graph.steps.iter().flat_map(|step| &step.address.branch).filter(move |seen| seen.axis == axis)
    }

    fn step(&self, id: StepId) -> &'g Step {
        self.graph.step(id)
    }

    fn is_replicate(&self, axis: &str) -> bool {
        self.graph.replicates.iter().any(|known| known == axis)
    }

    fn of_stage(&self, stage: &str) -> impl Iterator<Item = StepId> + use<'g> {
        self.places.get(stage).cloned().unwrap_or_default().map(StepId)
    }

    /// The steps of a branch in a stage, by their replicates' labels; empty for a stage that makes no such branch.
    pub fn steps(&self, stage: &str, branch: &Branch) -> BTreeMap<String, StepId> {
        let place = |id: StepId| Some((self.replicate(id, branch)?, id));
        self.of_stage(stage).filter_map(place).collect()
    }

    /// Which replicate of a branch a step is; `None` for a step of another branch.
    fn replicate(&self, id: StepId, branch: &Branch) -> Option<String> {
        let mut replicate = Vec::new();
        for seen in &self.step(id).address.branch {
            match branch.labels.get(&seen.axis) {
                Some(label) if *label != seen.label => return None,
                Some(_) => {}
                None if self.is_replicate(&seen.axis) => replicate.push(seen.label.as_str()),
                None if !seen.baseline => return None,
                None => {}
            }
        }
        Some(replicate.join(","))
    }

    /// The branches of a stage, replicates apart, in the order of the graph.
    pub fn branches(&self, stage: &str) -> Vec<Branch> {
        let (mut branches, mut seen) = (Vec::new(), BTreeSet::new());
        for id in self.of_stage(stage) {
            let named =
                self.step(id).address.branch.iter().filter(|seen| !seen.baseline && !self.is_replicate(&seen.axis));
            let labels = named.map(|seen| (seen.axis.clone(), seen.label.clone())).collect();
            let branch = Branch { labels };
            if seen.insert(branch.clone()) {
                branches.push(branch);
            }
        }
        branches
    }
}
