//! What a report is made of, gathered from the cache: scored and trained branches, what steps took, the graph.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use plumb_cache::{ActionRecord, Store};
use plumb_engine::graph::{Graph, Input, Reference, Step, StepId};
use plumb_engine::history::{self, StepOutcome, StepStatus};
use plumb_engine::plan::{self, Plan, PlanOptions};
use plumb_engine::stage::StageError;
use plumb_stages::report::{Evidence, Labels, Scored, StepFacts, Trained};

use crate::drawing::Drawing;
use crate::trouble::Trouble;
use crate::units;

/// A file of this name is a step's judged rows.
const ROWS: &str = "rows.jsonl";

struct Gatherer<'g> {
    graph: &'g Graph,
    store: &'g Store,
    plan: Plan,
    last: BTreeMap<String, StepStatus>,
    /// Of the steps that ran in one of the last runs: records do not hold them.
    gpu_seconds: BTreeMap<String, f64>,
}

/// How many runs are asked for accelerator times.
const RECENT: usize = 20;

/// What the cache holds of the goals and of what they are made of.
pub fn of(graph: &Graph, store: &Store) -> Result<Evidence, Trouble> {
    let plan = plan::plan(graph, store, &PlanOptions { look_at_all_up_to: usize::MAX, ..PlanOptions::default() })?;
    let run = history::last_status(store, &graph.name)?;
    let (header, last) = run.map_or((None, BTreeMap::new()), |(header, last)| (Some(header), last));
    let gatherer = Gatherer { graph, store, plan, last, gpu_seconds: gpu_seconds(store, &graph.name)? };
    let wanted: Vec<StepId> = behind(graph).into_iter().collect();
    let mut evidence = Evidence { title: graph.name.clone(), ..Evidence::default() };
    evidence.facts.extend(graph.file.file_name().map(|file| file.to_string_lossy().into_owned()));
    if let Some(header) = header {
        let when = header.started_at.split('.').next().unwrap_or_default().replace('T', " ");
        evidence.facts.push(format!("last run {when} UTC, {}", units::seconds(header.seconds)));
    }
    for id in &wanted {
        let facts = gatherer.facts(*id);
        evidence.missing.extend((facts.state != "hit" && facts.state != "ran").then(|| facts.step.clone()));
        evidence.steps.push(facts);
        evidence.scored.extend(gatherer.scored(*id));
        evidence.trained.extend(gatherer.trained(*id));
        evidence.correlations.extend(gatherer.correlation(*id));
    }
    let spent: f64 = evidence.steps.iter().filter_map(|step| step.seconds).sum();
    evidence.facts.push(format!("{} computed in {}", units::plural(wanted.len(), "step"), units::seconds(spent)));
    evidence.graph = drawing(graph, &wanted, &evidence.steps).svg();
    Ok(evidence)
}

/// A stage's trouble with rows of the cache, as the command line tells it.
pub fn trouble(error: StageError) -> Trouble {
    Trouble::failed(error.to_string(), "run the step that wrote it again (`plumb run FILE --fresh STEP`)")
}

fn gpu_seconds(store: &Store, pipeline: &str) -> Result<BTreeMap<String, f64>, Trouble> {
    let mut found = BTreeMap::new();
    for run in history::runs(store, Some(pipeline))?.iter().take(RECENT) {
        for line in history::steps(&history::events(store, &run.id)?) {
            if line.outcome == StepOutcome::Ran {
                found.entry(line.step).or_insert(line.spent.gpu_seconds);
            }
        }
    }
    Ok(found)
}

/// The goals and everything that they are made of, in the graph's order.
fn behind(graph: &Graph) -> BTreeSet<StepId> {
    let (mut seen, mut waiting) = (BTreeSet::new(), graph.goals.clone());
    while let Some(id) = waiting.pop() {
        if seen.insert(id) {
            waiting.extend(references(graph.step(id)).filter_map(|reference| match reference {
                Reference::Step { step, .. } => Some(*step),
                Reference::Source { .. } => None,
            }));
        }
    }
    seen
}

fn references(step: &Step) -> impl Iterator<Item = &Reference> {
    step.inputs.values().flat_map(|input| match input {
        Input::One(reference) => vec![reference],
        Input::Gathered { branches, .. } => branches.iter().map(|branch| &branch.reference).collect(),
    })
}

fn labels(step: &Step) -> Labels {
    step.address.branch.iter().map(|label| (label.axis.clone(), label.label.clone())).collect()
}

