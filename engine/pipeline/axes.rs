//! `[axes]`: what varies, the labels of its values, and what a branch carries. Knows nothing of plans or stages.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::LazyLock;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::table::{self, Complaints, Fields, Item, Text};
use super::until::{self, Until};
use crate::diagnostic::Diagnostic;
use crate::growth::Rule;

/// More replicates than any study has: refused, so that a slip does not make a million steps.
pub const MOST_REPLICATES: usize = 1000;
/// A set of axes is one `u64`.
pub const MOST_AXES: usize = 64;

static INTEGERS: LazyLock<Vec<String>> = LazyLock::new(|| (0..MOST_REPLICATES).map(|seed| seed.to_string()).collect());

/// A set of axes, by their index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct AxisSet(pub u64);

impl AxisSet {
    /// The set of one axis.
    pub fn one(axis: usize) -> Self {
        Self(1 << axis)
    }
    /// Whether the axis is in the set.
    pub fn holds(self, axis: usize) -> bool {
        self.0 & (1 << axis) != 0
    }
    /// Both sets.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    /// This set without the other.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
    /// Its axes, in the order of their declaration.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..MOST_AXES).filter(move |axis| self.holds(*axis))
    }
}

/// What a value of an axis gives to `{ axis = … }`.
pub enum Content<'t> {
    /// One scalar, for `{ axis = "reward" }`.
    Scalar(Item<'t>),
    /// Several named values, for `{ axis = "data.max_pairs" }`.
    Fields(BTreeMap<Cow<'t, str>, Item<'t>>),
}

/// One value of an axis.
pub struct Choice<'t> {
    /// The scalar as written, or the branch's name.
    pub label: Cow<'t, str>,
    /// Where it stands.
    pub span: Range<usize>,
    /// What it gives.
    pub content: Content<'t>,
}

/// One axis. The first choice is the baseline; there is always one.
pub struct Axis<'t> {
    /// Its name.
    pub name: Text<'t>,
    /// Always crossed, never an ablation by itself.
    pub replicate: bool,
    /// Its values.
    pub choices: Vec<Choice<'t>>,
    /// When more replicates are made.
    pub growth: Option<Growth>,
}

/// `until` and `max` of an axis of replicates.
#[derive(Debug, Clone, PartialEq)]
pub struct Growth {
    /// When it stops.
    pub until: Until,
    /// Replicates to begin with.
    pub first: usize,
    /// Replicates at most.
    pub most: usize,
}

impl Growth {
    /// The same as the graph holds it.
    pub fn rule(&self, axis: &str) -> Rule {
        let Until { stage, metric, below, .. } = self.until.clone();
        Rule { axis: axis.into(), stage, metric, below, first: self.first, most: self.most }
    }
}

impl Axis<'_> {
    /// The index of a label.
    pub fn position(&self, label: &str) -> Option<usize> {
        self.choices.iter().position(|choice| choice.label == label)
    }

    /// Finds a label, or complains with the nearest one.
    pub fn expect(&self, label: &str, span: Range<usize>, complaints: &mut Complaints) -> Option<usize> {
        let found = self.position(label);
        if found.is_none() {
            let labels = self.choices.iter().map(|choice| choice.label.as_ref());
            complaints.unknown(span, &format!("value of axis `{}`:", self.name.get_ref()), label, labels);
        }
        found
    }
}

