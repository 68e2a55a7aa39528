//! Fits the parts of a file together: names to indices, inputs to outputs, the order of the stages, and the axes that
//! each one sees. Every name that does not exist is told with the nearest one that does.

mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use self::names::Names;
use super::axes::AxisSet;
use super::document::{Document, StageText};
use super::order;
use super::table::Complaints;
use crate::diagnostic::Diagnostic;
use crate::graph::Output;
use crate::stage::{Class, Kind, Registry};

/// What a reference refers to.
#[derive(Debug, Clone)]
pub enum Target {
    /// An output of a stage, by its index in the file.
    Stage {
        /// The stage.
        stage: usize,
        /// Its output.
        output: String,
        /// A path inside it.
        subpath: Option<String>,
    },
    /// A source, by its index in the file.
    Source {
        /// The source.
        source: usize,
        /// A path inside it.
        subpath: Option<String>,
    },
}

/// One input, with its names settled.
pub enum Input {
    /// One artifact; the pins are empty unless it is a graft.
    One {
        /// What.
        target: Target,
        /// Axis and the index of its value.
        pins: Vec<(usize, u16)>,
    },
    /// A table of branches.
    Gather {
        /// What is gathered.
        targets: Vec<Target>,
        /// The axes that become the rows.
        over: AxisSet,
        /// Only the branches of this plan.
        plan: Option<usize>,
        /// `missing = "mark"`.
        mark_missing: bool,
        /// Where it stands.
        span: Range<usize>,
    },
}

/// A stage with its names settled.
pub struct Stage<'t> {
    /// As written.
    pub text: StageText<'t>,
    /// `None` where the kind is unknown (which was told).
    pub kind: Option<Arc<dyn Kind>>,
    /// By input name.
    pub inputs: BTreeMap<String, Input>,
    /// By name.
    pub outputs: Vec<Output>,
    /// The axes that `with` names.
    pub with_axes: AxisSet,
    /// Every axis that it sees.
    pub axes: AxisSet,
}

impl Stage<'_> {
    /// The stages that its inputs refer to.
    pub fn producers(&self) -> impl Iterator<Item = usize> {
        self.inputs.values().flat_map(Input::targets).filter_map(|target| match target {
            Target::Stage { stage, .. } => Some(*stage),
            Target::Source { .. } => None,
        })
    }
}

impl Input {
    /// What it refers to.
    pub fn targets(&self) -> &[Target] {
        match self {
            Input::One { target, .. } => std::slice::from_ref(target),
            Input::Gather { targets, .. } => targets,
        }
    }
}

/// The stages, and the order in which each follows what it needs.
pub struct Resolved<'t> {
    /// In the order of the file.
    pub stages: Vec<Stage<'t>>,
    /// Indices into `stages`.
    pub order: Vec<usize>,
}

/// Settles every name of a document, taking its stages.
pub fn resolve<'t>(document: &mut Document<'t>, registry: &Registry, complaints: &mut Complaints) -> Resolved<'t> {
    let texts = std::mem::take(&mut document.stages);
    let kinds: Vec<_> = texts.iter().map(|text| kind(text, registry, complaints)).collect();
    let outputs: Vec<_> =
        texts.iter().zip(&kinds).map(|(text, kind)| outputs(text, kind.as_ref(), complaints)).collect();
    let mut names = Names {
        stages: texts.iter().enumerate().map(|(index, text)| (text.name.get_ref().as_ref(), index)).collect(),
        sources: document.sources.iter().enumerate().map(|(index, one)| (one.name.get_ref().as_ref(), index)).collect(),
        known: kinds.iter().map(Option::is_some).collect(),
        outputs: &outputs,
        used_params: {
            let in_sources = document.sources.iter().filter_map(|source| source.param.clone());
            in_sources.chain(document.run_params.iter().cloned()).collect()
        },
        document,
        complaints,
    };
    let inputs: Vec<_> = texts.iter().zip(&kinds).map(|(text, kind)| names.inputs(text, kind.as_ref())).collect();
    let with_axes: Vec<_> = texts.iter().map(|text| names.with_axes(text)).collect();
    let used_params = std::mem::take(&mut names.used_params);
    let mut stages: Vec<Stage<'_>> = Vec::with_capacity(texts.len());
    let parts = inputs.into_iter().zip(outputs).zip(with_axes);
    for ((text, kind), ((inputs, outputs), with_axes)) in texts.into_iter().zip(kinds).zip(parts) {
        stages.push(Stage { text, kind, inputs, outputs, with_axes, axes: with_axes });
    }
    warn_unused(document, &stages, &used_params, complaints);
    let order = order::order(&stages, complaints);
    infer_axes(&mut stages, &order);
    warn_unseen(document, &stages, complaints);
    Resolved { stages, order }
}

