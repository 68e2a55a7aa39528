//! A result and all that it came from as a Workflow Run RO-Crate: `ro-crate-metadata.json` under the profiles Process,
//! Workflow and Provenance Run Crate 0.5 (<https://w3id.org/ro/wfrun/provenance/0.5>). Facts come from records alone; a
//! step whose record is gone is left out of the actions, and the description says so. Only names and digests leave this
//! machine: no path does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use plumb_cache::{ActionRecord, Artifact};
use serde_json::{Value, json};

use crate::clock;
use crate::graph::{Graph, Reference, StepId};
use crate::plan::{Plan, references};

const ENGINE: &str = "#plumb";
const LANGUAGE: &str = "#plumb-pipeline";
const RUN: &str = "#run";

/// The profiles that the crate conforms to: address, name, version.
const PROFILES: [(&str, &str, &str); 4] = [
    ("https://w3id.org/ro/wfrun/process/0.5", "Process Run Crate", "0.5"),
    ("https://w3id.org/ro/wfrun/workflow/0.5", "Workflow Run Crate", "0.5"),
    ("https://w3id.org/ro/wfrun/provenance/0.5", "Provenance Run Crate", "0.5"),
    ("https://w3id.org/workflowhub/workflow-ro-crate/1.0", "Workflow RO-Crate", "1.0"),
];

/// A crate: its metadata, and which artifact goes to which relative path beside the pipeline file.
#[derive(Debug)]
pub struct Crate {
    /// `ro-crate-metadata.json`.
    pub metadata: Value,
    /// Name of the pipeline file in it.
    pub pipeline: String,
    /// Relative path -> artifact.
    pub files: BTreeMap<String, Artifact>,
    /// Steps that it came from and whose record is gone.
    pub unknown: Vec<String>,
}

/// Describes the result of a step whose plan looked at every ancestor; `None` where it has none.
pub fn of(graph: &Graph, plan: &Plan, goal: StepId, license: &str) -> Option<Crate> {
    let record = plan.record_of(goal)?;
    let pipeline = graph.file.file_name()?.to_string_lossy().into_owned();
    let mut writer = Writer { graph, plan, goal, pipeline, entities: BTreeMap::new(), files: BTreeMap::new() };
    let (known, unknown): (Vec<StepId>, Vec<StepId>) =
        ancestors(plan, goal).into_iter().partition(|id| plan.record_of(*id).is_some());
    writer.results(record);
    for id in &known {
        if let Some(record) = plan.record_of(*id) {
            writer.step(*id, record);
        }
    }
    let unknown: Vec<String> = unknown.into_iter().map(|id| graph.step(id).address.to_string()).collect();
    writer.whole(&known, record, &unknown, license);
    let context = json!(["https://w3id.org/ro/crate/1.1/context", "https://w3id.org/ro/terms/workflow-run/context"]);
    let entities: Vec<Value> = writer.entities.into_values().collect();
    let metadata = json!({ "@context": context, "@graph": entities });
    Some(Crate { metadata, pipeline: writer.pipeline, files: writer.files, unknown })
}

/// The step and everything that it depends on, in the graph's order.
fn ancestors(plan: &Plan, goal: StepId) -> BTreeSet<StepId> {
    let mut found = BTreeSet::new();
    let mut waiting = vec![goal];
    while let Some(id) = waiting.pop() {
        if found.insert(id) {
            waiting.extend(&plan.facts.producers[id.0]);
        }
    }
    found
}

struct Writer<'a> {
    graph: &'a Graph,
    plan: &'a Plan,
    goal: StepId,
    pipeline: String,
    /// By `@id`: each is described once.
    entities: BTreeMap<String, Value>,
    files: BTreeMap<String, Artifact>,
}

fn reference(id: impl Into<String>) -> Value {
    json!({ "@id": id.into() })
}

/// One reference stands alone, as the specification recommends.
fn listed(ids: impl IntoIterator<Item = String>) -> Value {
    let mut all: Vec<Value> = ids.into_iter().map(reference).collect();
    if all.len() == 1 { all.remove(0) } else { Value::Array(all) }
}

/// An address as a part of an `@id`.
fn safe(name: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "@=,._-".contains(letter);
    name.chars().map(|letter| if plain(letter) { letter } else { '_' }).collect()
}

