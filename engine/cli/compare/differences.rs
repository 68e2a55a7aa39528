//! What two branches differ in besides what they measured: parameters, inputs, stages that only one of them has, and
//! what their results were made with.

use std::collections::{BTreeMap, BTreeSet};

use plumb_engine::canonical::Value;
use plumb_engine::graph::{Graph, Input, Reference, StepId};
use plumb_engine::stage::Determinism;
use serde::Serialize;

use super::branch::Branch;
use super::results::Results;
use crate::table::Table;

/// The steps of a branch in one stage, by their replicates' labels.
type Steps = BTreeMap<String, StepId>;

/// Everything, for machines too.
#[derive(Debug, Default, Serialize)]
pub struct Differences {
    parameters: Vec<Parameter>,
    inputs: Vec<Difference>,
    /// Devices, slots, libraries and machines, of stages whose bytes may depend on them.
    made_with: Vec<Difference>,
    /// Stages that only one of the branches has.
    only: Vec<Only>,
}

/// A parameter that differs.
#[derive(Debug, Serialize)]
struct Parameter {
    stage: String,
    parameter: String,
    of: Option<String>,
    against: Option<String>,
}

#[derive(Debug, Serialize)]
struct Difference {
    stage: String,
    name: String,
    of: Option<String>,
    against: Option<String>,
}

#[derive(Debug, Serialize)]
struct Only {
    stage: String,
    branch: String,
}

impl Differences {
    /// Takes in one stage of the first branch and of the second.
    pub fn add(&mut self, results: &Results<'_>, stage: &str, (first, second): (&Steps, &Steps)) {
        // Two of one replicate, so that a seed is no difference.
        let common = first.iter().find_map(|(replicate, one)| Some((*one, *second.get(replicate)?)));
        let any = || Some((*first.values().next()?, *second.values().next()?));
        let Some((of, against)) = common.or_else(any) else { return };
        self.add_parameters(results.graph, stage, of, against);
        self.add_inputs(results.graph, stage, of, against);
        if results.graph.step(of).kind.declaration().determinism != Determinism::Exact {
            let differing = differing(&made_with(results, first), &made_with(results, second));
            self.made_with.extend(differing.into_iter().map(named(stage)));
        }
    }

    /// Takes in a stage that only this branch has.
    pub fn add_only(&mut self, stage: &str, branch: &Branch) {
        self.only.push(Only { stage: stage.into(), branch: branch.name() });
    }

    fn add_parameters(&mut self, graph: &Graph, stage: &str, of: StepId, against: StepId) {
        let found = Value::diff(&graph.step(against).params, &graph.step(of).params);
        let told = |(parameter, against, of)| Parameter { stage: stage.into(), parameter, of, against };
        self.parameters.extend(found.into_iter().map(told));
    }

    fn add_inputs(&mut self, graph: &Graph, stage: &str, of: StepId, against: StepId) {
        let differing = differing(&inputs(graph, of), &inputs(graph, against));
        self.inputs.extend(differing.into_iter().map(named(stage)));
    }

    /// For people: a table for each sort of difference that there is.
    pub fn tables(&self) -> Vec<Table> {
        let parameters = self.parameters.iter().map(|one| (&one.stage, &one.parameter, &one.of, &one.against));
        let sorts =
            [("parameter", parameters.collect()), ("input", rows(&self.inputs)), ("made with", rows(&self.made_with))];
        sorts.into_iter().filter(|(_, rows)| !rows.is_empty()).map(|(what, rows)| table(what, rows)).collect()
    }

    /// The stages of one branch only, as sentences.
    pub fn notes(&self) -> impl Iterator<Item = String> {
        self.only.iter().map(|Only { stage, branch }| format!("Only {branch} has the stage {stage}."))
    }
}

type Row<'d> = (&'d String, &'d String, &'d Option<String>, &'d Option<String>);

fn rows(all: &[Difference]) -> Vec<Row<'_>> {
    all.iter().map(|one| (&one.stage, &one.name, &one.of, &one.against)).collect()
}

fn table(what: &str, rows: Vec<Row<'_>>) -> Table {
    let mut table = Table::new(["stage", what, "first", "second"]);
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
    for (stage, name, of, against) in rows {
        table.row([stage.clone(), name.clone(), shown(of), shown(against)]);
    }
    table
}

type Named = (String, Option<String>, Option<String>);

fn named(stage: &str) -> impl Fn(Named) -> Difference {
    move |(name, of, against)| Difference { stage: stage.into(), name, of, against }
}

fn differing(of: &BTreeMap<String, String>, against: &BTreeMap<String, String>) -> Vec<Named> {
    let names: BTreeSet<&String> = of.keys().chain(against.keys()).collect();
    let differ = |name: &&String| of.get(*name) != against.get(*name);
    names
        .into_iter()
        .filter(differ)
        .map(|name| (name.clone(), of.get(name).cloned(), against.get(name).cloned()))
        .collect()
}

fn inputs(graph: &Graph, id: StepId) -> BTreeMap<String, String> {
    let told = |input: &Input| match input {
        Input::One(reference) => written(graph, reference),
        Input::Gathered { branches, .. } => {
            let all: Vec<String> = branches.iter().map(|branch| written(graph, &branch.reference)).collect();
            all.join(", ")
        }
    };
    graph.step(id).inputs.iter().map(|(name, input)| (name.clone(), told(input))).collect()
}

fn written(graph: &Graph, reference: &Reference) -> String {
    let (whole, subpath) = match reference {
        Reference::Step { step, output, subpath } => (format!("{}.{output}", graph.step(*step).address), subpath),
        Reference::Source { source, subpath } => (format!("source.{}", graph.source(*source).name), subpath),
    };
    subpath.as_ref().map_or(whole.clone(), |subpath| format!("{whole}/{subpath}"))
}

/// What the records of a branch say of where they were made; several values of several replicates stand side by side.
fn made_with(results: &Results<'_>, steps: &Steps) -> BTreeMap<String, String> {
    let mut found: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, value) in steps.values().filter_map(|id| results.record(*id)).flat_map(|record| &record.environment) {
        found.entry(name).or_default().insert(value);
    }
    let joined = |values: BTreeSet<&str>| values.into_iter().collect::<Vec<_>>().join(" | ");
    found.into_iter().map(|(name, values)| (name.to_string(), joined(values))).collect()
}
