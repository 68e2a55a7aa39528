//! What results say: the metrics of its steps, and tables that are meant to be read.

use std::collections::BTreeMap;
use std::sync::Arc;

use plumb_cache::{ActionRecord, Artifact, Store};
use plumb_engine::graph::{Graph, StepId};

use crate::printer::Printer;
use crate::scores::{self, Score};

/// A file of this name is a step's metrics.
const METRICS: &str = "metrics.json";
/// A file of this name is a table for people.
const TABLE: &str = "table.md";

/// The results that a plan found or a run made.
pub type Records = BTreeMap<StepId, Arc<ActionRecord>>;

/// The metrics of those of these steps that have a result.
pub fn scores(graph: &Graph, records: &Records, store: &Store, steps: &[StepId]) -> Vec<Score> {
    let score = |id: &StepId| {
        let bytes = store.read(&file(records, *id, METRICS)?).ok()?;
        let address = &graph.step(*id).address;
        Score::read(&address.stage, &address.to_string(), &bytes)
    };
    steps.iter().filter_map(score).collect()
}

/// Prints what the goals found out. A step with a table for people is told by it alone.
pub fn print(printer: &Printer, graph: &Graph, records: &Records, store: &Store) {
    let (tables, others): (Vec<StepId>, Vec<StepId>) =
        graph.goals.iter().partition(|id| file(records, **id, TABLE).is_some());
    for (stage, table) in scores::tables(&scores(graph, records, store, &others)) {
        printer.data(&format!("\n{stage}"));
        printer.table(&table);
    }
    for id in tables {
        if let Some(text) = file(records, id, TABLE).and_then(|artifact| store.read(&artifact).ok()) {
            printer.data(&format!("\n{}", graph.step(id).address));
            printer.data(String::from_utf8_lossy(&text).trim_end());
        }
    }
}

fn file(records: &Records, id: StepId, name: &str) -> Option<Artifact> {
    let outputs = &records.get(&id)?.outputs;
    let found = outputs.values().find(|output| output.file == name && !output.artifact.is_tree());
    Some(found?.artifact)
}
