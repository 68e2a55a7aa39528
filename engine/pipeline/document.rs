//! From TOML to the parts of a pipeline file, with profile and `--set` applied. Checks the shape of each part and
//! the names that a part gives itself; whether parts fit together is settled in `resolve.rs`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use rayon::prelude::*;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Selection;
use super::axes::{self, Axis, MOST_AXES};
use super::plans::{self, Plans};
use super::reference::{self, InputText};
use super::settings;
use super::sources::{self, SourceText};
use super::table::{self, Complaints, Fields, Item, Text};
use super::with::{self, Named};
use crate::diagnostic::Diagnostic;
use crate::settings::RunSettings;

/// The only schema there is so far.
const SCHEMA: u64 = 1;

/// Fewer stages than this are read at once: handing them to another thread costs more.
pub const SIDE_BY_SIDE: usize = 64;

/// Where `outputs` stands, and each output's name and file.
pub type OutputsText<'t> = (Range<usize>, Vec<(Text<'t>, Text<'t>)>);

/// A stage as the file writes it.
pub struct StageText<'t> {
    /// Its name, at its header.
    pub name: Text<'t>,
    /// `kind` or `kind@VERSION`.
    pub uses: Option<Text<'t>>,
    /// Name, place of the value, value.
    pub inputs: Vec<(Text<'t>, Range<usize>, InputText<'t>)>,
    /// Names of inputs that were given and could not be read.
    pub broken_inputs: Vec<String>,
    /// Parameters, references still in.
    pub with: Spanned<DeTable<'t>>,
    /// Output name and file name, for open kinds.
    pub outputs: Option<OutputsText<'t>>,
    /// `salt`.
    pub salt: Option<String>,
    /// `run`.
    pub run: RunSettings,
}

/// A pipeline file, part by part, each in the order of the file.
pub struct Document<'t> {
    /// `[pipeline] name`.
    pub name: Option<Text<'t>>,
    /// `[pipeline] goal`.
    pub goal: Option<Vec<Text<'t>>>,
    /// `[pipeline] publish`: destination and `stage.output`.
    pub publish: Vec<(Text<'t>, Text<'t>)>,
    /// `[params]`.
    pub params: BTreeMap<Cow<'t, str>, Item<'t>>,
    /// Where each parameter stands, for the unused ones.
    pub param_spans: BTreeMap<Cow<'t, str>, Range<usize>>,
    /// The parameters that `run` tables name.
    pub run_params: BTreeSet<String>,
    /// `[axes]`.
    pub axes: Vec<Axis<'t>>,
    /// `[[plan]]`.
    pub plans: Plans,
    /// `[source]`.
    pub sources: Vec<SourceText<'t>>,
    /// `[stage]`.
    pub stages: Vec<StageText<'t>>,
}

/// Reads the whole file.
pub fn read<'t>(root: Spanned<DeTable<'t>>, selection: &'t Selection, complaints: &mut Complaints) -> Document<'t> {
    table::refuse_infinite(root.get_ref(), complaints);
    let mut root = Fields::new(root);
    schema(&mut root, complaints);
    let (name, goal, publish) = header(&mut root, complaints);
    let profiles = Profiles::read(&mut root, selection, complaints);
    let (params, param_spans) = params(&mut root, &profiles, selection, complaints);
    let axes = axes(&mut root, &profiles, selection.grown, complaints);
    let plans = plans::read(root.take("plan"), &axes, complaints);
    let sources = root
        .entries("source", complaints)
        .into_iter()
        .filter_map(|(name, item)| sources::read(name, item, &params, complaints));
    let sources = sources.collect();
    let (stages, run_params) = stages(root.entries("stage", complaints), &params, complaints);
    root.finish("top-level", complaints);
    if stages.is_empty() && !complaints.any_errors() {
        let hint = "add `[stage.NAME]` with `uses = \"KIND\"`".to_string();
        complaints.add(Diagnostic::at(0..0, "the pipeline has no stages").hint(hint));
    }
    Document { name, goal, publish, params, param_spans, run_params, axes, plans, sources, stages }
}

