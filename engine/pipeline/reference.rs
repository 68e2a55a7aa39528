//! How an input is written: `stage.output[/subpath]`, `source.name[/subpath]`, a graft, a gather. Syntax only:
//! whether the names exist is settled in `resolve.rs`.

use std::ops::Range;

use toml::Spanned;
use toml::de::DeValue;

use super::axes;
use super::table::{self, Complaints, Fields, Item, Text};
use crate::diagnostic::Diagnostic;

/// The owner that stands for `[source]`.
const SOURCE: &str = "source";

/// `owner.member[/subpath]`.
#[derive(Debug, Clone)]
pub struct Reference {
    /// Whether it names a source rather than a stage's output.
    pub is_source: bool,
    /// The stage; unused for a source.
    pub stage: String,
    /// The output, or the source's name.
    pub member: String,
    /// What follows the first `/`.
    pub subpath: Option<String>,
    /// Where it stands.
    pub span: Range<usize>,
}

/// One entry of `inputs`.
pub enum InputText<'t> {
    /// A reference in the same branch.
    One(Reference),
    /// A reference with some axes pinned.
    Graft {
        /// What.
        from: Reference,
        /// Axis and label.
        at: Vec<(Text<'t>, Spanned<String>)>,
    },
    /// A table of branches.
    Gather(GatherText<'t>),
}

/// `{ all = …, over = […] }`.
pub struct GatherText<'t> {
    /// Where the table stands.
    pub span: Range<usize>,
    /// What is gathered.
    pub all: Vec<Reference>,
    /// The axes that it runs over.
    pub over: Vec<Text<'t>>,
    /// `missing = "mark"`.
    pub mark_missing: bool,
    /// Only the branches of this plan.
    pub plan: Option<Text<'t>>,
}

/// Reads one entry of `inputs`.
pub fn read<'t>(item: Item<'t>, complaints: &mut Complaints) -> Option<InputText<'t>> {
    let span = item.span();
    match item.into_inner() {
        DeValue::String(text) => parse(&text, span, complaints).map(InputText::One),
        DeValue::Table(fields) if fields.contains_key("all") => {
            gather(Fields::new(Spanned::new(span, fields)), complaints).map(InputText::Gather)
        }
        DeValue::Table(fields) => graft(Fields::new(Spanned::new(span, fields)), complaints),
        other => {
            let message = format!("an input must be a reference, not {}", table::noun(&other));
            complaints.add(Diagnostic::at(span, message).hint(forms()));
            None
        }
    }
}

fn forms() -> Option<String> {
    Some("write \"STAGE.OUTPUT\", \"source.NAME\", { from = …, at = { … } } or { all = …, over = [ … ] }".into())
}

/// Parses `owner.member[/subpath]`.
pub fn parse(text: &str, span: Range<usize>, complaints: &mut Complaints) -> Option<Reference> {
    let (head, subpath) = text.split_once('/').map_or((text, None), |(head, subpath)| (head, Some(subpath)));
    let parts = head.split_once('.').filter(|(owner, member)| !owner.is_empty() && !member.is_empty());
    let Some((owner, member)) = parts else {
        complaints.add(Diagnostic::at(span, format!("`{text}` is no reference")).hint(forms()));
        return None;
    };
    if subpath.is_some_and(|subpath| subpath.split('/').any(|part| matches!(part, "" | "." | ".."))) {
        complaints.error(span, format!("`{text}`: the path after `/` must stay inside the folder"));
        return None;
    }
    Some(Reference {
        is_source: owner == SOURCE,
        stage: owner.into(),
        member: member.into(),
        subpath: subpath.map(str::to_string),
        span,
    })
}

fn graft<'t>(mut fields: Fields<'t>, complaints: &mut Complaints) -> Option<InputText<'t>> {
    let span = fields.span.clone();
    let from = fields.text("from", complaints);
    let at = fields.entries("at", complaints);
    fields.finish("input", complaints);
    let Some(from) = from else {
        complaints.add(Diagnostic::at(span, "this input says neither `from` nor `all`").hint(forms()));
        return None;
    };
    let at = at.into_iter().filter_map(|(axis, item)| Some((axis, scalar(&item, complaints)?))).collect();
    Some(InputText::Graft { from: parse(from.get_ref(), from.span(), complaints)?, at })
}

/// A scalar as the label of an axis's value.
pub fn scalar(item: &Item<'_>, complaints: &mut Complaints) -> Option<Spanned<String>> {
    let label = axes::label(item.get_ref());
    if label.is_none() {
        let noun = table::noun(item.get_ref());
        complaints.error(item.span(), format!("expected one value of the axis, not {noun}"));
    }
    label.map(|label| Spanned::new(item.span(), label.into_owned()))
}

fn gather<'t>(mut fields: Fields<'t>, complaints: &mut Complaints) -> Option<GatherText<'t>> {
    let span = fields.span.clone();
    let all = fields.take("all");
    let over = fields.take("over");
    let missing = fields.text("missing", complaints);
    let plan = fields.text("plan", complaints);
    fields.finish("gather", complaints);
    let all = match all {
        Some(item) if matches!(item.get_ref(), DeValue::Array(_)) => table::texts(item, "`all`", complaints),
        Some(item) => table::text(item, "`all`", complaints).into_iter().collect(),
        None => Vec::new(),
    };
    if over.is_none() {
        let hint = "add `over = [\"AXIS\", …]`: the axes whose branches become the rows".to_string();
        complaints.add(Diagnostic::at(span.clone(), "this gather does not say `over` which axes").hint(hint));
    }
    Some(GatherText {
        span,
        all: all.iter().filter_map(|text| parse(text.get_ref(), text.span(), complaints)).collect(),
        over: over.map(|item| table::texts(item, "`over`", complaints)).unwrap_or_default(),
        mark_missing: missing.is_some_and(|missing| marks(&missing, complaints)),
        plan,
    })
}

fn marks(missing: &Text<'_>, complaints: &mut Complaints) -> bool {
    let word = missing.get_ref().as_ref();
    if word != "mark" && word != "fail" {
        complaints.unknown(missing.span(), "value of `missing`:", word, ["mark", "fail"]);
    }
    word == "mark"
}