/// Finds an axis by name, or complains with the nearest one.
pub fn expect(axes: &[Axis<'_>], name: &str, span: Range<usize>, complaints: &mut Complaints) -> Option<usize> {
    let found = axes.iter().position(|axis| axis.name.get_ref() == name);
    if found.is_none() {
        complaints.unknown(span, "axis", name, axes.iter().map(|axis| axis.name.get_ref().as_ref()));
    }
    found
}

/// The label of a scalar: as written.
pub fn label<'t>(value: &DeValue<'t>) -> Option<Cow<'t, str>> {
    match value {
        DeValue::String(text) => Some(text.clone()),
        DeValue::Integer(integer) => Some(integer.to_string().into()),
        DeValue::Float(float) => Some(float.as_str().to_string().into()),
        DeValue::Boolean(value) => Some(if *value { "true" } else { "false" }.into()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// One axis from its value under `[axes]` or in a profile. An axis that grows has `grown` replicates, once that is
/// known.
pub fn read<'t>(name: Text<'t>, item: Item<'t>, grown: Option<usize>, complaints: &mut Complaints) -> Option<Axis<'t>> {
    table::check_name(&name, "axis", complaints);
    let span = item.span();
    let before = complaints.all.len();
    let (replicate, growth, choices) = match item.into_inner() {
        DeValue::Table(fields) => {
            let (growth, choices) = replicates(Spanned::new(span.clone(), fields), grown, complaints)?;
            (true, growth, choices)
        }
        DeValue::Array(items) => {
            (false, None, items.into_iter().filter_map(|item| choice(item, complaints)).collect::<Vec<_>>())
        }
        other => {
            let message = format!("axis `{}` must be a list, not {}", name.get_ref(), table::noun(&other));
            let hint = "write a list of values, or `{ replicate = 5 }`".to_string();
            complaints.add(Diagnostic::at(span, message).hint(hint));
            return None;
        }
    };
    if choices.is_empty() {
        if complaints.all.len() == before {
            complaints.error(span, format!("axis `{}` has no values", name.get_ref()));
        }
        return None;
    }
    refuse_repeated(&name, &choices, complaints);
    Some(Axis { name, replicate, choices, growth })
}

fn replicates<'t>(
    table: Spanned<DeTable<'t>>,
    grown: Option<usize>,
    complaints: &mut Complaints,
) -> Option<(Option<Growth>, Vec<Choice<'t>>)> {
    let mut fields = Fields::new(table);
    let span = fields.span.clone();
    let (count, first) = (fields.take("replicate"), fields.take("first"));
    let (until, most) = (fields.text("until", complaints), fields.take("max"));
    fields.finish("replicate", complaints);
    let Some(count) = count else {
        complaints.add(
            Diagnostic::at(span, "an axis that is a table must say `replicate`")
                .hint("write a list of values, `{ replicate = 5 }`, or one `[[axes.NAME]]` a branch".to_string()),
        );
        return None;
    };
    let seeds = table::whole(&count, "`replicate`", 1..MOST_REPLICATES as u64 + 1, complaints)?;
    let first = match &first {
        Some(first) => table::whole(first, "`first`", 0..MOST_REPLICATES as u64 - seeds + 1, complaints)?,
        None => 0,
    };
    let index = |number: u64| usize::try_from(number).unwrap_or(MOST_REPLICATES);
    let growth = growth(until, most, &count, index(seeds), MOST_REPLICATES - index(first), complaints);
    let seeds = growth.as_ref().map_or(index(seeds), |growth| grown.unwrap_or(growth.first).min(growth.most));
    let texts = &INTEGERS[index(first)..index(first) + seeds];
    Some((growth, texts.iter().filter_map(|text| replicate(text, count.span())).collect()))
}

/// `until` and `max` go together, and an interval needs two replicates.
fn growth(
    until: Option<Text<'_>>,
    most: Option<Item<'_>>,
    count: &Item<'_>,
    seeds: usize,
    limit: usize,
    complaints: &mut Complaints,
) -> Option<Growth> {
    let (until, most) = match (until, most) {
        (None, None) => return None,
        (Some(until), Some(most)) => (until, most),
        (Some(until), None) => {
            let hint = "add `max = 12`: replicates at most".to_string();
            complaints.add(Diagnostic::at(until.span(), "`until` may never be reached").hint(hint));
            return None;
        }
        (None, Some(most)) => {
            let hint = "add `until = \"width(METRIC) < 0.02\"`: when more replicates are made".to_string();
            complaints.add(Diagnostic::at(most.span(), "`max` without `until`").hint(hint));
            return None;
        }
    };
    if seeds < 2 {
        complaints.error(count.span(), "an interval needs two replicates to begin with");
    }
    let least = seeds as u64 + 1;
    let most = table::whole(&most, "`max`", least..(limit as u64 + 1).max(least + 1), complaints)?;
    let until = until::read(&until, complaints)?;
    Some(Growth { until, first: seeds, most: usize::try_from(most).unwrap_or(limit) })
}

fn replicate<'t>(text: &'static str, span: Range<usize>) -> Option<Choice<'t>> {
    let value = DeValue::parse(text).ok()?.into_inner();
    let content = Content::Scalar(Spanned::new(span.clone(), value));
    Some(Choice { label: text.into(), span, content })
}

fn choice<'t>(item: Item<'t>, complaints: &mut Complaints) -> Option<Choice<'t>> {
    let span = item.span();
    if let DeValue::Table(fields) = item.get_ref() {
        return branch(Spanned::new(span, fields.clone()), complaints);
    }
    let Some(label) = label(item.get_ref()) else {
        let noun = table::noun(item.get_ref());
        complaints.add(
            Diagnostic::at(span, format!("a value of an axis must be a scalar, not {noun}"))
                .hint("to let a branch carry more, write `[[axes.NAME]]` with `name = …` and its values".to_string()),
        );
        return None;
    };
    if label.is_empty() || label.contains(|letter: char| "@,=*\"'".contains(letter) || letter.is_whitespace()) {
        let hint = "write `[[axes.NAME]]` with a plain `name` and the value beside it".to_string();
        complaints.add(Diagnostic::at(span, format!("`{label}` cannot be part of a branch's address")).hint(hint));
        return None;
    }
    Some(Choice { label, span, content: Content::Scalar(item) })
}

fn branch<'t>(table: Spanned<DeTable<'t>>, complaints: &mut Complaints) -> Option<Choice<'t>> {
    let span = table.span();
    let mut entries = table.into_inner();
    let Some(name) = entries.remove("name") else {
        complaints.add(Diagnostic::at(span, "a branch needs a name").hint("add `name = \"…\"`".to_string()));
        return None;
    };
    let name = table::text(name, "the name of a branch", complaints)?;
    table::check_name(&name, "branch", complaints);
    let span = name.span();
    let fields = entries.into_iter().map(|(field, item)| (field.into_inner(), item)).collect();
    Some(Choice { label: name.into_inner(), span, content: Content::Fields(fields) })
}

fn refuse_repeated(name: &Text<'_>, choices: &[Choice<'_>], complaints: &mut Complaints) {
    let mut seen = std::collections::BTreeSet::new();
    for choice in choices {
        if !seen.insert(&choice.label) {
            let message = format!("axis `{}` has two values `{}`", name.get_ref(), choice.label);
            complaints.error(choice.span.clone(), message);
        }
    }
}