fn schema(root: &mut Fields<'_>, complaints: &mut Complaints) {
    let Some(item) = root.take("schema") else {
        let hint = format!("put `schema = {SCHEMA}` on the first line");
        return complaints.add(Diagnostic::at(0..0, "the file does not say its schema").hint(hint));
    };
    let known = item.get_ref().as_integer().is_some_and(|schema| schema.as_str() == SCHEMA.to_string());
    if !known {
        let hint = format!("this plumb reads `schema = {SCHEMA}`; a newer file needs a newer plumb");
        complaints.add(Diagnostic::at(item.span(), "unknown schema").hint(hint));
    }
}

type Header<'t> = (Option<Text<'t>>, Option<Vec<Text<'t>>>, Vec<(Text<'t>, Text<'t>)>);

fn header<'t>(root: &mut Fields<'t>, complaints: &mut Complaints) -> Header<'t> {
    let Some(item) = root.take("pipeline") else { return (None, None, Vec::new()) };
    let Some(mut fields) = Fields::of(item, "`pipeline`", complaints) else { return (None, None, Vec::new()) };
    let name = fields.text("name", complaints);
    if let Some(name) = &name {
        table::check_name(name, "pipeline", complaints);
    }
    let goal = fields.take("goal").map(|item| table::texts(item, "`goal`", complaints));
    let publish = fields.entries("publish", complaints).into_iter();
    let publish = publish.filter_map(|(to, item)| Some((to, table::text(item, "a published output", complaints)?)));
    let publish = publish.collect();
    fields.finish("pipeline", complaints);
    (name, goal, publish)
}

/// What the profiles override. All are checked, one is used.
struct Profiles<'t> {
    /// Profile, its parameters, its axes.
    all: Vec<(Text<'t>, Entries<'t>, Entries<'t>)>,
    chosen: Option<usize>,
}

type Entries<'t> = Vec<(Text<'t>, Item<'t>)>;

impl<'t> Profiles<'t> {
    fn read(root: &mut Fields<'t>, selection: &Selection, complaints: &mut Complaints) -> Self {
        let mut all = Vec::new();
        for (name, item) in root.entries("profile", complaints) {
            table::check_name(&name, "profile", complaints);
            let Some(mut fields) = Fields::of(item, "a profile", complaints) else { continue };
            let (params, axes) = (fields.entries("params", complaints), fields.entries("axes", complaints));
            fields.finish("profile", complaints);
            all.push((name, params, axes));
        }
        let chosen = selection.profile.as_deref().and_then(|wanted| {
            let found = all.iter().position(|(name, ..)| name.get_ref() == wanted);
            if found.is_none() {
                let hint =
                    crate::nearest::hint("profiles", wanted, all.iter().map(|(name, ..)| name.get_ref().as_ref()));
                complaints.add(Diagnostic::new(format!("unknown profile `{wanted}`")).hint(hint));
            }
            found
        });
        Self { all, chosen }
    }
}

type Params<'t> = (BTreeMap<Cow<'t, str>, Item<'t>>, BTreeMap<Cow<'t, str>, Range<usize>>);

fn params<'t>(
    root: &mut Fields<'t>,
    profiles: &Profiles<'t>,
    selection: &'t Selection,
    complaints: &mut Complaints,
) -> Params<'t> {
    let (mut params, mut spans) = (BTreeMap::new(), BTreeMap::new());
    for (name, item) in root.entries("params", complaints) {
        table::check_key(&name, "parameter", complaints);
        check_param(&item, complaints);
        spans.insert(name.get_ref().clone(), name.span());
        params.insert(name.into_inner(), item);
    }
    for (index, (_, overrides, _)) in profiles.all.iter().enumerate() {
        for (name, item) in overrides {
            check_param(item, complaints);
            if !spans.contains_key(name.get_ref()) {
                complaints.unknown(name.span(), "parameter", name.get_ref(), spans.keys().map(AsRef::as_ref));
            } else if profiles.chosen == Some(index) {
                params.insert(name.get_ref().clone(), item.clone());
            }
        }
    }
    for (name, value) in &selection.set {
        if let Some(declared) = params.get(name.as_str()) {
            let given = set_value(value, declared);
            params.insert(name.as_str().into(), given);
        } else {
            let hint = crate::nearest::hint("parameters", name, spans.keys().map(AsRef::as_ref));
            complaints.add(Diagnostic::new(format!("`--set {name}={value}`: unknown parameter `{name}`")).hint(hint));
        }
    }
    (params, spans)
}

