//! From stages to steps: one a stage and visible combination of axis values that the united plans (or a graft) ask
//! for. Two passes over the stages: backwards for what grafts demand beyond the plans, forwards to make the steps.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use rayon::prelude::*;
use toml::Spanned;

use super::axes::{AxisSet, Content};
use super::document::{Document, SIDE_BY_SIDE};
use super::plans::{MOST_STEPS, Row};
use super::resolve::{Input, Resolved, Stage, Target};
use super::table::Complaints;
use super::typing;
use super::with::{self, Named};
use crate::canonical::Value;
use crate::diagnostic::Diagnostic;
use crate::graph::{self, Address, AxisLabel, GatheredBranch, Reference, SourceId, Step, StepId};

/// The branches of one stage.
struct Branches {
    /// Sorted.
    rows: Rc<Vec<Row>>,
    /// The step of the first row; the others follow.
    first: usize,
}

impl Branches {
    fn find(&self, row: &Row) -> Option<StepId> {
        self.rows.binary_search(row).ok().map(|position| StepId(self.first + position))
    }
}

/// Makes the steps, in topological order. Where something was wrong before, only the parameters are typed, so that
/// their errors are told too.
pub fn expand<'t>(resolved: &Resolved<'t>, document: &mut Document<'t>, complaints: &mut Complaints) -> Vec<Step> {
    let wanted = wanted_rows(resolved, document);
    if document.plans.is_too_large() {
        let message = format!("some stage has more than {MOST_STEPS} branches");
        complaints.add(Diagnostic::new(message).hint("make fewer replicates".to_string()));
        return Vec::new();
    }
    let typed = if complaints.any_errors() { Vec::new() } else { typed_ahead(resolved, document) };
    let branches = BTreeMap::new();
    let mut expander = Expander { resolved, document, complaints, typed, branches, steps: Vec::new() };
    let count: usize = wanted.iter().map(|rows| rows.len()).sum();
    if count > MOST_STEPS {
        let message = format!("the plans make {count} steps, more than {MOST_STEPS}");
        expander.complaints.add(Diagnostic::new(message).hint("cross fewer axes".to_string()));
        return Vec::new();
    }
    expander.steps.reserve(count);
    let broken = expander.complaints.any_errors();
    for index in &resolved.order {
        let rows = Rc::clone(&wanted[*index]);
        if broken {
            expander.type_only(&resolved.stages[*index], &rows);
        } else {
            expander.stage(*index, rows);
        }
    }
    expander.steps
}

/// The parameters of the stages that name no axis, typed side by side. `None` where they name one or do not type: those
/// are typed again, one after the other, and told.
fn typed_ahead(resolved: &Resolved<'_>, document: &Document<'_>) -> Vec<Option<Value>> {
    let params = &document.params;
    let ahead = |stage: &Stage<'_>| {
        let plain = stage.with_axes == AxisSet::default();
        let kind = stage.kind.as_ref().filter(|_| plain)?;
        let table = with::replace(stage.text.with.get_ref(), &|named| match named {
            Named::Param(name) => params.get(name),
            Named::Axis(_) => None,
        });
        kind.type_params(Spanned::new(stage.text.with.span(), table)).ok()
    };
    resolved.stages.par_iter().with_min_len(SIDE_BY_SIDE).map(ahead).collect()
}

/// The rows that each stage needs: those of the plans, and those that a graft downstream asks for beside them.
fn wanted_rows(resolved: &Resolved<'_>, document: &mut Document<'_>) -> Vec<Rc<Vec<Row>>> {
    let stages = &resolved.stages;
    let mut planned: Vec<Rc<Vec<Row>>> = Vec::with_capacity(stages.len());
    planned.extend(stages.iter().map(|stage| document.plans.project(stage.axes, None)));
    let mut extras: BTreeMap<usize, BTreeSet<Row>> = BTreeMap::new();
    for index in resolved.order.iter().rev() {
        let stage = &stages[*index];
        let own: Vec<Row> = extras.get(index).map(|rows| rows.iter().cloned().collect()).unwrap_or_default();
        for (target, pins) in stage.inputs.values().filter_map(one) {
            let Target::Stage { stage: producer, .. } = target else { continue };
            let grafted: &[Row] = if pins.is_empty() { &[] } else { &planned[*index] };
            for row in grafted.iter().chain(&own) {
                let row = carry(row, stage.axes, stages[*producer].axes, pins);
                if planned[*producer].binary_search(&row).is_err() {
                    extras.entry(*producer).or_default().insert(row);
                }
            }
        }
    }
    for (index, extra) in extras {
        let all: BTreeSet<Row> = planned[index].iter().cloned().chain(extra).collect();
        planned[index] = Rc::new(all.into_iter().collect());
    }
    planned
}

