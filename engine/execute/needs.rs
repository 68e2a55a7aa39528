//! What a step needs in its scratch folder, found from the graph and the results made so far. Lays out nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use plumb_cache::{ActionRecord, Artifact, Store};

use super::place::{Origin, Wanted};
use super::task::Task;
use crate::graph::{Graph, Input, Reference, Step, StepId};
use crate::io::Branch;
use crate::plan::Facts;
use crate::plan::facts::pipeline_folder;
use crate::plan::inputs;

/// Where needs are looked up.
pub(super) struct Needs<'a> {
    pub(super) graph: &'a Graph,
    pub(super) store: &'a Store,
    pub(super) facts: &'a Facts,
    /// The result of every step that has one.
    pub(super) records: &'a BTreeMap<StepId, Arc<ActionRecord>>,
}

impl Needs<'_> {
    /// Every input of a step whose producers are done (or failed, where only a mark is asked for).
    fn inputs(&self, step: &Step) -> BTreeMap<String, Wanted> {
        step.inputs.iter().filter_map(|(name, input)| Some((name.clone(), self.wanted(input)?))).collect()
    }

    fn wanted(&self, input: &Input) -> Option<Wanted> {
        let (branches, adaptive) = match input {
            Input::One(reference) => return self.origin(reference).map(Wanted::One),
            Input::Gathered { branches, adaptive, .. } => (branches.iter(), adaptive),
        };
        let branches = branches.map(|branch| {
            let (stage, labels) = (branch.stage.clone(), branch.labels.clone());
            let (baseline, adaptive) = (branch.baseline, adaptive.clone());
            (Branch { stage, labels, baseline, path: None, adaptive }, self.origin(&branch.reference))
        });
        Some(Wanted::Gathered(branches.collect()))
    }

    fn origin(&self, reference: &Reference) -> Option<Origin> {
        if let Reference::Source { source, subpath } = reference {
            let artifact = self.facts.source(*source, subpath);
            let Some(local) = self.facts.locals.get(&(*source, subpath.clone())) else {
                return Some(Origin::Cache(artifact));
            };
            let name = self.graph.source(*source).name.clone();
            return Some(Origin::Source { name, local: local.clone(), artifact });
        }
        let record_of = |producer: StepId| self.records.get(&producer).cloned();
        let found = inputs::artifact(self.graph, self.store, self.facts, reference, record_of);
        // The key was made from the same artifact a moment ago, so it resolves, or is marked as missing.
        found.ok().flatten().map(Origin::Cache)
    }

    /// An attempt at a step by itself: it follows nothing, is preferred to nothing and claims nothing.
    pub(super) fn task(&self, step: &Step, draft: ActionRecord, gpus: Vec<String>, log: PathBuf, own: PathBuf) -> Task {
        Task {
            kind: step.kind.clone(),
            params: step.params.clone(),
            outputs: step.outputs.clone(),
            run: step.run.clone(),
            inputs: self.inputs(step),
            files: self.listed_files(step),
            draft,
            offered: Vec::new(),
            fresh: false,
            gpus,
            pipeline_folder: pipeline_folder(self.graph).to_owned(),
            log,
            own_program: own,
            detached: false,
            courier: None,
            claim: None,
        }
    }

    /// Listed files: name, place, digest in the key.
    fn listed_files(&self, step: &Step) -> Vec<(String, PathBuf, Artifact)> {
        let folder = pipeline_folder(self.graph);
        let place = |name: String| {
            let path = folder.join(&name);
            let artifact = *self.facts.files.get(&path)?;
            Some((name, path, artifact))
        };
        step.kind.observes(&step.params).files.into_iter().filter_map(place).collect()
    }
}