fn check_param(item: &Item<'_>, complaints: &mut Complaints) {
    if let DeValue::Table(_) = item.get_ref() {
        complaints.error(item.span(), "a parameter must be a scalar or a list, not a table");
    }
}

/// What `--set` gives: text for a parameter that is text in the file (`--set name=5` needs no quotes there), else a
/// TOML literal.
fn set_value<'t>(value: &'t str, declared: &Item<'t>) -> Item<'t> {
    let given = literal(value);
    let both = (declared.get_ref(), given.get_ref());
    if let (DeValue::String(_), false) = (both.0, matches!(both.1, DeValue::String(_))) {
        return Spanned::new(0..0, DeValue::String(value.into()));
    }
    given
}

/// A TOML literal; what is none is text.
fn literal(value: &str) -> Item<'_> {
    let finite =
        |item: &Item<'_>| !matches!(item.get_ref(), DeValue::Float(float) if float.as_str().contains(['n', 'i']));
    DeValue::parse(value).ok().filter(finite).unwrap_or_else(|| Spanned::new(0..0, DeValue::String(value.into())))
}

fn axes<'t>(
    root: &mut Fields<'t>,
    profiles: &Profiles<'t>,
    grown: Option<usize>,
    complaints: &mut Complaints,
) -> Vec<Axis<'t>> {
    let entries = root.entries("axes", complaints);
    if let Some((name, _)) = entries.get(MOST_AXES) {
        complaints.error(name.span(), format!("more than {MOST_AXES} axes"));
    }
    let entries = entries.into_iter().take(MOST_AXES);
    let mut axes: Vec<Axis<'_>> =
        entries.filter_map(|(name, item)| axes::read(name, item, grown, complaints)).collect();
    for (index, (_, _, overrides)) in profiles.all.iter().enumerate() {
        for (name, item) in overrides {
            let Some(axis) = axes::expect(&axes, name.get_ref(), name.span(), complaints) else { continue };
            let Some(read) = axes::read(name.clone(), item.clone(), grown, complaints) else { continue };
            if profiles.chosen == Some(index) {
                axes[axis] = read;
            }
        }
    }
    for axis in axes.iter().filter(|axis| axis.growth.is_some()).skip(1) {
        complaints.error(axis.name.span(), "only one axis can grow: a second one has `until` too");
    }
    axes
}

/// Side by side: a stage is read without a look at the others. Complaints come in the order of the file. Beside the
/// stages, the parameters that their `run` tables use.
fn stages<'t>(
    entries: Entries<'t>,
    params: &BTreeMap<Cow<'t, str>, Item<'t>>,
    complaints: &mut Complaints,
) -> (Vec<StageText<'t>>, BTreeSet<String>) {
    let read = |(name, item)| {
        let (mut complaints, mut run_params) = (Complaints::default(), BTreeSet::new());
        (stage(name, item, params, &mut run_params, &mut complaints), run_params, complaints.all)
    };
    let read: Vec<_> = entries.into_par_iter().with_min_len(SIDE_BY_SIDE).map(read).collect();
    let (mut stages, mut run_params) = (Vec::with_capacity(read.len()), BTreeSet::new());
    for (stage, used, told) in read {
        stages.extend(stage);
        run_params.extend(used);
        complaints.all.extend(told);
    }
    (stages, run_params)
}

