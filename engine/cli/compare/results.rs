//! What the steps of a graph measured: their `metrics.json`, and their item rows where an output holds such rows.

use std::collections::{BTreeMap, BTreeSet};

use plumb_cache::{ActionRecord, Artifact, Store};
use plumb_engine::graph::{Graph, StepId};
use plumb_engine::growth;
use plumb_engine::plan::{self, Plan, PlanOptions};
use plumb_stages::stats::beside::Side;
use plumb_stages::stats::items::{ItemRow, Metrics};

use crate::trouble::Trouble;

/// The results that are there.
pub struct Results<'g> {
    /// The graph.
    pub graph: &'g Graph,
    store: &'g Store,
    plan: Plan,
}

impl<'g> Results<'g> {
    /// Looks up every step of a graph whose goals are all its steps.
    pub fn read(graph: &'g Graph, store: &'g Store) -> Result<Self, Trouble> {
        let plan = plan::plan(graph, store, &PlanOptions::default())?;
        Ok(Self { graph, store, plan })
    }

    /// The record of a step that has a result.
    pub fn record(&self, id: StepId) -> Option<&ActionRecord> {
        self.plan.record_of(id).map(|record| &**record)
    }

    /// Those of these steps that have metrics and no result.
    pub fn missing<'a>(&self, steps: impl Iterator<Item = &'a StepId>) -> Vec<String> {
        let measures = |id: &&StepId| {
            let outputs = &self.graph.step(**id).outputs;
            self.plan.record_of(**id).is_none() && outputs.iter().any(|output| growth::is_metrics(&output.file))
        };
        steps.filter(measures).map(|id| self.graph.step(*id).address.to_string()).collect()
    }

    /// What the steps of one branch measured.
    pub fn side(&self, steps: &BTreeMap<String, StepId>) -> Side {
        let mut side = Side::default();
        for (seed, id) in steps {
            side.metrics.extend(self.metrics(*id).map(|metrics| (seed.clone(), metrics)));
            side.items.extend(self.items(*id).map(|items| (seed.clone(), items)));
        }
        side
    }

    fn files(&self, id: StepId, is: impl Fn(&str) -> bool) -> Vec<Artifact> {
        let outputs = self.plan.record_of(id).map(|record| &record.outputs).into_iter().flat_map(BTreeMap::values);
        outputs.filter(|output| is(&output.file) && !output.artifact.is_tree()).map(|output| output.artifact).collect()
    }

    fn metrics(&self, id: StepId) -> Option<Metrics> {
        let file = self.files(id, growth::is_metrics).into_iter().next()?;
        serde_json::from_slice(&self.store.read(&file).ok()?).ok()
    }

    /// Rows that are no item rows, or that name an item twice, are no help in pairing.
    fn items(&self, id: StepId) -> Option<Vec<ItemRow>> {
        let files = self.files(id, |file| file.ends_with(".jsonl"));
        files.iter().find_map(|file| item_rows(&self.store.read(file).ok()?))
    }
}

fn item_rows(bytes: &[u8]) -> Option<Vec<ItemRow>> {
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let rows: Vec<ItemRow> = lines.map(serde_json::from_slice).collect::<Result<_, _>>().ok()?;
    let mut seen = BTreeSet::new();
    (!rows.is_empty() && rows.iter().all(|row| seen.insert(&row.id))).then_some(rows)
}

/// The metric that a name means: `f-score` is `f_score`.
pub fn metric_named(side: &Side, name: &str) -> Option<String> {
    let plain = name.replace('-', "_");
    let known = |wanted: &str| side.metrics.values().any(|metrics| metrics.contains_key(wanted));
    [name, plain.as_str()].into_iter().find(|name| known(name)).map(String::from)
}
