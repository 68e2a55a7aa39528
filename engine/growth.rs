//! Growing replicates: whether there are enough seeds, decided from the metrics of the results so far. Reads
//! `metrics.json` and knows its names only; how wide an interval is, is for the caller to say.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use plumb_cache::Store;

use crate::error::EngineError;
use crate::event::{Event, Stopped};
use crate::graph::{Graph, StepId};
use crate::nearest;
use crate::plan::{self, Plan, PlanOptions};

/// A file of this name is a step's metrics: name -> number, or null where it is not known.
pub const METRICS: &str = "metrics.json";

/// How wide the interval over the replicates' values is; `None` of too few.
pub type Width = fn(&[f64]) -> Option<f64>;

/// `seed = { replicate = 5, until = "width(score.f_score) < 0.02", max = 12 }`.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// The axis that grows.
    pub axis: String,
    /// The stage whose metric counts; `None` for every stage that has it.
    pub stage: Option<String>,
    /// The metric.
    pub metric: String,
    /// What the interval of every branch must be narrower than.
    pub below: f64,
    /// Replicates to begin with.
    pub first: usize,
    /// Replicates at most.
    pub most: usize,
}

impl Rule {
    /// The rule with its bounds, as tables tell it and keys hold it.
    pub fn sentence(&self) -> String {
        format!("{} to {}, until {self}", self.first, self.most)
    }

    /// `f-score` in a rule is `f_score` in a file.
    fn is(&self, metric: &str) -> bool {
        metric == self.metric || metric == self.metric.replace('-', "_")
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = self.stage.as_ref().map(|stage| format!("{stage}.")).unwrap_or_default();
        write!(f, "width({stage}{}) < {}", self.metric, self.below)
    }
}

/// A growing axis of a graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Growing {
    /// When it stops.
    pub rule: Rule,
    /// The replicates that this graph has.
    pub count: usize,
    /// The stages that may measure the metric.
    pub stages: Vec<String>,
    /// What the results say of it.
    pub state: State,
}

/// What the results say.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// Some replicate is not measured yet.
    Open,
    /// There are enough, or as many as there may be.
    Stopped {
        /// Which of the two.
        why: Stopped,
        /// The widest branch.
        widest: Widest,
    },
    /// The rule cannot be decided.
    Unreadable {
        /// Why.
        message: String,
        /// What the metrics are.
        hint: Option<String>,
    },
}

/// The branch whose interval is the widest.
#[derive(Debug, Clone, PartialEq)]
pub struct Widest {
    /// Its address, the growing axis left out.
    pub branch: String,
    /// How wide.
    pub width: f64,
}

impl Growing {
    /// What is known, as an event.
    pub fn event(&self) -> Event {
        let (stopped, widest) = match &self.state {
            State::Stopped { why, widest } => (Some(*why), Some(widest)),
            State::Open | State::Unreadable { .. } => (None, None),
        };
        Event::Grown {
            axis: self.rule.axis.clone(),
            count: self.count,
            most: self.rule.most,
            rule: self.rule.to_string(),
            stopped,
            branch: widest.map(|widest| widest.branch.clone()),
            width: widest.map(|widest| widest.width),
        }
    }

    /// The error that ends a run where the rule cannot be decided.
    pub fn check(&self) -> Result<(), EngineError> {
        match &self.state {
            State::Unreadable { message, hint } => {
                Err(EngineError::Pipeline { message: message.clone(), hint: hint.clone() })
            }
            State::Open | State::Stopped { .. } => Ok(()),
        }
    }
}

/// The steps whose metrics decide.
pub fn measured(graph: &Graph, growing: &Growing) -> Vec<StepId> {
    let measures = |id: &StepId| growing.stages.contains(&graph.step(*id).address.stage);
    (0..graph.steps.len()).map(StepId).filter(measures).collect()
}

/// Which of the steps that decide the goals need.
#[derive(Debug, Clone, Copy)]
pub struct Needed {
    needed: usize,
    of: usize,
}

impl Needed {
    /// Every one.
    pub fn all(self) -> bool {
        self.needed == self.of
    }
    /// At least one.
    pub fn any(self) -> bool {
        self.needed > 0
    }
}

/// Which of the steps that decide the goals need.
pub fn needed(graph: &Graph, growing: &Growing) -> Needed {
    let mut needed = vec![false; graph.steps.len()];
    graph.goals.iter().for_each(|goal| needed[goal.0] = true);
    // References point backwards, so one walk from the end reaches every ancestor.
    for index in (0..needed.len()).rev().map(StepId) {
        if needed[index.0] {
            plan::producers(graph, index).into_iter().for_each(|producer| needed[producer.0] = true);
        }
    }
    let steps = measured(graph, growing);
    Needed { needed: steps.iter().filter(|id| needed[id.0]).count(), of: steps.len() }
}

/// An event of growth as a sentence; `None` for any other.
pub fn sentence(event: &Event) -> Option<String> {
    let Event::Grown { axis, count, most, rule, stopped, branch, width } = event else { return None };
    let Some(stopped) = stopped else {
        let may = if count < most { format!("may grow to {most}") } else { "the most there may be".into() };
        return Some(format!("{axis}: {count}, {may}, until {rule}"));
    };
    let widest = match (branch, width) {
        (Some(branch), Some(width)) => format!("; the widest is {width:.4} at `{branch}`"),
        _ => String::new(),
    };
    Some(match stopped {
        Stopped::Narrow => format!("{axis}: stopped at {count}, for {rule}{widest}"),
        Stopped::Most => format!("{axis}: stopped at {count}, the most there may be, without {rule}{widest}"),
    })
}