fn drawing(graph: &Graph, wanted: &[StepId], steps: &[StepFacts]) -> Drawing {
    let mut stages: BTreeMap<&str, Vec<&StepFacts>> = BTreeMap::new();
    for (id, facts) in wanted.iter().zip(steps) {
        stages.entry(&graph.step(*id).address.stage).or_default().push(facts);
    }
    let mut drawing = Drawing::of_stages(graph);
    for node in &mut drawing.nodes {
        let Some(facts) = stages.get(node.name.as_str()) else { continue };
        // The worst tells most: a stage is done when all of its steps are.
        let worst = ["failed", "skipped", "missing", "ran", "hit"];
        let state = worst.into_iter().find(|state| facts.iter().any(|step| step.state == *state)).unwrap_or("missing");
        let done = facts.iter().filter(|step| step.seconds.is_some()).count();
        let took = units::seconds(facts.iter().filter_map(|step| step.seconds).sum());
        node.state = if state == "skipped" { "missing".into() } else { state.into() };
        node.note = match (done, facts.len()) {
            (0, _) => state.to_owned(),
            (done, all) if done == all => format!("{state} · {took}"),
            (done, all) => format!("{done} of {all} · {took}"),
        };
    }
    drawing
}

impl Gatherer<'_> {
    fn record(&self, id: StepId) -> Option<&ActionRecord> {
        self.plan.record_of(id).map(|record| &**record)
    }

    fn facts(&self, id: StepId) -> StepFacts {
        let step = self.graph.step(id);
        let address = step.address.to_string();
        let last = self.last.get(&address);
        let mut facts = StepFacts { kind: step.kind.declaration().kind.into(), ..StepFacts::default() };
        facts.state = match (self.record(id), last) {
            (Some(_), Some(StepStatus::Finished { .. })) => "ran",
            (Some(_), _) => "hit",
            (None, Some(StepStatus::Failed { .. })) => "failed",
            (None, Some(StepStatus::Skipped { .. })) => "skipped",
            (None, _) => "missing",
        }
        .into();
        facts.step = address;
        let Some(record) = self.record(id) else { return facts };
        facts.seconds = Some(record.cost.wall_seconds);
        facts.took = units::seconds(record.cost.wall_seconds);
        facts.cpu = units::seconds(record.cost.cpu_seconds);
        let gpu = self.gpu_seconds.get(&facts.step).filter(|seconds| **seconds > 0.0);
        facts.gpu = gpu.map_or("–".into(), |seconds| units::seconds(*seconds));
        facts.memory = units::size(record.cost.peak_memory_bytes);
        facts.digests = digests(record);
        facts
    }

    fn file(&self, id: StepId, is: impl Fn(&str, &str) -> bool) -> Option<PathBuf> {
        let outputs = &self.record(id)?.outputs;
        let found = outputs.iter().find(|(name, output)| is(name, &output.file) && !output.artifact.is_tree());
        self.store.path_of(&found?.1.artifact)
    }

    /// A step that judged rows and measured them.
    fn scored(&self, id: StepId) -> Option<Scored> {
        let step = self.graph.step(id);
        let rows = self.file(id, |_, file| file == ROWS)?;
        let metrics = self.file(id, |_, file| plumb_engine::growth::is_metrics(file))?;
        let metrics = serde_json::from_slice(&std::fs::read(metrics).ok()?).ok()?;
        let mut scored = Scored {
            stage: step.address.stage.clone(),
            step: step.address.to_string(),
            labels: labels(step),
            metrics,
            items: self.file(id, |name, _| name == "items"),
            rows: Some(rows),
            judgments: None,
            digests: self.record(id).map(digests).unwrap_or_default(),
        };
        if let Some(Input::One(Reference::Step { step, output, .. })) = step.inputs.get("judgments") {
            scored.judgments = self.file(*step, |name, _| name == output);
            let digest = self.record(*step).and_then(|record| digests(record).remove(output));
            scored.digests.extend(digest.map(|digest| ("judgments".to_owned(), digest)));
        }
        Some(scored)
    }

    fn trained(&self, id: StepId) -> Option<Trained> {
        let step = self.graph.step(id);
        let rows = self.file(id, |_, file| file == "steps.jsonl")?;
        Some(Trained { stage: step.address.stage.clone(), labels: labels(step), rows })
    }

    fn correlation(&self, id: StepId) -> Option<(String, serde_json::Value)> {
        let path = self.file(id, |_, file| file == "correlation.json")?;
        let document = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        Some((self.graph.step(id).address.to_string(), document))
    }
}

fn digests(record: &ActionRecord) -> BTreeMap<String, String> {
    record.outputs.iter().map(|(name, output)| (name.clone(), output.artifact.digest.to_string())).collect()
}
