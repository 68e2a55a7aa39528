//! A pipeline in a folder of its own with a cache of its own, and what running it told.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use plumb_cache::{Store, StoreOptions};
use plumb_engine::event::Event;
use plumb_engine::execute::machine::Limits;
use plumb_engine::execute::{RunOptions, Summary, run};
use plumb_engine::explain::sentence;
use plumb_engine::graph::{Graph, StepId};
use plumb_engine::pipeline::{Selection, parse_text};
use plumb_engine::plan::{Plan, PlanOptions, State, plan};

use crate::worker;

pub struct House {
    pub folder: tempfile::TempDir,
    pub store: Store,
    pub options: RunOptions,
}

/// What a run told, and how it ended.
pub struct Ran {
    pub events: Vec<Event>,
    pub summary: Summary,
}

impl House {
    pub fn new() -> House {
        // In memory where that is to be had: what a disk costs is the cache's to test.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let store = Store::open(&folder.path().join("cache"), StoreOptions::default()).unwrap();
        let worker = std::env::current_exe().unwrap();
        // target/debug/deps/runs-… -> target/debug/examples/worker
        let worker = worker.parent().and_then(|deps| deps.parent()).unwrap().join("examples/worker");
        let limits = Limits { cpus: Some(2), gpus: Some(vec!["0".into()]), ..Limits::default() };
        let options = RunOptions { limits, own_program: Some(worker), ..RunOptions::default() };
        House { folder, store, options }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub fn graph(&self, pipeline: &str, steps: &[&str]) -> Graph {
        let registry = worker::registry();
        let steps = steps.iter().map(|step| (*step).to_string()).collect();
        let selection = Selection { steps, ..Selection::default() };
        let file = self.path("demo.toml");
        let text = pipeline.replace("ROOT", &self.folder.path().display().to_string());
        let loaded = parse_text(&file, &text, &registry, &selection);
        loaded.unwrap_or_else(|wrong| panic!("the test's pipeline is wrong: {wrong:#?}"))
    }

    pub fn run(&self, pipeline: &str) -> Ran {
        self.run_graph(&self.graph(pipeline, &[]))
    }

    pub fn run_graph(&self, graph: &Graph) -> Ran {
        let mut events = Vec::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let summary = runtime.block_on(run(graph, &self.store, &self.options, |event| events.push(event.clone())));
        Ran { events, summary: summary.unwrap_or_else(|error| panic!("the run broke: {error}")) }
    }

    pub fn plan(&self, graph: &Graph) -> Plan {
        plan(graph, &self.store, &PlanOptions::default()).unwrap()
    }

    /// The plan as lines: `step: hit`, `step: run (why)`, `step: may run (waits on …)`.
    pub fn planned(&self, pipeline: &str) -> String {
        let graph = self.graph(pipeline, &[]);
        let plan = self.plan(&graph);
        let line = |index: usize| {
            let id = StepId(index);
            let told = match &plan.step(id).state {
                State::Hit { .. } => "hit".to_string(),
                State::Run { why } => format!("run ({})", why.iter().map(sentence).collect::<Vec<_>>().join("; ")),
                State::MayRun { waits_on } => {
                    let on: Vec<String> = waits_on.iter().map(|id| graph.step(*id).address.to_string()).collect();
                    format!("may run (waits on {})", on.join(", "))
                }
                State::NotNeeded => "not needed".to_string(),
            };
            format!("{}: {told}", graph.step(id).address)
        };
        (0..graph.steps.len()).map(line).collect::<Vec<_>>().join("\n")
    }

    /// The text of an output of a step that is present.
    pub fn output(&self, pipeline: &str, step: &str, output: &str) -> String {
        let graph = self.graph(pipeline, &[]);
        let plan = self.plan(&graph);
        let id = (0..graph.steps.len()).map(StepId).find(|id| graph.step(*id).address.to_string() == step).unwrap();
        let artifact = plan.artifact_of(id, output).expect("the step is a hit");
        String::from_utf8(self.store.read(&artifact).unwrap()).unwrap()
    }
}

impl Ran {
    /// What happened, without times: one line an event.
    pub fn told(&self) -> String {
        self.events.iter().filter_map(line).collect::<Vec<_>>().join("\n")
    }

    /// Step -> how often it was started.
    pub fn started(&self) -> BTreeMap<String, usize> {
        let mut started = BTreeMap::new();
        for event in &self.events {
            if let Event::Started { step, .. } = event {
                *started.entry(step.clone()).or_insert(0) += 1;
            }
        }
        started
    }

    /// The error of a step that failed.
    pub fn error(&self, wanted: &str) -> String {
        let failed = self.events.iter().find_map(|event| match event {
            Event::Failed { step, error, .. } if step == wanted => Some(error.clone()),
            _ => None,
        });
        failed.unwrap_or_else(|| panic!("`{wanted}` did not fail:\n{}", self.told()))
    }
}

fn line(event: &Event) -> Option<String> {
    Some(match event {
        Event::Planned { steps, hits, runs, may_run } => {
            format!("planned {steps}: {hits} hit, {runs} run, {may_run} may run")
        }
        Event::Hit { step, after_inputs, .. } => {
            format!("hit {step}{}", if *after_inputs { " (early cutoff)" } else { "" })
        }
        Event::Started { step, why, attempt, .. } => {
            let why: Vec<String> = why.iter().map(sentence).collect();
            let attempt = if *attempt > 1 { format!(" (attempt {attempt})") } else { String::new() };
            format!("start {step}{attempt}: {}", why.join("; "))
        }
        Event::Finished { step, unchanged, .. } => {
            format!("done {step}{}", if *unchanged { " (unchanged)" } else { "" })
        }
        Event::Failed { step, error, .. } => format!("failed {step}: {error}"),
        Event::Retried { step, error, .. } => format!("retry {step}: {error}"),
        Event::Skipped { step, because } => format!("skipped {step} ({because})"),
        Event::Published { output, .. } => format!("published {output}"),
        Event::Warning { message } => format!("warning {message}"),
        Event::Done { ran, hits, failed, skipped, .. } => {
            format!("ran {ran}, {hits} hits, {failed} failed, {skipped} skipped")
        }
        Event::Waiting { step, .. } => format!("waiting for {step}"),
        Event::Grown { axis, count, .. } => format!("grown {axis} to {count}"),
        Event::Fetched { source, bytes, .. } => format!("fetched {source}: {bytes} bytes"),
        Event::Sent { results, waiting, .. } => format!("sent {results}, {waiting} wait"),
        Event::Step { .. } | Event::Fetching { .. } | Event::Sending { .. } => return None,
    })
}