fn kind(text: &StageText<'_>, registry: &Registry, complaints: &mut Complaints) -> Option<Arc<dyn Kind>> {
    let uses = text.uses.as_ref()?;
    let (name, version) =
        uses.get_ref().split_once('@').map_or((uses.get_ref().as_ref(), None), |(name, version)| (name, Some(version)));
    let Some(kind) = registry.find(name) else {
        let hint = crate::nearest::did_you_mean(name, registry.kinds().map(|kind| kind.declaration().kind));
        let hint = hint.unwrap_or_else(|| "`plumb show` lists the kinds".into());
        complaints.add(Diagnostic::at(uses.span(), format!("unknown stage kind `{name}`")).hint(hint));
        return None;
    };
    let is = kind.declaration().version;
    if let Some(version) = version.filter(|version| version.parse() != Ok(is)) {
        let message = format!("`{name}` is at version {is}, and the pipeline insists on `{version}`");
        complaints
            .add(Diagnostic::at(uses.span(), message).hint(format!("write `{name}@{is}` to accept what it does now")));
    }
    Some(Arc::clone(kind))
}

fn outputs(text: &StageText<'_>, kind: Option<&Arc<dyn Kind>>, complaints: &mut Complaints) -> Vec<Output> {
    let Some(declaration) = kind.map(|kind| kind.declaration()) else { return Vec::new() };
    let named = text.outputs.as_ref();
    if !declaration.open {
        if let Some((span, _)) = named {
            let message = format!("the outputs of `{}` are its own", declaration.kind);
            complaints.add(Diagnostic::at(span.clone(), message).hint("leave `outputs` out".to_string()));
        }
        let of = |spec: &crate::stage::OutputSpec| Output {
            name: spec.name.into(),
            file: spec.file.into(),
            class: spec.class,
        };
        return declaration.outputs.iter().map(of).collect();
    }
    let Some((_, named)) = named.filter(|(_, named)| !named.is_empty()) else {
        let message = format!("stage `{}` names no outputs", text.name.get_ref());
        let hint = "add `outputs = { NAME = \"FILE\" }`".to_string();
        complaints.add(Diagnostic::at(text.name.span(), message).hint(hint));
        return Vec::new();
    };
    let of = |name: &str, file: &str| Output { name: name.into(), file: file.into(), class: Class::Result };
    named.iter().map(|(name, file)| of(name.get_ref(), file.get_ref())).collect()
}

/// A stage sees what its `with` names and what its inputs carry, less the pins of grafts and the rows of gathers.
fn infer_axes(stages: &mut [Stage<'_>], order: &[usize]) {
    for index in order {
        let mut seen = stages[*index].with_axes;
        for input in stages[*index].inputs.values() {
            let carried = input.targets().iter().filter_map(|target| match target {
                Target::Stage { stage, .. } => Some(stages[*stage].axes),
                Target::Source { .. } => None,
            });
            let carried = carried.fold(AxisSet::default(), AxisSet::and);
            let hidden = match input {
                Input::One { pins, .. } => {
                    pins.iter().fold(AxisSet::default(), |set, (axis, _)| set.and(AxisSet::one(*axis)))
                }
                Input::Gather { over, .. } => *over,
            };
            seen = seen.and(carried.without(hidden));
        }
        stages[*index].axes = seen;
    }
}

fn warn_unused(document: &Document<'_>, stages: &[Stage<'_>], params: &BTreeSet<String>, complaints: &mut Complaints) {
    for (name, span) in document.param_spans.iter().filter(|(name, _)| !params.contains(name.as_ref())) {
        let message = format!("no stage uses the parameter `{name}`");
        complaints.add(Diagnostic::at(span.clone(), message).warning());
    }
    let mut used = vec![false; document.sources.len()];
    for target in stages.iter().flat_map(|stage| stage.inputs.values()).flat_map(Input::targets) {
        if let Target::Source { source, .. } = target {
            used[*source] = true;
        }
    }
    for (source, _) in document.sources.iter().zip(used).filter(|(_, used)| !used) {
        let message = format!("no stage uses the source `{}`", source.name.get_ref());
        complaints.add(Diagnostic::at(source.name.span(), message).warning());
    }
}

fn warn_unseen(document: &Document<'_>, stages: &[Stage<'_>], complaints: &mut Complaints) {
    let seen = stages.iter().fold(AxisSet::default(), |set, stage| set.and(stage.axes).and(stage.with_axes));
    for (_, axis) in document.axes.iter().enumerate().filter(|(index, _)| !seen.holds(*index)) {
        let message = format!("no stage uses the axis `{}`", axis.name.get_ref());
        complaints.add(Diagnostic::at(axis.name.span(), message).warning());
    }
}
