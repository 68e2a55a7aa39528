//! Why a step runs: the field diff of the stored document of the nearest earlier record of the same pipeline, stage
//! and branch against the present one, followed up the chain to parameters, sources and versions. Reads records and
//! documents only, never recomputes a result.

mod chain;
mod sentence;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use plumb_cache::{ActionRecord, Store};

pub use chain::{Explanation, Made, Told, Verdict, why};
pub use sentence::sentence;

use crate::canonical::Value;
use crate::error::EngineError;
use crate::event::Cause;
use crate::graph::{GatheredBranch, Graph, Input, Reference, Step, StepId};

/// Earlier records of a pipeline's stages, each stage read once.
pub struct Past<'a> {
    store: &'a Store,
    pipeline: &'a str,
    stages: RefCell<BTreeMap<String, Rc<Records>>>,
}

/// The records of one stage.
#[derive(Debug)]
pub struct Records {
    /// Newest first.
    pub all: Vec<ActionRecord>,
    /// By the step's address: their places in `all`.
    of_step: BTreeMap<String, Vec<usize>>,
}

impl Records {
    fn new(all: Vec<ActionRecord>) -> Self {
        let mut of_step: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (place, record) in all.iter().enumerate() {
            of_step.entry(record.step.clone()).or_default().push(place);
        }
        Self { all, of_step }
    }

    /// The newest of the same step, else of any, leaving out those of one action document.
    fn nearest_but(&self, step: &Step, document: &str) -> Option<&ActionRecord> {
        let differs = |record: &&ActionRecord| record.action_document != document;
        let same_step = self.of_step.get(&step.address.to_string()).into_iter().flatten();
        same_step.map(|place| &self.all[*place]).find(differs).or_else(|| self.all.iter().find(differs))
    }
}

impl<'a> Past<'a> {
    /// The past of a pipeline.
    pub fn new(store: &'a Store, pipeline: &'a str) -> Self {
        Self { store, pipeline, stages: RefCell::default() }
    }

    /// The newest record of the same step, else of the same stage, leaving out those of one action document.
    pub fn nearest_but(&self, step: &Step, document: &str) -> Result<Option<ActionRecord>, EngineError> {
        Ok(self.of_stage(&step.address.stage)?.nearest_but(step, document).cloned())
    }

    /// Every record of a stage.
    pub fn of_stage(&self, stage: &str) -> Result<Rc<Records>, EngineError> {
        if let Some(known) = self.stages.borrow().get(stage) {
            return Ok(known.clone());
        }
        let records = Rc::new(Records::new(self.store.records_of_stage(self.pipeline, stage)?));
        self.stages.borrow_mut().insert(stage.to_string(), records.clone());
        Ok(records)
    }

    /// Why a step with this action document runs.
    pub fn causes(&self, graph: &Graph, id: StepId, document: &str) -> Result<Vec<Cause>, EngineError> {
        let records = self.of_stage(&graph.step(id).address.stage)?;
        let Some(before) = records.nearest_but(graph.step(id), document) else { return Ok(vec![Cause::NeverRan]) };
        Ok(differences(graph, id, &before.action_document, document))
    }
}

/// The causes that two documents of a step differ by. No difference, no cause.
pub fn differences(graph: &Graph, id: StepId, before: &str, now: &str) -> Vec<Cause> {
    let (Ok(before), Ok(now)) = (Value::parse(before), Value::parse(now)) else { return vec![Cause::NeverRan] };
    let step = graph.step(id);
    let pair = |name: &str| (field(&before, name), field(&now, name));
    let mut causes = kind_causes(pair("kind"));
    causes.extend(parameter_causes(step, pair("params")));
    causes.extend(input_causes(graph, step, pair("inputs")));
    let (old, new) = pair("observed");
    causes.extend(names(old, new).into_iter().filter(|name| field(old, name) != field(new, name)).map(|name| {
        let name = name.split_once(':').map_or_else(|| name.clone(), |(_, name)| name.to_string());
        Cause::Observed { name }
    }));
    let differ = |(old, new): (&Value, &Value)| old != new;
    causes.extend(differ(pair("outputs")).then_some(Cause::Outputs));
    causes.extend(differ(pair("salt")).then_some(Cause::Salt));
    causes.extend(code_cause(pair("code")));
    causes
}

/// A value that comes from an axis is told with the axis: that is where it is written.
fn parameter_causes(step: &Step, (old, new): (&Value, &Value)) -> impl Iterator<Item = Cause> {
    Value::diff(old, new).into_iter().map(|(name, before, now)| {
        let within =
            |path: &str| name.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
        match step.axes.iter().find(|(path, _)| within(path)) {
            Some((_, axis)) => Cause::Axis { axis: axis.clone(), name, before, now },
            None => Cause::Parameter { name, before, now },
        }
    })
}

fn code_cause((before, now): (&Value, &Value)) -> Option<Cause> {
    let fingerprint = |value| Some(text(value).to_string()).filter(|text| !text.is_empty());
    (before != now).then(|| Cause::StrictCode { before: fingerprint(before), now: fingerprint(now) })
}

