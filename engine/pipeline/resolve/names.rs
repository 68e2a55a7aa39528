//! The names that stages use: what an input refers to, which parameter or axis a value takes. A name that does not exist
//! is told with the nearest one that does.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;

use super::{Input, Target};
use crate::diagnostic::Diagnostic;
use crate::graph::Output;
use crate::pipeline::axes::{self, Axis, AxisSet, Content};
use crate::pipeline::document::{Document, StageText};
use crate::pipeline::reference::{GatherText, InputText, Reference};
use crate::pipeline::table::{self, Complaints};
use crate::pipeline::with::{self, Named};
use crate::stage::{Class, InputSpec, Kind};

/// Looks names up in a document.
pub(super) struct Names<'a, 't> {
    /// By name, its place in the file.
    pub(super) stages: BTreeMap<&'a str, usize>,
    /// By name, its place in the file.
    pub(super) sources: BTreeMap<&'a str, usize>,
    /// Whether each stage's kind, and so its outputs, are known.
    pub(super) known: Vec<bool>,
    /// Of each stage.
    pub(super) outputs: &'a [Vec<Output>],
    /// Parameters that something uses.
    pub(super) used_params: BTreeSet<String>,
    /// The rest of the file.
    pub(super) document: &'a Document<'t>,
    /// What is wrong.
    pub(super) complaints: &'a mut Complaints,
}

impl Names<'_, '_> {
    /// The inputs of a stage, checked against what its kind takes.
    pub(super) fn inputs(&mut self, text: &StageText<'_>, kind: Option<&Arc<dyn Kind>>) -> BTreeMap<String, Input> {
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

    /// The axes that a stage's `with` names.
    pub(super) fn with_axes(&mut self, text: &StageText<'_>) -> AxisSet {
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