/// Finds how far an axis has grown: makes the graph again with one replicate more while the results there are say
/// that the interval is still too wide. Runs nothing.
pub fn settle<E>(
    mut graph: Graph,
    again: impl Fn(usize) -> Result<Graph, E>,
    store: &Store,
    width: Width,
) -> Result<Graph, E> {
    while let Some(growing) = graph.growing.take() {
        let state = match judge(&mut graph, &growing, store, width) {
            Judged::Unmeasured => State::Open,
            Judged::Unreadable(message, hint) => State::Unreadable { message, hint },
            Judged::Measured(widest) if widest.width < growing.rule.below => {
                State::Stopped { why: Stopped::Narrow, widest }
            }
            Judged::Measured(widest) if growing.count >= growing.rule.most => {
                State::Stopped { why: Stopped::Most, widest }
            }
            Judged::Measured(_) => {
                graph = again(growing.count + 1)?;
                continue;
            }
        };
        graph.growing = Some(Growing { state, ..growing });
        break;
    }
    Ok(graph)
}

enum Judged {
    /// Some measured step has no result.
    Unmeasured,
    Measured(Widest),
    /// Message and hint.
    Unreadable(String, Option<String>),
}

fn judge(graph: &mut Graph, growing: &Growing, store: &Store, width: Width) -> Judged {
    let steps = measured(graph, growing);
    let goals = std::mem::replace(&mut graph.goals, steps.clone());
    let from = std::mem::take(&mut graph.from);
    // What keeps the plan from being made is told by the command that makes its own.
    let plan = plan::plan(graph, store, &PlanOptions::default()).ok();
    (graph.goals, graph.from) = (goals, from);
    let Some(plan) = plan.filter(|plan| steps.iter().all(|id| plan.record_of(*id).is_some())) else {
        return Judged::Unmeasured;
    };
    match values(graph, growing, &plan, store, &steps) {
        Ok(branches) => widest(branches, width),
        Err((message, hint)) => Judged::Unreadable(message, hint),
    }
}

fn widest(branches: BTreeMap<String, Vec<f64>>, width: Width) -> Judged {
    let width = |(branch, values): (String, Vec<f64>)| Some(Widest { branch, width: width(&values)? });
    let widest = branches.into_iter().filter_map(width).max_by(|a, b| a.width.total_cmp(&b.width));
    widest.map_or_else(|| Judged::Unreadable("no branch has two replicates".into(), None), Judged::Measured)
}

type Metrics = BTreeMap<String, Option<f64>>;
type Unreadable = (String, Option<String>);

/// The metric of every branch, replicate by replicate.
fn values(
    graph: &Graph,
    growing: &Growing,
    plan: &Plan,
    store: &Store,
    steps: &[StepId],
) -> Result<BTreeMap<String, Vec<f64>>, Unreadable> {
    let (mut branches, mut known): (BTreeMap<String, Vec<f64>>, BTreeSet<String>) = Default::default();
    for id in steps {
        let address = &graph.step(*id).address;
        let metrics = metrics(plan, store, *id).ok_or_else(|| {
            (
                format!("`{METRICS}` of `{address}` is no table of numbers"),
                Some(format!("`until` reads it: {}", growing.rule)),
            )
        })?;
        let Some((name, value)) = metrics.iter().find(|(name, _)| growing.rule.is(name)) else {
            known.extend(metrics.into_keys().filter(|name| !name.contains('/')));
            continue;
        };
        let Some(value) = value else {
            let hint = format!("`{}` needs a metric that every replicate has", growing.rule);
            return Err((format!("the metric `{name}` of `{address}` is not known"), Some(hint)));
        };
        branches.entry(branch(graph, *id, &growing.rule.axis)).or_default().push(*value);
    }
    if branches.is_empty() {
        let hint = nearest::hint("metrics", &growing.rule.metric, known.iter().map(String::as_str));
        let stages = growing.stages.iter().map(|stage| format!("`{stage}`")).collect::<Vec<_>>().join(", ");
        let Rule { metric, .. } = &growing.rule;
        return Err((format!("`{}`: there is no `{metric}` among the metrics of {stages}", growing.rule), hint));
    }
    Ok(branches)
}

fn metrics(plan: &Plan, store: &Store, id: StepId) -> Option<Metrics> {
    let record = plan.record_of(id)?;
    let output = record.outputs.values().find(|output| is_metrics(&output.file) && !output.artifact.is_tree())?;
    serde_json::from_slice(&store.read(&output.artifact).ok()?).ok()
}

/// Whether an output of this file name is a step's metrics.
pub fn is_metrics(file: &str) -> bool {
    file.rsplit('/').next() == Some(METRICS)
}

fn branch(graph: &Graph, id: StepId, axis: &str) -> String {
    let mut address = graph.step(id).address.clone();
    address.branch.retain(|value| value.axis != axis);
    address.to_string()
}