fn one(input: &Input) -> Option<(&Target, &[(usize, u16)])> {
    match input {
        Input::One { target, pins } => Some((target, pins)),
        Input::Gather { .. } => None,
    }
}

/// A consumer's row as its producer sees it. Inference guarantees that the consumer sees every axis of the producer
/// but the pinned ones; after an error that may not hold, and the baseline stands in.
fn carry(row: &Row, from: AxisSet, to: AxisSet, pins: &[(usize, u16)]) -> Row {
    if pins.is_empty() && from == to {
        return row.clone();
    }
    let value = |axis: usize| {
        let pinned = pins.iter().find(|(pinned, _)| *pinned == axis).map(|(_, value)| *value);
        pinned.or_else(|| row_value(row, from, axis)).unwrap_or_default()
    };
    to.iter().map(value).collect()
}

fn row_value(row: &Row, axes: AxisSet, axis: usize) -> Option<u16> {
    axes.iter().position(|known| known == axis).and_then(|position| row.get(position)).copied()
}

fn address(document: &Document<'_>, stage: &Stage<'_>, row: &Row) -> Address {
    let branch = stage.axes.iter().zip(row).map(|(axis, value)| AxisLabel {
        axis: document.axes[axis].name.get_ref().to_string(),
        label: document.axes[axis].choices[usize::from(*value)].label.to_string(),
        baseline: *value == 0,
    });
    Address { stage: stage.text.name.get_ref().to_string(), branch: branch.collect() }
}

struct Expander<'a, 't> {
    resolved: &'a Resolved<'t>,
    document: &'a mut Document<'t>,
    complaints: &'a mut Complaints,
    /// By stage, what was typed ahead.
    typed: Vec<Option<Value>>,
    branches: BTreeMap<usize, Branches>,
    steps: Vec<Step>,
}

/// Typed parameters by the values of the axes that `with` names; `None` where they did not type.
type Typed = BTreeMap<Row, Option<Value>>;