impl Writer<'_> {
    fn add(&mut self, id: &str, entity: Value) -> String {
        let mut entity = entity;
        entity["@id"] = id.into();
        self.entities.entry(id.to_string()).or_insert(entity);
        id.to_string()
    }

    /// The files of the result, each with the formal parameter that it is an example of.
    fn results(&mut self, record: &ActionRecord) {
        for (name, output) in record.outputs.iter().filter(|(_, output)| !output.diagnostic) {
            let path = format!("results/{}", output.file);
            let id = if output.artifact.is_tree() { format!("{path}/") } else { path.clone() };
            let kind = if output.artifact.is_tree() { "Dataset" } else { "File" };
            let parameter = format!("#output/{}", safe(name));
            self.add(
                &id,
                json!({
                    "@type": kind,
                    "name": format!("{}.{name}", record.step),
                    "identifier": output.artifact.identity(),
                    "contentSize": output.artifact.size.to_string(),
                    "dateModified": record.made_at,
                    "exampleOfWork": reference(parameter.clone()),
                }),
            );
            self.add(
                &parameter,
                json!({
                    "@type": "FormalParameter",
                    "name": name,
                    "additionalType": kind,
                    "conformsTo": reference("https://bioschemas.org/profiles/FormalParameter/1.0-RELEASE"),
                    "workExample": reference(id.clone()),
                }),
            );
            self.files.insert(path, output.artifact);
        }
    }

    /// A step that ran: its tool, its place in the workflow, the action, and the control over it.
    fn step(&mut self, id: StepId, record: &Arc<ActionRecord>) {
        let step = self.graph.step(id);
        let declaration = step.kind.declaration();
        let address = safe(&step.address.full());
        let tool = format!("#tool/{}@{}", declaration.kind, declaration.version);
        self.add(
            &tool,
            json!({
                "@type": "SoftwareApplication",
                "name": declaration.kind,
                "description": declaration.about,
                "version": declaration.version.to_string(),
            }),
        );
        let how = format!("#step/{address}");
        self.add(
            &how,
            json!({
                "@type": "HowToStep",
                "name": step.address.full(),
                "position": id.0.to_string(),
                "workExample": reference(tool.clone()),
            }),
        );
        let objects = self.inputs(id, record);
        let results = record.outputs.iter().filter(|(_, output)| !output.diagnostic);
        let results: Vec<String> = results.map(|(name, _)| self.artifact(id, record, name)).collect::<Vec<_>>();
        let action = format!("#action/{address}");
        let agent = self.agent(&record.made_by);
        let usage = self.usage(&address, record);
        let started = clock::before(&record.made_at, record.cost.wall_seconds);
        self.add(
            &action,
            json!({
                "@type": "CreateAction",
                "name": format!("run of {}", step.address.full()),
                "instrument": reference(tool),
                "agent": reference(agent),
                "startTime": started,
                "endTime": record.made_at,
                "actionStatus": "http://schema.org/CompletedActionStatus",
                "object": listed(objects),
                "result": listed(results),
                "resourceUsage": listed(usage),
                "identifier": record.action.to_string(),
            }),
        );
        self.add(
            &format!("#control/{address}"),
            json!({
                "@type": "ControlAction",
                "name": format!("orchestration of {}", step.address.full()),
                "instrument": reference(how),
                "object": reference(action),
            }),
        );
    }

    /// An output: of the goal, the file in the crate; of another step, what is known of its bytes.
    fn artifact(&mut self, id: StepId, record: &ActionRecord, name: &str) -> String {
        let Some(output) = record.outputs.get(name) else { return "#unknown".into() };
        if id == self.goal {
            let path = format!("results/{}", output.file);
            return if output.artifact.is_tree() { format!("{path}/") } else { path };
        }
        let place = format!("#artifact/{}", output.artifact.identity());
        self.add(
            &place,
            json!({
                "@type": "PropertyValue",
                "name": format!("{}.{name}", record.step),
                "value": output.artifact.identity(),
            }),
        )
    }

    fn inputs(&mut self, id: StepId, record: &ActionRecord) -> Vec<String> {
        let step = self.graph.step(id);
        let address = safe(&step.address.full());
        let mut found = Vec::new();
        for (used, _) in step.inputs.values().flat_map(references) {
            match used {
                Reference::Step { step: producer, output, .. } => {
                    if let Some(made) = self.plan.record_of(*producer) {
                        found.push(self.artifact(*producer, &made.clone(), output));
                    }
                }
                Reference::Source { source, subpath } => {
                    let name = &self.graph.source(*source).name;
                    let name = subpath.as_ref().map_or_else(|| name.clone(), |subpath| format!("{name}/{subpath}"));
                    let identity = self.plan.facts.source(*source, subpath).identity();
                    let entity =
                        json!({ "@type": "PropertyValue", "name": format!("source.{name}"), "value": identity });
                    found.push(self.add(&format!("#source/{}", safe(&name)), entity));
                }
            }
        }
        let document: Value = serde_json::from_str(&record.action_document).unwrap_or_default();
        let parameters = json!({ "@type": "PropertyValue", "name": "with", "value": document["params"].to_string() });
        found.push(self.add(&format!("#parameters/{address}"), parameters));
        found
    }

    fn usage(&mut self, address: &str, record: &ActionRecord) -> Vec<String> {
        let cost = &record.cost;
        let measured = [
            ("wallTime", cost.wall_seconds.to_string(), "SEC"),
            ("cpuTime", cost.cpu_seconds.to_string(), "SEC"),
            ("peakMemory", cost.peak_memory_bytes.to_string(), "BYTE"),
        ];
        let place = |name: &str| format!("#usage/{address}/{name}");
        let entities = measured.map(|(name, value, unit)| {
            let property = json!({ "@type": "PropertyValue", "name": name, "propertyID": format!("plumb:{name}"), "value": value, "unitCode": format!("https://qudt.org/vocab/unit/{unit}") });
            (place(name), property)
        });
        entities.map(|(id, entity)| self.add(&id, entity)).to_vec()
    }

    fn agent(&mut self, name: &str) -> String {
        self.add(&format!("#agent/{}", safe(name)), json!({ "@type": "Person", "name": name }))
    }

    /// What is told of the crate as a whole.
    fn whole(&mut self, known: &[StepId], record: &ActionRecord, unknown: &[String], license: &str) {
        let of = |part: &str, id: &StepId| format!("#{part}/{}", safe(&self.graph.step(*id).address.full()));
        let steps: Vec<String> = known.iter().map(|id| of("step", id)).collect();
        let controls: Vec<String> = known.iter().map(|id| of("control", id)).collect();
        let actions: Vec<String> = known.iter().map(|id| of("action", id)).collect();
        let of_kind = |prefix: &str| -> Vec<String> {
            self.entities.keys().filter(|id| id.starts_with(prefix)).cloned().collect()
        };
        let (tools, outputs, sources) = (of_kind("#tool/"), of_kind("#output/"), of_kind("#source/"));
        let results = of_kind("results/");
        let records = known.iter().filter_map(|id| self.plan.record_of(*id));
        let started = records.filter_map(|one| clock::before(&one.made_at, one.cost.wall_seconds)).min();
        let agent = self.agent(&record.made_by);
        let pipeline = self.pipeline.clone();
        self.add(LANGUAGE, json!({ "@type": "ComputerLanguage", "name": "plumb pipeline (TOML)", "version": "1" }));
        self.add(
            ENGINE,
            json!({ "@type": "SoftwareApplication", "name": "plumb", "version": env!("CARGO_PKG_VERSION") }),
        );
        self.add(
            &pipeline,
            json!({
                "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"],
                "name": self.graph.name,
                "programmingLanguage": reference(LANGUAGE),
                "encodingFormat": "application/toml",
                "hasPart": listed(tools),
                "step": listed(steps),
                "output": listed(outputs),
            }),
        );
        self.add(
            RUN,
            json!({
                "@type": "CreateAction",
                "name": format!("the result of {}", record.step),
                "instrument": reference(pipeline.clone()),
                "agent": reference(agent.clone()),
                "startTime": started,
                "endTime": record.made_at,
                "actionStatus": "http://schema.org/CompletedActionStatus",
                "object": listed(sources),
                "result": listed(results.clone()),
            }),
        );
        self.add(
            "#organization",
            json!({
                "@type": "OrganizeAction",
                "name": "plumb run",
                "instrument": reference(ENGINE),
                "agent": reference(agent),
                "object": listed(controls),
                "result": reference(RUN),
                "startTime": started,
                "endTime": record.made_at,
            }),
        );
        for (id, name, version) in PROFILES {
            self.add(id, json!({ "@type": "CreativeWork", "name": name, "version": version }));
        }
        let mut description = format!(
            "The result of `{}` of the plumb pipeline `{}`, and what it came from.",
            record.step, self.graph.name
        );
        if !unknown.is_empty() {
            description += &format!(" Nothing is recorded any more of: {}.", unknown.join(", "));
        }
        self.add(
            "./",
            json!({
                "@type": "Dataset",
                "name": format!("{} of {}", record.step, self.graph.name),
                "description": description,
                "datePublished": record.made_at,
                "license": license,
                "conformsTo": listed(PROFILES.map(|(id, ..)| id.to_string())),
                "hasPart": listed(std::iter::once(pipeline.clone()).chain(results)),
                "mainEntity": reference(pipeline),
                "mentions": listed([RUN.to_string(), "#organization".to_string()].into_iter().chain(actions)),
            }),
        );
        self.add(
            "ro-crate-metadata.json",
            json!({
                "@type": "CreativeWork",
                "about": reference("./"),
                "conformsTo": listed(["https://w3id.org/ro/crate/1.1".to_string(), PROFILES[3].0.to_string()]),
            }),
        );
    }
}