fn stage<'t>(
    name: Text<'t>,
    item: Item<'t>,
    params: &BTreeMap<Cow<'t, str>, Item<'t>>,
    run_params: &mut BTreeSet<String>,
    complaints: &mut Complaints,
) -> Option<StageText<'t>> {
    table::check_name(&name, "stage", complaints);
    if name.get_ref() == "source" {
        complaints.error(name.span(), "a stage cannot be named `source`: `source.NAME` refers to `[source.NAME]`");
    }
    let mut fields = Fields::of(item, &format!("stage `{}`", name.get_ref()), complaints)?;
    let uses = fields.text("uses", complaints);
    if uses.is_none() {
        let hint = "add `uses = \"KIND\"`; `plumb show` lists the kinds".to_string();
        complaints
            .add(Diagnostic::at(name.span(), format!("stage `{}` does not say `uses`", name.get_ref())).hint(hint));
    }
    let (mut inputs, mut broken_inputs) = (Vec::new(), Vec::new());
    for (input, item) in fields.entries("inputs", complaints) {
        let span = item.span();
        match reference::read(item, complaints) {
            Some(read) => inputs.push((input, span, read)),
            None => broken_inputs.push(input.into_inner().into_owned()),
        }
    }
    let with = fields.take("with").and_then(|item| table::table(item, "`with`", complaints));
    let with = with.unwrap_or_else(|| Spanned::new(uses.as_ref().map_or(name.span(), Spanned::span), DeTable::new()));
    let outputs = fields.take("outputs").map(|item| (item.span(), outputs(item, complaints)));
    let salt = fields.text("salt", complaints).map(|salt| salt.into_inner().into_owned());
    let run = fields.take("run").map(|item| with_params(item, params, run_params, complaints));
    let run = run.map(|item| settings::read(item, complaints)).unwrap_or_default();
    fields.finish("stage", complaints);
    Some(StageText { name, uses, inputs, broken_inputs, with, outputs, salt, run })
}

/// A `run` table with its `{ param = … }` replaced. It is read once for all branches, so no axis can stand in it.
fn with_params<'t>(
    run: Item<'t>,
    params: &BTreeMap<Cow<'t, str>, Item<'t>>,
    used: &mut BTreeSet<String>,
    complaints: &mut Complaints,
) -> Item<'t> {
    let DeValue::Table(table) = run.get_ref() else { return run };
    with::visit(table, &mut |named, span| match named {
        Named::Param(name) if params.contains_key(name) => {
            used.insert(name.to_string());
        }
        Named::Param(name) => complaints.unknown(span, "parameter", name, params.keys().map(AsRef::as_ref)),
        Named::Axis(_) => {
            let hint = "`run` is how a stage runs, the same for all its branches: write a value or `{ param = … }`";
            complaints.add(Diagnostic::at(span, "`run` cannot follow an axis").hint(hint.to_string()));
        }
    });
    let replaced = with::replace(table, &|named| match named {
        Named::Param(name) => params.get(name),
        Named::Axis(_) => None,
    });
    Spanned::new(run.span(), DeValue::Table(replaced))
}

/// `outputs = { table = "table.md" }`, or `["table"]` where the file has the output's name.
fn outputs<'t>(item: Item<'t>, complaints: &mut Complaints) -> Vec<(Text<'t>, Text<'t>)> {
    let named: Vec<(Text<'_>, Text<'_>)> = match item.get_ref() {
        DeValue::Array(_) => {
            table::texts(item, "`outputs`", complaints).into_iter().map(|name| (name.clone(), name)).collect()
        }
        _ => {
            let entries = table::table(item, "`outputs`", complaints).map(table::in_file_order).unwrap_or_default();
            let file = |(name, item)| Some((name, table::text(item, "the file of an output", complaints)?));
            entries.into_iter().filter_map(file).collect()
        }
    };
    for (index, (name, file)) in named.iter().enumerate() {
        table::check_key(name, "output", complaints);
        let path = file.get_ref();
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            complaints.error(file.span(), format!("`{path}`: an output's file must stay inside the step's folder"));
        }
        if named[..index].iter().any(|(known, other)| known.get_ref() == name.get_ref() || other.get_ref() == path) {
            complaints.error(file.span(), format!("two outputs share `{path}`"));
        }
    }
    named
}