impl<'t> Expander<'_, 't> {
    fn type_only(&mut self, stage: &Stage<'t>, rows: &[Row]) {
        let mut typed = Typed::new();
        for row in rows {
            self.params(stage, row, &mut typed);
        }
    }

    fn stage(&mut self, index: usize, rows: Rc<Vec<Row>>) {
        let stage = &self.resolved.stages[index];
        let Some(kind) = &stage.kind else { return };
        let branches = Branches { rows: Rc::clone(&rows), first: self.steps.len() };
        let ahead = self.typed.get_mut(index).and_then(Option::take);
        let mut typed = Typed::from_iter(ahead.map(|value| (Row::new(), Some(value))));
        let axes = std::sync::Arc::new(with::axes(stage.text.with.get_ref()));
        for row in rows.iter() {
            let params = self.params(stage, row, &mut typed).unwrap_or(Value::Null);
            let inputs = stage.inputs.iter().map(|(name, input)| (name.clone(), self.input(stage, row, input)));
            let inputs = inputs.collect();
            self.steps.push(Step {
                address: address(self.document, stage, row),
                kind: std::sync::Arc::clone(kind),
                params,
                axes: std::sync::Arc::clone(&axes),
                code: None,
                inputs,
                outputs: stage.outputs.clone(),
                salt: stage.text.salt.clone(),
                run: stage.text.run.clone(),
                span: stage.text.name.span(),
            });
        }
        self.branches.insert(index, branches);
    }

    fn params(&mut self, stage: &Stage<'t>, row: &Row, typed: &mut Typed) -> Option<Value> {
        let kind = stage.kind.as_ref()?;
        let seen = carry(row, stage.axes, stage.with_axes, &[]);
        if let Some(known) = typed.get(&seen) {
            return known.clone();
        }
        let document = &*self.document;
        let find = |named: Named<'_>| match named {
            Named::Param(name) => document.params.get(name),
            Named::Axis(name) => {
                let (name, field) = name.split_once('.').map_or((name, None), |(name, field)| (name, Some(field)));
                let axis = document.axes.iter().position(|axis| axis.name.get_ref() == name)?;
                let value = row_value(&seen, stage.with_axes, axis)?;
                match (&document.axes[axis].choices.get(usize::from(value))?.content, field) {
                    (Content::Scalar(item), None) => Some(item),
                    (Content::Fields(fields), Some(field)) => fields.get(field),
                    _ => None,
                }
            }
        };
        let table = || with::replace(stage.text.with.get_ref(), &find);
        let branch = || address(document, stage, row).full();
        let value = typing::params(stage, &**kind, &table, &branch, self.complaints);
        typed.insert(seen, value.clone());
        value
    }

    fn input(&mut self, stage: &Stage<'t>, row: &Row, input: &Input) -> graph::Input {
        match input {
            Input::One { target, pins } => graph::Input::One(self.reference(stage.axes, row, target, pins)),
            Input::Gather { targets, over, plan, mark_missing, span } => {
                let mut branches = Vec::new();
                for target in targets {
                    self.gather(stage, row, target, *over, *plan, &mut branches);
                }
                if branches.is_empty() {
                    let message = format!("`{}` gathers no branch", address(self.document, stage, row));
                    let hint = self.document.plans.why_empty(*plan);
                    self.complaints.add(Diagnostic::at(span.clone(), message).hint(hint));
                }
                let adaptive = self.adaptive(*over, targets);
                graph::Input::Gathered { branches, mark_missing: *mark_missing, adaptive }
            }
        }
    }

    /// The gathered axes that grow, with their rules.
    fn adaptive(&self, over: AxisSet, targets: &[Target]) -> BTreeMap<String, String> {
        let seen = targets.iter().filter_map(|target| match target {
            Target::Stage { stage, .. } => Some(self.resolved.stages[*stage].axes),
            Target::Source { .. } => None,
        });
        let seen = seen.fold(AxisSet::default(), AxisSet::and);
        let rules = self.document.axes.iter().enumerate().filter_map(|(index, axis)| {
            let growth = axis.growth.as_ref().filter(|_| over.holds(index) && seen.holds(index))?;
            Some((axis.name.get_ref().to_string(), growth.rule(axis.name.get_ref()).sentence()))
        });
        rules.collect()
    }

    fn reference(&self, from: AxisSet, row: &Row, target: &Target, pins: &[(usize, u16)]) -> Reference {
        match target {
            Target::Source { source, subpath } => {
                Reference::Source { source: SourceId(*source), subpath: subpath.clone() }
            }
            Target::Stage { stage, output, subpath } => {
                let producer = self.branches.get(stage);
                let row = carry(row, from, self.resolved.stages[*stage].axes, pins);
                let step = producer.and_then(|branches| branches.find(&row));
                let step = step.expect("wanted_rows made every row that a consumer refers to, producers first");
                Reference::Step { step, output: output.clone(), subpath: subpath.clone() }
            }
        }
    }

    /// The branches of one gathered stage that agree with the row on every axis that the gather does not run over.
    fn gather(
        &mut self,
        stage: &Stage<'t>,
        row: &Row,
        target: &Target,
        over: AxisSet,
        plan: Option<usize>,
        branches: &mut Vec<GatheredBranch>,
    ) {
        let Target::Stage { stage: producer, .. } = target else {
            let Target::Source { source, .. } = target else { return };
            let reference = self.reference(stage.axes, row, target, &[]);
            let name = self.document.sources[*source].name.get_ref().to_string();
            branches.push(GatheredBranch { stage: name, labels: BTreeMap::new(), baseline: true, reference });
            return;
        };
        let producer = &self.resolved.stages[*producer];
        let seen = producer.axes;
        for gathered in self.document.plans.project(seen, plan).iter() {
            let fixed = seen.without(over);
            if carry(gathered, seen, fixed, &[]) != carry(row, stage.axes, fixed, &[]) {
                continue;
            }
            let reference = self.reference(seen, gathered, target, &[]);
            branches.push(self.branch(producer, gathered, over, reference));
        }
    }

    fn branch(&self, producer: &Stage<'t>, row: &Row, over: AxisSet, reference: Reference) -> GatheredBranch {
        let shown = producer.axes.iter().zip(row).filter(|(axis, _)| over.holds(*axis));
        let (mut labels, mut baseline) = (BTreeMap::new(), true);
        for (axis, value) in shown {
            let axis = &self.document.axes[axis];
            baseline &= axis.replicate || *value == 0;
            labels.insert(axis.name.get_ref().to_string(), axis.choices[usize::from(*value)].label.to_string());
        }
        GatheredBranch { stage: producer.text.name.get_ref().to_string(), labels, baseline, reference }
    }
}