fn field<'v>(value: &'v Value, name: &str) -> &'v Value {
    match value {
        Value::Map(fields) => fields.get(name).unwrap_or(&Value::Null),
        _ => &Value::Null,
    }
}

fn text(value: &Value) -> &str {
    match value {
        Value::Text(text) => text,
        _ => "",
    }
}

fn names(before: &Value, now: &Value) -> BTreeSet<String> {
    let keys = |value: &Value| match value {
        Value::Map(fields) => fields.keys().cloned().collect(),
        _ => Vec::new(),
    };
    keys(before).into_iter().chain(keys(now)).collect()
}

fn kind_causes((before, now): (&Value, &Value)) -> Vec<Cause> {
    if before == now {
        return Vec::new();
    }
    let parts = |value| -> Option<(String, u32)> {
        let (name, version) = text(value).rsplit_once('@')?;
        Some((name.to_string(), version.parse().ok()?))
    };
    match (parts(before), parts(now)) {
        (Some((old, before)), Some((new, now))) if old == new => vec![Cause::Version { before, now }],
        _ => vec![Cause::Kind { before: text(before).into(), now: text(now).into() }],
    }
}

fn input_causes(graph: &Graph, step: &Step, (before, now): (&Value, &Value)) -> Vec<Cause> {
    let mut causes = Vec::new();
    for name in names(before, now) {
        let (old, new) = (field(before, &name), field(now, &name));
        match (old, new, step.inputs.get(&name)) {
            _ if old == new => {}
            (Value::Null, _, _) => causes.push(Cause::InputAdded { name }),
            (_, Value::Null, _) => causes.push(Cause::InputRemoved { name }),
            (_, _, Some(Input::Gathered { branches, .. })) if gathered(old).is_some() && gathered(new).is_some() => {
                let rules = rule_causes(field(old, "adaptive"), field(new, "adaptive"));
                let (old, new) = (gathered(old).unwrap_or_default(), gathered(new).unwrap_or_default());
                if old != new || rules.is_empty() {
                    causes.extend(branch_causes(graph, &name, branches, old, new));
                }
                causes.extend(rules);
            }
            (_, _, Some(Input::One(reference))) => causes.push(input_cause(graph, name, reference, (old, new))),
            _ => causes.push(Cause::Input { from: name.clone(), name }),
        }
    }
    causes
}

fn input_cause(graph: &Graph, name: String, reference: &Reference, (old, new): (&Value, &Value)) -> Cause {
    let identity = |value| Some(text(value).to_string()).filter(|text| !text.is_empty());
    match reference {
        Reference::Step { step, .. } => Cause::Input { name, from: graph.step(*step).address.to_string() },
        Reference::Source { source, .. } => {
            Cause::Source { name: graph.source(*source).name.clone(), before: identity(old), now: identity(new) }
        }
    }
}

/// The branches of a gather, whether or not a rule stands beside them.
fn gathered(input: &Value) -> Option<&[Value]> {
    match input {
        Value::List(branches) => Some(branches),
        Value::Map(fields) => fields.get("branches").and_then(gathered),
        _ => None,
    }
}

/// A changed rule of an axis that grows, told as the line of the file that changed.
fn rule_causes(before: &Value, now: &Value) -> Vec<Cause> {
    let rule = |value: &Value| if *value == Value::Null { None } else { Some(text(value).to_string()) };
    let changed = |axis: String| {
        let (before, now) = (rule(field(before, &axis)), rule(field(now, &axis)));
        (before != now).then(|| Cause::Parameter { name: format!("axes.{axis}.until"), before, now })
    };
    names(before, now).into_iter().filter_map(changed).collect()
}

/// What happened to the branches of a gather: added, removed, other content. A changed order or baseline mark alone
/// is told of the whole input.
fn branch_causes(graph: &Graph, name: &str, branches: &[GatheredBranch], old: &[Value], new: &[Value]) -> Vec<Cause> {
    let same_branch = |a: &Value, b: &Value| ["stage", "labels"].iter().all(|part| field(a, part) == field(b, part));
    let label = |value: &Value| {
        let labels: Vec<String> = match field(value, "labels") {
            Value::Map(labels) => labels.iter().map(|(axis, label)| format!("{axis}={}", text(label))).collect(),
            _ => Vec::new(),
        };
        format!("{name}: {}@{}", text(field(value, "stage")), labels.join(","))
    };
    let mut causes = Vec::new();
    for (branch, now) in branches.iter().zip(new) {
        match old.iter().find(|before| same_branch(before, now)) {
            None => causes.push(Cause::InputAdded { name: label(now) }),
            Some(before) if field(before, "from") != field(now, "from") => {
                let contents = (field(before, "from"), field(now, "from"));
                causes.push(input_cause(graph, name.to_string(), &branch.reference, contents));
            }
            Some(_) => {}
        }
    }
    let gone = old.iter().filter(|before| !new.iter().any(|now| same_branch(before, now)));
    causes.extend(gone.map(|before| Cause::InputRemoved { name: label(before) }));
    if causes.is_empty() {
        causes.push(Cause::Input { name: name.to_string(), from: "the order of its branches".into() });
    }
    causes
}
