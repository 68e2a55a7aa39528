//! Fits the parts of a file together: names to indices, inputs to outputs, the order of the stages, and the axes that
//! each one sees. Every name that does not exist is told with the nearest one that does.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;

use super::axes::{self, Axis, AxisSet, Content};
use super::document::{Document, StageText};
use super::order;
use super::reference::{GatherText, InputText, Reference};
use super::table::{self, Complaints};
use super::with::{self, Named};
use crate::diagnostic::Diagnostic;
use crate::graph::Output;
use crate::stage::{Class, InputSpec, Kind, Registry};

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
    let mut resolver = Resolver {
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
    let inputs: Vec<_> = texts.iter().zip(&kinds).map(|(text, kind)| resolver.inputs(text, kind.as_ref())).collect();
    let with_axes: Vec<_> = texts.iter().map(|text| resolver.with_axes(text)).collect();
    let used_params = std::mem::take(&mut resolver.used_params);
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

struct Resolver<'a, 't> {
    stages: BTreeMap<&'a str, usize>,
    sources: BTreeMap<&'a str, usize>,
    /// Whether each stage's kind, and so its outputs, are known.
    known: Vec<bool>,
    outputs: &'a [Vec<Output>],
    used_params: BTreeSet<String>,
    document: &'a Document<'t>,
    complaints: &'a mut Complaints,
}

impl Resolver<'_, '_> {
    fn inputs(&mut self, text: &StageText<'_>, kind: Option<&Arc<dyn Kind>>) -> BTreeMap<String, Input> {
        let mut inputs = BTreeMap::new();
        for (name, span, input) in &text.inputs {
            if let Some(kind) = kind {
                self.check_input(name, span, input, &**kind);
            }
            if let Some(input) = self.input(input) {
                inputs.insert(name.get_ref().to_string(), input);
            }
        }
        if let Some(kind) = kind {
            self.require_inputs(text, &**kind);
        }
        inputs
    }

    fn check_input(&mut self, name: &table::Text<'_>, span: &Range<usize>, input: &InputText<'_>, kind: &dyn Kind) {
        let declaration = kind.declaration();
        if declaration.open {
            return table::check_key(name, "input", self.complaints);
        }
        let Some(spec) = declaration.inputs.iter().find(|spec| spec.name == name.get_ref()) else {
            let known = declaration.inputs.iter().map(|spec| spec.name);
            let what = format!("input of `{}`:", declaration.kind);
            return self.complaints.add(
                Diagnostic::at(name.span(), format!("unknown {what} `{}`", name.get_ref())).hint(crate::nearest::hint(
                    "inputs",
                    name.get_ref(),
                    known,
                )),
            );
        };
        let is_gather = matches!(input, InputText::Gather(_));
        if spec.gathers && !is_gather {
            let message = format!("input `{}` of `{}` is a table of branches", spec.name, declaration.kind);
            let hint = "write `{ all = \"STAGE.OUTPUT\", over = [\"AXIS\"] }`".to_string();
            self.complaints.add(Diagnostic::at(span.clone(), message).hint(hint));
        } else if is_gather && !spec.gathers {
            let message =
                format!("input `{}` of `{}` is one artifact, not a table of branches", spec.name, declaration.kind);
            let hint = "write \"STAGE.OUTPUT\", or { from = …, at = { AXIS = … } }".to_string();
            self.complaints.add(Diagnostic::at(span.clone(), message).hint(hint));
        }
    }

    fn require_inputs(&mut self, text: &StageText<'_>, kind: &dyn Kind) {
        let declaration = kind.declaration();
        let given = |spec: &InputSpec| {
            text.inputs.iter().any(|(name, ..)| name.get_ref() == spec.name)
                || text.broken_inputs.iter().any(|name| name == spec.name)
        };
        let specs = if declaration.open { &[] } else { declaration.inputs };
        for spec in specs.iter().filter(|spec| spec.required && !given(spec)) {
            let message = format!("stage `{}` lacks the input `{}`", text.name.get_ref(), spec.name);
            let value = if spec.gathers { "{ all = \"STAGE.OUTPUT\", over = [\"AXIS\"] }" } else { "\"STAGE.OUTPUT\"" };
            let hint = format!("add `inputs.{} = {value}`: {}", spec.name, spec.about);
            self.complaints.add(Diagnostic::at(text.name.span(), message).hint(hint));
        }
    }

    fn input(&mut self, input: &InputText<'_>) -> Option<Input> {
        match input {
            InputText::One(reference) => Some(Input::One { target: self.target(reference)?, pins: Vec::new() }),
            InputText::Graft { from, at } => {
                let pins = at.iter().filter_map(|(axis, label)| self.pin(axis, label)).collect();
                Some(Input::One { target: self.target(from)?, pins })
            }
            InputText::Gather(gather) => Some(self.gather(gather)),
        }
    }

    fn pin(&mut self, axis: &table::Text<'_>, label: &Spanned<String>) -> Option<(usize, u16)> {
        let index = axes::expect(&self.document.axes, axis.get_ref(), axis.span(), self.complaints)?;
        let value = self.document.axes[index].expect(label.get_ref(), label.span(), self.complaints)?;
        Some((index, u16::try_from(value).ok()?))
    }

    fn gather(&mut self, gather: &GatherText<'_>) -> Input {
        let over = gather
            .over
            .iter()
            .filter_map(|name| axes::expect(&self.document.axes, name.get_ref(), name.span(), self.complaints));
        let over = over.fold(AxisSet::default(), |set, axis| set.and(AxisSet::one(axis)));
        let plan = gather.plan.as_ref().and_then(|name| self.document.plans.expect(name, self.complaints));
        let targets: Vec<Target> = gather.all.iter().filter_map(|reference| self.target(reference)).collect();
        Input::Gather { targets, over, plan, mark_missing: gather.mark_missing, span: gather.span.clone() }
    }

    fn target(&mut self, reference: &Reference) -> Option<Target> {
        let Reference { is_source, stage, member, subpath, span } = reference;
        let subpath = subpath.clone();
        if *is_source {
            let Some(source) = self.sources.get(member.as_str()) else {
                self.complaints.unknown(span.clone(), "source", member, self.sources.keys().copied());
                return None;
            };
            return Some(Target::Source { source: *source, subpath });
        }
        let Some(index) = self.stages.get(stage.as_str()).copied() else {
            let hint = crate::nearest::hint("stages", stage, self.stages.keys().copied());
            self.complaints.add(Diagnostic::at(span.clone(), format!("unknown stage `{stage}`")).hint(hint));
            return None;
        };
        if self.known[index] && !self.output_exists(index, stage, member, span) {
            return None;
        }
        Some(Target::Stage { stage: index, output: member.clone(), subpath })
    }

    fn output_exists(&mut self, index: usize, stage: &str, output: &str, span: &Range<usize>) -> bool {
        let results = self.outputs[index].iter().filter(|known| known.class == Class::Result);
        match self.outputs[index].iter().find(|known| known.name == output) {
            Some(known) if known.class == Class::Result => return true,
            Some(_) => {
                let message = format!("`{stage}.{output}` is a diagnostic: it is kept to look at, never an input");
                let names: Vec<String> = results.map(|known| format!("`{}`", known.name)).collect();
                let hint = format!("the results of `{stage}` are {}", names.join(", "));
                self.complaints.add(Diagnostic::at(span.clone(), message).hint(hint));
            }
            None => {
                let hint = crate::nearest::hint("outputs", output, results.map(|known| known.name.as_str()));
                let message = format!("stage `{stage}` has no output `{output}`");
                self.complaints.add(Diagnostic::at(span.clone(), message).hint(hint));
            }
        }
        false
    }

    fn with_axes(&mut self, text: &StageText<'_>) -> AxisSet {
        let mut seen = AxisSet::default();
        with::visit(text.with.get_ref(), &mut |named, span| match named {
            Named::Param(name) => self.param(name, span),
            Named::Axis(name) => seen = seen.and(self.axis(name, span).map_or(AxisSet::default(), AxisSet::one)),
        });
        seen
    }

    fn param(&mut self, name: &str, span: Range<usize>) {
        if self.document.params.contains_key(name) {
            if !self.used_params.contains(name) {
                self.used_params.insert(name.to_string());
            }
        } else {
            self.complaints.unknown(span, "parameter", name, self.document.params.keys().map(AsRef::as_ref));
        }
    }

    fn axis(&mut self, name: &str, span: Range<usize>) -> Option<usize> {
        let (name, field) = name.split_once('.').map_or((name, None), |(name, field)| (name, Some(field)));
        let index = axes::expect(&self.document.axes, name, span.clone(), self.complaints)?;
        check_field(&self.document.axes[index], field, span, self.complaints);
        Some(index)
    }
}

/// Every branch of an axis must give what a reference asks for.
fn check_field(axis: &Axis<'_>, field: Option<&str>, span: Range<usize>, complaints: &mut Complaints) {
    let name = axis.name.get_ref();
    for choice in &axis.choices {
        let (message, hint) = match (&choice.content, field) {
            (Content::Scalar(_), None) => continue,
            (Content::Fields(fields), Some(field)) if fields.contains_key(field) => continue,
            (Content::Scalar(_), Some(field)) => (
                format!("axis `{name}` has plain values and no `{field}`"),
                Some(format!("write `{{ axis = \"{name}\" }}`")),
            ),
            (Content::Fields(fields), None) => {
                let written: Vec<String> = fields.keys().map(|field| format!("`{name}.{field}`")).collect();
                (format!("axis `{name}` carries several values"), Some(format!("name one: {}", written.join(", "))))
            }
            (Content::Fields(fields), Some(field)) => {
                let hint = crate::nearest::hint("values", field, fields.keys().map(AsRef::as_ref));
                (format!("branch `{}` of axis `{name}` has no `{field}`", choice.label), hint)
            }
        };
        return complaints.add(Diagnostic::at(span, message).hint(hint));
    }
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
